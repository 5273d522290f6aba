import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from pipeline.config import from_sources
from pipeline.errors import ErrorCode, SourceError
from pipeline.frame import TimeSource
from pipeline.sources import arrays, stills
from pipeline.sources.base import Source, SourceState
from pipeline.sources.images import ImageSource, SequenceTiming
from pipeline.sources.live import LiveSource
from pipeline.sources.open import open_source
from pipeline.sources.video import VideoSource
from reid.modality import Modality
from tests.pipeline.footage import picture, write_images, write_video


def opened(uri: str | Path, modality: str = "rgb") -> Source:
    return open_source("gate", from_sources([f"gate={uri},modality={modality}"]).cameras["gate"])


def test_images_come_in_natural_order_as_rgb(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [picture(number) for number in range(12)])
    source = opened(folder)
    frames = list(source)
    np.testing.assert_array_equal(frames[10].image, picture(10))
    assert [frame.index for frame in frames] == list(range(12))
    assert source.account.state is SourceState.ENDED


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (40, 50), dtype=np.uint16)
    source = opened(write_images(tmp_path / "night", [counts], suffix=suffix), "thermal")
    assert source.probe().bit_depth == 16
    (frame,) = source
    np.testing.assert_array_equal(frame.image, counts)


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "PNG"])
def test_other_formats_are_read(tmp_path: Path, suffix: str) -> None:
    (frame,) = opened(write_images(tmp_path / "day", [picture(5)], suffix=suffix))
    assert np.abs(frame.image.astype(int) - picture(5)).mean() < 4


def test_time_comes_from_the_rate(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [picture(n) for n in range(3)])
    start = datetime(2026, 6, 1, 8, tzinfo=UTC)
    source = ImageSource("gate", str(folder), Modality.RGB, timing=SequenceTiming(fps=4, start=start))
    frames = list(source)
    assert [frame.pts_seconds for frame in frames] == [0, 0.25, 0.5]
    assert frames[2].captured_at == datetime(2026, 6, 1, 8, 0, 0, 500_000, tzinfo=UTC)
    assert frames[2].time_source is TimeSource.CONFIGURED_START


def test_an_unreadable_image_in_the_middle_is_skipped_and_leaves_its_gap(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [picture(n) for n in range(5)])
    (folder / "3.png").write_bytes(b"not an image")
    source = opened(folder)
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 3, 4]
    assert frames[2].pts_seconds == pytest.approx(0.3)
    assert source.account.skipped == {"unreadable": 1}
    assert source.account.examples == {"unreadable": [str(folder / "3.png")]}
    assert source.account.decoded + 1 == source.account.expected
    assert source.account.state is SourceState.ENDED


def test_other_sizes_and_depths_are_skipped_by_cause(tmp_path: Path) -> None:
    images = [np.full((40, 50), 900, np.uint16) for _ in range(4)]
    folder = write_images(tmp_path / "night", images)
    cv2.imwrite(str(folder / "2.png"), np.zeros((40, 60), np.uint16))
    cv2.imwrite(str(folder / "3.png"), np.zeros((40, 50), np.uint8))
    source = opened(folder, "thermal")
    assert [frame.index for frame in source] == [0, 3]
    assert source.account.skipped == {"resolution_changed": 1, "bit_depth_changed": 1}


def test_globs_choose(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [picture(n) for n in range(11)])
    (folder / "notes.txt").write_text("x")
    assert len(list(opened(folder / "1*.png"))) == 3


@pytest.mark.parametrize("where", ["", "/*", "/*.*"])
def test_what_lies_beside_images_is_neither_read_nor_waited_for(tmp_path: Path, where: str) -> None:
    folder = write_images(tmp_path / "day", [picture(n) for n in range(3)])
    (folder / "1.xml").write_text("<x/>")
    (folder / "7.png").mkdir()
    os.mkfifo(folder / "8.png")
    source = opened(f"{folder}{where}")
    assert len(list(source)) == 3
    assert not source.account.skipped
    pipe = ImageSource("gate", f"{folder}/%d.png", Modality.RGB)
    assert len(list(pipe)) == 3
    assert pipe.account.skipped["unreadable"] == 2


@pytest.mark.parametrize("where", ["", "/*", "/*.mp4"])
def test_several_videos_are_no_camera_and_none_is_read_for_an_image(tmp_path: Path, where: str) -> None:
    for name in ("gate_2.mp4", "gate_1.mp4"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**42)  # sparse
    with pytest.raises(
        SourceError, match=r"2 video files \(gate_1\.mp4\): several are not read as one camera; give each"
    ):
        opened(f"{tmp_path}{where}").probe()


def test_an_image_that_is_far_too_large_is_unreadable(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [picture(n) for n in range(3)])
    with (folder / "2.png").open("ab") as file:
        file.truncate(2**42)
    source = opened(folder)
    assert [frame.index for frame in source] == [0, 2]
    assert source.account.skipped == {"unreadable": 1}


def test_a_first_picture_of_another_size_than_all_others_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_images(tmp_path / "day", [picture(n) for n in range(6)])
    cv2.imwrite(str(folder / "0_preview.png"), np.zeros((40, 60, 3), np.uint8))
    source = opened(folder)
    assert len(list(source)) == 1
    assert source.account.skipped == {"resolution_changed": 6}
    assert caplog.text.count("0_preview.png, 60x40, and are skipped; leave that one out") == 1


def test_one_image_is_a_sequence_of_one(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [picture(0)])
    assert len(list(opened(folder / "1.png"))) == 1


def test_grey_and_transparent_and_deep_files_become_rgb(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [np.full((40, 40), 77, np.uint8)])
    cv2.imwrite(str(folder / "2.png"), np.full((40, 40, 4), 88, np.uint8))
    cv2.imwrite(str(folder / "3.png"), np.full((40, 40, 3), 99 << 8, np.uint16))
    assert [frame.image[0, 0].tolist() for frame in opened(folder)] == [[77] * 3, [88] * 3, [99] * 3]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_pictures_are_as_bright_as_the_bits_that_they_use(tmp_path: Path, bits: int) -> None:
    levels = np.linspace(0, 2**bits - 1, 40 * 40).astype(np.uint16).reshape(40, 40)
    (frame,) = opened(write_images(tmp_path / "day", [levels]))
    assert (frame.image.min(), frame.image.max()) == (0, 255)
    assert np.abs(frame.image[..., 0].astype(int) - levels / 2 ** (bits - 8)).max() <= 1


def test_a_dark_beginning_of_deep_pictures_is_not_kept_for_their_depth(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels = [np.full((40, 40), level, np.uint16) for level in (3000, 60000, 3000)]
    frames = list(opened(write_images(tmp_path / "day", levels)))
    assert [int(frame.image.max()) for frame in frames] == [3000 >> 4, 60000 >> 8, 3000 >> 8]
    assert caplog.text.count("have levels of 16 bits, and are made 8 bits by these now") == 1


def test_colour_files_of_infrared_cameras_become_grey(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "night", [np.full((40, 40, 3), 66, np.uint8)])
    cv2.imwrite(str(folder / "2.png"), np.full((40, 40, 4), 66, np.uint8))
    assert all(frame.image.shape == (40, 40) and frame.image[0, 0] == 66 for frame in opened(folder, "nir"))


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_photographs_are_turned_as_exif_says(tmp_path: Path, suffix: str, orientation: int, turns: int) -> None:
    photograph = PilImage.fromarray(picture(5))
    exif = photograph.getexif()
    exif[0x0112] = orientation
    photograph.save(tmp_path / f"a.{suffix}", exif=exif)
    (frame,) = opened(tmp_path / f"a.{suffix}")
    shown = np.rot90(picture(5), turns)  # counter-clockwise
    assert frame.image.shape == shown.shape
    assert np.abs(frame.image.astype(int) - shown).mean() < 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_turned_too(tmp_path: Path, suffix: str) -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (40, 50), dtype=np.uint16)
    photograph = PilImage.fromarray(counts)
    exif = photograph.getexif()
    exif[0x0112] = 6
    photograph.save(tmp_path / f"a.{suffix}", exif=exif)
    (frame,) = opened(tmp_path / f"a.{suffix}", "thermal")
    np.testing.assert_array_equal(frame.image, np.rot90(counts, 3))


def test_nothing_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for uri, expected in (
        (tmp_path / "empty", "is a folder without images"),
        (tmp_path / "none*.png", "no file matches"),
        (tmp_path / "none.png", "no such file or folder"),
    ):
        with pytest.raises(SourceError, match=expected):
            opened(uri).probe()
    with pytest.raises(SourceError, match="no such file or folder"):
        opened(tmp_path / "none.mp4")


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> Iterator[Path]:  # root, who runs tests in containers, may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    source = opened(write_images(tmp_path / "day", [picture(0)]))
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SourceError, match=r"camera gate: .*day cannot be read: Permission denied"):
        source.probe()
    with pytest.raises(SourceError, match="cannot be read"):
        list(source)


def test_a_folder_of_only_damaged_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    with pytest.raises(SourceError, match="none of the 1 images"):
        list(opened(tmp_path))


def test_a_one_pixel_image_is_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "day", [np.zeros((1, 1), np.uint8)])
    with pytest.raises(SourceError, match="is 1x1 pixels"):
        opened(folder).probe()


@pytest.mark.parametrize(
    "uri", ["rtsp://user:secret@10.0.0.1/s1", "http://10.0.0.1/v.mjpg?token=secret", "0", "/dev/video0"]
)
def test_addresses_and_devices_are_live_and_tell_no_secret(uri: str) -> None:
    source = opened(uri)
    assert isinstance(source, LiveSource)
    assert "secret" not in repr(source)


def test_an_address_of_an_unknown_kind_is_refused_without_telling_its_password() -> None:
    with pytest.raises(
        SourceError, match=r"gopher://\*\*\*@10\.0\.0\.1/s1: gopher is not one of http, https, rtsp, rtsps"
    ) as caught:
        opened("gopher://user:secret@10.0.0.1/s1")
    assert "secret" not in str(caught.value)


def test_files_that_are_not_images_are_videos(tmp_path: Path) -> None:
    assert isinstance(opened(write_video(tmp_path / "a.mp4", [picture(0)])), VideoSource)


def test_the_same_clip_as_video_and_as_images_has_the_same_times(tmp_path: Path) -> None:
    pictures = [picture(n) for n in range(8)]
    video = opened(write_video(tmp_path / "a.mp4", pictures))
    images = opened(write_images(tmp_path / "day", pictures))
    np.testing.assert_allclose([f.pts_seconds for f in video], [f.pts_seconds for f in images], atol=1e-6)


def test_numbered_images_leave_a_gap_where_a_number_is_missing(tmp_path: Path) -> None:
    for number in (7, 8, 10):
        cv2.imwrite(str(tmp_path / f"img_{number:04d}.png"), picture(number))
    cv2.imwrite(str(tmp_path / "img_12.png"), picture(12))  # of another width: not of the sequence
    source = opened(f"{tmp_path}/img_%04d.png")
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 3]
    np.testing.assert_allclose([frame.pts_seconds for frame in frames], [0, 0.1, 0.3])
    assert source.account.skipped == {"missing": 1}
    assert source.account.examples == {"missing": [f"{tmp_path}/img_0009.png"]}
    assert source.account.decoded + 1 == source.account.expected


def test_numbers_of_which_there_is_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file is numbered"):
        opened(f"{tmp_path}/img_%d.png").probe()


def test_numbers_that_leave_out_a_million_are_refused_and_a_glob_takes_them(tmp_path: Path) -> None:
    for number in (1790000000123, 1790000000223, 1790009000123):  # milliseconds since 1970
        cv2.imwrite(str(tmp_path / f"cam_{number}.png"), picture(number % 7))
    with pytest.raises(
        SourceError, match=r"3 files are numbered from 1790000000123 to 1790009000123.*by a glob: cam_\*\.png"
    ):
        opened(f"{tmp_path}/cam_%d.png").probe()
    assert len(list(opened(f"{tmp_path}/cam_*.png"))) == 3


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.dtype(">u2"), np.int16, np.int64])
def test_arrays_of_whole_numbers_are_counts(tmp_path: Path, kind: np.dtype[np.generic]) -> None:
    counts = np.random.default_rng(0).integers(0, 127, (5, 40, 50)).astype(kind)
    np.save(tmp_path / "stack.npy", counts)
    source = opened(tmp_path / "stack.npy", "thermal")
    frames = list(source)
    assert source.info is not None
    assert (source.info.frames, source.info.bit_depth) == (5, 8 if kind is np.uint8 else 16)
    for frame, expected in zip(frames, counts, strict=True):
        np.testing.assert_array_equal(frame.image, expected)


def test_a_folder_of_arrays_is_a_sequence_and_an_array_in_colour_is_rgb(tmp_path: Path) -> None:
    for number in range(11):
        np.save(tmp_path / f"{number}.npy", picture(number))
    frames = list(opened(tmp_path))
    assert len(frames) == 11
    np.testing.assert_array_equal(frames[10].image, picture(10))
    np.save(tmp_path / "all.npy", np.stack([picture(number) for number in range(4)]))
    np.testing.assert_array_equal(list(opened(tmp_path / "all.npy"))[2].image, picture(2))


@pytest.mark.parametrize(
    "array",
    [
        np.full((3, 40, 50), 20.5),
        np.full((40, 50), -1),
        np.full((40, 50), 70_000),
        np.zeros((3, 0, 50), np.uint8),
        np.array([{"runs": "code"}], dtype=object),
        np.uint16(5),
    ],
)
def test_other_arrays_are_refused_with_what_would_do(tmp_path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(SourceError, match="arrays of whole numbers from 0 to 65535"):
        opened(tmp_path / "a.npy", "thermal").probe()


def test_the_type_of_an_array_that_will_not_do_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 40, 50), 20.5, np.float32))
    with pytest.raises(SourceError, match=r"; a\.npy holds float32 \(3, 40, 50\)$"):
        opened(tmp_path / "a.npy", "thermal").probe()


def test_the_pages_of_a_tiff_are_frames(tmp_path: Path) -> None:
    counts = [np.full((40, 50), 7000 + number, np.uint16) for number in range(12)]
    cv2.imwritemulti(str(tmp_path / "a.tiff"), counts)
    source = opened(tmp_path / "a.tiff", "thermal")
    frames = list(source)
    assert [int(frame.image[0, 0]) for frame in frames] == list(range(7000, 7012))
    assert source.account.expected == 12


def test_many_pages_of_a_tiff_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []  # pages that OpenCV goes through to reach those it reads, and these

    def counting(name: str, *, start: int, count: int, flags: int) -> tuple[bool, Sequence[cv2.typing.MatLike]]:
        passed.append(start + count)
        return original(name, start=start, count=count, flags=flags)

    original = cv2.imreadmulti
    monkeypatch.setattr(cv2, "imreadmulti", counting)
    for count in (600, 1200):
        cv2.imwritemulti(str(tmp_path / "a.tiff"), [np.full((40, 50), 7000 + n, np.uint16) for n in range(count)])
        passed.clear()
        frames = list(opened(tmp_path / "a.tiff", "thermal"))
        assert [int(frame.image[0, 0]) for frame in frames] == list(range(7000, 7000 + count))
        assert sum(passed) < 3 * count  # each alone: count * count / 2


def test_large_pages_are_not_read_all_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []

    def counting(name: str, *, start: int, count: int, flags: int) -> tuple[bool, Sequence[cv2.typing.MatLike]]:
        together.append(count)
        return original(name, start=start, count=count, flags=flags)

    original = cv2.imreadmulti
    monkeypatch.setattr(cv2, "imreadmulti", counting)
    monkeypatch.setattr(stills, "_TOGETHER_BYTES", 5 * 40 * 50 * 2)
    cv2.imwritemulti(str(tmp_path / "a.tiff"), [np.full((40, 50), 7000 + n, np.uint16) for n in range(12)])
    assert len(list(opened(tmp_path / "a.tiff", "thermal"))) == 12
    assert together == [1, 1, 5, 5, 1]  # the first is probed, and read


def test_a_damaged_page_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    noise = np.random.default_rng(0).integers(0, 65536, (12, 40, 50), dtype=np.uint16)
    cv2.imwritemulti(str(path), list(noise), [cv2.IMWRITE_TIFF_COMPRESSION, 8])  # deflate
    content, begins = path.read_bytes(), []
    with PilImage.open(path) as pages:
        for page in range(12):
            pages.seek(page)
            begins.append(pages.tag_v2[273][0])  # type: ignore[attr-defined]
    path.write_bytes(content[: begins[5]] + bytes(300) + content[begins[5] + 300 :])
    source = opened(path, "thermal")
    assert [frame.index for frame in source] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert source.account.skipped == {"unreadable": 1}


def test_a_palette_is_refused_and_a_logo_is_not(tmp_path: Path) -> None:
    logo = np.full((60, 90, 3), 80, np.uint8)
    logo[:15, :15] = (255, 0, 0)
    assert len(list(opened(write_images(tmp_path / "grey", [logo]), "thermal"))) == 1
    with pytest.raises(SourceError, match="shows a false-colour palette") as caught:
        opened(write_images(tmp_path / "iron", [picture(0)]), "thermal").probe()
    assert caught.value.code is ErrorCode.FALSE_COLOUR
    mixed = opened(write_images(tmp_path / "mixed", [logo[:40], picture(0)[:40, :90]]), "thermal")
    assert len(list(mixed)) == 1
    assert mixed.account.skipped == {"false_colour": 1}


def test_the_start_stands_in_the_first_name_as_the_config_says(tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    for second in (3, 4):
        cv2.imwrite(str(folder / f"yard 20-09-2026 2214{second:02d}.png"), picture(second))
    options = f"yard={folder},modality=nir,start_pattern=yard %d-%m-%Y %H%M%S,start_timezone=Europe/Berlin"
    camera = from_sources([options]).cameras["yard"]
    first = next(iter(open_source("yard", camera)))
    assert (first.captured_at, first.time_source) == (
        datetime(2026, 9, 20, 20, 14, 3, tzinfo=UTC),
        TimeSource.FILE_NAME,
    )
    other = camera.model_copy(update={"start_pattern": "gate %Y%m%d%H%M"})
    with pytest.raises(SourceError, match="does not fit start_pattern gate %Y%m%d%H%M"):
        open_source("yard", other).probe()


def test_a_closed_source_gives_no_more(tmp_path: Path) -> None:
    source = opened(write_images(tmp_path / "day", [picture(n) for n in range(5)]))
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    assert source.account.state is SourceState.ENDED
    assert source.account.decoded == 1


def test_numbers_that_are_raised_or_of_another_script_are_sorted(tmp_path: Path) -> None:
    for name in ("1²2", "10", "2", "٣", "½"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(0))
    found, _ = stills.find(str(tmp_path))
    assert [still.path.stem for still in found] == ["1²2", "2", "٣", "10", "½"]


@pytest.mark.parametrize("pattern", ["50%_%04d.png", "50%%_%04d.png"])
def test_a_percent_sign_beside_the_number_is_one(tmp_path: Path, pattern: str) -> None:
    for number in (3, 4):
        cv2.imwrite(str(tmp_path / f"50%_{number:04d}.png"), picture(number))
    assert [frame.index for frame in opened(tmp_path / pattern)] == [0, 1]


def test_an_array_in_columns_is_read_as_it_is_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (5, 40, 50), dtype=np.uint16)
    np.save(tmp_path / "stack.npy", np.asfortranarray(counts))
    np.save(tmp_path / "one.npy", np.asfortranarray(counts[0]))
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 7 * 5 * 2)  # seven columns, which does not come out even
    np.testing.assert_array_equal([frame.image for frame in opened(tmp_path / "stack.npy", "thermal")], counts)
    np.testing.assert_array_equal(next(iter(opened(tmp_path / "one.npy", "thermal"))).image, counts[0])


def test_frames_of_an_array_stay_what_they_were_when_its_file_is_written_anew(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 40, 50), 7, np.uint8))
    frames = iter(opened(tmp_path / "a.npy", "thermal"))
    first = next(frames)
    with (tmp_path / "a.npy").open("r+b") as file:
        file.seek(-3 * 40 * 50, os.SEEK_END)
        file.write(bytes(3 * 40 * 50))
    assert (first.image.max(), next(frames).image.max()) == (7, 0)


SHRINKING = """
import os, sys
import numpy as np
from pipeline.sources.images import ImageSource
from reid.modality import Modality

np.save(sys.argv[1], np.full((400, 64, 96), 7, np.uint8))
source = ImageSource("roof", sys.argv[1], Modality.THERMAL)
frames = iter(source)
taken = [next(frames) for _ in range(5)]
os.truncate(sys.argv[1], 4096)
print(min(frame.image.min() for frame in taken), len(list(frames)), dict(source.account.skipped))
"""


def test_an_array_that_shrinks_while_it_is_read_costs_its_pages_only(tmp_path: Path) -> None:
    """In a program of its own: it was ended by SIGBUS."""
    ended = subprocess.run(
        [sys.executable, "-c", SHRINKING, str(tmp_path / "a.npy")], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "7 0 {'unreadable': 395}\n"), ended.stderr
