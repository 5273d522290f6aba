"""Frames from a moment on are those that reading from the beginning gives, bit by bit."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from pipeline.clips import frame_shown
from pipeline.errors import ErrorCode, SourceError
from pipeline.frame import Frame
from pipeline.sources import video
from pipeline.sources.frame_table import FrameTable, FrameTables, read_table
from pipeline.sources.images import ImageSource, SequenceTiming
from pipeline.sources.seek import frames_from
from pipeline.sources.video import VideoSource
from reid.modality import Modality
from tests.pipeline.factories import NOON
from tests.pipeline.footage import picture, write_images


def write(path: Path, ticks: list[int], *, options: dict[str, str], container: str) -> Path:
    """A video whose frames have these times, in hundredths of a second."""
    with av.open(path, "w", format=container) as file:
        stream = file.add_stream("libx264", rate=10, options={"preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def same(a: Frame, b: Frame) -> bool:
    return (a.index, a.pts_seconds, a.captured_at) == (b.index, b.pts_seconds, b.captured_at) and bool(
        np.array_equal(a.image, b.image)
    )


@pytest.mark.parametrize(
    ("container", "suffix", "options"),
    [
        ("mp4", "mp4", {"g": "25", "bf": "0"}),
        ("mp4", "mp4", {"g": "40", "bf": "3", "x264-params": "open-gop=1"}),
        ("matroska", "mkv", {"g": "25", "bf": "2"}),
        ("mpegts", "ts", {"g": "25", "bf": "0"}),
        ("mpegts", "ts", {"g": "25", "bf": "2"}),
    ],
)
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_any_moment_of_a_video(
    tmp_path: Path, container: str, suffix: str, options: dict[str, str], uneven: bool
) -> None:
    rng = np.random.default_rng(1)
    steps = rng.integers(3, 40, 119) if uneven else np.full(119, 10)
    ticks = [0, *np.cumsum(steps).tolist()]
    path = write(tmp_path / f"v.{suffix}", ticks, options=options, container=container)
    whole = list(VideoSource("gate", path, Modality.RGB, start=NOON))
    assert len(whole) == 120
    for seconds in (0.0, 1.9, 2.05, *rng.uniform(2, whole[-1].pts_seconds, 12), whole[-1].pts_seconds):
        source = VideoSource("gate", path, Modality.RGB, start=NOON)
        found = list(islice(frames_from(source, float(seconds)), 60))
        first = found[0].index
        assert found[0].pts_seconds <= seconds
        assert all(same(a, b) for a, b in zip(found, whole[first:], strict=False))
        at = frame_shown(frames_from(source, float(seconds)), float(seconds))
        expected = frame_shown(whole, float(seconds))
        assert at is not None
        assert expected is not None
        assert same(at, expected)


def test_a_late_moment_is_found_without_decoding_what_is_before(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", list(range(0, 12_000, 10)), options={"g": "25", "bf": "0"}, container="mp4")
    first = next(iter(frames_from(VideoSource("gate", path, Modality.RGB, start=NOON), 100.0)))
    assert 97.4 < first.pts_seconds <= 100.0


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[FrameTable | None]:
    """Each table that is made, from none known on."""
    made: list[FrameTable | None] = []

    def counting(packets: "Iterable[Packet[Any]]", time_base: Fraction) -> FrameTable | None:
        made.append(read_table(packets, time_base))
        return made[-1]

    monkeypatch.setattr(video, "read_table", counting)
    monkeypatch.setattr(video, "_TABLES", FrameTables())
    return made


def shown(path: Path, seconds: float) -> Frame:
    found = frame_shown(frames_from(VideoSource("gate", path, Modality.RGB, start=NOON), seconds), seconds)
    assert found is not None
    return found


def test_the_table_of_a_file_is_made_once_and_anew_when_the_file_changed(
    tmp_path: Path, tables: list[FrameTable | None]
) -> None:
    path = write(tmp_path / "v.mp4", list(range(0, 1200, 10)), options={"g": "25"}, container="mp4")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seconds: shown(path, seconds), [3.0, 5.0, 7.0, 9.0]))
    assert [each.index for each in found] == [30, 50, 70, 90]
    assert len(tables) == 1
    write(path, list(range(0, 2400, 20)), options={"g": "25"}, container="mp4")
    assert [shown(path, seconds).index for seconds in (3.0, 9.0)] == [15, 45]
    assert len(tables) == 2


def test_a_file_that_cannot_be_told_by_its_packets_is_not_asked_again(
    tmp_path: Path, tables: list[FrameTable | None]
) -> None:
    path = tmp_path / "raw.h264"
    write(path, list(range(0, 3000, 10)), options={"g": "25"}, container="h264")  # at 100 a second
    assert [shown(path, 2.5).index, shown(path, 2.5).index] == [250, 250]
    assert tables == [None]


def test_only_the_tables_last_asked_for_are_kept(tmp_path: Path) -> None:
    made: list[Path] = []
    tables = FrameTables(most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        path = tmp_path / name
        path.touch()
        os.utime(path, (1_700_000_000, 1_700_000_000))
        tables.of(path, lambda path=path: made.append(path))  # type: ignore[misc]
    assert [path.name for path in made] == ["a", "b", "c", "b"]


def test_an_error_is_not_kept_as_a_table(tmp_path: Path) -> None:
    def fail() -> None:
        raise SourceError("gone", ErrorCode.RECORDING_UNREADABLE)

    tables, path = FrameTables(), tmp_path / "a"
    path.touch()
    for _ in range(2):
        with pytest.raises(SourceError, match="gone"):
            tables.of(path, fail)
    assert tables.of(path, lambda: None) is None


def test_images_begin_at_the_moment(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "stills", [picture(number) for number in range(30)])
    source = ImageSource("gate", str(folder), Modality.RGB, timing=SequenceTiming(fps=10, start=NOON))
    whole = list(source)
    found = list(frames_from(source, 1.55))
    assert [each.index for each in found] == list(range(15, 30))
    assert all(same(a, b) for a, b in zip(found, whole[15:], strict=True))


def test_a_recording_that_was_cut_before_a_key_frame_begins_with_its_first_packet(tmp_path: Path) -> None:
    whole = write(tmp_path / "v.ts", list(range(0, 1200, 10)), options={"g": "50", "bf": "0"}, container="mpegts")
    content, cut = whole.read_bytes(), tmp_path / "cut.ts"
    cut.write_bytes(content[len(content) // 8 // 188 * 188 :])
    with av.open(cut) as file:
        packets = [each for each in file.demux(video=0) if each.size]
    lost = next(place for place, each in enumerate(packets) if each.is_keyframe)
    source = VideoSource("gate", cut, Modality.RGB, start=NOON)
    frames = list(source)
    assert lost > 20
    assert [frame.index for frame in frames] == list(range(lost, len(packets)))
    np.testing.assert_allclose([frame.pts_seconds for frame in frames], np.arange(lost, len(packets)) / 10)
    assert source.account.skipped == {"damaged": lost}
    for seconds in (0.0, lost / 10, 5.0, 9.0, frames[-1].pts_seconds):
        found = list(frames_from(VideoSource("gate", cut, Modality.RGB, start=NOON), seconds))
        assert all(same(a, b) for a, b in zip(found, frames[-len(found) :], strict=True))
        assert (found[0].index > lost) == (seconds > lost / 10 + 5)  # the last begin at a later key frame
