"""The annotated video: every frame, at its time, with people in their colours and how another camera saw them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.annotate import Companion, VideoStyle, annotate, companions_of
from pipeline.drawing import (
    CORRECT,
    GREY,
    MODALITY_COLOUR,
    WRONG,
    fit,
    person_colour,
    put_label,
    put_text,
    shortened,
    text_colour_on,
    text_wh,
    to_rgb8,
)
from pipeline.frame import Frame
from pipeline.store import TrackletBoxes
from reid.modality import Modality
from tests.pipeline.factories import NOON, frame_of, open_store, sighting_of, tracklet_of, unit

BOX = (100.0, 60.0, 150.0, 200.0)


def rgb8(frame: Frame) -> NDArray[np.uint8]:
    return to_rgb8(frame.image)


def boxes(person: int | None, *, frames: int = 12, xyxy: tuple[float, ...] = BOX) -> TrackletBoxes:
    return TrackletBoxes(
        "gate-A",
        person,
        np.arange(frames),
        np.tile(np.array(xyxy, np.float32), (frames, 1)),
        np.ones(frames, np.float32),
    )


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def picture(path: Path, index: int) -> NDArray[np.uint8]:
    return decoded(path)[index].to_ndarray(format="rgb24")


def has_colour(image: NDArray[np.uint8], colour: tuple[int, int, int], *, least: int = 10) -> bool:
    """Whether so many pixels are near a colour; H.264 in 4:2:0 blurs it."""
    return int((np.abs(image.astype(int) - colour).max(axis=-1) < 45).sum()) >= least


def test_every_frame_is_in_the_video_at_its_time_in_h264(tmp_path: Path) -> None:
    path = tmp_path / "video/gate.mp4"
    indices = [*range(10), 20]  # a gap of a second in the recording
    written = annotate((frame_of(i) for i in indices), [boxes(1)], path, VideoStyle(fps=10), rgb8=rgb8)
    assert written == 11
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.width == 320
        assert stream.height == 240 + 7 * 11 + 1  # the strip, made even
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([i / 10 for i in indices], abs=1e-3)
    assert [each.name for each in path.parent.iterdir()] == ["gate.mp4"]


def test_a_steady_recording_has_its_frame_rate_and_odd_sizes_become_even(tmp_path: Path) -> None:
    path = tmp_path / "gate.mp4"
    style = VideoStyle(fps=10, strip=False)
    annotate((frame_of(i, wh=(321, 241)) for i in range(20)), [], path, style, rgb8=rgb8)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (322, 242)
        assert float(stream.average_rate or 0) == pytest.approx(10, rel=0.01)
        assert sum(1 for _ in container.decode(video=0)) == 20


def test_frames_of_another_size_are_fitted_into_that_of_the_first_without_distortion(tmp_path: Path) -> None:
    path = tmp_path / "gate.mp4"
    sizes = [(320, 240)] * 3 + [(160, 240)] * 3 + [(640, 480)] * 3
    frames = [frame_of(i, wh=wh) for i, wh in enumerate(sizes)]
    for strip in (True, False):
        assert annotate(frames, [boxes(1)], path, VideoStyle(fps=10, strip=strip), rgb8=rgb8) == 9
    wide, narrow, large = (picture(path, index)[220].mean(axis=1) > 45 for index in (1, 4, 7))
    assert wide.all()
    assert large.all()
    np.testing.assert_allclose(np.flatnonzero(narrow)[[0, -1]], (80, 239), atol=1)  # H.264 blurs


def test_the_index_stands_before_the_pictures_so_that_players_can_start_at_once(tmp_path: Path) -> None:
    annotate((frame_of(i) for i in range(5)), [], tmp_path / "a.mp4", VideoStyle(fps=10), rgb8=rgb8)
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_people_have_their_colour_and_rejected_tracklets_are_grey(tmp_path: Path) -> None:
    colour = person_colour(3)
    for name, person in (("known", 3), ("rejected", None)):
        annotate((frame_of(i) for i in range(3)), [boxes(person)], tmp_path / name, VideoStyle(fps=10), rgb8=rgb8)
    around = np.s_[30:210, 90:160]
    assert has_colour(picture(tmp_path / "known", 1)[around], colour)
    rejected = picture(tmp_path / "rejected", 1)[around]
    assert not has_colour(rejected, colour)
    assert has_colour(rejected, GREY)


@pytest.mark.parametrize("modality", list(Modality))
def test_the_header_names_the_modality_in_its_colour(tmp_path: Path, modality: Modality) -> None:
    path = tmp_path / "a.mp4"
    annotate((frame_of(i, modality=modality) for i in range(3)), [], path, VideoStyle(fps=10), rgb8=rgb8)
    assert has_colour(picture(path, 0)[:22, :60], MODALITY_COLOUR[modality])


def test_the_clock_shows_local_time_beside_utc(tmp_path: Path) -> None:
    def header(style: VideoStyle) -> NDArray[np.uint8]:
        annotate((frame_of(i) for i in range(3)), [], tmp_path / "a.mp4", style, rgb8=rgb8)
        return picture(tmp_path / "a.mp4", 0)[:20, 60:]

    dark = [
        int((header(style).max(axis=2) < 60).sum())
        for style in (VideoStyle(fps=10), VideoStyle(fps=10, timezone=ZoneInfo("Europe/Berlin")))
    ]
    assert dark[1] > 1.2 * dark[0]  # the longer text has the longer background


def test_the_strip_shows_a_companion_while_its_person_is_in_view_and_shortly_after(tmp_path: Path) -> None:
    red = Companion(np.full((80, 40, 3), (230, 20, 20), np.uint8), ("yard", "14:03:12"), Modality.RGB)
    path = tmp_path / "a.mp4"
    frames = (frame_of(i) for i in range(40))
    annotate(frames, [boxes(1)], path, VideoStyle(fps=10), rgb8=rgb8, companions={1: red})
    strips = [frame.to_ndarray(format="rgb24")[242:] for frame in decoded(path)]
    shown = [has_colour(strip, (230, 20, 20), least=500) for strip in strips]
    assert all(shown[:15])
    assert not any(shown[25:])
    named = [has_colour(strip, person_colour(1), least=400) for strip in strips]
    assert named == [True] * 12 + [False] * 28, "who has no box any more is named in grey"


@pytest.mark.parametrize("size", [8, 10, 11, 12, 24])
def test_words_stand_apart_at_every_size(size: int) -> None:
    assert text_wh("as another", size)[0] - text_wh("asanother", size)[0] >= 3


def test_more_people_than_slots_do_not_break_the_strip(tmp_path: Path) -> None:
    companions = {n: Companion(np.zeros((80, 40, 3), np.uint8), ("yard",), Modality.NIR) for n in range(1, 9)}
    crowd = [boxes(n, xyxy=(10.0 * n, 50, 10.0 * n + 30, 150)) for n in range(1, 9)]
    written = annotate(
        (frame_of(i) for i in range(3)), crowd, tmp_path / "a.mp4", VideoStyle(fps=10), rgb8=rgb8, companions=companions
    )
    assert written == 3


def test_an_error_in_the_recording_leaves_no_file(tmp_path: Path) -> None:
    def breaks() -> Iterator[Frame]:
        yield frame_of(0)
        raise RuntimeError("the recording broke")

    with pytest.raises(RuntimeError, match="the recording broke"):
        annotate(breaks(), [], tmp_path / "a.mp4", VideoStyle(fps=10), rgb8=rgb8)
    assert list(tmp_path.iterdir()) == []


def test_no_frames_leave_no_file(tmp_path: Path) -> None:
    assert annotate([], [], tmp_path / "a.mp4", VideoStyle(fps=10), rgb8=rgb8) == 0
    assert list(tmp_path.iterdir()) == []


def test_companions_come_from_another_camera_and_rgb_is_preferred(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("yard-A", modality=Modality.NIR), person=1))
        store.add(sighting_of(tracklet_of("wood-B", modality=Modality.THERMAL, at=20, crops=4), person=1))
        store.add(sighting_of(tracklet_of("gate-C", at=40), person=1))
        store.add(sighting_of(tracklet_of("hall-D", modality=Modality.NIR, at=60, crops=5), person=1))
        store.add(sighting_of(tracklet_of("yard-E", modality=Modality.NIR, at=80), person=2))
        store.add(sighting_of(tracklet_of("gate-F", at=90), person=3))
        of_yard = companions_of(store, "yard", timezone=ZoneInfo("Europe/Berlin"))
        assert {person: each.modality for person, each in of_yard.items()} == {1: Modality.RGB}
        # Two equal vectors across modalities: 1 / (1 + exp(6 - 20)), by the calibration of the factories.
        local = f"{(NOON + timedelta(hours=2, seconds=40)):%H:%M:%S}"
        assert of_yard[1].caption == ("gate", local, "p(same) 1.00")
        assert of_yard[1].verdicts == {}
        assert companions_of(store, "gate")[1].modality is not Modality.RGB
        assert companions_of(store, "nowhere") == {}


def test_with_the_truth_a_companion_is_right_for_the_tracklets_of_its_true_person_only(tmp_path: Path) -> None:
    """The run took all for one person; the tracklet C is somebody else, and D nobody's in particular."""
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("yard-A", modality=Modality.NIR), vector=unit(1, 0, 0, 1)))
        for number, name in enumerate(("gate-B", "gate-C", "gate-D")):
            store.add(sighting_of(tracklet_of(name, at=10 * number)))
        found = companions_of(store, "gate", truth={"yard-A": 7, "gate-B": 7, "gate-C": 8})
        assert found[1].verdicts == {"gate-B": True, "gate-C": False, "gate-D": False}
        assert found[1].caption[2] == "p(same) 1.00"  # 1 / (1 + exp(6 - 20 / sqrt(2)))
        assert companions_of(store, "gate", truth={"gate-B": 7})[1].verdicts["gate-B"] is False


@pytest.mark.parametrize(("verdicts", "colour"), [({"gate-A": True}, CORRECT), ({"gate-A": False}, WRONG), ({}, None)])
def test_the_strip_says_right_or_wrong_where_the_truth_is_known(
    tmp_path: Path, verdicts: dict[str, bool], colour: tuple[int, int, int] | None
) -> None:
    grey = Companion(np.full((80, 40, 3), 90, np.uint8), ("yard", "14:03:12"), Modality.RGB, verdicts)
    frames = (frame_of(i) for i in range(3))
    annotate(frames, [boxes(4)], tmp_path / "a.mp4", VideoStyle(fps=10), rgb8=rgb8, companions={4: grey})
    strip = picture(tmp_path / "a.mp4", 1)[242:]
    assert [has_colour(strip, each) for each in (CORRECT, WRONG)] == [colour == CORRECT, colour == WRONG]


def test_colours_differ_between_people_and_text_on_them_can_be_read() -> None:
    colours = {person_colour(person) for person in range(1, 30)}
    assert len(colours) == 29
    assert text_colour_on((255, 255, 0)) == (0, 0, 0)
    assert text_colour_on((60, 0, 120)) == (255, 255, 255)


def test_text_is_cut_at_the_borders_and_labels_stay_inside() -> None:
    canvas = np.zeros((40, 60, 3), np.uint8)
    for xy in [(-5, -5), (50, 35), (200, 0), (0, 200), (-400, 0)]:
        put_text(canvas, "P0001", xy, size=12, colour=(255, 255, 255))
    assert canvas.any()
    canvas[:] = 0
    width, height = put_label(canvas, "P1", (500, 500), size=12, background=(255, 0, 0))
    assert (canvas[40 - height :, 60 - width :, 0] > 0).any()
    assert not canvas[: 40 - height].any()


def test_a_long_text_is_shortened_to_its_width() -> None:
    assert shortened("gate", 12, 100) == "gate"
    short = shortened("a_camera_with_a_long_name", 12, 60)
    assert short.startswith("a_cam")
    assert short.endswith("..")
    assert text_wh(short, 12)[0] <= 60


def test_pictures_are_fitted_without_distortion_and_16_bits_are_stretched() -> None:
    tall = fit(np.full((100, 20, 3), 255, np.uint8), (50, 50))
    assert tall.shape == (50, 50, 3)
    assert (tall[25, 20:30] == 255).all()
    assert not tall[:, :15].any()
    stretched = to_rgb8(np.linspace(7000, 9000, 800).astype(np.uint16).reshape(20, 40))
    assert (stretched.dtype, stretched.shape, stretched.min(), stretched.max()) == (np.uint8, (20, 40, 3), 0, 255)
    assert not to_rgb8(np.full((4, 4), 8000, np.uint16)).any()
    dim = to_rgb8(np.linspace(60, 110, 800).astype(np.uint8).reshape(20, 40))
    assert (dim.min(), dim.max()) == (0, 255)
    assert to_rgb8(np.linspace(60, 66, 800).astype(np.uint8).reshape(20, 40)).max() < 80  # noise stays noise
