"""Ten thousand connections to a camera that fails: does memory, or the number of files or threads, grow?

A live source is pointed at a port where nobody listens, at a server that hangs up, at one that knows no such stream and
at one that answers nonsense, a quarter of the attempts each; and then at one that never answers.

    python benchmarks/reconnect.py [--attempts 10000]
"""

import argparse
import json
import logging
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import machine

from pipeline.errors import SourceError
from pipeline.sources.connection import StreamSettings
from pipeline.sources.live import LiveSource
from reid.modality import Modality

RESULTS = Path(__file__).parent / "results" / "reconnect.json"
WARM_ATTEMPTS = 200
ANSWERS = {
    "nobody listens": None,
    "hangs up": b"",
    "knows no such stream": b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n",
    "answers nonsense": b"HTTP/1.1 200 OK\r\n\r\n" + bytes(200),
}
EAGER = StreamSettings(timeout_seconds=5.0, backoff_seconds=1e-5, backoff_cap_seconds=1e-5)


class Server:
    """Gives every client the same answer, and hangs up; or never answers."""

    def __init__(self, answer: bytes | None, *, silent: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._answer = answer
        self._silent = silent
        if answer is None and not silent:
            self._listener.close()
        else:
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        kept = []
        while True:
            client, _ = self._listener.accept()
            if self._silent:
                kept.append(client)
                continue
            with client, suppress(OSError):
                client.recv(4096)
                client.sendall(self._answer or b"")


MOST_GROWTH_MB = 10.0
MOST_LATE_SECONDS = 2.0


def attempts(server: Server, number: int) -> dict[str, Any]:
    """Fail so often; what grew between the first ones and the last."""
    process = psutil.Process()
    source = LiveSource("gate", f"rtsp://127.0.0.1:{server.port}/gate", Modality.RGB, settings=EAGER)
    reader = threading.Thread(target=lambda: [None for _ in source], daemon=True)
    reader.start()
    _until(lambda: source.account.failed_connects >= WARM_ATTEMPTS)
    began, memory, (files, threads) = time.monotonic(), process.memory_info().rss, _held(process)
    _until(lambda: source.account.failed_connects >= number)
    files_then, threads_then = _held(process)
    result = {
        "attempts": source.account.failed_connects,
        "code": str(source.account.error_code),
        "growth_mb": round((process.memory_info().rss - memory) / 1e6, 2),
        "files_growth": files_then - files,
        "threads_growth": threads_then - threads,
        "attempts_per_second": round((source.account.failed_connects - WARM_ATTEMPTS) / (time.monotonic() - began)),
    }
    source.close()
    reader.join()
    return result


def _held(process: psutil.Process) -> tuple[int, int]:
    """Files and threads that are always there: an attempt under way has some of its own, and so has the server."""
    looks = [(process.num_fds(), process.num_threads(), time.sleep(0.005)) for _ in range(100)]
    return min(files for files, _, _ in looks), min(threads for _, threads, _ in looks)


def _until(done: Any) -> None:
    while not done():
        time.sleep(0.005)


def cut_off(timeout_seconds: float) -> dict[str, Any]:
    """How long a server that never answers holds a source up."""
    server = Server(None, silent=True)
    settings = StreamSettings(timeout_seconds=timeout_seconds)
    source = LiveSource("gate", f"rtsp://127.0.0.1:{server.port}/gate", Modality.RGB, settings=settings)
    began, code = time.monotonic(), ""
    try:
        source.probe()
    except SourceError as error:
        code = str(error.code)
    return {"timeout_seconds": timeout_seconds, "seconds": round(time.monotonic() - began, 2), "code": code}


def main() -> int:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    process = psutil.Process()
    attempts(Server(None), WARM_ATTEMPTS + 1)
    memory = process.memory_info().rss
    found = {name: attempts(Server(answer), options.attempts // len(ANSWERS)) for name, answer in ANSWERS.items()}
    result = {
        "what": "failed connections of one live source, by what the other side does",
        "machine": machine.describe(),
        "attempts": sum(each["attempts"] for each in found.values()),
        "growth_mb": round((process.memory_info().rss - memory) / 1e6, 2),
        "failures": found,
        "never_answers": cut_off(2.0),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    flat = result["growth_mb"] < MOST_GROWTH_MB and not any(
        each["files_growth"] > 0 or each["threads_growth"] > 0 for each in found.values()
    )
    cut = result["never_answers"]
    return 0 if flat and cut["code"] and cut["seconds"] < cut["timeout_seconds"] + MOST_LATE_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
