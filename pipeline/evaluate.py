"""A run beside the truth: are people found, followed, and found again in another modality?

A tracklet belongs to the true person whose boxes overlap at least half of its boxes with an IoU of 0.5 or more. A
tracklet without such a person (a merger of two, a shadow) is "unknown": it stays in the gallery, where every answer
that names it is wrong, and is never a query.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contact_sheet import write_matches
from pipeline.errors import UsageError
from pipeline.query import read_config
from pipeline.sinks import write_report
from pipeline.store import Store, StoredTracklet, TrackletBoxes
from pipeline.videos import Drawing, write_videos
from reid.embedding import cosines
from reid.metrics import CameraRule
from reid.metrics import evaluate as evaluate_retrieval
from reid.modality import Modality
from trackers.boxes import iou_matrix, xywh_to_xyxy
from trackers.metrics import clear, identity
from trackers.metrics.sequence import prepare
from trackers.mot import MotFormatError, MotRows, read_detections, read_ground_truth, read_results

logger = logging.getLogger(__name__)

MIN_IOU = 0.5
MIN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class RetrievalScore:
    """Tracklets of one modality as queries, those of another as the gallery.

    Attributes:
        rank1: Share of the queries whose nearest tracklet is of the same person.
        mAP: Mean average precision.
        chance: The rank1 of a random order.
        queries: Known tracklets with at least one match in the gallery.
        gallery: Tracklets, unknown ones included.
        gallery_identities: True people among them.
    """

    rank1: float
    mAP: float  # noqa: N815 - the literature's name
    chance: float
    queries: int
    gallery: int
    gallery_identities: int


@dataclass(frozen=True, slots=True)
class IdentificationScore:
    """The persons that the run gave out, over all pairs of known tracklets.

    Attributes:
        pair_precision: Of the pairs given one person, the share that is one.
        pair_recall: Of the pairs that are one person, the share given one.
        persons: Given out by the run to known tracklets.
        true_persons: Among the known tracklets.
    """

    pair_precision: float
    pair_recall: float
    persons: int
    true_persons: int


def evaluate_run(
    run_root: Path, truth_root: Path, *, on_drawn: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Score a run, add the scores to its ``report.json`` and draw ``matches.png`` anew with right and wrong marked.

    Args:
        run_root: Holds the store, ``mot/`` and ``detections/``; ``report.json`` if the run wrote one.
        truth_root: Holds ``site.json`` (its ``synthetic`` says whether the people are) and
            ``ground_truth/<camera>.txt``, ids site-wide.
        on_drawn: If given, the run's videos are drawn anew with right and wrong marked too, which reads the recordings
            again; told the frames drawn so far, and of how many.

    Returns:
        The whole report.

    Raises:
        UsageError: When a part of the run or of the truth is missing or malformed, they share no camera, or a camera's
            tracklets come from more than one recording.
    """
    site = _read_json(truth_root / "site.json")
    report_path = run_root / "report.json"
    report = _read_json(report_path) if report_path.is_file() else {}
    with Store.read(run_root) as store:
        cameras = _cameras_with_truth(store, report, truth_root)
        truth = _people_of(store, truth_root, cameras)
        tracklets = [each for each in store.tracklets() if each.camera_id in cameras]
        vectors = store.embeddings([each.row for each in tracklets])
        scores = {
            camera: _score_camera(run_root, truth_root, camera, modality=modality)
            | _count([each for each in tracklets if each.camera_id == camera], truth)
            for camera, modality in cameras.items()
        }
        retrieval = {key: asdict(score) for key, score in score_retrieval(tracklets, vectors, truth).items()}
        synthetic = site.get("synthetic")
        report |= {
            "synthetic": synthetic,
            "cameras": _merged(report.get("cameras", {}), scores),
            "retrieval": retrieval,
            "identification": asdict(score_identification(tracklets, truth)),
        }
        note = "The people are synthetic: a simulator drew them, and the figures say nothing about real ones."
        write_matches(run_root / "matches.png", store, store.calibration, truth=truth, note=note if synthetic else "")
        write_report(report_path, report)
        if on_drawn is not None:
            _redraw(run_root, store, report, truth, on_drawn)
    return report


def _redraw(
    run_root: Path, store: Store, report: Mapping[str, Any], truth: Mapping[str, int], on_drawn: Callable[..., None]
) -> None:
    """The videos again, with right and wrong marked; those that cannot be drawn stay as they are."""
    config = read_config(run_root)
    config = config.model_copy(update={"output": config.output.model_copy(update={"root": run_root})})
    frames = {
        camera: int(report["cameras"][camera].get("frames_processed", 0))
        for camera in config.cameras
        if (run_root / "video" / f"{camera}.mp4").is_file() and camera in report["cameras"]
    }
    failed = write_videos(config, store, Drawing(frames=frames, truth=truth, on_progress=on_drawn))
    for camera, reason in failed.items():
        logger.warning("camera %s: its video stays without right and wrong: %s", camera, reason)


def true_people(boxes: Sequence[TrackletBoxes], truth: MotRows) -> dict[str, int | None]:
    """The true person of each tracklet of one camera, None where there is none; see the head of this module."""
    truth_xyxy = xywh_to_xyxy(truth.xywh)
    return {each.tracklet_id: _true_person(each, truth, truth_xyxy) for each in boxes}


def _true_person(boxes: TrackletBoxes, truth: MotRows, truth_xyxy: NDArray[np.float64]) -> int | None:
    votes: Counter[int] = Counter()
    for index, xyxy in zip(boxes.frame_index.tolist(), boxes.xyxy, strict=True):
        here = truth.of_frame(index + 1)
        overlap = iou_matrix(xyxy[None], truth_xyxy[here])[0]
        if len(overlap) and overlap.max() >= MIN_IOU:
            votes[int(truth.identity[here][overlap.argmax()])] += 1
    if not votes:
        return None
    person, count = votes.most_common(1)[0]
    return person if count >= MIN_SHARE * len(boxes.frame_index) else None


def score_retrieval(
    tracklets: Sequence[StoredTracklet], vectors: NDArray[np.float32], truth: Mapping[str, int]
) -> dict[str, RetrievalScore]:
    """Score every ordered pair of distinct modalities, keys like ``rgb->nir``.

    Args:
        tracklets: Accepted ones of all cameras.
        vectors: Theirs, (n, d), unit rows.
        truth: True person by tracklet id; missing means unknown.
    """
    # An unknown tracklet gets a number of its own below 0, so that it matches nothing.
    people = np.array([truth.get(each.tracklet_id, -1 - n) for n, each in enumerate(tracklets)], np.int64)
    names = sorted({each.camera_id for each in tracklets})
    cameras = np.array([names.index(each.camera_id) for each in tracklets], np.int64)
    modalities = np.array([each.modality.value for each in tracklets])
    present = [modality.value for modality in Modality if modality.value in modalities]
    scores = {}
    for source, target in permutations(present, 2):
        queries, gallery = (modalities == source) & (people >= 0), modalities == target
        metrics = evaluate_retrieval(
            cosines(vectors[queries], vectors[gallery]),
            people[queries],
            people[gallery],
            cameras[queries],
            cameras[gallery],
            camera_rule=CameraRule.NONE,
        )
        scores[f"{source}->{target}"] = RetrievalScore(
            rank1=metrics.rank1,
            mAP=metrics.mAP,
            chance=metrics.chance_rank1,
            queries=metrics.valid_queries,
            gallery=int(gallery.sum()),
            gallery_identities=len(np.unique(people[gallery & (people >= 0)])),
        )
    return scores


def score_identification(tracklets: Sequence[StoredTracklet], truth: Mapping[str, int]) -> IdentificationScore:
    """Compare the persons that the run gave with the true ones, pair by pair; NaN where there are no pairs."""
    known = [each for each in tracklets if each.tracklet_id in truth]
    given = Counter(each.person_id for each in known)
    true = Counter(truth[each.tracklet_id] for each in known)
    both = Counter((each.person_id, truth[each.tracklet_id]) for each in known)
    same_given, same_true, agreed = (sum(n * (n - 1) // 2 for n in counts.values()) for counts in (given, true, both))
    return IdentificationScore(
        pair_precision=agreed / same_given if same_given else float("nan"),
        pair_recall=agreed / same_true if same_true else float("nan"),
        persons=len(given),
        true_persons=len(true),
    )


def table(report: Mapping[str, Any]) -> str:
    """The report's scores as text for a terminal; says "synthetic" where they are."""
    kind = {True: " (synthetic people)", False: ""}.get(report["synthetic"], " (origin of the footage unknown)")
    lines = [
        f"Detection and tracking{kind}",
        f"  {'camera':<14}{'modality':<10}{'precision':>10}{'recall':>10}{'IDF1':>10}",
    ]
    for camera, score in report["cameras"].items():
        if "idf1" in score:
            numbers = "".join(_percent(score[key]).rjust(10) for key in ("precision", "recall", "idf1"))
            lines.append(f"  {camera:<14}{score['modality']:<10}{numbers}")
    lines += ["", f"Tracklet retrieval{kind}"]
    lines.append(f"  {'direction':<16}{'Rank-1':>8}{'mAP':>8}{'chance':>8}{'queries':>9}{'gallery':>9}{'people':>8}")
    for direction, score in report["retrieval"].items():
        shares = "".join(_percent(score[key]).rjust(8) for key in ("rank1", "mAP", "chance"))
        counts = f"{score['queries']:>9}{score['gallery']:>9}{score['gallery_identities']:>8}"
        lines.append(f"  {direction:<16}{shares}{counts}")
    found = report["identification"]
    lines += [
        "",
        f"Identification{kind}",
        f"  pairs given one person: {_percent(found['pair_precision'])} right;"
        f" pairs of one person: {_percent(found['pair_recall'])} found",
        f"  persons of tracklets that ground truth names: {found['persons']} given, {found['true_persons']} true",
    ]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None or np.isnan(share) else f"{share:.1%}"


def _score_camera(run_root: Path, truth_root: Path, camera: str, *, modality: Modality) -> dict[str, Any]:
    """Detection precision and recall, and IDF1 of the tracks."""
    truth = _truth(truth_root, camera)
    try:
        detections = read_detections(run_root / "detections" / f"{camera}.txt")
        tracks = read_results(run_root / "mot" / f"{camera}.txt")
    except (OSError, MotFormatError) as error:
        raise UsageError(f"{run_root}: the run's boxes cannot be read: {error}") from error
    frames = max((int(rows.frame[-1]) for rows in (truth, detections, tracks) if len(rows)), default=0)
    # Each detection as a track of its own: CLEAR's precision and recall are then those of the detector.
    one_by_one = MotRows(
        detections.frame,
        np.arange(len(detections), dtype=np.int64),
        detections.xywh,
        detections.confidence,
        detections.class_id,
        detections.visibility,
    )
    detected = clear.evaluate(prepare(truth, one_by_one, frames=frames), threshold=MIN_IOU)
    followed = identity.evaluate(prepare(truth, tracks, frames=frames), threshold=MIN_IOU)
    return {
        "modality": modality.value,
        "precision": detected.precision,
        "recall": detected.recall,
        "idf1": followed.f1,
    }


def _count(tracklets: Sequence[StoredTracklet], truth: Mapping[str, int]) -> dict[str, Any]:
    unknown = sum(each.tracklet_id not in truth for each in tracklets)
    return {"tracklets": len(tracklets), "unknown_tracklets": unknown}


def _merged(before: Mapping[str, Any], scores: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What the run said of each camera, and its scores."""
    return {**before, **{camera: {**before.get(camera, {}), **score} for camera, score in scores.items()}}


def _cameras_with_truth(store: Store, report: Mapping[str, Any], truth_root: Path) -> dict[str, Modality]:
    """Cameras of the gallery, and those of the report that saw nobody: they missed everybody who was there."""
    try:
        cameras = {name: Modality(camera["modality"]) for name, camera in report.get("cameras", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{store.root}/report.json: cameras: not a run's report: {error!r}") from error
    cameras |= store.cameras()
    found = {camera: cameras[camera] for camera in sorted(cameras) if _truth_path(truth_root, camera).is_file()}
    if not found:
        names = ", ".join(sorted(cameras)) or "none, for the gallery is empty"
        raise UsageError(f"{truth_root}: no ground_truth/<camera>.txt for a camera of the run; its cameras: {names}")
    return found


def _people_of(store: Store, truth_root: Path, cameras: Mapping[str, Modality]) -> dict[str, int]:
    """True person by tracklet id, without the unknown ones."""
    found = {}
    for camera in cameras:
        boxes = store.boxes(camera)
        # By start time: numbers that begin anew are those of another recording, and the truth tells of one. A recording
        # that was appended to itself has no such place, and a gallery from before runs were noted has nothing else.
        anew = any(later.frame_index[0] < earlier.frame_index[0] for earlier, later in pairwise(boxes))
        if anew or store.runs_of(camera) > 1:
            raise UsageError(
                f"{store.root}: camera {camera} has tracklets of more than one recording (--append), whose frames are "
                "numbered anew each time; run each recording into a folder of its own to evaluate it"
            )
        people = true_people(boxes, _truth(truth_root, camera))
        found.update({tracklet: person for tracklet, person in people.items() if person is not None})
    return found


def _truth_path(truth_root: Path, camera: str) -> Path:
    return truth_root / "ground_truth" / f"{camera}.txt"


def _truth(truth_root: Path, camera: str) -> MotRows:
    try:
        return read_ground_truth(_truth_path(truth_root, camera))
    except (OSError, MotFormatError) as error:
        raise UsageError(f"the truth cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; --truth is a folder with site.json and ground_truth/") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
