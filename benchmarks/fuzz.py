"""Damaged recordings and streams: does any make the program crash, hang, grow or raise what nobody expects?

Thousands of mutated MP4, Matroska, MPEG-TS, PNG, TIFF, JPEG and NPY files, and of session descriptions (SDP) that an
RTSP server sends, go through the sources as a run reads them, in processes with limits of memory and time:

    python benchmarks/fuzz.py --cases 8000
"""

import argparse
import json
import logging
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import machine

from pipeline.config import from_sources
from pipeline.errors import SourceError
from pipeline.sources.connection import StreamSettings
from pipeline.sources.live import LiveSource
from pipeline.sources.open import open_source
from reid.modality import Modality
from simulation.clips import encode

KINDS = ("mp4", "png", "tiff", "jpg", "npy", "sdp", "mkv", "ts")
VIDEOS = ("mp4", "mkv", "ts")
MOST_FRAMES = 40
MEMORY_BYTES = 6_000_000_000  # of address space; FFmpeg's and OpenCV's threads take much of it
HANG_SECONDS = 30.0
WARM_CASES = 20  # after which the memory is first looked at; of few cases, after a third
MOST_FILES = 2  # of a kind
ENOUGH_CASES = 300  # in one process, for the slope of its memory to be told: the first hundred fill FFmpeg's pools
MOST_SLOPE_KB = 20.0  # a case, twice its noise included, over the last half of them
RESULTS = Path(__file__).parent / "results" / "fuzz.json"


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage data in one to four places: bits, bytes, numbers, missing, doubled and moved pieces."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            break
        # A third of the damage is where files say what they are: in the first bytes.
        span = min(len(out), 512) if rng.random() < 0.33 else len(out)
        at, kind, length = int(rng.integers(span)), int(rng.integers(7)), int(rng.integers(1, 64))
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 2:
            extreme = rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
            out[at : at + 4] = struct.pack(">I" if rng.random() < 0.5 else "<I", int(extreme))
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5 and rng.random() < 0.3:
            del out[at:]
        else:
            piece = bytes(out[at : at + length])
            to = int(rng.integers(len(out)))
            out[to : to + len(piece)] = piece
    return bytes(out)


def checked_again(png: bytes) -> bytes:
    """A PNG whose damaged pieces have right check sums, so that the decoder goes on into them."""
    out, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        body = png[at + 4 : at + 8 + min(length, len(png))]
        out += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out)


# --- what is damaged -----------------------------------------------------------


def seed_of(kind: str) -> bytes:
    """A small whole file of a kind, or a session description."""
    rng = np.random.default_rng(0)
    counts = (7300 + 40 * rng.standard_normal((48, 64))).astype(np.uint16)
    colour = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed.{kind}"
        if kind in VIDEOS:
            _write_video(path, rng)
        elif kind == "npy":
            np.save(path, np.stack([counts] * 3))
        elif kind == "sdp":
            return SDP.encode()
        elif kind == "tiff":
            cv2.imwritemulti(str(path), [counts, counts + np.uint16(5)])
        else:
            cv2.imwrite(str(path), counts if kind == "png" else colour)
        return path.read_bytes()


def _write_video(path: Path, rng: np.random.Generator) -> None:
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(path, "w", options=options) as container:
        container.metadata["creation_time"] = "2026-06-01T08:00:00Z"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "4"}
        for number in range(12):
            image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


SDP = """v=0
o=- 3989482361 3989482361 IN IP4 127.0.0.1
s=camera
c=IN IP4 127.0.0.1
t=0 0
a=range:npt=now-
a=control:*
m=video 0 RTP/AVP 96
b=AS:5000
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42C00A;sprop-parameter-sets=Z0LACtoEIms=,aM48gA==
a=control:stream=0
a=framerate:10
m=audio 0 RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=control:stream=1
""".replace("\n", "\r\n")


class Server:
    """An RTSP server that describes its stream as it is told to, sends some packets, and hangs up."""

    def __init__(self) -> None:
        self.sdp = b""
        rng = np.random.default_rng(0)
        grey = [
            np.full((48, 64, 3), 60 + 10 * n, np.uint8) + rng.integers(0, 9, (48, 64, 1), np.uint8) for n in range(6)
        ]
        self._packets = list(_rtp(encode(grey, fps=10).units))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client, suppress(OSError):
                client.settimeout(5)
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        while line := stream.readline():
            method = line.split(b" ")[0]
            number = b"0"
            while (head := stream.readline()).strip():
                if head.lower().startswith(b"cseq:"):
                    number = head.split(b":")[1].strip()
            body = self.sdp if method == b"DESCRIBE" else b""
            extra = b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n" if method == b"SETUP" else b""
            client.sendall(
                b"RTSP/1.0 200 OK\r\nCSeq: " + number + b"\r\nSession: 1\r\nContent-Type: application/sdp\r\n" + extra
                + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
            )  # fmt: skip
            if method == b"PLAY":
                for packet in self._packets:
                    client.sendall(b"$\x00" + struct.pack(">H", len(packet)) + packet)
                return


def _rtp(units: list[bytes]) -> Iterator[bytes]:
    """Encoded frames as RTP packets, one a NAL unit."""
    sequence = 0
    for number, unit in enumerate(units):
        pieces = [piece.rstrip(b"\0") for piece in unit.split(b"\0\0\1") if piece.strip(b"\0")]
        for position, piece in enumerate(pieces):
            marker = 0x80 if position + 1 == len(pieces) else 0
            yield struct.pack(">BBHII", 0x80, 96 | marker, sequence, 9000 * number, 77) + piece
            sequence += 1


# --- the process in which cases run --------------------------------------------


def run_cases(kind: str, numbers: range, *, seed: int) -> None:
    """Read every case; say before and after each on standard output how it goes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(1)
    logging.disable(logging.CRITICAL)
    whole, process = seed_of(kind), psutil.Process()
    server = Server() if kind == "sdp" else None
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            data = mutate(whole, np.random.default_rng([seed, KINDS.index(kind), number]))
            if kind == "png" and number % 2:
                data = checked_again(data)
            _say({"begin": number})
            began = time.monotonic()
            outcome = _outcome(kind, data, Path(folder), server)
            _say({"end": number, "outcome": outcome, "seconds": time.monotonic() - began,
                  "rss": process.memory_info().rss, "files": process.num_fds()})  # fmt: skip


def _outcome(kind: str, data: bytes, folder: Path, server: Server | None) -> str:
    try:
        frames = _read_stream(data, server) if server else _read_file(kind, data, folder)
    except SourceError:
        return "refused"
    except Exception as error:  # noqa: BLE001 (this is what is looked for)
        return f"exception {type(error).__name__}: {error}"[:200]
    return "read" if frames else "read, without a frame"


def _read_file(kind: str, data: bytes, folder: Path) -> int:
    path = folder / f"case.{kind}"
    path.write_bytes(data)
    modality = "rgb" if kind in (*VIDEOS, "jpg") else "thermal"
    source = open_source("fuzz", from_sources([f"fuzz={path},modality={modality}"]).cameras["fuzz"])
    source.probe()
    return sum(1 for _ in islice(source, MOST_FRAMES))


def _read_stream(data: bytes, server: Server) -> int:
    server.sdp = data
    settings = StreamSettings(timeout_seconds=1.0, stall_seconds=1.0)
    source = LiveSource("fuzz", f"rtsp://127.0.0.1:{server.port}/fuzz", Modality.RGB, settings=settings)
    source.probe()
    return 1


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


# --- who watches it --------------------------------------------------------------


@dataclass
class Findings:
    """What became of the cases of one kind."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    growth_mb: float = 0.0
    files_growth: int = 0
    slope_kb: float | None = None  # a case, of the process that grew most; None where too few cases ran in one
    slope_noise_kb: float | None = None

    def look_at(self, history: list[tuple[int, int]]) -> None:
        """Memory and open files after each case of one process."""
        if len(history) < 3:
            return
        warm, last = history[min(WARM_CASES, len(history) // 3)], history[-1]
        self.growth_mb = max(self.growth_mb, (last[0] - warm[0]) / 1e6)
        self.files_growth = max(self.files_growth, last[1] - warm[1])
        if len(history) >= ENOUGH_CASES:
            slope, noise = slope_of([rss / 1e3 for rss, _ in history[len(history) // 2 :]])
            if slope + 2 * noise > (self.slope_kb or 0.0) + 2 * (self.slope_noise_kb or 0.0) or self.slope_kb is None:
                self.slope_kb, self.slope_noise_kb = round(slope, 2), round(noise, 2)

    @property
    def grows(self) -> bool:
        """Whether memory may grow by as much as is not allowed; of too few cases, nothing is said."""
        return (self.slope_kb or 0.0) + 2 * (self.slope_noise_kb or 0.0) >= MOST_SLOPE_KB

    def note(self, told: dict[str, Any]) -> None:
        """One case came to its end."""
        outcome = told["outcome"]
        self.cases += 1
        self.slowest_seconds = max(self.slowest_seconds, told["seconds"])
        if outcome.startswith("exception"):
            self.exceptions.append(f"case {told['end']}: {outcome}")
        self.outcomes[outcome.split(" ")[0] if outcome.startswith("exception") else outcome] += 1

    def plain(self) -> dict[str, Any]:
        """For the JSON."""
        return vars(self) | {"outcomes": dict(self.outcomes), "slowest_seconds": round(self.slowest_seconds, 2),
                             "growth_mb": round(self.growth_mb, 1)}  # fmt: skip


def shares(cases: int) -> dict[str, int]:
    """How many cases each kind has: containers of video five times as many, for FFmpeg's pools fill that slowly."""
    weights = [5 if kind in VIDEOS else 1 for kind in KINDS]
    ends = [cases * sum(weights[: position + 1]) // sum(weights) for position in range(len(KINDS))]
    return {kind: end - begin for kind, begin, end in zip(KINDS, [0, *ends], ends, strict=False)}


def fuzz(kind: str, cases: int, *, seed: int) -> Findings:
    """Run the cases of one kind; a process that dies or hangs is a finding, and the next goes on behind it."""
    findings, first = Findings(), 0
    while first < cases:
        first = _watch(kind, range(first, cases), findings, seed=seed)
    return findings


def _watch(kind: str, numbers: range, findings: Findings, *, seed: int) -> int:
    """Watch one process; returns the number of the next case."""
    at, following = numbers.start, numbers.stop
    history: list[tuple[int, int]] = []
    with _process(kind, numbers, seed) as process:
        while (told := _next_line(process, HANG_SECONDS)) != {}:
            if told is None:
                findings.hangs.append(f"case {at}")
                following = at + 1
                break
            if "begin" in told:
                at = told["begin"]
                continue
            findings.note(told)
            history.append((told["rss"], told["files"]))
        if told == {} and process.wait() != 0:
            if not history and at == numbers.start == 0:
                raise RuntimeError(f"no case of {kind} could be run: exit code {process.returncode}")
            findings.crashes.append(f"case {at}: exit code {process.returncode}")
            following = at + 1
    findings.look_at(history)
    return following


def slope_of(values: list[float]) -> tuple[float, float]:
    """How much values rise from one to the next, by least squares, and the standard error of that.

    What is left beside the line is alike from one value to the next, which makes the error larger.
    """
    place = np.arange(len(values)) - (len(values) - 1) / 2
    spread = float(place @ place)
    slope = float(place @ np.array(values)) / spread
    rest = np.array(values) - np.mean(values) - slope * place
    power = float(rest @ rest)
    alike = min(max(float(rest[1:] @ rest[:-1]) / power, 0.0), 0.99) if power else 0.0
    return slope, float(np.sqrt(power / (len(values) - 2) / spread * (1 + alike) / (1 - alike)))


@contextmanager
def _process(kind: str, numbers: range, seed: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, __file__, "--child", kind, str(numbers.start), str(numbers.stop), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def _next_line(process: "subprocess.Popen[bytes]", seconds: float) -> dict[str, Any] | None:
    """The next thing it says; empty at its end, None when it says nothing for too long."""
    if process.stdout is None:
        return {}
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    if not ready:
        return None
    line = process.stdout.readline()
    return dict(json.loads(line)) if line.endswith(b"\n") else {}


def main() -> int:
    """Fuzz all kinds and write the JSON; 1 when a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=8000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=3, metavar=("KIND", "FIRST", "STOP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, first, stop = options.child
        run_cases(kind, range(int(first), int(stop)), seed=options.seed)
        return 0
    began, found, kept_memory = time.monotonic(), {}, True
    for kind, share in shares(options.cases).items():
        findings = fuzz(kind, share, seed=options.seed)
        found[kind] = findings.plain()
        kept_memory &= not findings.grows
        print(f"{kind}: {found[kind]}")
    wrong = sum(len(each[name]) for each in found.values() for name in ("crashes", "hangs", "exceptions"))
    kept = {
        "no crash, no hang, no exception without a name": not wrong,
        f"no kind of which {ENOUGH_CASES} cases or more ran grows by {MOST_SLOPE_KB:g} kB a case or more over the last"
        " half, twice the noise included": kept_memory,
        f"no kind leaves more than {MOST_FILES} files open": all(
            each["files_growth"] <= MOST_FILES for each in found.values()
        ),
    }
    result = {
        "what": "mutated recordings and session descriptions read as a run reads them",
        "machine": machine.describe(),
        "seed": options.seed,
        "cases": sum(each["cases"] + len(each["crashes"]) + len(each["hangs"]) for each in found.values()),
        "seconds": round(time.monotonic() - began, 1),
        "findings": wrong,
        "kept": kept,
        "kinds": found,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
