"""Search: filters before the top k, an honest empty answer, and clips from files by a simple rule."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PilImage

from pipeline.audit import Actor
from pipeline.clips import Query, Spot, clip_from_image, clip_from_spot, clip_from_video
from pipeline.errors import GalleryMismatchError, UsageError
from pipeline.filters import SearchFilter
from pipeline.frame import Frame, Image
from pipeline.identify import Sighting
from pipeline.persons import Persons
from pipeline.search import Example, Searcher, SearchRules, compared
from pipeline.store import Store
from pipeline.tracklets import Tracklet
from pipeline.ways import Stay, Way, Ways
from reid.calibration import Calibration, Curve
from reid.embedding import rounded
from reid.modality import Modality
from tests.pipeline.factories import (
    CALIBRATION,
    DIMENSION,
    MODEL,
    NOON,
    axis,
    frame_of,
    open_store,
    rejected_of,
    sighting_of,
    tracklet_of,
    unit,
)
from trackers.structures import Detections


class MeanColour:
    """A small extractor: mean red, green, blue (grey thrice), and one."""

    dimension = DIMENSION
    model_id = MODEL

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        rows = [
            [np.resize(image.reshape(-1, image.shape[-1] if image.ndim == 3 else 1).mean(0), 3) for image in clip]
            for clip in clips
        ]
        return np.stack([unit(*np.mean(row, axis=0), 1.0) for row in rows])


class OtherModel(MeanColour):
    model_id = "other@sha256:0"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Person 1 at the gate (RGB), in the yard (thermal) and the hall (NIR); person 2 at the gate at the same time."""
    with open_store(tmp_path) as made:
        made.add(sighting_of(tracklet_of("gate-A"), person=1, vector=axis(0)))
        made.add(sighting_of(tracklet_of("gate-B", at=0.5), person=2, vector=unit(0.9, 0.4, 0, 0)))
        made.add(sighting_of(tracklet_of("gate-C", at=60), person=1, vector=unit(0.7, 0, 0.7, 0)))
        night = tracklet_of("yard-D", modality=Modality.THERMAL, at=100)
        made.add(sighting_of(night, person=1, vector=unit(0.6, 0, 0, 0.8)))
        made.add(
            sighting_of(tracklet_of("hall-E", modality=Modality.NIR, at=200), person=1, vector=unit(0.5, 0.8, 0, 0))
        )
        made.add(rejected_of(tracklet_of("gate-F", at=70)))
        yield made


def names(searcher: Searcher, wanted: SearchFilter | None = None) -> list[str]:
    return [answer.tracklet_id for answer in searcher.by_tracklet("gate-A", wanted).answers]


def test_answers_are_ranked_by_probability_and_never_hold_the_query_or_its_neighbours(store: Store) -> None:
    result = Searcher(store, CALIBRATION).by_tracklet("gate-A")
    # Cosines of 0.6 and 0.53 across modalities are worth more than gate-C's 0.71 within one.
    assert [answer.tracklet_id for answer in result.answers] == ["yard-D", "hall-E", "gate-C"]
    assert [answer.rank for answer in result.answers] == [1, 2, 3]
    assert result.answers[0].probability == pytest.approx(
        float(CALIBRATION.probability(result.answers[0].cosine, Modality.RGB, Modality.THERMAL))
    )
    assert result.searched == 3
    assert result.excluded_by["query itself"] == 1
    assert result.excluded_by["same camera at the same time"] == 1


def test_filters_are_applied_before_the_top_k(store: Store) -> None:
    searcher = Searcher(store, CALIBRATION)
    assert names(searcher, SearchFilter(top_k=1)) == ["yard-D"]
    assert names(searcher, SearchFilter(top_k=1, modalities=frozenset({Modality.NIR}))) == ["hall-E"]
    assert names(searcher, SearchFilter(cameras=frozenset({"gate"}))) == ["gate-C"]
    assert names(searcher, SearchFilter(start=NOON + timedelta(seconds=150))) == ["hall-E"]
    assert names(searcher, SearchFilter(end=NOON + timedelta(seconds=100))) == ["gate-C"]


def test_an_empty_answer_says_which_filter_removed_how_many(store: Store) -> None:
    wanted = SearchFilter(modalities=frozenset({Modality.NIR, Modality.THERMAL}), cameras=frozenset({"gate"}))
    result = Searcher(store, CALIBRATION).by_tracklet("gate-A", wanted)
    assert result.answers == ()
    assert result.explanation == (
        "0 of 5 tracklets compared; removed: 1 by query itself, 1 by same camera at the same time, 1 by modality,"
        " 2 by camera."
    )


def test_an_empty_gallery_says_so(tmp_path: Path) -> None:
    with open_store(tmp_path) as empty:
        result = Searcher(empty, CALIBRATION, extractor=MeanColour).by_clip(
            [np.full((40, 20, 3), 9, np.uint8)], Query("a.png", Modality.RGB)
        )
        assert result.explanation == "The gallery is empty: no tracklet was accepted yet."
        assert result.to_json()["answers"] == []


def test_the_json_is_plain(store: Store) -> None:
    result = Searcher(store, CALIBRATION).by_tracklet("gate-A", SearchFilter(top_k=1))
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["schema"] == "xreid.search/1"
    assert plain["query"]["modality"] == "rgb"
    (answer,) = plain["answers"]
    assert (answer["person"], answer["modality"], answer["start"]) == ("P0001", "thermal", "2026-06-01T12:01:40.000Z")
    assert (store.root / answer["best_crop"]).is_file()
    assert plain["searched"] == 3


def test_a_rejected_or_unknown_tracklet_cannot_be_searched_by(store: Store) -> None:
    searcher = Searcher(store, CALIBRATION)
    with pytest.raises(UsageError, match="was rejected"):
        searcher.by_tracklet("gate-F")
    with pytest.raises(UsageError, match="no tracklet 'nobody'"):
        searcher.by_tracklet("nobody")


def test_a_clip_is_embedded_by_the_model_that_filled_the_gallery_and_no_other(store: Store) -> None:
    reddish = [np.full((40, 20, 3), (200, 2, 2), np.uint8)]
    query = Query("red.png", Modality.RGB)
    best = Searcher(store, CALIBRATION, extractor=MeanColour).by_clip(reddish, query).answers[0]
    assert (best.tracklet_id, round(best.cosine, 2)) == ("gate-A", 1.0)
    with pytest.raises(GalleryMismatchError, match=r"tiny@.*other@"):
        Searcher(store, CALIBRATION, extractor=OtherModel).by_clip(reddish, query)
    with pytest.raises(UsageError, match="needs the model"):
        Searcher(store, CALIBRATION).by_clip(reddish, query)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"top_k": 0}, "at least 1"),
        ({"start": NOON.replace(tzinfo=None)}, "offset from UTC"),
        ({"start": NOON, "end": NOON}, "before to"),
    ],
)
def test_filters_that_make_no_sense_are_refused(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        SearchFilter(**wrong)  # type: ignore[arg-type]


def write(path: Path, image: NDArray[np.generic]) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def red(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), (0, 0, 220), np.uint8)  # BGR, as OpenCV writes it


def two_people(frame: Frame) -> Detections:
    return Detections(np.array([[10, 10, 30, 60], [50, 5, 90, 95]], np.float32), np.array([0.9, 0.6], np.float32))


def nobody(frame: Frame) -> Detections:
    return Detections.empty()


def test_an_upright_image_is_one_person_and_its_red_is_red(tmp_path: Path) -> None:
    (crop,), query = clip_from_image(write(tmp_path / "a.png", red(60, 30)), None)
    assert query.modality is Modality.RGB
    assert crop.shape == (60, 30, 3)
    assert crop[0, 0].tolist() == [220, 0, 0]


def test_an_image_that_is_upright_once_turned_as_exif_says_is_one_person(tmp_path: Path) -> None:
    photograph = PilImage.fromarray(np.ascontiguousarray(red(60, 30)[..., ::-1].swapaxes(0, 1)))
    exif = photograph.getexif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "a.jpg", exif=exif, quality=95)
    (crop,), query = clip_from_image(tmp_path / "a.jpg", None)
    assert "(whole image)" in query.description
    assert crop.shape == (60, 30, 3)
    assert crop[0, 0, 0] > 200 > crop[0, 0, 2]


def test_the_largest_person_of_a_wide_image_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", red(100, 160))
    (crop,), query = clip_from_image(path, None, detect=two_people)
    assert crop.shape[0] in range(90, 98)
    assert "largest of 2 people" in query.description
    (whole,), query = clip_from_image(path, None, whole=True, detect=two_people)
    assert whole.shape == (100, 160, 3)


@pytest.mark.parametrize(
    ("height", "width", "kept"), [(2000, 1500, (512, 384)), (1200, 12, (512, 8)), (512, 300, (512, 300))]
)
def test_a_person_is_taken_no_larger_than_models_make_use_of(
    tmp_path: Path, height: int, width: int, kept: tuple[int, int]
) -> None:
    (crop,), query = clip_from_image(write(tmp_path / "a.png", red(height, width)), None)
    assert (crop.shape, query.people) == ((*kept, 3), None)
    assert crop[0, 0].tolist() == [220, 0, 0]


def test_people_are_looked_for_in_a_large_image_made_smaller_and_told_in_its_own_pixels(tmp_path: Path) -> None:
    seen = []

    def one_person(frame: Frame) -> Detections:
        seen.append(frame.image.shape)
        return Detections(np.array([[100, 10, 500, 890]], np.float32), np.array([0.9], np.float32))

    path = write(tmp_path / "a.png", red(1800, 3840))
    (crop,), query = clip_from_image(path, None, detect=one_person)
    assert seen == [(900, 1920, 3)]
    assert crop.shape[0] == 512
    assert query.people == 1
    assert "box [200, 20, 1000, 1780]" in query.description


def test_a_wide_image_without_a_person_or_a_detector_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", red(100, 160))
    with pytest.raises(UsageError, match="nobody found"):
        clip_from_image(path, None, detect=nobody)
    with pytest.raises(UsageError, match="--whole"):
        clip_from_image(path, None)


def test_the_modality_is_asked_for_unless_obvious(tmp_path: Path) -> None:
    thermal = write(tmp_path / "t.png", np.full((60, 30), 8000, np.uint16))
    (crop,), query = clip_from_image(thermal, None)
    assert (query.modality, crop.dtype, crop.shape) == (Modality.THERMAL, np.uint16, (60, 30))
    grey = write(tmp_path / "g.png", np.full((60, 30), 90, np.uint8))
    with pytest.raises(UsageError, match="say which"):
        clip_from_image(grey, None)
    assert clip_from_image(grey, Modality.NIR)[0][0].shape == (60, 30)
    assert clip_from_image(grey, Modality.RGB)[0][0].shape == (60, 30, 3)
    grey_as_rgb = write(tmp_path / "g3.png", np.full((60, 30, 3), 90, np.uint8))
    assert clip_from_image(grey_as_rgb, Modality.NIR)[0][0].shape == (60, 30)
    with pytest.raises(UsageError, match="8 bits"):
        clip_from_image(thermal, Modality.RGB)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("modality", [Modality.NIR, Modality.THERMAL])
def test_a_colour_file_of_an_infrared_camera_is_taken_by_its_luma(
    tmp_path: Path, modality: Modality, dtype: type[np.unsignedinteger[Any]]
) -> None:
    most = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    grey = rng.integers(0, most - most // 12, (60, 30, 1))
    image = (grey + rng.integers(0, most // 12, (60, 30, 3))).astype(dtype)  # a tint, less than a palette has
    (crop,), _ = clip_from_image(write(tmp_path / "bgr.png", image), modality)
    luma = image @ np.array([0.114, 0.587, 0.299])  # BGR; ITU-R BT.601
    assert (crop.shape, crop.dtype) == ((60, 30), dtype)
    np.testing.assert_allclose(crop, luma, rtol=0, atol=0.51 if dtype is np.uint8 else 2)  # 14 bits a coefficient
    (crop,), _ = clip_from_image(write(tmp_path / "grey.png", np.repeat(image[..., :1], 3, axis=2)), modality)
    np.testing.assert_array_equal(crop, image[..., 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_in_false_colour_is_no_query_of_a_thermal_camera(
    tmp_path: Path, dtype: type[np.unsignedinteger[Any]]
) -> None:
    heat = np.random.default_rng(0).integers(0, 256, (60, 30)).astype(np.uint8)
    palette = (cv2.applyColorMap(heat, cv2.COLORMAP_JET).astype(np.uint32) * (np.iinfo(dtype).max // 255)).astype(dtype)
    with pytest.raises(UsageError, match="false-colour palette"):
        clip_from_image(write(tmp_path / "jet.png", palette), Modality.THERMAL)
    assert clip_from_image(write(tmp_path / "jet.png", palette), Modality.NIR)[0][0].shape == (60, 30)


def test_files_that_are_no_picture_of_a_person_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        clip_from_image(tmp_path / "a.png", None)
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(UsageError, match="not an image"):
        clip_from_image(tmp_path / "a.png", None)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UsageError, match="not an image"):
        clip_from_image(tmp_path / "empty.png", None)
    with pytest.raises(UsageError, match="1x1 pixels"):
        clip_from_image(write(tmp_path / "b.png", red(1, 1)), None)


def test_the_person_longest_in_view_of_a_video_is_taken(tmp_path: Path) -> None:
    def tracked(path: Path) -> list[Tracklet]:
        return [tracklet_of("query-A", seconds=1), tracklet_of("query-B", seconds=3, crops=4)]

    clip, query = clip_from_video(tmp_path / "a.mp4", Modality.NIR, tracked)
    assert len(clip) == 4
    assert query.modality is Modality.NIR
    assert "longest of 2 tracklets, 3.0 s" in query.description
    with pytest.raises(UsageError, match="nobody was tracked"):
        clip_from_video(tmp_path / "a.mp4", Modality.NIR, lambda path: [])


# Feedback, ways, rates, re-ranking ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Three cameras, 120 tracklets in two dimensions of likeness and two of noise; nobody changes it."""
    rng = np.random.default_rng(3)
    with open_store(tmp_path_factory.mktemp("crowd")) as made:
        for n in range(120):
            modality = list(Modality)[n % 3]
            vector = unit(*(np.eye(DIMENSION)[n % 4] + rng.normal(0, 0.4, DIMENSION)))
            made.add(
                sighting_of(
                    tracklet_of(f"cam{n % 3}-{n}", modality=modality, at=30.0 * n), person=1 + n % 4, vector=vector
                )
            )
        yield made


def slow_scores(store: Store, positives: list[str], negatives: list[str], ways: Ways) -> dict[str, float]:
    """The formula at the head of the module, one tracklet after the other."""
    every = {each.tracklet_id: each for each in store.tracklets()}
    vectors = {name: store.embeddings([each.row])[0].astype(np.float64) for name, each in every.items()}

    def log_odds(a: str, b: str) -> float:
        cosine = float(np.add.reduce(vectors[a] * vectors[b]))
        return float(CALIBRATION.log_odds(cosine, every[a].modality, every[b].modality))

    def stay(name: str) -> Stay:
        return Stay(every[name].camera_id, every[name].start, every[name].end)

    scores = {}
    for name in every:
        if name in positives or name in negatives:
            continue
        score = float(np.mean([log_odds(example, name) for example in positives]))
        score -= max([0.0, *(log_odds(example, name) for example in negatives)])
        score -= max(ways.doubt(stay(example), stay(name)) for example in positives)
        scores[name] = score
    return scores


@pytest.mark.parametrize("negatives", [[], ["cam1-4"], ["cam2-5", "cam0-9"]])
@pytest.mark.parametrize("positives", [["cam0-0"], ["cam0-0", "cam1-1", "cam2-8"]])
@pytest.mark.parametrize("with_ways", [False, True])
def test_answers_are_those_of_the_formula_computed_slowly(
    crowd: Store, positives: list[str], negatives: list[str], with_ways: bool
) -> None:
    ways = Ways([Way(("cam0", "cam1"), 400, 900), Way(("cam1", "cam2"), 200, 300)] if with_ways else [])
    searcher = Searcher(crowd, CALIBRATION, rules=SearchRules(ways=ways))
    examples = [searcher.example_of(each) for each in positives]
    others = [searcher.example_of(each) for each in negatives]
    result = searcher.by_examples(examples, SearchFilter(top_k=7), negatives=others)
    expected = slow_scores(crowd, positives, negatives, ways)
    best = sorted(expected, key=lambda name: -expected[name])[:7]
    assert [answer.tracklet_id for answer in result.answers] == best
    undoubted = slow_scores(crowd, positives, negatives, Ways([]))
    assert result.too_soon == len(set(sorted(undoubted, key=lambda name: -undoubted[name])[:7]) - set(best))
    for answer in result.answers:
        assert answer.probability == pytest.approx(1 / (1 + np.exp(-expected[answer.tracklet_id])), abs=1e-6)
    assert [each.description for each in result.examples] == positives[1:]
    assert [each.description for each in result.negatives] == negatives


def test_a_negative_example_lowers_what_is_like_it_and_says_so(crowd: Store) -> None:
    searcher = Searcher(crowd, CALIBRATION)
    plain = searcher.by_tracklet("cam0-0", SearchFilter(top_k=1)).answers[0]
    wrong = searcher.example_of(plain.tracklet_id)
    after = searcher.by_examples([searcher.example_of("cam0-0")], SearchFilter(top_k=119), negatives=[wrong])
    assert plain.tracklet_id not in {answer.tracklet_id for answer in after.answers}
    lowered = [answer for answer in after.answers if "Alike to a negative example" in answer.why]
    assert lowered


def test_whoever_came_too_soon_falls_back_with_the_reason_but_is_not_hidden(store: Store) -> None:
    ways = Ways([Way(("gate", "yard"), 200, 300)])
    before = Searcher(store, CALIBRATION).by_tracklet("gate-A").answers
    after = Searcher(store, CALIBRATION, rules=SearchRules(ways=ways)).by_tracklet("gate-A").answers
    assert {each.tracklet_id for each in after} == {each.tracklet_id for each in before}
    first, now = before[0], next(each for each in after if each.tracklet_id == "yard-D")
    assert now.probability < first.probability
    assert "Seen 99 s apart from gate, from where the way takes at least 200 s: lowered from" in now.why
    assert "lowered" not in first.why


def test_whom_the_ways_put_out_of_the_top_k_is_counted_and_told(store: Store) -> None:
    """Undoubted, yard-D comes first; with the ways it is behind both others."""
    rules = SearchRules(ways=Ways([Way(("gate", "yard"), 2000, 3000)]))
    for top_k, answers, out in (
        (1, ["hall-E"], 1),
        (2, ["hall-E", "gate-C"], 1),
        (3, ["hall-E", "gate-C", "yard-D"], 0),
    ):
        wanted = SearchFilter(top_k=top_k)
        assert "ways" not in Searcher(store, CALIBRATION).by_tracklet("gate-A", wanted).explanation
        result = Searcher(store, CALIBRATION, rules=rules).by_tracklet("gate-A", wanted)
        assert [each.tracklet_id for each in result.answers] == answers
        assert result.too_soon == result.to_json()["too_soon"] == out
        assert (f" {out} of the likeliest came too soon for the ways" in result.explanation) == (out > 0)


def test_no_probability_is_told_as_certain() -> None:
    told = [compared(each) for each in (0.0, 0.0049, 0.0051, 0.864, 0.9949, 0.9951, 1.0)]
    assert told == ["< 0.01", "< 0.01", "= 0.01", "= 0.86", "= 0.99", "> 0.99", "> 0.99"]


def test_each_answer_says_what_its_cosine_is_worth_and_tells_the_time_of_the_site(store: Store) -> None:
    rules = SearchRules(zone=ZoneInfo("Europe/Berlin"))
    answer = Searcher(store, CALIBRATION, rules=rules).by_tracklet("gate-A").answers[0]
    worth = compared(answer.probability)
    assert answer.why == f"Cosine {answer.cosine:.3f} between rgb and thermal is worth p {worth}."
    assert (answer.start.hour, answer.start_local.hour) == (12, 14)
    assert answer.start == answer.start_local


def test_a_false_match_rate_leaves_out_what_is_less_alike_and_counts_it(store: Store) -> None:
    told = Calibration(
        {
            (a, b): Curve(20.0, -10.0, ((0.1, 0.2), (0.01, 0.55), (0.001, 0.9)))
            for n, a in enumerate(Modality)
            for b in list(Modality)[n:]
        }
    )
    result = Searcher(store, told, rules=SearchRules(false_match_rate=0.01)).by_tracklet("gate-A")
    assert [each.tracklet_id for each in result.answers] == ["gate-C", "yard-D"]
    assert result.below_threshold == 1
    assert "1 of the nearest are less alike than the false-match rate asks for" in result.explanation
    assert "1 in " in result.answers[0].why
    with pytest.raises(UsageError, match=r"false match rate: .*cannot be told"):
        Searcher(store, told, rules=SearchRules(false_match_rate=1e-6)).by_tracklet("gate-A")


def told(*strangers: tuple[float, float]) -> Calibration:
    """The curves of the factories, with counted strangers."""
    curves = {pair: CALIBRATION.curve(*pair) for pair in CALIBRATION}
    return Calibration({pair: Curve(each.slope, each.intercept, strangers) for pair, each in curves.items()})


def test_an_answer_says_how_rare_so_much_likeness_is_and_where_the_counts_of_strangers_end(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A"), vector=axis(0)))
        for name, cosine in (("same", 1.0), ("alike", 0.5), ("other", 0.1)):
            store.add(
                sighting_of(tracklet_of(f"yard-{name}", at=50), vector=unit(cosine, (1 - cosine**2) ** 0.5, 0, 0))
            )
        searcher = Searcher(store, told((0.2, 0.2), (0.01, 0.5), (0.0005, 0.75)))
        why = {each.tracklet_id: each.why for each in searcher.by_tracklet("gate-A").answers}
    assert "; fewer than 1 in 2,000 strangers are so alike" in why["yard-same"]
    assert "; 1 in 100 strangers" in why["yard-alike"]
    assert "; more than 1 in 5 strangers are so alike" in why["yard-other"]


def test_several_examples_are_told_by_their_mean_and_the_nearest(store: Store) -> None:
    searcher = Searcher(store, CALIBRATION)
    examples = [searcher.example_of(each) for each in ("gate-A", "gate-C")]
    first = searcher.by_examples(examples).answers[0]
    alone = {name: searcher.by_tracklet(name).answers for name in ("gate-A", "gate-C")}
    cosines = {
        name: next(e.cosine for e in found if e.tracklet_id == first.tracklet_id) for name, found in alone.items()
    }
    nearest = max(cosines, key=lambda name: cosines[name])
    assert first.why.startswith(
        f"The mean over 2 examples is worth p {compared(first.probability)}; the nearest of them, "
    )
    assert f"them, {nearest}, has cosine {first.cosine:.3f} between rgb and" in first.why


@pytest.mark.parametrize("positives", [["cam0-0"], ["cam0-0", "cam0-12", "cam1-4"]])
@pytest.mark.parametrize("negatives", [[], ["cam2-8"]])
@pytest.mark.parametrize("top_k", [1, 5, 119])
def test_a_false_match_rate_asks_for_the_likeness_that_ranks_and_before_the_top_k(
    crowd: Store, positives: list[str], negatives: list[str], top_k: int
) -> None:
    strangers = told((0.1, 0.4), (0.01, 0.8))
    searcher = Searcher(crowd, strangers, rules=SearchRules(false_match_rate=0.05))
    examples = [searcher.example_of(each) for each in positives]
    others = [searcher.example_of(each) for each in negatives]
    found = searcher.by_examples(examples, SearchFilter(top_k=top_k), negatives=others)
    likeness = slow_scores(crowd, positives, [], Ways([]))
    vectors = np.stack([each.vector for each in examples]).astype(np.float64)
    kinds = [each.query.modality for each in examples]
    least = {each: strangers.mean_threshold(0.05, vectors @ vectors.T, kinds, each) for each in Modality}
    modality = {each.tracklet_id: each.modality for each in crowd.tracklets()}
    score = slow_scores(crowd, positives, negatives, Ways([]))
    passing = [name for name in score if likeness[name] >= least[modality[name]]]
    assert 5 < len(passing) < 60
    assert [each.tracklet_id for each in found.answers] == sorted(passing, key=lambda name: -score[name])[:top_k]


def test_whoever_is_alike_to_one_example_hides_nobody_who_is_alike_to_both(tmp_path: Path) -> None:
    """Five are a little alike to both, and one is much alike to the first and not at all to the second."""
    first, second = axis(0), axis(1)
    with open_store(tmp_path) as store:
        for number in range(5):
            vector = unit(0.45, 0.45, 0.77, 0.01 * number)
            store.add(sighting_of(tracklet_of(f"gate-both{number}", at=10 * number), vector=vector))
        store.add(sighting_of(tracklet_of("gate-one", at=900), vector=unit(0.8, 0, 0, 0.6)))
        rules = SearchRules(false_match_rate=0.01)
        searcher = Searcher(store, told((0.1, 0.3), (0.01, 0.5), (0.001, 0.7)), rules=rules)
        examples = [Example(Query(name, Modality.RGB), each) for name, each in (("a", first), ("b", second))]
        few, many = (searcher.by_examples(examples, SearchFilter(top_k=top_k)) for top_k in (5, 10))
        assert [each.tracklet_id for each in few.answers] == [each.tracklet_id for each in many.answers][:5]
        assert {each.tracklet_id for each in few.answers} == {f"gate-both{number}" for number in range(5)}


@pytest.mark.parametrize("count", [1, 2, 10])
def test_a_false_match_rate_lets_as_many_strangers_through_with_several_examples(tmp_path: Path, count: int) -> None:
    size, rng = 64, np.random.default_rng(5)

    def people(number: int) -> NDArray[np.float32]:
        rows = rng.normal(size=(number, size))
        return rounded((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))

    cosine = np.sum(people(40_000) * people(40_000), axis=1)
    strangers = tuple((rate, float(np.quantile(cosine, 1 - rate))) for rate in (0.2, 0.1, 0.05, 0.02))
    with Store.open(tmp_path, model_id=MODEL, dimension=size, calibration=CALIBRATION) as store:
        for number, vector in enumerate(people(300)):
            store.add(Sighting(tracklet_of(f"gate-{number}", at=10.0 * number, crops=1), vector, 1, ()))
        searcher = Searcher(store, told(*strangers), rules=SearchRules(false_match_rate=0.1))
        passed = 0
        for _ in range(40):
            examples = [Example(Query("a", Modality.RGB), each) for each in people(count)]
            passed += len(searcher.by_examples(examples, SearchFilter(top_k=300)).answers)
    assert 0.085 < passed / (40 * 300) < 0.115  # asked of the nearest alone: 0.10, 0.19 and 0.66


def test_a_rate_that_one_pair_cannot_tell_is_refused_once_it_matters(store: Store) -> None:
    known = told((0.1, 0.2), (0.01, 0.55))
    nir = (Modality.NIR, Modality.RGB)
    searcher = Searcher(
        store, known.replaced(Calibration({nir: CALIBRATION.curve(*nir)})), rules=SearchRules(false_match_rate=0.01)
    )
    assert names(searcher, SearchFilter(top_k=1)) == ["yard-D"]  # hall-E, of the pair that nobody counted, is second
    with pytest.raises(UsageError, match=r"false match rate: nir-rgb: .*does not know how alike strangers are"):
        searcher.by_tracklet("gate-A", SearchFilter(top_k=2))


def test_a_modality_that_the_calibration_does_not_know_is_left_out_and_counted(store: Store) -> None:
    pairs = [(Modality.RGB, Modality.RGB), (Modality.RGB, Modality.NIR), (Modality.NIR, Modality.NIR)]
    few = Calibration({pair: CALIBRATION.curve(*pair) for pair in pairs})
    result = Searcher(store, few).by_tracklet("gate-A")
    assert [answer.tracklet_id for answer in result.answers] == ["hall-E", "gate-C"]
    assert "2 of 5 tracklets compared" in result.explanation
    assert "1 by a calibration without this pair of modalities" in result.explanation
    thermal = Searcher(store, few).by_tracklet("yard-D")
    assert (thermal.answers, thermal.searched) == ((), 0)
    assert "4 by a calibration without this pair of modalities" in thermal.explanation


def test_re_ranking_changes_the_order_within_a_modality_only(crowd: Store) -> None:
    plain = Searcher(crowd, CALIBRATION).by_tracklet("cam0-0", SearchFilter(top_k=30)).answers
    again = Searcher(crowd, CALIBRATION, rules=SearchRules(rerank=True)).by_tracklet("cam0-0", SearchFilter(top_k=30))
    assert [each.modality for each in again.answers] == [each.modality for each in plain]
    assert [each.tracklet_id for each in again.answers] != [each.tracklet_id for each in plain]
    assert any("Common neighbours put it at place" in each.why for each in again.answers)


@pytest.mark.parametrize("negatives", [[], ["cam2-5", "cam0-9"]])
@pytest.mark.parametrize("with_ways", [False, True])
def test_re_ranking_is_of_the_likeness_and_what_lowers_it_is_taken_off_afterwards(
    crowd: Store, negatives: list[str], with_ways: bool
) -> None:
    ways = Ways([Way(("cam0", "cam0x"), 1, 2), Way(("cam0", "cam1"), 1500, 2000)] if with_ways else [])
    searcher = Searcher(crowd, CALIBRATION, rules=SearchRules(rerank=True, ways=ways))
    examples = [searcher.example_of("cam0-0")]
    others = [replace(searcher.example_of(each), row=None) for each in negatives]  # so that they may be answers
    everybody = SearchFilter(top_k=120)
    found = searcher.by_examples(examples, everybody, negatives=others)
    plain = Searcher(crowd, CALIBRATION, rules=SearchRules(rerank=True)).by_examples(examples, everybody)
    likeness = slow_scores(crowd, ["cam0-0"], [], Ways([]))
    lowered = slow_scores(crowd, ["cam0-0"], negatives, ways)
    for modality in Modality:
        turned = [each.tracklet_id for each in plain.answers if each.modality is modality]
        worth = dict(zip(turned, sorted((likeness[each] for each in turned), reverse=True), strict=True))
        left = [each for each in turned if each in lowered]
        expected = sorted(left, key=lambda name: likeness[name] - lowered[name] - worth[name])
        answers = [each.tracklet_id for each in found.answers if each.modality is modality]
        assert [each for each in answers if each not in negatives] == expected
        assert turned != sorted(turned, key=lambda name: -likeness[name])
    for each in found.answers:
        if each.tracklet_id not in negatives:
            assert each.probability == pytest.approx(1 / (1 + np.exp(-lowered[each.tracklet_id])), abs=1e-6)


def test_who_came_too_soon_is_counted_of_the_list_that_re_ranking_shows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A"), vector=axis(0)))
        for number in range(6):
            soon, later = (unit(1, *rng.normal(0, spread, 3)) for spread in (0.15, 0.2))
            store.add(sighting_of(tracklet_of(f"far-soon{number}", at=2 + number), vector=soon))
            store.add(sighting_of(tracklet_of(f"far-later{number}", at=5000.0 + 10 * number), vector=later))
        for number in range(12):
            store.add(sighting_of(tracklet_of(f"gate-{number}", at=9000.0 + number), vector=axis(1 + number % 3)))
        rules = SearchRules(rerank=True, ways=Ways([Way(("gate", "far"), 600, 900)]))
        wanted = SearchFilter(top_k=6)
        before = Searcher(store, CALIBRATION, rules=SearchRules(rerank=True)).by_tracklet("gate-A", wanted)
        after = Searcher(store, CALIBRATION, rules=rules).by_tracklet("gate-A", wanted)
    assert {each.tracklet_id for each in after.answers} == {f"far-later{number}" for number in range(6)}
    assert after.too_soon == sum("soon" in each.tracklet_id for each in before.answers) > 0
    assert f"{after.too_soon} of the likeliest came too soon for the ways, and fell behind" in after.explanation


def test_a_searcher_follows_what_is_added_revised_and_searched_for_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as writer:
        writer.add(sighting_of(tracklet_of("gate-A"), person=1, vector=axis(0)))
        with Store.read(tmp_path) as reader:
            searcher = Searcher(reader, CALIBRATION)
            assert searcher.by_tracklet("gate-A").answers == ()
            writer.add(sighting_of(tracklet_of("gate-B", at=60), person=2, vector=unit(1, 0.1, 0, 0)))
            assert [each.person_id for each in searcher.by_tracklet("gate-A").answers] == [2]
            Persons(writer).revise("gate-B", 1, ())
            assert [each.person_id for each in searcher.by_tracklet("gate-A").answers] == [1]
            only = SearchFilter(persons=frozenset({2}))
            result = searcher.by_tracklet("gate-A", only)
            assert (result.answers, result.excluded_by["person"]) == ((), 1)


def test_whoever_is_revised_is_never_missing_to_those_who_search_meanwhile(tmp_path: Path) -> None:
    """A search of another thread has the same index: it takes nothing out that it puts in again."""
    with open_store(tmp_path) as writer:
        for number, name in enumerate(("gate-A", "gate-B", "gate-C")):
            writer.add(sighting_of(tracklet_of(name, at=10.0 * number), person=number + 1))
        with Store.read(tmp_path) as reader, Store.read(tmp_path) as other:
            searcher = Searcher(reader, CALIBRATION)
            taken: list[list[int]] = []
            remove = searcher.gallery.remove
            searcher.gallery.remove = lambda ids: (taken.append(list(ids)), remove(ids))[1]  # type: ignore[method-assign]
            Persons(writer).merge(1, 3, Actor("test"))
            searcher.refresh()
            assert [each for each in taken if each] == []
            assert names(searcher, SearchFilter(persons=frozenset({1}))) == ["gate-C"]
            older = searcher.at_this_moment(other)
            remove(searcher.catalogue.rows)  # erased meanwhile
            found = older.by_examples([older.example_of("gate-A")])
            assert found.answers == ()


def test_no_example_is_no_search(store: Store) -> None:
    with pytest.raises(UsageError, match="at least one example"):
        Searcher(store, CALIBRATION).by_examples([])


# A box on a frame -----------------------------------------------------------------------------------------------------


def spot(at: object, box: str = "10,20,60,120") -> Spot:
    return Spot.parse(at, box)  # type: ignore[arg-type]


def test_a_box_is_cut_out_of_the_frame_that_was_shown_at_the_moment() -> None:
    frames = [frame_of(index) for index in range(20)]
    (crop,), query = clip_from_spot(frames, spot(0.95), name="gate")
    assert query.description == "gate (frame 9, box 10,20,60,120)"
    assert (query.camera_id, query.start) == ("gate", NOON + timedelta(seconds=0.9))
    assert crop.shape[:2] == (106, 54)  # with its margin
    _, query = clip_from_spot(frames, spot(NOON + timedelta(seconds=0.3)), name="gate")
    assert query.start == NOON + timedelta(seconds=0.3)
    _, query = clip_from_spot(frames, spot(2.5), name="gate")
    assert "frame 19" in query.description


@pytest.mark.parametrize(
    ("at", "box", "message"),
    [
        (9.0, "10,20,60,120", "has no frame at 9 s"),
        (NOON - timedelta(seconds=1), "10,20,60,120", "has no frame at"),
        (1.0, "500,20,600,120", "too little of it lies within the frame of 320x240"),
        (1.0, "10,20,12,120", "too little"),
        (1.0, "60,20,10,120", "x1 < x2"),
        (1.0, "1,2,3", "four numbers"),
    ],
)
def test_a_box_that_shows_nobody_is_refused(at: object, box: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        clip_from_spot([frame_of(index) for index in range(20)], spot(at, box), name="gate")
