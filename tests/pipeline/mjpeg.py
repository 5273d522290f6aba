"""A real camera for tests: Motion JPEG over HTTP on the loopback interface, which can be killed and started again."""

import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2

from tests.pipeline.recordings import scene

LOOP = 75


@cache
def jpeg(index: int) -> bytes:
    """One frame of the scene, encoded."""
    done, data = cv2.imencode(".jpg", scene(index % LOOP)[..., ::-1])
    assert done
    return data.tobytes()


class MjpegCamera:
    """Serves ``scene`` for ever at ``http://127.0.0.1:<port>/``; whoever comes sees it from the same moment."""

    def __init__(self, *, fps: float = 25.0) -> None:
        self.fps = fps
        self.port = 0
        self.sent = 0
        self._server: ThreadingHTTPServer | None = None
        self._alive = threading.Event()
        self._began = time.monotonic()

    def __enter__(self) -> "MjpegCamera":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Serve, at the port of the time before where there was one."""
        camera, alive = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                camera._stream(self, alive)

            def log_message(self, *arguments: Any) -> None:
                """Nobody reads it."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that leaves is no error."""

        alive.set()
        self._alive = alive
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def kill(self) -> None:
        """Cut all connections and stop listening."""
        if self._server is not None:
            self._alive.clear()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _stream(self, handler: BaseHTTPRequestHandler, alive: threading.Event) -> None:
        index = int((time.monotonic() - self._began) * self.fps)
        while alive.is_set():
            time.sleep(max(0.0, self._began + index / self.fps - time.monotonic()))
            data = jpeg(index)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            self.sent += 1
            index += 1
