"""Live cameras for the tests: a real RTSP server where this machine has one, and servers that misbehave."""

import hashlib
import io
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from pipeline.frame import Frame
from pipeline.sources.connection import StreamSettings
from pipeline.sources.live import LiveSource
from reid.modality import Modality
from simulation.clips import Clip, encode
from simulation.streaming import need_gstreamer, python_with_gstreamer

FPS = 10
QUICK = StreamSettings(timeout_seconds=2.0, stall_seconds=1.5, backoff_seconds=0.05, backoff_cap_seconds=0.3,
                       max_behind_seconds=2.0)  # fmt: skip


def require_gstreamer() -> None:
    """Skip, with the reason, where there is no RTSP server; CI sets FAIL_WITHOUT_GSTREAMER, and fails instead."""
    if os.environ.get("FAIL_WITHOUT_GSTREAMER"):
        need_gstreamer()
    if python_with_gstreamer() is None:
        pytest.skip("no Python with GStreamer's RTSP server; see simulation.streaming.PACKAGES")


def numbered(number: int, *, width: int = 160, height: int = 96) -> NDArray[np.uint8]:
    """Grey as RGB, the number as ten bits in blocks of 16 pixels, which coding does not blur away."""
    image = np.full((height, width, 3), 40, np.uint8)
    for bit in range(10):
        if number >> bit & 1:
            image[:48, 16 * bit : 16 * bit + 16] = 200
    return image


def number_in(image: NDArray[np.uint8] | NDArray[np.uint16]) -> int:
    """What ``numbered`` wrote."""
    rows = image[8:40] if image.ndim == 2 else image[8:40, :, 0]
    return sum((int(rows[:, 16 * bit + 4 : 16 * bit + 12].mean() > 120)) << bit for bit in range(10))


def clip(frames: int = 50, *, fps: float = FPS, lossless: bool = False) -> Clip:
    return encode([numbered(number) for number in range(frames)], fps=fps, lossless=lossless)


class Watching:
    """Reads a source in a thread, and keeps what came; of a long watch, only the corner of each image."""

    def __init__(self, source: LiveSource, *, long: bool = False) -> None:
        self.source = source
        self.frames: list[Frame] = []
        self.numbers: list[int] = []
        self._long = long
        self.arrived: list[float] = []
        self.states = [source.account.state]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for frame in self.source:
            self.numbers.append(number_in(frame.image))
            self.frames.append(replace(frame, image=frame.image[:1, :1].copy()) if self._long else frame)
            self.arrived.append(time.monotonic())

    def look(self) -> None:
        """Note the state, if it is another one."""
        if (state := self.source.account.state) is not self.states[-1]:
            self.states.append(state)

    def until(self, enough: Callable[[], object], *, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < end, f"not within {seconds} s: {self.source.account}"
            time.sleep(0.01)

    def close(self) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        self.source.close()
        self._thread.join(5)
        assert not self._thread.is_alive()
        return time.monotonic() - began


@contextmanager
def watching(
    url: str,
    *,
    camera_id: str = "gate",
    modality: Modality = Modality.RGB,
    settings: StreamSettings = QUICK,
    long: bool = False,
) -> Iterator[Watching]:
    watch = Watching(LiveSource(camera_id, url, modality, settings=settings), long=long)
    try:
        yield watch
    finally:
        watch.close()


@contextmanager
def tcp_server(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Listen on a free port, and let ``answer`` deal with every client in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    clients: list[socket.socket] = []

    def deal(client: socket.socket) -> None:
        with suppress(OSError):
            answer(client)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            clients.append(client)
            threading.Thread(target=deal, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for client in clients:
            client.close()


def transport_stream(frames: int, *, sizes: Sequence[tuple[int, int]], bframes: int) -> bytes:
    """``numbered`` ones as H.264 in MPEG-TS, the same number of each size in turn."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = sizes[0]
        each = frames // len(sizes)
        for part, (width, height) in enumerate(sizes):
            coder = cast("Any", av.CodecContext.create("libx264", "w"))
            coder.width, coder.height, coder.pix_fmt, coder.time_base = width, height, "yuv420p", Fraction(1, FPS)
            coder.options = {"x264-params": f"keyint=5:bframes={bframes}:b-adapt=0:repeat-headers=1:annexb=1"}
            pictures = [
                VideoFrame.from_ndarray(numbered(number, width=width, height=height), format="rgb24")
                for number in range(part * each, (part + 1) * each)
            ]
            for number, picture in enumerate(pictures):
                picture.pts, picture.time_base = part * each + number, coder.time_base
            for packet in [packet for picture in [*pictures, None] for packet in coder.encode(picture)]:
                packet.stream = stream
                container.mux(packet)
    return file.getvalue()


@contextmanager
def stream_server(data: bytes, *, seconds: float = 0.0) -> Iterator[int]:
    """Sends each client the same over HTTP, evenly over some time, and hangs up."""

    def answer(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        pieces = max(1, round(seconds / 0.02))
        size = -(-len(data) // pieces)
        for number in range(pieces):
            client.sendall(data[number * size : (number + 1) * size])
            time.sleep(seconds / pieces)
        client.close()

    with tcp_server(answer) as port:
        yield port


def is_digest_right(said: str, user: str, password: str, algorithm: str) -> bool:
    """Whether an ``Authorization`` header of a GET has the digest of RFC 7616, of realm "cam" and nonce "abc"."""

    def digest(*parts: str) -> str:
        return hashlib.new(algorithm.replace("-", "").lower(), ":".join(parts).encode()).hexdigest()

    told = dict(re.findall(r'(\w+)="?([^",]+)"?', said))
    if not said.startswith("Digest ") or told.get("username") != user:
        return False
    secret, asked = digest(user, "cam", password), digest("GET", told["uri"])
    return told["response"] == digest(secret, "abc", told["nc"], told["cnonce"], told["qop"], asked)


@contextmanager
def mjpeg_server(
    images: Sequence[NDArray[np.uint8]],
    *,
    status: int = 200,
    fps: float = FPS,
    digest: tuple[str, str, str] | None = None,
) -> Iterator[int]:
    """Motion JPEG over HTTP, as webcams send it; ends after the last image. ``digest``: user, password, algorithm."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if digest is not None and not is_digest_right(self.headers.get("Authorization", ""), *digest):
                self.send_response(401)
                self.send_header(
                    "WWW-Authenticate", f'Digest realm="cam", nonce="abc", qop="auth", algorithm={digest[2]}'
                )
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(status)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for image in images if status == 200 else ():
                data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return
                time.sleep(1 / fps)

        def log_request(self, *arguments: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
