"""HOTA, CLEAR and identity metrics equal TrackEval's, number by number; purity, those of plain loops."""

import contextlib
import io
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from trackers.bytetrack import ByteTrack
from trackers.metrics.scores import Scores, evaluate
from trackers.metrics.sequence import MOT20_DISTRACTORS, prepare
from trackers.mot import (
    MotRows,
    detections_of,
    read_detections,
    read_ground_truth,
    read_results,
    read_sequence_info,
    rows_of,
    write_ground_truth,
    write_results,
)

Peer = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def trackeval_scores(monkeypatch: pytest.MonkeyPatch) -> Peer:
    """TrackEval 1.3.0 on folders of text files; it needs the aliases that NumPy dropped, which live only in here."""
    for name, builtin in (("float", float), ("int", int)):
        monkeypatch.setitem(vars(np), name, builtin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised while TrackEval is imported, not by us
        import trackeval

    def score(data: Path, results: Path, name: str, frames: int, benchmark: str = "MOT17") -> dict[str, Any]:
        config = {
            "GT_FOLDER": str(data),
            "TRACKERS_FOLDER": str(results.parent),
            "TRACKERS_TO_EVAL": [results.name],
            "TRACKER_SUB_FOLDER": "",
            "BENCHMARK": benchmark,
            "SKIP_SPLIT_FOL": True,
            "SEQ_INFO": {name: frames},
            "PRINT_CONFIG": False,
        }
        quiet = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = trackeval.datasets.MotChallenge2DBox(config)
            raw = dataset.get_raw_seq_data(results.name, name)
            sequence = dataset.get_preprocessed_seq_data(raw, "pedestrian")
            peers = {
                "hota": trackeval.metrics.HOTA(),
                "clear": trackeval.metrics.CLEAR(quiet),
                "identity": trackeval.metrics.Identity(quiet),
            }
            # Combining a single sequence fills in the rates that TrackEval leaves out where a side is empty.
            scores = {key: peer.combine_sequences({name: peer.eval_sequence(sequence)}) for key, peer in peers.items()}
            return scores | {"purity": slow_purity(sequence)}

    return score


def slow_purity(sequence: dict[str, Any]) -> dict[str, float]:
    """The definitions of trackers.metrics.purity, box by box, on what TrackEval prepared."""
    count: dict[tuple[int, int], int] = defaultdict(int)
    last: dict[int, int] = {}
    switches = matched = boxes = 0
    for people, tracks, overlap in zip(
        sequence["gt_ids"], sequence["tracker_ids"], sequence["similarity_scores"], strict=True
    ):
        boxes += len(tracks)
        if not (len(people) and len(tracks)):
            continue
        enough = np.where(overlap >= 0.5 - 1e-9, overlap, 0)
        for row, column in zip(*linear_sum_assignment(-enough), strict=True):
            if enough[row, column] > 0:
                person, track = int(people[row]), int(tracks[column])
                matched += 1
                count[track, person] += 1
                switches += last.get(track, person) != person
                last[track] = person
    of_track = {t: [n for (track, _), n in count.items() if track == t] for t, _ in count}
    long = [each for each in of_track.values() if sum(each) >= 10]
    return {
        "Pur": sum(map(max, of_track.values())) / max(1, matched),
        "MixTrk": sum(max(each) / sum(each) < 0.95 for each in long) / max(1, len(long)),
        "IDt": switches,
        "Trk/Id": sum(sum(each) >= 5 for each in of_track.values()) / max(1, len({person for _, person in count})),
        "FPbox": (boxes - matched) / max(1, boxes),
    }


def assert_equal(ours: Scores, peer: dict[str, dict[str, Any]]) -> None:
    families = {
        "clear": {
            "CLR_TP": ours.clear.true_positives,
            "CLR_FP": ours.clear.false_positives,
            "CLR_FN": ours.clear.false_negatives,
            "IDSW": ours.clear.id_switches,
            "Frag": ours.clear.fragmentations,
            "MT": ours.clear.mostly_tracked,
            "PT": ours.clear.partly_tracked,
            "ML": ours.clear.mostly_lost,
            "CLR_Pr": ours.clear.precision,
            "CLR_Re": ours.clear.recall,
            "MOTA": ours.clear.mota,
            "MOTP": ours.clear.motp,
        },
        "identity": {
            "IDTP": ours.identity.true_positives,
            "IDFP": ours.identity.false_positives,
            "IDFN": ours.identity.false_negatives,
            "IDP": ours.identity.precision,
            "IDR": ours.identity.recall,
            "IDF1": ours.identity.f1,
        },
        "hota": {
            "HOTA": ours.hota.hota,
            "DetA": ours.hota.det_a,
            "DetPr": ours.hota.det_pr,
            "DetRe": ours.hota.det_re,
            "AssA": ours.hota.ass_a,
            "AssPr": ours.hota.ass_pr,
            "AssRe": ours.hota.ass_re,
            "LocA": ours.hota.loc_a,
            "HOTA_TP": ours.hota.true_positives,
            "HOTA_FP": ours.hota.false_positives,
            "HOTA_FN": ours.hota.false_negatives,
        },
        "purity": {
            "Pur": ours.purity.purity,
            "MixTrk": ours.purity.mixed_share,
            "IDt": ours.purity.in_tracklet_switches,
            "Trk/Id": ours.purity.tracklets_a_person,
            "FPbox": ours.purity.unmatched_share,
        },
    }
    for family, values in families.items():
        for key, value in values.items():
            np.testing.assert_allclose(value, peer[family][key], rtol=0, atol=1e-9, err_msg=key)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name", ["MOT17-02", "MOT17-05", "MOT17-10_fps10", "MOT17-11_weak", "MOT17-05_weak", "dancetrack0026"]
)
def test_scores_on_real_sequences(shared_data: Path, tmp_path: Path, trackeval_scores: Peer, name: str) -> None:
    folder = shared_data / "mot" / name
    if not folder.is_dir():
        pytest.skip(f"no sequence {folder}")
    info = read_sequence_info(folder / "seqinfo.ini")
    detections = read_detections(folder / "det" / "det.txt")
    tracker = ByteTrack()
    tracks = {
        frame: tracker.update(detections_of(detections, frame), pts_seconds=frame / info.fps)
        for frame in range(1, info.frames + 1)
    }
    file = tmp_path / "ours" / f"{name}.txt"
    file.parent.mkdir()
    write_results(file, rows_of(tracks))
    # The same text goes to both: even the rounding of six decimals is shared.
    sequence = prepare(read_ground_truth(folder / "gt" / "gt.txt"), read_results(file), frames=info.frames)
    peer = trackeval_scores(folder.parent, file.parent, name, info.frames)
    ours = evaluate(sequence)
    assert_equal(ours, peer)
    assert ours.clear.recall > 0.4  # so that the comparison is of something


def random_rows(rng: np.random.Generator, frames: int, people: int, *, truth: bool) -> MotRows:
    """Boxes on a coarse grid: overlaps of exactly 0.5, ties, gaps and swapped ids all occur."""
    rows = []
    for frame in range(1, frames + 1):
        if rng.random() < 0.15:
            continue
        for person in rng.permutation(people)[: rng.integers(0, people + 1)]:
            left = 4 * int(person) + int(rng.integers(-1, 2))
            class_id = int(rng.choice([1, 1, 1, 2, 3, 7, 6])) if truth else 1
            marked = float(rng.random() < 0.8) if truth else 1.0
            ident = int(person) if rng.random() < 0.9 or truth else int(person) + 100
            rows.append((frame, ident, left, 0, int(rng.choice([3, 6])), 6, marked, class_id, 1))
    table = np.array(rows, dtype=np.float64).reshape(-1, 9)
    whole = table.astype(np.int64)
    return MotRows(whole[:, 0], whole[:, 1], table[:, 2:6], table[:, 6], whole[:, 7], table[:, 8])


@pytest.mark.parametrize("benchmark", ["MOT17", "MOT20"])
def test_scores_on_small_hard_cases(tmp_path: Path, trackeval_scores: Peer, benchmark: str) -> None:
    extra = {"distractors": MOT20_DISTRACTORS} if benchmark == "MOT20" else {}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        frames, people = int(rng.integers(1, 12)), int(rng.integers(1, 6))
        truth = random_rows(rng, frames, people, truth=True)
        results = random_rows(rng, frames, people, truth=False)
        (tmp_path / f"s{seed}" / "gt").mkdir(parents=True)
        (tmp_path / "ours").mkdir(exist_ok=True)
        write_ground_truth(tmp_path / f"s{seed}" / "gt" / "gt.txt", truth)
        write_results(tmp_path / "ours" / f"s{seed}.txt", results)
        peer = trackeval_scores(tmp_path, tmp_path / "ours", f"s{seed}", frames, benchmark)
        sequence = prepare(truth, results, frames=frames, ignore_zero_marked=False, **extra)
        assert_equal(evaluate(sequence), peer)
