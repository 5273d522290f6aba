"""The evaluation: clips of every protocol, directions, camera pairs, calibration, re-ranking, the command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid import checkpoint, evaluate
from reid.calibration import Calibration, Curve, expected_calibration_error, reliability
from reid.datasets.crops import Crops, read_crop
from reid.datasets.folder import read_folder
from reid.datasets.split import DatasetError, Direction, TrackletSplit
from reid.evaluate import (
    CropFiles,
    calibration_error,
    embed_split,
    evaluate_camera_pairs,
    evaluate_directions,
    similarities,
)
from reid.metrics import CameraRule
from reid.metrics import evaluate as rank
from reid.modality import Modality
from reid.models.xreid import XReID
from reid.protocols import PROTOCOLS, clip_positions, open_under
from reid.reranking import Reranking, rerank
from tests.reid.factories import card, model_config, preprocessing, write_folder
from tests.reid.layouts import Bupt, write_bupt

NIR, RGB = Modality.NIR, Modality.RGB


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"), train=1, val=6, frames=7)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = XReID(model_config(centre_modalities=True))
    model.centres.normal_()
    path = tmp_path_factory.mktemp("weights") / "mini.safetensors"
    calibration = Calibration({(RGB, NIR): Curve(20.0, -15.0)}).to_dict()
    checkpoint.save(path, model, card(model.config, calibration=calibration))
    return path


def labelled(pids: list[int], camids: list[int], modalities: list[Modality]) -> TrackletSplit:
    names = tuple(f"D{number}" for number in range(max(camids) + 1))
    return TrackletSplit(
        paths=tuple((Path(f"{row}.jpg"),) for row in range(len(pids))),
        pids=np.array(pids, np.int64),
        camids=np.array(camids, np.int64),
        modalities=tuple(modalities),
        camera_names=names,
    )


def crowd(persons: int = 40, noise: float = 0.35) -> tuple[np.ndarray, TrackletSplit]:
    """Each person twice in each modality, by cameras 0 to 3 whatever the modality, as unit vectors around a centre."""
    rng = np.random.default_rng(3)
    pids = np.repeat(np.arange(persons), 4)
    features = rng.normal(size=(persons, 24))[pids] + noise * rng.normal(size=(4 * persons, 24)) * np.sqrt(3)
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    camids = [camera for person in range(persons) for camera in (person % 4, (person + 1) % 4) * 2]
    return features, labelled(pids.tolist(), camids, [RGB, RGB, NIR, NIR] * persons)


@pytest.mark.parametrize(
    ("count", "frames", "clips", "expected"),
    [
        (24, 10, "chunk_first", [[0, 3, 6, 9, 12, 15, 18, 21, 23, 23]]),
        (24, 6, "chunk_first", [[0, 4, 8, 12, 16, 20]]),
        (3, 5, "chunk_first", [[0, 1, 2, 2, 2]]),
        (24, 10, "uniform", [[0, 2, 4, 7, 9, 12, 14, 16, 19, 21]]),
        (24, 10, "uniform_repeated", [[0, 2, 4, 7, 9, 12, 14, 16, 19, 21]]),
        (3, 10, "uniform_repeated", [[0, 0, 0, 0, 1, 1, 1, 2, 2, 2]]),
        (3, 10, "uniform", [[0, 1, 2]]),
        (7, 3, "dense", [[0, 1, 2], [3, 4, 5], [6, 6, 6]]),
        (5, 3, "dense", [[0, 1, 2], [3, 4, 3]]),
        (2, 5, "dense", [[0, 1, 0, 1, 0]]),
        (6, 3, "dense", [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_tracklets_become_the_clips_that_the_protocol_names(count, frames, clips, expected) -> None:
    assert [positions.tolist() for positions in clip_positions(count, frames, clips)] == expected


def test_random_chunks_take_one_frame_of_each_and_the_same_ones_for_the_same_seed() -> None:
    drawn = [clip_positions(24, 6, "chunk_random", seed=seed)[0] for seed in range(40)]
    assert all((each // 4 == np.arange(6)).all() for each in drawn)
    assert len({tuple(each) for each in drawn}) > 30
    np.testing.assert_array_equal(drawn[3], clip_positions(24, 6, "chunk_random", seed=3)[0])


def test_dense_embeddings_are_the_unit_mean_of_the_clips_features_before_their_length_is_made_one(
    root: Path, weights: Path
) -> None:
    extractor, split = checkpoint.load(weights), read_folder(root, "val")
    crops = CropFiles(split, extractor.preprocessing)
    embedded = embed_split(extractor, crops, split, clips="dense", frames=3)
    for row in (0, 9):
        clips = [crops.clip(row, np.array(positions)) for positions in ([0, 1, 2], [3, 4, 5], [6, 6, 6])]
        features = extractor.features_prepared(clips, [split.modalities[row]] * 3)
        assert np.ptp(np.linalg.norm(features, axis=1)) > 1e-4  # else the order of mean and norm could not be told
        mean = features.mean(axis=0)
        np.testing.assert_allclose(embedded[row], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_split_is_embedded_as_extract_embeds_its_files(root: Path, weights: Path) -> None:
    extractor, split = checkpoint.load(weights), read_folder(root, "val")
    expected = extractor.extract(
        [
            [read_crop(path, modality) for path in paths]
            for paths, modality in zip(split.paths, split.modalities, strict=True)
        ],
        split.modalities,
    )
    found = embed_split(extractor, CropFiles(split, extractor.preprocessing), split)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    rgb = split.rows_of(RGB)  # their pixels do not depend on which frames are prepared together
    packed = embed_split(extractor, Crops.load(split, extractor.preprocessing), split)
    np.testing.assert_allclose(packed[rgb], expected[rgb], atol=2e-6)


def test_many_tracklets_are_embedded_in_portions_without_a_difference(root, weights, monkeypatch) -> None:
    extractor, split = checkpoint.load(weights), read_folder(root, "val")
    crops = CropFiles(split, extractor.preprocessing)
    whole = embed_split(extractor, crops, split, clips="dense", frames=4)
    monkeypatch.setattr(evaluate, "_TRACKLETS_AT_ONCE", 5)
    np.testing.assert_allclose(embed_split(extractor, crops, split, clips="dense", frames=4), whole, atol=2e-6)
    assert embed_split(extractor, CropFiles(split.select([]), preprocessing()), split.select([])).shape[0] == 0


def test_v2i_is_the_transpose_of_i2v_with_the_roles_exchanged() -> None:
    features, split = crowd()
    nir, rgb = split.rows_of(NIR), split.rows_of(RGB)
    results = evaluate_directions(features, split, camera_rule="same_id_same_cam")
    i2v = similarities(features, Direction(nir, rgb))
    for matrix, q, g, name in ((i2v, nir, rgb, "nir->rgb"), (i2v.T, rgb, nir, "rgb->nir")):
        expected = rank(
            matrix, split.pids[q], split.pids[g], split.camids[q], split.camids[g], camera_rule="same_id_same_cam"
        )
        assert results[name] == expected


def test_of_equal_embeddings_the_first_in_the_gallery_is_ranked_first() -> None:
    """Behind each person the gallery has the same embedding under another person's number."""
    rng = np.random.default_rng(3)
    people = np.arange(45)
    seen = rng.normal(size=(45, 384))
    rows = np.concatenate([seen + 0.4 * rng.normal(size=seen.shape), seen, seen])
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    for query, gallery in ((NIR, RGB), (RGB, NIR)):
        pids = [*people, *people, *people + 1000]
        split = labelled(pids, [0] * len(pids), [query] * len(people) + [gallery] * 2 * len(people))
        result = evaluate_directions(features, split, camera_rule="none")[f"{query}->{gallery}"]
        assert (result.rank1, result.mAP) == (1.0, 1.0)
    for reranking in (None, Reranking(original=1.0)):
        cosine = similarities(features, Direction(people, np.arange(45, 135)), reranking)
        np.testing.assert_array_equal(cosine[:, :45], cosine[:, 45:])


def test_the_cosines_of_one_direction_are_the_transpose_of_the_other_s_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.normal(size=(rng.integers(40, 120), 384)).astype(np.float32)
        features = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        q, g = np.split(np.arange(len(rows)), [rng.integers(1, 40)])
        one, other = similarities(features, Direction(q, g)), similarities(features, Direction(g, q))
        np.testing.assert_array_equal(one, other.T)
        exact = features[q].astype(np.float64) @ features[g].astype(np.float64).T
        np.testing.assert_allclose(one, exact, atol=3e-8)  # as near as float32 would be


def test_one_number_for_the_cameras_of_both_modalities_makes_the_camera_rule_bite() -> None:
    features, split = crowd()
    free = evaluate_directions(features, split, camera_rule="none")["nir->rgb"]
    strict = evaluate_directions(features, split, camera_rule="same_id_same_cam")["nir->rgb"]
    assert strict.chance_rank1 == pytest.approx(1 / 79)  # one match is left of two, among 80 less 1
    assert free.chance_rank1 == pytest.approx(2 / 80)


def test_a_query_whose_only_match_shares_its_camera_is_skipped_and_counted() -> None:
    split = labelled([1, 1, 2, 2], [0, 0, 0, 1], [NIR, RGB, NIR, RGB])
    features = np.eye(4, dtype=np.float32)
    result = evaluate_directions(features, split, camera_rule="same_id_same_cam")["nir->rgb"]
    assert (result.valid_queries, result.skipped_queries) == (1, 1)


def test_queries_and_gallery_may_be_told_apart_from_the_modalities() -> None:
    features, split = crowd()
    only = {"nir->rgb": Direction(split.rows_of(NIR)[:5], split.rows_of(RGB)[:20])}
    results = evaluate_directions(features, split, camera_rule="none", directions=only)
    assert set(results) == {"nir->rgb"}
    assert results["nir->rgb"].valid_queries == 5


def test_pairs_of_cameras_hold_the_queries_of_one_and_the_gallery_of_the_other() -> None:
    features, split = crowd()
    pairs = evaluate_camera_pairs(features, split, camera_rule="same_id_same_cam")["nir->rgb"]
    assert ("D0", "D1") in pairs
    assert ("D0", "D0") not in pairs  # no match is left
    assert ("D0", "D2") not in pairs  # nobody passes both
    q = np.flatnonzero((split.camids == 0) & (np.array(split.modalities) == NIR))
    g = np.flatnonzero((split.camids == 1) & (np.array(split.modalities) == RGB))
    expected = rank(
        features[q] @ features[g].T, split.pids[q], split.pids[g], split.camids[q], split.camids[g], camera_rule="none"
    )
    assert pairs["D0", "D1"].mAP == pytest.approx(expected.mAP)
    assert pairs["D0", "D1"].valid_queries == expected.valid_queries == 10


def test_re_ranking_ranks_by_its_own_similarities() -> None:
    features, split = crowd(noise=0.6)
    settings = Reranking(4, 2, 0.5)
    found = evaluate_directions(features, split, camera_rule="none", reranking=settings)["rgb->nir"]
    q, g = split.rows_of(RGB), split.rows_of(NIR)
    expected = rank(
        rerank(features[q], features[g], settings),
        split.pids[q], split.pids[g], split.camids[q], split.camids[g], camera_rule="none",
    )  # fmt: skip
    assert found == expected
    assert found != evaluate_directions(features, split, camera_rule="none")["rgb->nir"]


def test_curves_are_judged_on_persons_they_were_not_fitted_to() -> None:
    features, split = crowd(persons=60)
    overconfident = Calibration({(RGB, NIR): Curve(40.0, -8.0)})
    found = calibration_error(features, split, overconfident)["rgb-nir"]
    a, b = split.rows_of(RGB), split.rows_of(NIR)
    cosine = (features[a] @ features[b].T).astype(np.float64).ravel()
    same = (split.pids[a][:, None] == split.pids[b][None, :]).ravel()
    claimed = overconfident.probability(cosine, RGB, NIR)
    assert found["weights"].error == pytest.approx(expected_calibration_error(claimed, same))
    assert (found["weights"].pairs, found["weights"].same) == (120 * 120, 60 * 4)
    assert found["refitted"].pairs == 2 * 60 * 60  # pairs across the halves of the persons are nobody's test
    assert found["refitted"].error < 0.01 < found["weights"].error
    assert found["refitted"].log_loss < found["refitted"].log_loss_of_rate
    assert set(calibration_error(features, split, None)["rgb-nir"]) == {"refitted"}


def test_reliability_counts_apart_what_a_user_is_shown() -> None:
    claimed = np.array([0.0] * 98 + [0.8, 0.8])
    same = np.array([False] * 98 + [True, False])
    found = reliability(claimed, same)
    assert found.error == pytest.approx(0.6 / 100)
    assert found.error_of_likely == pytest.approx(0.3)
    assert found.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.2)) / 100)
    assert found.log_loss_of_rate == pytest.approx(-(0.01 * np.log(0.01) + 0.99 * np.log(0.99)))
    assert np.isnan(reliability(np.zeros(3), np.array([True, False, False])).error_of_likely)


def test_protocols_name_what_is_in_circulation_and_the_legacy_one_asks_the_data_set(root: Path) -> None:
    assert PROTOCOLS["vcm"].camera_rule is CameraRule.SAME_ID_SAME_CAM
    assert PROTOCOLS["bupt"].camera_rule is CameraRule.NONE
    with pytest.raises(DatasetError, match="legacy_drop_last"):
        open_under(PROTOCOLS["bupt_legacy"], "folder", root, {})
    assert open_under(PROTOCOLS["bupt_legacy"], "bupt_campus", root, {"min_frames": 2}).options.legacy_drop_last
    assert not open_under(PROTOCOLS["bupt"], "bupt_campus", root, {}).options.legacy_drop_last


def test_protocols_of_buptcampus_repeat_the_frames_of_short_tracklets_as_its_loader_does() -> None:
    for name in ("bupt", "bupt_legacy"):
        assert clip_positions(3, 10, PROTOCOLS[name].clips)[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("protocol", "least"), [("bupt_xreid", 2), ("bupt_m3_reid", 1), ("bupt", 1)])
def test_x_reid_s_protocol_leaves_out_tracklets_of_one_frame_as_its_loader_does(root, protocol, least) -> None:
    assert open_under(PROTOCOLS[protocol], "bupt_campus", root, {}).options.min_frames == least
    assert open_under(PROTOCOLS[protocol], "bupt_campus", root, {"min_frames": 3}).options.min_frames == 3


def test_the_command_prints_and_writes_everything(root, weights, tmp_path, capsys) -> None:
    arguments = [
        "--weights", str(weights), "--root", str(root), "--device", "cpu", "--json", str(tmp_path / "x.json"),
        "--protocol", "vcm_dense", "--frames", "3", "--camera-rule", "none", "--by-camera", "--rerank", "3,2,0.5",
        "--sheet", str(tmp_path / "sheet.png"), "--sheet-queries", "2",
    ]  # fmt: skip
    assert evaluate.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "protocol: camera rule none, clips dense of 3 frames, k-reciprocal re-ranking (k1 3, k2 2, λ 0.5)" in shown
    assert "nir->rgb, Rank-1 / mAP by camera: query down, gallery across" in shown
    assert "ECE" in shown
    assert "on that split this is no test of it" in shown
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["protocol"] == {
        "camera_rule": "none", "clips": "dense", "frames": 3, "legacy_drop_last": False, "min_frames": None,
        "reranking": {"k1": 3, "k2": 2, "original": 0.5},
    }  # fmt: skip
    assert record["directions"]["nir->rgb"]["valid_queries"] == 6
    assert f"{100 * record['directions']['nir->rgb']['rank5']:.1f}" in shown
    assert {each["query"] for each in record["camera_pairs"]["nir->rgb"]} == {"nir/yard"}
    assert set(record["calibration"]["rgb-nir"]) == {"weights", "refitted"}
    assert record["calibration_note"] == evaluate.CALIBRATION_NOTE
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > 12 * 168  # two queries in each of six directions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "market"], "data set must be one of .*, got 'market'"),
        (["--rerank", "20"], "--rerank 20: expected K1,K2,LAMBDA such as 20,6,0.3"),
        (["--rerank", "20,6,3"], "must be in"),
        (["--option", "layout"], "--option layout: must be key=value"),
        (["--protocol", "bupt_legacy"], "legacy_drop_last"),
        (["--split", "test"], "no tracklet of split 'test'"),
        (["--option", "min_frames=["], r"--option min_frames=\[: the value is not YAML"),
        (["--sheet", "sheet.jpg"], "a ranking sheet must be a .png"),
        (["--json", "/nonexistent/x.json"], "--json /nonexistent/x.json: must be a file that can be written"),
        (["--device", "foo"], "--device foo: must be cpu, cuda or cuda:N"),
        (["--device", "cuda:99"], "--device cuda:99: no such GPU; PyTorch sees"),
    ],
)
def test_what_cannot_be_evaluated_ends_the_command_with_2(
    root, weights, capsys, monkeypatch, arguments, message
) -> None:
    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("was refused after the work")

    monkeypatch.setattr(evaluate, "embed_split", too_late)
    assert evaluate.main(["--weights", str(weights), "--root", str(root), "--device", "cpu", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_direction_in_which_nothing_was_measured_ends_the_command_with_1_and_is_null_in_json(
    weights, tmp_path, capsys
) -> None:
    people = [Bupt("1", modality, camera) for modality in ("RGB", "IR") for camera in ("W4", "G25")]
    lists = {"train": ["1 RGB/IR W4 1"], "query": ["1 RGB W4 1", "1 IR W4 1"], "gallery": ["1 RGB G25 1", "1 IR G25 1"]}
    few = write_bupt(tmp_path / "bupt", people, lists)
    path = tmp_path / "x.json"
    arguments = ["--weights", str(weights), "--device", "cpu", "--json", str(path)]
    assert evaluate.main([*arguments, "--dataset", "bupt_campus", "--root", str(few), "--protocol", "bupt_legacy"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nir->rgb, rgb->nir: measured nothing, no query has a match in the gallery")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    figures = json.loads(path.read_text(), parse_constant=refuse)["directions"]["nir->rgb"]
    assert (figures["rank1"], figures["mAP"], figures["valid_queries"]) == (None, None, 0)
    assert np.isnan(evaluate.metrics_of(figures).mAP)
    alone = write_folder(tmp_path / "folder", train=1, val=2, frames=1)
    table = alone / "tracklets.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if ",nir," not in line and ",thermal," not in line))
    assert evaluate.main([*arguments, "--root", str(alone)]) == 1
    assert "measured nothing, val: 2 persons, 4 tracklets (4 rgb): has one modality" in capsys.readouterr().err


def test_a_disk_that_fails_under_the_figures_ends_the_command_with_5(root, weights, capsys) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    arguments = ["--weights", str(weights), "--root", str(root), "--device", "cpu", "--json", "/dev/full"]
    assert evaluate.main(arguments) == 5
    shown = capsys.readouterr()
    assert "No space left on device" in shown.err
    assert "nir->rgb" in shown.out


def test_an_image_that_cannot_be_read_is_named(root: Path, weights: Path, tmp_path: Path, capsys) -> None:
    broken = write_folder(tmp_path / "data", train=1, val=2, frames=2)
    (broken / "val" / "00101" / "nir" / "yard_1" / "001.jpg").write_bytes(b"")
    assert evaluate.main(["--weights", str(weights), "--root", str(broken), "--device", "cpu"]) == 2
    assert "001.jpg: not an image" in capsys.readouterr().err
