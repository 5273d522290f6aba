from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.detectors.motion import MotionDetector, MotionSettings
from pipeline.detectors.perspective import Perspective
from pipeline.frame import Frame, Image
from pipeline.thermal import Windows
from reid.modality import Modality
from tests.pipeline.footage import frame_of
from trackers.boxes import iou_matrix
from trackers.structures import Detections

WIDTH, HEIGHT = 320, 240
Box = tuple[int, int, int, int]


class Scene:
    """A textured background with sensor noise, in which people (ellipses upon ellipses) are drawn."""

    def __init__(self, modality: Modality = Modality.RGB, *, seed: int = 0) -> None:
        self.modality = modality
        self._rng = np.random.default_rng(seed)
        texture = cv2.GaussianBlur(self._rng.normal(0, 60, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 2)
        self._background = 110 + texture

    def frame(self, index: int, people: list[Box], *, brighter: float = 0, shadow: Box | None = None) -> Frame:
        """Draw.

        Args:
            index: Of the frame.
            people: Left, top, right, bottom each.
            brighter: Added everywhere.
            shadow: A region in which the background is darker.
        """
        image = self._background + brighter
        if shadow:
            left, top, right, bottom = shadow
            image[top:bottom, left:right] *= 0.65
        for left, top, right, bottom in people:
            draw_person(image, (left, top, right, bottom))
        return frame_of(self._sense(image), index, camera_id="gate", modality=self.modality)

    def _sense(self, grey: NDArray[np.float32]) -> Image:
        noise = self._rng.normal(0, 2, grey.shape)
        if self.modality is Modality.THERMAL:
            return (8000 + 10 * (grey + noise)).clip(0, 65535).astype(np.uint16)
        if self.modality is Modality.NIR:
            return (grey + noise).clip(0, 255).astype(np.uint8)
        colour = np.stack([grey, 0.9 * grey, 0.7 * grey], axis=2) + noise[:, :, None]
        return colour.clip(0, 255).astype(np.uint8)


def draw_person(image: NDArray[np.float32], box: Box) -> None:
    """Head, body and two legs that fill the box; lighter than everything around."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    centre = (left + right) // 2
    cv2.ellipse(image, (centre, top + height // 9), (width // 5, height // 9), 0, 0, 360, 215.0, -1)
    cv2.rectangle(image, (left, top + height // 5), (right - 1, top + height // 2), 190.0, -1)
    cv2.rectangle(image, (left + width // 8, top + height // 2), (centre - 2, bottom - 1), 200.0, -1)
    cv2.rectangle(image, (centre + 2, top + height // 2), (right - width // 8, bottom - 1), 200.0, -1)


def person_at(x: int, *, top: int = 80, height: int = 100) -> Box:
    width = height * 2 // 5
    return x, top, x + width, top + height


def watch(
    scene: Scene, count: int, people: Callable[[int], list[Box]], *, settings: MotionSettings | None = None
) -> tuple[MotionDetector, list[Detections]]:
    detector = MotionDetector(settings or MotionSettings(), windows=Windows())
    return detector, [detector.detect([scene.frame(index, people(index))])[0] for index in range(count)]


def best_iou(found: Detections, box: Box) -> float:
    return float(iou_matrix(found.xyxy, np.array([box], np.float32)).max(initial=0))


@pytest.mark.parametrize("modality", list(Modality))
def test_somebody_who_walks_is_found_in_every_modality(modality: Modality) -> None:
    def people(index: int) -> list[Box]:
        return [person_at(10 + 5 * (index - 10))] if index >= 10 else []

    _, found = watch(Scene(modality), 50, people)
    assert sum(len(each) for each in found[:10]) == 0
    for index in range(14, 50):
        assert best_iou(found[index], people(index)[0]) > 0.7
    assert np.mean([len(each) for each in found[14:]]) < 1.1
    assert np.mean([each.confidence.max() for each in found[14:]]) > 0.7


def test_an_empty_scene_stays_empty() -> None:
    _, found = watch(Scene(), 60, lambda _: [])
    assert sum(len(each) for each in found) == 0


def test_two_who_touch_are_parted() -> None:
    def people(index: int) -> list[Box]:
        return [person_at(40 + 4 * index), person_at(76 + 4 * index)] if index >= 5 else []

    _, found = watch(Scene(), 40, people)
    parted = [len(found[i]) == 2 and all(best_iou(found[i], box) > 0.6 for box in people(i)) for i in range(8, 40)]
    assert np.mean(parted) > 0.9


def test_one_in_front_of_another_are_parted_once_the_perspective_is_known() -> None:
    """The camera looks down: nearer people are lower in the image and taller."""

    def at(x: int, top: int) -> Box:
        return person_at(x, top=top, height=40 + top // 2)

    def people(index: int) -> list[Box]:
        if index < 150:
            return [at(10 + 3 * index % 250, 20 + 40 * (index // 90)), at((150 + 4 * index) % 240, 110)][index % 2 :]
        return [at(100, 40), at(104, 95)]

    detector, _ = watch(Scene(), 150, people)
    scene = Scene()
    (found,) = detector.detect([scene.frame(150, people(150))])
    assert all(best_iou(found, box) > 0.5 for box in people(150))


def test_the_ghost_of_somebody_who_was_there_from_the_start_goes_away() -> None:
    standing = person_at(60)

    def people(index: int) -> list[Box]:
        return [standing] if index < 20 else []

    _, found = watch(Scene(Modality.NIR), 60, people)
    assert len(found[20]) == 1  # where the person stood, there is now a hole
    assert sum(len(each) for each in found[40:]) == 0


def test_somebody_who_stands_still_stays_visible_and_leaves_no_ghost() -> None:
    def people(index: int) -> list[Box]:
        return [person_at(100)] if 10 <= index < 310 else []

    _, found = watch(Scene(), 340, people)
    assert all(best_iou(found[index], person_at(100)) > 0.7 for index in range(20, 310, 10))
    assert sum(len(each) for each in found[312:]) == 0


def test_what_never_leaves_becomes_background() -> None:
    def people(index: int) -> list[Box]:
        return [person_at(100)] if index >= 10 else []

    _, found = watch(Scene(), 80, people, settings=MotionSettings(absorb_seconds=3))
    assert len(found[30]) == 1
    assert sum(len(each) for each in found[60:]) == 0


def test_a_cast_shadow_is_not_somebody() -> None:
    scene = Scene()
    seen = {}
    for shadows in (True, False):
        detector = MotionDetector(MotionSettings(shadows=shadows), windows=Windows())
        for index in range(20):
            shadow = (120, 100, 160, 200) if index >= 10 else None
            (found,) = detector.detect([scene.frame(index, [], shadow=shadow)])
        seen[shadows] = len(found)
    assert seen == {True: 0, False: 1}


def test_a_change_of_exposure_is_not_somebody() -> None:
    scene = Scene()
    detector = MotionDetector(MotionSettings(), windows=Windows())
    for index in range(30):
        (found,) = detector.detect([scene.frame(index, [], brighter=20 if index >= 15 else 0)])
        assert len(found) == 0


def test_each_camera_has_a_background_of_its_own_and_batches_change_nothing() -> None:
    day, night = Scene(seed=1), Scene(Modality.NIR, seed=2)
    frames: list[Frame] = []
    for index in range(30):
        frames.append(day.frame(index, [person_at(5 * index)] if index > 5 else []))
        there = night.frame(index, [person_at(200 - 5 * index)] if index > 5 else [])
        frames.append(frame_of(there.image, index, camera_id="yard", modality=Modality.NIR))
    at_once = MotionDetector(MotionSettings(), windows=Windows()).detect(frames)
    detector = MotionDetector(MotionSettings(), windows=Windows())
    one_by_one = [detector.detect([frame])[0] for frame in frames]
    for a, b in zip(at_once, one_by_one, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
    assert best_iou(at_once[40], person_at(100)) > 0.7
    assert best_iou(at_once[41], person_at(100)) > 0.7


def test_boxes_stay_within_the_frame_and_small_or_huge_changes_are_dropped() -> None:
    def people(index: int) -> list[Box]:
        return [(-15, 100, 25, 230), (200, 100, 206, 114)] if index >= 5 else []

    _, found = watch(Scene(), 20, people, settings=MotionSettings(min_height_px=30))
    (box,) = found[-1].xyxy
    assert (box[0], box[3]) == (0, pytest.approx(230, abs=5))
    _, found = watch(Scene(), 20, people, settings=MotionSettings(min_height_px=30, max_height_share=0.4))
    assert sum(len(each) for each in found) == 0


def test_the_least_confidence_is_kept_to() -> None:
    scene = Scene()
    detector = MotionDetector(MotionSettings(), windows=Windows(), confidence=0.99)
    frames = [scene.frame(index, [person_at(5 * index)]) for index in range(20)]
    assert sum(len(each) for each in detector.detect(frames)) == 0


def test_no_frames_give_no_detections() -> None:
    assert MotionDetector(MotionSettings(), windows=Windows()).detect([]) == []


def test_the_perspective_is_learned_in_spite_of_fragments() -> None:
    rng = np.random.default_rng(0)
    perspective = Perspective()
    for top in rng.uniform(20, 150, 300):
        height = 30 + 0.5 * top
        perspective.add(top, height * (0.3 if rng.random() < 0.15 else rng.normal(1, 0.05)))
    height = perspective.height_at(100)
    assert height == pytest.approx(80, rel=0.05)
    assert perspective.height_above(100 + 80) == pytest.approx(80, rel=0.05)


def test_the_perspective_says_nothing_before_it_has_seen_people() -> None:
    perspective = Perspective()
    assert perspective.height_at(50) is None
    assert perspective.height_above(50) is None
    for _ in range(60):
        perspective.add(50, 70)  # all at one row: no slope can be known
    assert perspective.height_at(90) == 70


def test_a_camera_that_was_moved_starts_anew() -> None:
    before, after = Scene(Modality.NIR, seed=1), Scene(Modality.NIR, seed=2)
    after._background = 230 - after._background.copy() + np.linspace(-90, 90, WIDTH, dtype=np.float32)
    detector = MotionDetector(MotionSettings(), windows=Windows())
    for index in range(10):
        detector.detect([before.frame(index, [])])
    found = [detector.detect([after.frame(index, [])])[0] for index in range(10, 20)]
    assert sum(len(each) for each in found[1:]) == 0


def test_a_camera_whose_pictures_change_their_size_begins_anew() -> None:
    detector = MotionDetector(MotionSettings(), windows=Windows())
    sizes = [(120, 160)] * 3 + [(240, 320)] * 3 + [(120, 160)] * 3
    for index, (height, width) in enumerate(sizes):
        (found,) = detector.detect([frame_of(np.full((height, width, 3), 90, np.uint8), index)])
        assert len(found) == 0
