"""CLEAR and identity metrics equal TrackEval's, number by number."""

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trackers.bytetrack import ByteTrack
from trackers.metrics import clear, identity
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
            peers = {"clear": trackeval.metrics.CLEAR(quiet), "identity": trackeval.metrics.Identity(quiet)}
            # Combining a single sequence fills in the rates that TrackEval leaves out where a side is empty.
            return {key: peer.combine_sequences({name: peer.eval_sequence(sequence)}) for key, peer in peers.items()}

    return score


def assert_equal(ours_clear: clear.Clear, ours_identity: identity.Identity, peer: dict[str, dict[str, Any]]) -> None:
    pairs = {
        "CLR_TP": ours_clear.true_positives,
        "CLR_FP": ours_clear.false_positives,
        "CLR_FN": ours_clear.false_negatives,
        "IDSW": ours_clear.id_switches,
        "CLR_Pr": ours_clear.precision,
        "CLR_Re": ours_clear.recall,
        "MOTA": ours_clear.mota,
    }
    for key, value in pairs.items():
        assert value == pytest.approx(float(peer["clear"][key]), rel=0, abs=1e-9), key
    pairs = {
        "IDTP": ours_identity.true_positives,
        "IDFP": ours_identity.false_positives,
        "IDFN": ours_identity.false_negatives,
        "IDP": ours_identity.precision,
        "IDR": ours_identity.recall,
        "IDF1": ours_identity.f1,
    }
    for key, value in pairs.items():
        assert value == pytest.approx(float(peer["identity"][key]), rel=0, abs=1e-9), key


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
    assert_equal(clear.evaluate(sequence), identity.evaluate(sequence), peer)
    assert clear.evaluate(sequence).recall > 0.4  # so that the comparison is of something


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
        assert_equal(clear.evaluate(sequence), identity.evaluate(sequence), peer)
