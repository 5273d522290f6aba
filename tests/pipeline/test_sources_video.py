import os
import re
import socket
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from threading import Event

import av
import numpy as np
import pytest

from pipeline.clips import frame_shown
from pipeline.errors import SourceError
from pipeline.frame import TimeSource
from pipeline.sources import video
from pipeline.sources.base import SourceState
from pipeline.sources.pictures import has_false_colour, is_false_colour
from pipeline.sources.video import VideoSource
from reid.modality import Modality
from tests.pipeline.footage import picture, write_video
from tests.pipeline.streams import tcp_server

PICTURES = [picture(number) for number in range(20)]


def test_every_frame_comes_in_rgb_with_the_times_of_the_container(tmp_path: Path) -> None:
    source = VideoSource("gate", write_video(tmp_path / "a.mp4", PICTURES), Modality.RGB)
    info = source.probe()
    frames = list(source)
    assert (info.resolution_wh, info.fps, info.frames, info.bit_depth) == ((96, 64), 10, 20, 8)
    assert [frame.index for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.pts_seconds for frame in frames], np.arange(20) / 10, atol=1e-6)
    red, blue = frames[3].image[30, 10], frames[3].image[30, 90]
    assert red[0] > 150 > red[2]
    assert blue[2] > 150 > blue[0]
    assert source.account.decoded == source.account.expected == 20
    assert source.account.state is SourceState.ENDED
    assert not source.account.skipped


@pytest.mark.parametrize("modality", [Modality.NIR, Modality.THERMAL])
def test_infrared_video_comes_as_luma(tmp_path: Path, modality: Modality) -> None:
    grey = [np.full((64, 96, 3), 10 * number, np.uint8) for number in range(10)]
    frames = list(VideoSource("yard", write_video(tmp_path / "a.mp4", grey), modality))
    assert frames[5].image.shape == (64, 96)
    assert frames[5].image.dtype == np.uint8
    assert abs(int(frames[5].image[30, 30]) - 50) <= 3


def test_video_of_more_than_8_bits_stays_deep(tmp_path: Path) -> None:
    path = tmp_path / "deep.mkv"
    counts = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 7
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "gray16le"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(counts, format="gray16le")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = VideoSource("roof", path, Modality.THERMAL)
    assert source.probe().bit_depth == 16
    for frame in source:
        np.testing.assert_array_equal(frame.image, counts)


@pytest.mark.parametrize(("pixels", "bits"), [("gray10le", 10), ("gray12le", 12), ("gray14le", 14)])
def test_counts_of_10_to_14_bits_are_not_stretched(tmp_path: Path, pixels: str, bits: int) -> None:
    path = tmp_path / "deep.mkv"
    counts = np.random.default_rng(0).integers(0, 2**bits, (64, 96), dtype=np.uint16)
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        frame = av.VideoFrame(96, 64, pixels)
        plane = np.zeros((64, frame.planes[0].line_size // 2), np.uint16)
        plane[:, :96] = counts
        frame.planes[0].update(plane.tobytes())
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (frame,) = VideoSource("roof", path, Modality.THERMAL)
    np.testing.assert_array_equal(frame.image, counts)


def test_what_a_video_shows_in_colour_is_told_as_of_an_image() -> None:
    """From faint to strong, for its chroma is nearer to the middle than its channels are to one another."""
    rng, verdicts = np.random.default_rng(0), set()
    luma = rng.integers(80, 170, (64, 96, 1))
    for strength in (0, 8, 15, 40, 60, 90):
        for tint in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.2, 0.0, 1.0)):
            image = np.clip(luma + strength * np.array(tint) - strength / 2, 0, 255).astype(np.uint8)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            verdicts.add((strength > 30, is_false_colour(picture), has_false_colour(image)))
    assert verdicts == {(False, False, False), (True, True, True)}


def test_a_thermal_video_in_false_colour_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "iron.mp4", PICTURES[:3])
    with pytest.raises(SourceError, match="shows a false-colour palette"):
        VideoSource("roof", path, Modality.THERMAL).probe()


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:{port}/key"\n'
        "#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n",
    ],
    ids=["segment", "key"],
)
def test_a_playlist_for_a_video_reaches_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    came = Event()

    def note(client: socket.socket) -> None:
        came.set()
        client.close()

    (tmp_path / "a.ts").write_bytes(bytes(188))
    with tcp_server(note) as port:
        path = tmp_path / "a.m3u8"
        path.write_text(text.format(port=port))
        with pytest.raises(SourceError):
            VideoSource("gate", path, Modality.RGB).probe()
        assert not came.wait(0.2)
        monkeypatch.setattr(video, "_ONLY_THIS_FILE", {"protocol_whitelist": "file,http,tcp,crypto"})
        with pytest.raises(SourceError):
            VideoSource("gate", path, Modality.RGB).probe()
        assert came.wait(5), "a playlist that nobody follows proves nothing"


def test_a_session_description_for_a_video_opens_no_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "a.sdp"
    path.write_text(
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n"
    )
    with pytest.raises(SourceError):  # with its port open, FFmpeg waits for packets
        VideoSource("gate", path, Modality.RGB).probe()


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("modality", [Modality.RGB, Modality.NIR])
def test_a_video_is_turned_as_its_container_says(
    tmp_path: Path, degrees: int, flipped: bool, modality: Modality
) -> None:
    stored = np.full((64, 96, 3), 20, np.uint8)
    stored[:32, :48] = 220  # top left
    path = tmp_path / "phone.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(degrees, hflip=flipped)
        for _ in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    source = VideoSource("gate", path, modality)
    shown = np.rot90(stored if modality is Modality.RGB else stored[..., 0], degrees // 90)  # counter-clockwise
    shown = shown[:, ::-1] if flipped else shown
    assert source.probe().resolution_wh == (shown.shape[1], shown.shape[0])
    for frame in (next(iter(source)), next(source.frames_from(3.0))):
        assert frame.image.shape == shown.shape
        assert np.abs(frame.image.astype(int) - shown).mean() < 8
        assert source.info is not None
        assert source.info.resolution_wh == frame.resolution_wh


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", PICTURES[:4], pts=[0, 10, 50, 57])
    times = [frame.pts_seconds for frame in VideoSource("gate", path, Modality.RGB)]
    np.testing.assert_allclose(times, [0, 0.1, 0.5, 0.57], atol=1e-3)


def write_raw(path: Path, ticks: Sequence[int]) -> Path:
    """Pictures at any times, in hundredths of a second."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number, pts in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(PICTURES[0], format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = pts
                packet.time_base = Fraction(1, 100)
                container.mux(packet)
    return path


def test_a_time_that_does_not_increase_is_skipped_and_counted(tmp_path: Path) -> None:
    source = VideoSource("gate", write_raw(tmp_path / "raw.mkv", (0, 10, 10, 20)), Modality.RGB)
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 3]
    assert source.account.skipped == {"time_not_increasing": 1}
    assert source.account.clock.duplicates == 1


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "h264"), ("libx265", "hevc")])
def test_a_raw_stream_has_no_times_and_its_frames_are_counted_at_the_rate_it_states(
    tmp_path: Path, codec: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"raw.{suffix}"
    with av.open(path, "w", format=suffix) as container:
        stream = container.add_stream(codec, rate=10, options={"preset": "ultrafast", "x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for image in PICTURES * 2:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    start = datetime(2026, 6, 1, 8, tzinfo=UTC)
    source = VideoSource("gate", path, Modality.RGB, start=start)
    assert (source.probe().fps, source.probe().time_source) == (10, TimeSource.FRAME_RATE)
    frames = list(source)
    np.testing.assert_allclose([frame.pts_seconds for frame in frames], np.arange(40) / 10, atol=1e-9)
    assert frames[7].captured_at == start + timedelta(seconds=0.7)
    assert {frame.time_source for frame in frames} == {TimeSource.FRAME_RATE}
    assert (source.account.state, source.account.skipped) == (SourceState.ENDED, {})
    assert caplog.text.count("its frames have no times: they are counted, at 10 a second, which the stream states") == 1
    shown = frame_shown(source.frames_from(3.0), 3.0)
    assert shown is not None
    assert (shown.index, shown.pts_seconds) == (30, pytest.approx(3.0))


def test_a_file_of_which_no_frame_can_be_used_says_why(tmp_path: Path) -> None:
    source = VideoSource("roof", write_video(tmp_path / "iron.mp4", PICTURES[:3]), Modality.THERMAL)
    assert list(source) == []
    assert "iron.mp4: no frame could be used (3 false_colour)" in str(source.account.error)


def test_a_gap_in_the_times_is_counted_and_kept(tmp_path: Path) -> None:
    source = VideoSource("gate", write_raw(tmp_path / "raw.mkv", (0, 10, 20, 30, 330, 340)), Modality.RGB)
    times = [frame.pts_seconds for frame in source]
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.3, 3.3, 3.4], atol=1e-6)
    assert source.account.clock.gaps == 1


@pytest.mark.parametrize("leap", [2**45, -(2**45)])
def test_a_time_that_leaps_by_thousands_of_years_is_damaged_and_time_goes_on(tmp_path: Path, leap: int) -> None:
    """Within a millisecond, for so far away a float knows no less."""
    ticks = (0, 10, 20, 30 + leap, 40 + leap, 50 + leap) if leap > 0 else (leap, 0, 10, 20, 30, 40)
    source = VideoSource("gate", write_raw(tmp_path / "raw.nut", ticks), Modality.RGB)
    np.testing.assert_allclose([frame.pts_seconds for frame in source], np.arange(6) / 10, atol=1e-3)
    assert source.account.clock.jumps == 1
    assert source.account.state is SourceState.ENDED


@pytest.mark.parametrize("milliseconds", [1e15, -1e12, float("inf"), float("nan")])
def test_a_matroska_that_says_how_long_it_is_and_cannot_be_has_the_files_date(
    tmp_path: Path, milliseconds: float
) -> None:
    path = tmp_path / "a.mkv"
    content = bytearray(write_matroska(path))
    at = content.find(b"\x44\x89\x88") + 3  # Duration, 8 bytes
    content[at : at + 8] = struct.pack(">d", milliseconds)
    path.write_bytes(content)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    source = VideoSource("gate", path, Modality.RGB)
    assert source.probe().start.timestamp() == 1_700_000_000
    assert len(list(source)) == 20


def write_between_keys(path: Path, *, pixels: str, size_wh: tuple[int, int] = (96, 64)) -> Path:
    """A segment cut right behind a key frame, of which one comes every twelve seconds: 119 pictures, a key, 20 more."""
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = *size_wh, pixels
        stream.options = {"preset": "ultrafast", "x264-params": "keyint=120:min-keyint=120:scenecut=0:bframes=0"}
        packets = []
        for number in range(141):
            image = np.full((size_wh[1], size_wh[0]), 30 + number, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += stream.encode(frame)
        container.mux([*packets, *stream.encode(None)][1:])
    return path


@pytest.mark.parametrize(
    ("modality", "pixels", "bits"), [(Modality.RGB, "yuv420p", 8), (Modality.THERMAL, "yuv420p10le", 16)]
)
def test_a_recording_cut_long_before_a_key_frame_is_read_from_that_on(
    tmp_path: Path, modality: Modality, pixels: str, bits: int
) -> None:
    source = VideoSource("gate", write_between_keys(tmp_path / "cut.ts", pixels=pixels), modality)
    info = source.probe()
    assert (info.resolution_wh, info.bit_depth) == ((96, 64), bits)
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(119, 140))
    assert frames[0].pts_seconds == pytest.approx(11.9)
    assert source.account.skipped == {"damaged": 119}
    assert source.account.state is SourceState.ENDED
    assert next(source.frames_from(13.0)).index in range(119, 131)


def test_a_recording_without_a_key_frame_says_that_it_cannot_be_decoded(tmp_path: Path) -> None:
    content = write_between_keys(tmp_path / "cut.ts", pixels="yuv420p").read_bytes()
    (tmp_path / "cut.ts").write_bytes(content[: len(content) // 2 // 188 * 188])
    with pytest.raises(SourceError, match=r"cut\.ts (cannot be decoded|has no frame)"):
        VideoSource("gate", tmp_path / "cut.ts", Modality.RGB).probe()


def test_a_tiny_recording_cut_before_a_key_frame_is_refused_by_its_true_size(tmp_path: Path) -> None:
    path = write_between_keys(tmp_path / "cut.ts", pixels="yuv420p", size_wh=(64, 16))
    with pytest.raises(SourceError, match="is 64x16 pixels; at least 32"):
        VideoSource("gate", path, Modality.RGB).probe()


def test_a_truncated_video_gives_what_it_has_and_has_failed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), dtype=np.uint8)
    whole = write_video(tmp_path / "a.mp4", list(noise))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    source = VideoSource("gate", cut, Modality.RGB)
    frames = list(source)
    assert 5 < len(frames) < 20
    assert source.account.state is SourceState.FAILED
    assert source.account.decoded == len(frames)
    assert f"is truncated: {len(frames)} frames decoded of 20" in str(source.account.error)


def write_avi(path: Path, ticks: Sequence[int], *, codec: str = "mjpeg", rate: int = 10) -> Path:
    """Pictures of noise at some ticks; the others have an empty chunk, as capture cards write it that missed one."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for tick in ticks:
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = tick, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


AVIS = {
    "two missed": ([tick for tick in range(42) if tick not in (10, 20)], "mpeg4", 10),
    "none missed": (list(range(20)), "mpeg4", 10),
    "milliseconds": (list(range(0, 2000, 100)), "mjpeg", 1000),
    "raw": (list(range(0, 2000, 100)), "rawvideo", 1000),
}


@pytest.mark.parametrize(("ticks", "codec", "rate"), AVIS.values(), ids=AVIS)
def test_an_avi_without_a_picture_at_some_ticks_is_not_called_truncated(
    tmp_path: Path, ticks: list[int], codec: str, rate: int
) -> None:
    source = VideoSource("gate", write_avi(tmp_path / "a.avi", ticks, codec=codec, rate=rate), Modality.RGB)
    np.testing.assert_allclose([frame.pts_seconds for frame in source], np.array(ticks) / rate, atol=1e-6)
    assert (source.account.expected, source.account.state, source.account.error) == (
        len(ticks), SourceState.ENDED, None
    )  # fmt: skip
    assert source.info is not None
    assert source.info.fps == pytest.approx(len(ticks) * rate / (ticks[-1] + 1))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
@pytest.mark.parametrize(("ticks", "codec", "rate"), AVIS.values(), ids=AVIS)
def test_an_avi_that_is_cut_is_called_truncated(
    tmp_path: Path, ticks: list[int], codec: str, rate: int, share: float
) -> None:
    path = write_avi(tmp_path / "a.avi", ticks, codec=codec, rate=rate)
    begin, end = path.read_bytes().index(b"movi"), path.read_bytes().rindex(b"idx1")
    os.truncate(path, int(begin + share * (end - begin)))
    source = VideoSource("gate", path, Modality.RGB)
    frames = list(source)
    assert 0 < len(frames) <= len(ticks)
    assert source.account.state is SourceState.FAILED
    assert f"is truncated: {len(frames)} frames decoded of {ticks[-1] + 1}" in str(source.account.error)


def test_an_avi_whose_end_was_never_written_is_called_truncated(tmp_path: Path) -> None:
    """As a copy that broke off leaves it: all of its bytes are there, the last ones as zeros."""
    path = write_avi(tmp_path / "a.avi", *AVIS["two missed"][:1])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    source = VideoSource("gate", path, Modality.RGB)
    list(source)
    assert source.account.state is SourceState.FAILED
    assert "is truncated" in str(source.account.error)


def write_resized(path: Path) -> Path:
    """Three segments of forty frames each in one transport stream, whose times go on; the second is smaller."""
    parts = []
    for number, (width, height) in enumerate(((96, 64), (64, 48), (96, 64))):
        pictures = [picture(each, width=width, height=height) for each in range(40)]
        part = path.with_name(f"{number}.ts")
        ticks = [10 * each + 400 * number for each in range(40)]
        write_video(part, pictures, pts=ticks, options={"mpegts_copyts": "1"})
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def test_a_recording_whose_resolution_changes_is_read_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = VideoSource("gate", write_resized(tmp_path / "a.ts"), Modality.RGB)
    frames = list(source)
    assert [frame.resolution_wh for frame in frames] == [(96, 64)] * 40 + [(64, 48)] * 40 + [(96, 64)] * 40
    assert [frame.index for frame in frames] == list(range(120))
    np.testing.assert_allclose(np.diff([frame.pts_seconds for frame in frames]), 0.1, atol=1e-6)
    assert (source.account.state, source.account.skipped) == (SourceState.ENDED, {})
    assert caplog.text.count("its resolution changes, from frame 40 on to 64x48") == 1
    for seconds, expected in ((6.0, (64, 48)), (10.0, (96, 64))):
        shown = frame_shown(source.frames_from(seconds), seconds)
        assert shown is not None
        assert (shown.index, shown.resolution_wh) == (10 * seconds, expected)


def trimmed(path: Path, *, to: float) -> Path:
    """The same frames, of which the edit list shows the first share only."""
    content = bytearray(path.read_bytes())
    entry = content.find(b"elst") + 12  # behind kind, version and number of entries
    (ticks,) = struct.unpack_from(">I", content, entry)
    struct.pack_into(">I", content, entry, round(ticks * to))
    path.write_bytes(content)
    return path


def test_a_trimmed_video_is_not_called_truncated(tmp_path: Path) -> None:
    source = VideoSource("gate", trimmed(write_video(tmp_path / "a.mp4", PICTURES), to=0.5), Modality.RGB)
    assert len(list(source)) == 10
    assert (source.account.expected, source.account.state, source.account.error) == (10, SourceState.ENDED, None)


def test_a_trimmed_video_that_is_truncated_is_called_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
    path = trimmed(write_video(tmp_path / "a.mp4", list(noise)), to=0.9)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = VideoSource("gate", path, Modality.RGB)
    assert 10 < len(list(source)) < 25
    assert source.account.state is SourceState.FAILED
    assert "s of 3.6 s that it promises" in str(source.account.error)


def write_matroska(path: Path, *, live: bool = False) -> bytes:
    """Twenty frames in two seconds; a live recorder never comes back to the header to write the duration."""
    return write_video(path, PICTURES, options={"live": "1"} if live else {}).read_bytes()


def test_a_truncated_matroska_is_told_by_its_duration_for_it_does_not_count_frames(tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    content = write_matroska(path)
    path.write_bytes(content[: int(0.6 * len(content))])
    source = VideoSource("gate", path, Modality.RGB)
    frames = list(source)
    assert 5 < len(frames) < 15
    assert source.account.state is SourceState.FAILED
    assert re.search(rf"is truncated: .* of 2\.0 s that it promises, {len(frames)} frames", str(source.account.error))


@pytest.mark.parametrize("live", [False, True])
def test_a_whole_matroska_is_not_called_truncated(tmp_path: Path, live: bool) -> None:
    write_matroska(tmp_path / "whole.mkv", live=live)
    source = VideoSource("gate", tmp_path / "whole.mkv", Modality.RGB)
    assert len(list(source)) == 20
    assert (source.account.expected, source.account.state) == (None, SourceState.ENDED)


def test_a_damaged_stretch_costs_only_its_own_frames(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a.mp4", list(noise))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    source = VideoSource("gate", path, Modality.RGB)
    frames = list(source)
    assert len(frames) >= 10
    assert source.account.decoded + sum(source.account.skipped.values()) <= 20
    assert np.all(np.diff([frame.pts_seconds for frame in frames]) > 0)


def test_reading_twice_gives_the_same_and_a_fresh_account(tmp_path: Path) -> None:
    source = VideoSource("gate", write_video(tmp_path / "a.mp4", PICTURES[:3]), Modality.RGB)
    assert [f.pts_seconds for f in source] == [f.pts_seconds for f in source]
    assert source.account.decoded == 3


def test_what_is_no_video_is_refused_with_its_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("this is not a video\n" * 50)
    with pytest.raises(SourceError, match=r"camera gate: .*notes\.mp4 is not a video"):
        VideoSource("gate", text, Modality.RGB).probe()
    with pytest.raises(SourceError, match="no such file"):
        list(VideoSource("gate", tmp_path / "none.mp4", Modality.RGB))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(SourceError, match=r"empty\.mp4 is empty \(0 bytes\)"):
        VideoSource("gate", empty, Modality.RGB).probe()


def test_a_sound_file_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="has no video stream"):
        VideoSource("gate", path, Modality.RGB).probe()


def test_a_tiny_video_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [picture(0, width=32, height=16)])
    with pytest.raises(SourceError, match="is 32x16 pixels; at least 32"):
        VideoSource("gate", path, Modality.RGB).probe()


def test_the_start_is_configured_or_named_or_in_the_container_or_the_files_date(tmp_path: Path) -> None:
    start = datetime(2026, 6, 1, 8, tzinfo=UTC)
    named = write_video(tmp_path / "gate_20260920T221403Z.mp4", PICTURES[:2])
    frame = list(VideoSource("gate", named, Modality.RGB, start=start))[1]
    assert (frame.captured_at.isoformat(), frame.time_source) == (
        "2026-06-01T08:00:00.100000+00:00",
        TimeSource.CONFIGURED_START,
    )
    info = VideoSource("gate", named, Modality.RGB).probe()
    assert (info.start, info.time_source) == (datetime(2026, 9, 20, 22, 14, 3, tzinfo=UTC), TimeSource.FILE_NAME)
    plain = write_video(tmp_path / "plain.mp4", PICTURES[:2])
    os.utime(plain, (1_700_000_000, 1_700_000_000))
    info = VideoSource("gate", plain, Modality.RGB).probe()
    assert info.time_source is TimeSource.FILE_MODIFIED
    assert info.start.timestamp() == pytest.approx(1_700_000_000 - 0.2)  # it ended then
