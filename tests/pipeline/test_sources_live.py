import io
import logging
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from av.codec import CodecContext
from av.codec.hwaccel import HWAccel
from numpy.typing import NDArray

from pipeline.errors import ErrorCode, SourceError
from pipeline.frame import Image, TimeSource
from pipeline.sources import connection, live
from pipeline.sources.base import SourceState
from pipeline.sources.connection import StreamSettings, device_attempts
from pipeline.sources.live import LiveSource
from reid.modality import Modality
from simulation.clips import encode
from simulation.faults import Fault, FaultPlan
from simulation.streaming import Login, Serving, Streams
from tests.pipeline.streams import (
    QUICK,
    Watching,
    clip,
    mjpeg_server,
    number_in,
    numbered,
    require_gstreamer,
    stream_server,
    tcp_server,
    transport_stream,
    watching,
)

pytestmark = pytest.mark.alone


def probe_error(url: str, *, modality: Modality = Modality.RGB, settings: StreamSettings = QUICK) -> SourceError:
    with pytest.raises(SourceError) as caught:
        LiveSource("gate", url, modality, settings=settings).probe()
    return caught.value


@contextmanager
def recorded_log() -> Iterator[io.StringIO]:
    text = io.StringIO()
    handler, logger = logging.StreamHandler(text), logging.getLogger("pipeline.sources")
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield text
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


# --- without a server, or with one that misbehaves ----------------------------


def test_a_server_that_accepts_and_never_answers_is_cut_off() -> None:
    with tcp_server(lambda client: client.recv(1) and time.sleep(30)) as port:
        began = time.monotonic()
        error = probe_error(f"rtsp://127.0.0.1:{port}/gate", settings=StreamSettings(timeout_seconds=0.5))
        assert time.monotonic() - began < 2
    assert error.code is ErrorCode.STREAM_TIMEOUT
    assert str(error).startswith(f"camera gate: rtsp://127.0.0.1:{port}/gate: no answer within 0.5 s")


def test_a_server_that_trickles_bytes_is_cut_off_too() -> None:
    def trickle(client: socket.socket) -> None:
        while True:
            client.send(b"R")
            time.sleep(0.02)

    with tcp_server(trickle) as port:
        began = time.monotonic()
        error = probe_error(f"rtsp://127.0.0.1:{port}/gate", settings=StreamSettings(timeout_seconds=0.5))
        assert time.monotonic() - began < 2.5
    assert error.code in (ErrorCode.STREAM_TIMEOUT, ErrorCode.STREAM_INVALID)


def test_a_source_that_blocks_is_closed_within_a_second() -> None:
    with tcp_server(lambda client: time.sleep(30)) as port, watching(f"rtsp://127.0.0.1:{port}/gate") as watch:
        time.sleep(0.2)
        assert watch.source.account.state is SourceState.STARTING
        assert watch.close() < 1
        assert watch.source.account.state is SourceState.ENDED


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", ErrorCode.STREAM_NOT_FOUND),
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", ErrorCode.STREAM_AUTH_FAILED),
        (b"RTSP/1.0 403 Forbidden\r\nCSeq: 1\r\n\r\n", ErrorCode.STREAM_AUTH_FAILED),
        (b"RTSP/1.0 500 Internal Server Error\r\nCSeq: 1\r\n\r\n", ErrorCode.STREAM_INVALID),
        (b"", ErrorCode.STREAM_INVALID),
    ],
)
def test_what_a_server_answers_has_a_code(answer: bytes, code: ErrorCode) -> None:
    def reply(client: socket.socket) -> None:
        while client.recv(4096) and answer:
            client.sendall(answer)
        client.close()

    with tcp_server(reply) as port:
        assert probe_error(f"rtsp://127.0.0.1:{port}/gate").code is code


def test_nobody_there_no_such_name_and_no_such_device_have_codes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert probe_error(f"rtsp://127.0.0.1:{port}/gate").code is ErrorCode.STREAM_REFUSED
    assert probe_error("rtsp://no-such-host.invalid/gate").code is ErrorCode.STREAM_UNREACHABLE
    assert probe_error("rtsp:///gate").code is ErrorCode.STREAM_INVALID
    error = probe_error("/dev/video97")
    assert error.code is ErrorCode.DEVICE_NOT_FOUND
    assert str(error).startswith("camera gate: /dev/video97: no such device")
    by_id = "/dev/v4l/by-id/usb-nobody_C920-video-index0"
    assert str(probe_error(by_id)).startswith(f"camera gate: {by_id}: no such device")
    assert probe_error("/dev/pts").code is ErrorCode.DEVICE_NOT_FOUND  # a folder


def test_secrets_of_an_address_are_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"rtsp://admin:p%40ss-w0rd@127.0.0.1:{port}/gate?token=t0ken-of-mine"
    with watching(url) as watch:
        watch.until(lambda: watch.source.account.failed_connects > 2)
        told = f"{caplog.text} {watch.source!r} {watch.source.account!r} {probe_error(url)!r}"
    assert "***@127.0.0.1" in told
    for secret in ("admin", "p%40ss", "p@ss", "w0rd", "t0ken"):
        assert secret not in told


def test_motion_jpeg_over_http_has_the_times_of_its_arrival() -> None:
    pictures = [numbered(number) for number in range(40)]
    with mjpeg_server(pictures) as port, watching(f"http://127.0.0.1:{port}/video.mjpg") as watch:
        watch.until(lambda: len(watch.frames) >= 10)
    assert watch.numbers == list(range(watch.numbers[0], watch.numbers[0] + len(watch.numbers)))
    assert {frame.time_source for frame in watch.frames} == {TimeSource.ARRIVAL}
    steps = np.diff([frame.pts_seconds for frame in watch.frames])
    assert np.all(steps > 0)
    assert 0.05 < np.median(steps) < 0.2


def test_a_stream_that_ends_is_connected_again_and_its_times_go_on() -> None:
    pictures = [numbered(number) for number in range(3)]
    with mjpeg_server(pictures, fps=20) as port, watching(f"http://127.0.0.1:{port}/video.mjpg") as watch:
        watch.until(lambda: watch.source.account.reconnects >= 2)
    assert np.all(np.diff([frame.pts_seconds for frame in watch.frames]) > 0)
    assert np.all(np.diff([frame.captured_at.timestamp() for frame in watch.frames]) > 0)
    assert watch.source.account.error_code is ErrorCode.STREAM_CLOSED


def test_who_does_not_keep_up_gets_the_newest_frames_and_is_told_what_was_left_out() -> None:
    with mjpeg_server([numbered(number) for number in range(200)], fps=20) as port:
        source = LiveSource("gate", f"http://127.0.0.1:{port}/video.mjpg", Modality.RGB, settings=QUICK)
        frames = iter(source)
        first = next(frames)
        time.sleep(3)
        late = next(frames)
        source.close()
        assert list(frames) == []
    lost = source.account.skipped["decoder_behind"]
    assert lost > 20
    assert late.index == first.index + lost + 1
    assert number_in(late.image) == number_in(first.image) + lost + 1
    assert source.account.decoded == 2
    assert source.account.state is SourceState.ENDED


def test_whoever_decodes_too_slowly_is_given_frames_that_are_young_enough() -> None:
    """80 frames a second, of which 40 can be decoded: what has waited is left out before it is decoded."""
    ages, limit = [], 0.2
    with mjpeg_server([numbered(number) for number in range(1000)], fps=80) as port:
        settings = replace(QUICK, max_behind_seconds=limit)
        source = LiveSource("gate", f"http://127.0.0.1:{port}/video.mjpg", Modality.RGB, settings=settings)
        until = time.monotonic() + 3
        for frame in source:
            time.sleep(0.025)
            assert frame.arrived_at is not None
            ages.append((datetime.now(UTC) - frame.arrived_at).total_seconds())
            assert number_in(frame.image) == frame.index
            if time.monotonic() > until:
                source.close()
    assert len(ages) > 30
    assert np.mean(np.array(ages) < limit + 0.2) > 0.9
    assert source.account.skipped["decoder_behind"] > 30


def test_whoever_falls_behind_goes_on_at_the_newest_key_frame_that_came() -> None:
    """There is one every half a second; what was shown before it is left out, and nothing of it is damaged."""
    with stream_server(transport_stream(60, sizes=[(160, 96)], bframes=2), seconds=6.0) as port:
        settings = replace(QUICK, max_behind_seconds=0.5)
        source = LiveSource("gate", f"http://127.0.0.1:{port}/video.ts", Modality.RGB, settings=settings)
        frames = iter(source)
        given = list(islice(frames, 5))
        time.sleep(1.6)
        given += islice(frames, 20)
        source.close()
        assert list(frames) == []
    numbers = [number_in(frame.image) for frame in given]
    assert source.account.skipped["decoder_behind"] >= 5
    since = numbers[int(np.argmax(np.diff(numbers))) + 1 :]  # before the gap is what the decoder still held
    assert since == list(range(since[0], since[0] + len(since)))
    assert len(since) >= 15
    assert since[0] % 5 == 0
    assert numbers[-1] == given[-1].index  # of which all are accounted for
    assert set(source.account.skipped) <= {"decoder_behind", "connection_ended"}


def test_where_the_resolution_changes_all_that_came_is_given_out_or_counted() -> None:
    pictures = [numbered(number) for number in range(5)] + [numbered(number, height=112) for number in range(5, 20)]
    with mjpeg_server(pictures, fps=100) as port:
        source = LiveSource("gate", f"http://127.0.0.1:{port}/video.mjpg", Modality.RGB, settings=QUICK)
        frames = iter(source)
        given = [next(frames)]
        time.sleep(1)  # all of them are there
        given += islice(frames, 5)
        source.close()
        assert list(frames) == []
    assert [number_in(frame.image) for frame in given] == [0, 1, 2, 3, 4, 0]  # the last is of the next connection
    skipped = source.account.skipped
    assert skipped["resolution_changed"] == 1
    assert skipped["connection_ended"] >= 14
    assert given[5].index == 20  # none is missing between


def test_the_last_pictures_of_a_palette_are_counted() -> None:
    coloured = numbered(2)
    coloured[..., 0], coloured[..., 2] = 250, 10
    with mjpeg_server([numbered(1), *[coloured] * 3], fps=20) as port:
        source = LiveSource("gate", f"http://127.0.0.1:{port}/video.mjpg", Modality.THERMAL, settings=QUICK)
        indices = [frame.index for frame in islice(source, 2)]  # one of each connection
    assert indices == [0, 4]
    assert source.account.error_code is ErrorCode.FALSE_COLOUR
    assert source.account.skipped["false_colour"] == 3


@pytest.mark.parametrize("sizes", [[(160, 96)], [(160, 96), (160, 112)]])
def test_of_a_stream_with_b_frames_no_picture_stays_in_the_decoder(sizes: list[tuple[int, int]]) -> None:
    with stream_server(transport_stream(24, sizes=sizes, bframes=2)) as port:
        source = LiveSource("gate", f"http://127.0.0.1:{port}/video.ts", Modality.RGB, settings=QUICK)
        frames = iter(source)
        given = [next(frames)]
        time.sleep(1)  # all of them are there
        first = 24 // len(sizes)  # the others are of another size
        given += islice(frames, first + 5)
        source.close()
        assert list(frames) == []
    assert [number_in(frame.image) for frame in given] == [*range(first), *range(6)]
    assert [frame.index for frame in given] == [*range(first), *range(24, 30)]
    assert np.all(np.diff([frame.pts_seconds for frame in given]) > 0)
    assert np.all(np.diff([frame.captured_at.timestamp() for frame in given]) > 0)
    assert source.account.skipped["resolution_changed"] >= len(sizes) - 1


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Event]]:
    """For the first three connections of a camera, a name server that answers once its event is set."""
    ends: list[threading.Event] = []
    resolve = socket.getaddrinfo

    def wait(*arguments: Any) -> Any:
        if threading.current_thread().name == "read-gate" and len(ends) < 3:
            ends.append(threading.Event())
            ends[-1].wait(30)
        return resolve(*arguments)

    monkeypatch.setattr(live, "_HUNG_SECONDS", 0.1)
    monkeypatch.setattr(connection.socket, "getaddrinfo", wait)
    yield ends
    for end in ends:
        end.set()


# A whole second to connect: beside other work, opening a stream takes its time.
HASTY = StreamSettings(timeout_seconds=1, stall_seconds=0.2, backoff_seconds=0.05, backoff_cap_seconds=0.05)


def test_a_connection_that_never_ends_is_left_behind_but_not_many(
    hanging: list[threading.Event], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_GRACE_SECONDS", 0.1)
    with (
        mjpeg_server([numbered(0)] * 100) as port,
        watching(f"http://127.0.0.1:{port}/video.mjpg", settings=HASTY) as watch,
    ):
        account = watch.source.account
        watch.until(lambda: "none is made until one of them ends" in (account.error or ""))
        time.sleep(1)  # nobody makes a fourth
        assert (len(hanging), account.failed_connects, account.connects) == (3, 3, 0)
        assert (account.error_code, account.state) == (ErrorCode.STREAM_HUNG, SourceState.RECONNECTING)
        assert len([each for each in caplog.messages if each.endswith("[STREAM_HUNG]")]) == 3
        hanging[0].set()
        watch.until(lambda: watch.frames)


def between_keys(seconds: int) -> list[bytes]:
    """What a relay sends, a piece a picture, from behind a key frame on to a second behind the next one."""
    pieces: list[bytearray] = []

    class Pieces(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            pieces[-1].extend(bytes(data))
            return len(data)

    with av.open(Pieces(), "w", format="mpegts", options={"flush_packets": "1", "pat_period": "0.1"}) as container:  # type: ignore[call-overload]
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        keys = f"keyint={10 * seconds}:min-keyint={10 * seconds}:scenecut=0:bframes=0:repeat-headers=1"
        stream.options = {"preset": "ultrafast", "x264-params": keys}
        packets = []
        for number in range(10 * seconds + 10):
            picture = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            packets += stream.encode(picture)
        for packet in [*packets, *stream.encode(None)]:
            pieces.append(bytearray())
            container.mux(packet)
    return [bytes(each) for each in pieces[1:]]


@pytest.mark.parametrize(("patience", "comes"), [(60.0, True), (1.8, False)])
def test_a_relay_that_begins_long_before_a_key_frame_is_waited_for_while_its_packets_come(
    patience: float, comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_KEY_SECONDS", patience)
    monkeypatch.setattr(live, "_GRACE_SECONDS", 0.1)

    def send(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.025)  # four times as fast as it was filmed

    pieces, settings = between_keys(10), replace(QUICK, timeout_seconds=1.5)
    with tcp_server(send) as port, watching(f"http://127.0.0.1:{port}/a.ts", settings=settings) as watch:
        account = watch.source.account
        watch.until(lambda: watch.frames or account.failed_connects)
        assert account.failed_connects == (not comes)
        if comes:
            assert watch.numbers[0] == 100
        else:
            assert "no frame within 1.8 s, though packets come: no key frame" in str(account.error)


def test_http_refusals_have_codes() -> None:
    for status, code in (
        (401, ErrorCode.STREAM_AUTH_FAILED),
        (404, ErrorCode.STREAM_NOT_FOUND),
        (429, ErrorCode.STREAM_INVALID),
        (503, ErrorCode.STREAM_INVALID),
    ):
        with mjpeg_server([], status=status) as port:
            assert probe_error(f"http://127.0.0.1:{port}/video.mjpg").code is code


def test_a_web_page_is_no_stream() -> None:
    page = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>no camera</html>"

    def reply(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(page)
        client.close()

    with tcp_server(reply) as port:
        assert probe_error(f"http://127.0.0.1:{port}/").code is ErrorCode.STREAM_INVALID


def test_a_thermal_camera_that_sends_a_palette_is_refused_with_advice() -> None:
    palette = np.zeros((96, 160, 3), np.uint8)
    palette[..., 0], palette[..., 2] = np.linspace(0, 255, 160), np.linspace(255, 0, 160)
    with mjpeg_server([palette] * 10) as port:
        error = probe_error(f"http://127.0.0.1:{port}/video.mjpg", modality=Modality.THERMAL)
    assert error.code is ErrorCode.FALSE_COLOUR
    assert "set the camera to white hot or black hot" in str(error)


def test_a_few_coloured_pictures_of_a_thermal_camera_are_left_out_and_end_nothing() -> None:
    grey, coloured = numbered(1), numbered(2)
    coloured[..., 0], coloured[..., 2] = 250, 10
    pictures = [grey, coloured, coloured, grey, coloured, *[grey] * 50]
    with (
        mjpeg_server(pictures, fps=20) as port,
        watching(f"http://127.0.0.1:{port}/video.mjpg", modality=Modality.THERMAL) as watch,
    ):
        watch.until(lambda: len(watch.frames) >= 10)
    assert watch.source.account.skipped["false_colour"] == 3
    assert (watch.source.account.connects, watch.source.account.error) == (1, None)
    assert set(watch.numbers) == {1}


def test_a_thermal_device_is_asked_for_its_counts_first() -> None:
    attempts = device_attempts("2", raw=True)
    assert [(path, form, options.get("input_format")) for path, form, options in attempts] == [
        ("/dev/video2", "v4l2", "gray16le"),
        ("/dev/video2", "v4l2", None),
    ]
    assert [each[0] for each in device_attempts("/dev/video1", raw=False)] == ["/dev/video1"]


@pytest.fixture
def broken_accelerator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """One that FFmpeg was built for and cannot open, as where a card is there and its driver is not."""
    try:
        CodecContext.create("h264", "r", hwaccel=HWAccel(device_type="cuda"))
        pytest.skip("CUDA works here")
    except av.error.FFmpegError:
        pass
    monkeypatch.setattr(connection, "_ACCELERATORS", {"cuda": str(tmp_path)})
    connection._can_be_opened.cache_clear()
    yield "cuda"
    connection._can_be_opened.cache_clear()


def test_an_accelerator_that_cannot_be_opened_is_none_and_is_told_once(
    broken_accelerator: str, caplog: pytest.LogCaptureFixture
) -> None:
    with mjpeg_server([numbered(0)] * 3) as port:
        for _ in range(2):
            info = LiveSource("gate", f"http://127.0.0.1:{port}/video.mjpg", Modality.RGB, settings=QUICK).probe()
            assert info.decoder == "mjpeg on the CPU"
    assert connection.accelerator() is None
    (told,) = [each for each in caplog.messages if "accelerator" in each]
    assert told.startswith(f"the accelerator {broken_accelerator} cannot be used (")


def test_an_accelerator_that_breaks_later_costs_no_camera(
    broken_accelerator: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "accelerator", lambda: broken_accelerator)  # it could be opened a moment ago
    with mjpeg_server([numbered(0)] * 3) as port:
        for _ in range(2):
            info = LiveSource("gate", f"http://127.0.0.1:{port}/video.mjpg", Modality.RGB, settings=QUICK).probe()
            assert info.resolution_wh == (160, 96)
    assert len([each for each in caplog.messages if "accelerator" in each]) == 1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert probe_error(f"rtsp://127.0.0.1:{port}/gate").code is ErrorCode.STREAM_REFUSED


def test_failed_connections_leave_nothing_behind() -> None:
    process = psutil.Process()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    eager = StreamSettings(backoff_seconds=1e-4, backoff_cap_seconds=1e-4)
    with watching(f"rtsp://127.0.0.1:{port}/gate", settings=eager) as watch:
        watch.until(lambda: watch.source.account.failed_connects > 50)
        memory, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        watch.until(lambda: watch.source.account.failed_connects > 350, seconds=60)
        assert process.memory_info().rss - memory < 3e6
        assert abs(process.num_fds() - files) <= 2
        assert process.num_threads() <= threads + 1


# --- with a real RTSP server ---------------------------------------------------


def restless(number: int) -> NDArray[np.uint8]:
    """As ``numbered``, under noise that changes in every frame, so that a frame is many packets."""
    noise = np.random.default_rng(number).integers(0, 30, (96, 160, 1), np.uint8)
    return np.asarray(numbered(number) + noise, np.uint8)


def is_whole(image: Image, number: int) -> bool:
    """Whether no block of 16 x 16 pixels shows anything else."""
    difference = image[..., 0].astype(float) - numbered(number)[..., 0] - 15
    return bool(np.abs(difference.reshape(6, 16, 10, 16).mean(axis=(1, 3))).max() < 25)


def differs_by(image: Image, filmed: NDArray[np.uint8]) -> float:
    """The most by which a block of 16 x 16 pixels shows anything else, coding apart."""
    difference = image[..., 0].astype(float) - filmed[..., 0]
    return float(np.abs(difference.reshape(6, 16, 10, 16).mean(axis=(1, 3))).max())


THERMAL = [(7300 + 5 * np.random.default_rng(n).standard_normal((96, 160))).astype(np.uint16) for n in range(10)]
LOSSY = {"lossy_h265": 0.02, "lossy_h264": 0.02, "lossy_singles": 0.1}  # of packets; the last has one a frame
FAULTS = FaultPlan(
    faults=(
        Fault(camera="frozen", kind="freeze", at_seconds=2, for_seconds=4),
        Fault(camera="set_back", kind="clock_jump", at_seconds=4, by=-2.0),
        Fault(camera="leaping", kind="timestamp_jump", at_seconds=2, by=3600),
        Fault(camera="wrong", kind="skew", by=7200),
        *(Fault(camera="battered", kind=kind, share=0.02, for_seconds=8) for kind in ("drop", "duplicate", "reorder")),
        Fault(camera="noisy", kind="corrupt", share=0.05, for_seconds=8),
        *(Fault(camera=name, kind="drop", share=share, for_seconds=60) for name, share in LOSSY.items()),
    )
)


@dataclass
class Season:
    """Some seconds of eleven cameras, nine of which are not well."""

    watches: dict[str, Watching]
    sent: dict[str, list[tuple[int, float]]]
    counts: dict[str, Counter[str]]
    log: str


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Season:
    require_gstreamer()
    folder = tmp_path_factory.mktemp("sent")
    names = ("well", "frozen", "set_back", "leaping", "wrong", "battered", "noisy")
    clips = dict.fromkeys(names, clip())
    clips["battered"] = clips["noisy"] = encode(map(restless, range(50)), fps=10)
    clips["roof"] = clips["lossy_h265"] = encode(THERMAL, fps=10, lossless=True)
    clips["lossy_h264"], clips["lossy_singles"] = clips["battered"], clips["well"]
    with (
        Streams(clips, Serving(plan=FAULTS, log=folder)) as streams,
        ExitStack() as stack,
        recorded_log() as log,
    ):
        watches = {
            name: stack.enter_context(watching(
                url, camera_id=name, modality=Modality.THERMAL if name in ("roof", "lossy_h265") else Modality.RGB
            ))
            for name, url in streams.urls.items()
        }  # fmt: skip
        end = time.monotonic() + 20
        while not (
            watches["set_back"].source.account.clock.backwards
            and watches["frozen"].source.account.reconnects
            and watches["frozen"].states[-1] is SourceState.RUNNING
            and len(watches["well"].frames) > 60
        ):
            assert time.monotonic() < end, {name: watch.source.account for name, watch in watches.items()}
            time.sleep(0.005)
            for watch in watches.values():
                watch.look()
    sent = {
        path.stem: [(int(number), float(when)) for number, when in map(str.split, path.read_text().splitlines())]
        for path in folder.iterdir()
    }
    return Season(watches, sent, {name: streams.counts(name) for name in clips}, log.getvalue())


def test_every_camera_gives_increasing_times_and_an_exact_account(season: Season) -> None:
    for watch in season.watches.values():
        assert np.all(np.diff([frame.pts_seconds for frame in watch.frames]) > 0)
        assert np.all(np.diff([frame.captured_at.timestamp() for frame in watch.frames]) > 0)
        assert np.all(np.diff([frame.index for frame in watch.frames]) > 0)
        assert watch.source.account.decoded == len(watch.frames)
        assert watch.source.account.state is SourceState.ENDED


def test_rtsp_frames_carry_the_cameras_clock_once_it_was_told(season: Season) -> None:
    watch = season.watches["well"]
    sources = [frame.time_source for frame in watch.frames]
    told = sources.index(TimeSource.SENDER_REPORT)
    assert set(sources[told:]) == {TimeSource.SENDER_REPORT}
    assert set(sources[1:told]) == {TimeSource.STREAM_PTS}
    for frame, seen in list(zip(watch.frames, watch.numbers, strict=True))[told + 10 :]:
        moments = [when for number, when in season.sent["well"] if number % 50 == seen]
        assert min(abs(when - frame.captured_at.timestamp()) for when in moments) < 0.02
        assert 0 <= frame.arrival_lag_seconds < 1
    assert watch.source.info is not None
    assert watch.source.info.decoder == "h264 on the CPU"
    assert "camera well: connected to rtsp://127.0.0.1:" in season.log
    assert "h264, 160x96, 8 bits, decoded on the CPU" in season.log


def test_no_frame_of_a_healthy_stream_is_lost(season: Season) -> None:
    assert set(np.diff(season.watches["well"].numbers) % 50) == {1}


def test_a_12_bit_thermal_stream_comes_as_counts(season: Season) -> None:
    offset = encode(THERMAL[:1], fps=10).offset
    back = season.watches["roof"].frames[3].image.astype(int) + offset
    assert min(int(np.abs(back - each).max()) for each in THERMAL) == 0


def test_a_frozen_stream_is_called_stalled_given_up_and_comes_back(season: Season) -> None:
    watch = season.watches["frozen"]
    lost = watch.states.index(SourceState.RECONNECTING)
    assert watch.states[lost - 1] is SourceState.STALLED
    assert SourceState.RUNNING in watch.states[lost:]
    assert "[STREAM_STALLED]" in season.log


def test_a_clock_that_is_set_back_is_counted_and_moves_no_frame(season: Season) -> None:
    watch = season.watches["set_back"]
    assert watch.source.account.clock.backwards == 1
    np.testing.assert_allclose(np.diff([frame.pts_seconds for frame in watch.frames[1:]]), 0.1, atol=0.01)


def test_timestamps_that_leap_an_hour_move_no_frame(season: Season) -> None:
    watch = season.watches["leaping"]
    assert watch.source.account.clock.jumps >= 1
    assert watch.frames[-1].pts_seconds < 30
    assert all(abs(frame.arrival_lag_seconds) < 5 for frame in watch.frames)


def test_a_camera_whose_clock_is_wrong_by_hours_gets_times_of_arrival(season: Season) -> None:
    assert "camera wrong: its clock is off by +7" in season.log
    last = season.watches["wrong"].frames[-1]
    assert last.time_source is TimeSource.STREAM_PTS
    assert abs(last.arrival_lag_seconds) < 1


def test_lost_doubled_shuffled_and_damaged_packets_end_nothing(season: Season) -> None:
    assert all(season.counts["battered"][kind] for kind in ("drop", "duplicate", "reorder"))
    assert season.counts["noisy"]["corrupt"]
    for name in ("battered", "noisy"):
        behind = season.watches["well"].frames[-1].captured_at - season.watches[name].frames[-1].captured_at
        assert behind.total_seconds() < 2.5  # a damaged picture keeps at most two seconds back


@pytest.mark.parametrize("name", LOSSY)
def test_where_packets_are_lost_no_frame_is_given_out_that_is_not_as_filmed(season: Season, name: str) -> None:
    watch = season.watches[name]
    assert season.counts[name]["drop"] > 2
    assert watch.source.account.skipped["damaged"] > 0
    assert len(watch.frames) > 10
    offset = encode(THERMAL[:1], fps=10).offset
    for frame, number in zip(watch.frames, watch.numbers, strict=True):
        if name == "lossy_h265":
            assert min(int(np.abs(frame.image.astype(int) + offset - each).max()) for each in THERMAL) == 0
        else:
            filmed = restless(number) if name == "lossy_h264" else numbered(number)
            assert differs_by(frame.image, filmed) < 10


def test_pictures_of_which_packets_were_lost_are_kept_back(season: Season) -> None:
    watch = season.watches["battered"]
    assert watch.source.account.skipped["damaged"] > 0
    whole = [is_whole(frame.image, number) for frame, number in zip(watch.frames, watch.numbers, strict=True)]
    assert np.mean(whole) > 0.9


def test_a_password_lets_in_and_a_wrong_one_is_told() -> None:
    require_gstreamer()
    with Streams({"gate": clip(10)}, Serving(login=Login("admin", "s3cret"))) as streams:
        place = streams.urls["gate"].removeprefix("rtsp://")
        info = LiveSource("gate", f"rtsp://admin:s3cret@{place}", Modality.RGB, settings=QUICK).probe()
        assert info.resolution_wh == (160, 96)
        assert probe_error(f"rtsp://admin:wr0ng@{place}").code is ErrorCode.STREAM_AUTH_FAILED
        assert probe_error(f"rtsp://{place}").code is ErrorCode.STREAM_AUTH_FAILED
        assert probe_error(f"rtsp://admin:s3cret@{place}x").code is ErrorCode.STREAM_NOT_FOUND


def test_a_stream_over_udp_is_read_as_one_over_tcp() -> None:
    require_gstreamer()
    settings = replace(QUICK, transport="udp", timeout_seconds=5.0, stall_seconds=3.0)
    with Streams({"gate": clip(50)}, Serving()) as streams, watching(streams.urls["gate"], settings=settings) as watch:
        watch.until(lambda: len(watch.frames) >= 30)
        assert psutil.Process().net_connections("udp")
        account = watch.source.account
        assert (account.connects, account.error) == (1, None)
    steps = np.diff(watch.numbers) % 50
    assert np.mean(steps == 1) > 0.9  # over loopback, where hardly a datagram is lost
    np.testing.assert_allclose(np.diff([frame.pts_seconds for frame in watch.frames]), 0.1 * steps, atol=0.02)


@pytest.mark.parametrize(("algorithm", "lets_in"), [("MD5", True), ("SHA-256", False)])
def test_a_digest_that_ffmpeg_does_not_have_is_told_beside_a_wrong_password(algorithm: str, lets_in: bool) -> None:
    with mjpeg_server([numbered(n) for n in range(30)], digest=("admin", "p@ss#1", algorithm)) as port:
        url = f"http://admin:p%40ss%231@127.0.0.1:{port}/video.mjpg"
        if lets_in:
            assert LiveSource("gate", url, Modality.RGB, settings=QUICK).probe().resolution_wh == (160, 96)
        error = probe_error(url.replace("%231", "%232" if lets_in else "%231"))
        assert error.code is ErrorCode.STREAM_AUTH_FAILED
        assert "or a digest other than MD5" in str(error)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, alone and with its key."""
    key, alone, both = (folder / f"{name}.{suffix}" for suffix in ("key", "pem", "both"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", alone, "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes(key.read_bytes() + alone.read_bytes())
    return alone, both


def test_an_encrypted_stream_is_read_and_its_certificate_checked_if_wanted(tmp_path: Path) -> None:
    require_gstreamer()
    (own, with_key), (other, _) = certificate(tmp_path, "own"), certificate(tmp_path, "other")
    with Streams({"gate": clip(10)}, Serving(certificate=with_key)) as streams:
        url = streams.urls["gate"]
        assert url.startswith("rtsps://")
        for trusted in (None, own):
            settings = StreamSettings(timeout_seconds=5, ca_file=trusted)
            assert LiveSource("gate", url, Modality.RGB, settings=settings).probe().resolution_wh == (160, 96)
        error = probe_error(url, settings=StreamSettings(timeout_seconds=5, ca_file=other))
        assert error.code is ErrorCode.STREAM_TLS_FAILED
        assert "its certificate is not trusted: self-signed certificate" in str(error)


def test_a_server_that_is_killed_twenty_times_is_back_each_time_and_the_others_lose_nothing() -> None:
    require_gstreamer()
    process = psutil.Process()
    others = ("plaza", "yard", "roof")
    with (
        Streams(dict.fromkeys(others, clip())) as steady,
        Streams({"gate": clip()}) as shaky,
        watching(shaky.urls["gate"], long=True) as gate,
        ExitStack() as stack,
    ):
        rest = [stack.enter_context(watching(url, camera_id=name, long=True)) for name, url in steady.urls.items()]
        gate.until(lambda: gate.frames)
        for kill in range(20):
            seen = len(gate.frames)
            shaky.kill("gate")
            gate.until(lambda: gate.source.account.state is SourceState.RECONNECTING)
            shaky.restart("gate")
            there = time.monotonic()
            gate.until(lambda seen=seen: len(gate.frames) > seen + 1)  # type: ignore[misc]
            assert gate.arrived[seen + 1] - there < QUICK.backoff_cap_seconds + 2
            if kill == 4:
                memory, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        assert process.memory_info().rss - memory < 5e6
        assert abs(process.num_fds() - files) <= 6
        assert process.num_threads() <= threads + 1
        assert gate.source.account.reconnects == 20
        assert gate.source.account.decoded == len(gate.frames)
        for watch in rest:
            assert watch.source.account.connects == 1
            assert not watch.source.account.skipped
    for watch in rest:
        assert len(watch.numbers) > 100
        assert set(np.diff(watch.numbers) % 50) == {1}
    assert np.all(np.diff([frame.pts_seconds for frame in gate.frames]) > 0)
