"""Who is who over two hours of a simulated site: multi-camera IDF1 beside three baselines on the same tracklets.

    python benchmarks/identity.py [--json FILE] [--tune] [--others 9314] [--cameras gate plaza]

Renders the site of configs/simulation/rounds.yaml (8 cameras that record on motion, 60 people, one hour of day and one
of night), runs the pipeline over what each camera recorded (motion detector, tracker, X-ReID), puts all tracklets in
order of their ends through the identifier, and scores who was called who in all cameras together. The people are
synthetic; neither the weights nor the calibration saw them. All settings, those of the baselines each by itself, were
chosen with ``--tune`` on another site (other seed, other people, half as long), never on this one.

IDF1 is that of Ristani et al. 2016 over the boxes of all cameras; within a frame, boxes are matched with the truth one
to one by overlap (IoU of 0.5 and more) before any name counts: all methods are scored on the same matches.

Every camera is drawn and run once and kept below runs/: a benchmark that was cut short goes on where it was.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.config import Config, IdentityConfig
from pipeline.evidence import Evidence, Seen
from pipeline.frame import TimeSource
from pipeline.identify import Identifier, IdentifyRules, KnownTracklet
from pipeline.run import RunOptions, run
from pipeline.store import Store, TrackletBoxes
from pipeline.tracklets import Tracklet
from pipeline.ways import Way, Ways
from reid.calibration import Calibration
from simulation.config import RoundsConfig, load
from simulation.rounds import layout, recording_of, render_rounds
from simulation.site import MARKER
from trackers.boxes import iou_matrix, xywh_to_xyxy
from trackers.mot import MotRows, read_ground_truth

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "configs" / "simulation" / "rounds.yaml"
TUNING = {"seed": 4401, "people": 30, "seconds": 3600.0, "dusk_seconds": 1800.0}
NEAREST = 0.65  # cosine, of the baseline; the best on the tuning site
UNCONSTRAINED = 0.05  # threshold of ours without constraints; the best on the tuning site
MIN_IOU = 0.5
Labels = NDArray[np.int64]
Linker = Callable[["Material"], Labels]


@dataclass(frozen=True, eq=False)
class Material:
    """What all linkers get, in order of the tracklets' ends, and what they are scored by.

    Attributes:
        known: The tracklets.
        vectors: (n, d).
        calibration: Of the weights.
        ways: Of the site.
        matched: (people, n) boxes of each tracklet on each true person.
        boxes: (n,) boxes of each tracklet that no ignored person absorbs.
        truth: True boxes.
    """

    known: Sequence[KnownTracklet]
    vectors: NDArray[np.float32]
    calibration: Calibration
    ways: Ways
    matched: NDArray[np.int64]
    boxes: NDArray[np.int64]
    truth: int


def config_of(config: RoundsConfig, site: Path, camera: str) -> Config:
    """The pipeline's config for one camera of a rendered site."""
    own = config.cameras[camera]
    source = {"source": str(site / recording_of(camera, own.modality)), "modality": own.modality, "start": own.start}
    return Config.model_validate(
        {
            "version": 1,
            "site": {"name": config.name},
            "cameras": {camera: source},
            "reid": {"weights": "xreid-tiny"},
            "output": {"root": runs_of(site) / camera, "video": False, "contact_sheet": False},
        }
    )


def runs_of(site: Path) -> Path:
    """Where the pipeline's results of a site go."""
    return site.with_name(f"{site.name}-run")


def prepare(config: RoundsConfig, site: Path, cameras: Sequence[str]) -> Material:
    """Run what was not run yet, and gather everything."""
    known, vectors, matched, boxes, truth = [], [], [], [], 0
    for camera in cameras:
        root = runs_of(site) / camera
        if not (root / "report.json").is_file():
            run(config_of(config, site, camera), RunOptions(existing="overwrite"))
        rows = read_ground_truth(site / "ground_truth" / f"{camera}.txt")
        with Store.read(root) as store:
            calibration = store.calibration
            own = list(store.known())
            known += own
            vectors += [each.embedding for each in own]
            of_all = {each.tracklet_id: each for each in store.boxes(camera) if each.person_id is not None}
        counts, counted, present = compare([of_all[each.tracklet_id] for each in own], rows, config.people)
        matched.append(counts)
        boxes.append(counted)
        truth += present
    order = np.argsort([each.end.timestamp() for each in known], kind="stable")
    ways = layout(config, dict.fromkeys(config.cameras, 0))["ways"]
    return Material(
        known=[known[i] for i in order],
        vectors=np.stack(vectors)[order],
        calibration=calibration,
        ways=Ways(Way(tuple(way["between"]), way["min_seconds"], way["typical_seconds"]) for way in ways),
        matched=np.concatenate(matched, axis=1)[:, order],
        boxes=np.concatenate(boxes)[order],
        truth=truth,
    )


def compare(tracklets: Sequence[TrackletBoxes], truth: MotRows, people: int) -> tuple[Labels, Labels, int]:
    """Boxes of each tracklet on each person, boxes of each tracklet that count, and true boxes, in one camera."""
    matched, counted = np.zeros((people + 1, len(tracklets)), np.int64), np.zeros(len(tracklets), np.int64)
    by_frame: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
    for number, tracklet in enumerate(tracklets):
        for frame, xyxy in zip(tracklet.frame_index.tolist(), tracklet.xyxy, strict=True):
            by_frame.setdefault(frame + 1, []).append((number, xyxy))
    true_xyxy = xywh_to_xyxy(truth.xywh)
    for frame, found in by_frame.items():
        here = truth.of_frame(frame)
        overlap = iou_matrix(np.stack([xyxy for _, xyxy in found]), true_xyxy[here])
        rows, columns = linear_sum_assignment(np.where(overlap < MIN_IOU, 0, overlap), maximize=True)
        partner = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= MIN_IOU}
        for row, (number, _) in enumerate(found):
            ignored = row in partner and truth.confidence[here][partner[row]] == 0
            counted[number] += not ignored
            if row in partner and not ignored:
                matched[int(truth.identity[here][partner[row]]), number] += 1
    return matched, counted, int((truth.confidence != 0).sum())


def idf1(material: Material, labels: Labels) -> dict[str, float]:
    """Of the names that a linker gave."""
    names, where = np.unique(labels, return_inverse=True)
    together = np.zeros((len(material.matched), len(names)), np.int64)
    np.add.at(together.T, where, material.matched.T)
    true_positives = int(together[linear_sum_assignment(together, maximize=True)].sum())
    predicted = int(material.boxes.sum())
    return {
        "idf1": 2 * true_positives / (predicted + material.truth),
        "idp": true_positives / predicted,
        "idr": true_positives / material.truth,
        "persons": len(names),
    }


def best_possible(material: Material) -> Labels:
    """Every tracklet under the name of the person that it mostly shows: what no linker can exceed by much."""
    unknown = material.matched.max(axis=0) == 0
    return np.where(unknown, 10_000 + np.arange(len(unknown)), material.matched.argmax(axis=0))


# Linkers -------------------------------------------------------------------------------------------------------------


def no_linking(material: Material) -> Labels:
    """Every tracklet is somebody else."""
    return np.arange(len(material.known))


def nearest_neighbour(threshold: float) -> Linker:
    """Each joins the nearest earlier tracklet of any camera and modality whose cosine reaches one threshold."""

    def link(material: Material) -> Labels:
        cosines = material.vectors @ material.vectors.T
        labels = np.arange(len(material.known))
        for i in range(1, len(labels)):
            nearest = int(cosines[i, :i].argmax())
            if cosines[i, nearest] >= threshold:
                labels[i] = labels[nearest]
        return labels

    return link


class Unconstrained(Evidence):
    """Likeness alone: nobody need be in one place only."""

    def circumstances(self, a: Seen, b: Seen) -> NDArray[np.float64]:
        """Nothing is said by place and time."""
        return np.zeros((len(a), len(b)))


def ours(rules: IdentifyRules, travel_share: float, *, constrained: bool = True) -> Linker:
    """The product's identifier, batch by batch, with its looks back."""

    def link(material: Material) -> Labels:
        kind = Evidence if constrained else Unconstrained
        evidence = kind(material.calibration, material.ways, travel_share=travel_share)
        who = Identifier(evidence, dimension=material.vectors.shape[1], rules=rules)
        person: dict[str, int] = {}
        size = 8 if constrained else 1  # who is seen together is assigned together
        for begin in range(0, len(material.known), size):
            part = [_tracklet(each) for each in material.known[begin : begin + size]]
            for sighting in who.identify(part, material.vectors[begin : begin + size]):
                person[sighting.tracklet.tracklet_id] = sighting.person_id
            person |= {each.tracklet_id: each.person_id for each in who.look_back()}
        person |= {each.tracklet_id: each.person_id for each in who.look_back(at_once=True)}
        return np.array([person[each.tracklet_id] for each in material.known])

    return link


def _tracklet(known: KnownTracklet) -> Tracklet:
    """As the identifier takes it: it looks at neither boxes nor views."""
    return Tracklet(
        known.tracklet_id, known.camera_id, known.modality, 1, known.start, known.end, TimeSource.CONFIGURED_START,
        np.empty(0, np.int64), np.empty((0, 4), np.float32), np.empty(0, np.float32), (1, 1), (),
    )  # fmt: skip


def rules_of(config: IdentityConfig) -> IdentifyRules:
    """Those of a config."""
    return IdentifyRules(**config.model_dump(exclude={"travel_share"}))


def tune(material: Material) -> None:
    """Print what settings give on the tuning site."""
    print("possible", idf1(material, best_possible(material)), "none", idf1(material, no_linking(material)))
    for threshold in np.arange(0.3, 0.96, 0.05):
        print(f"nearest {threshold:.2f}", idf1(material, nearest_neighbour(float(threshold))(material)))
    for threshold, share in product((0.05, 0.1, 0.15, 0.2), (0.0, 0.2, 0.4)):
        rules = IdentifyRules(threshold=threshold)
        print(f"threshold {threshold} travel {share}:", idf1(material, ours(rules, share)(material)))
    for threshold in (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        rules = IdentifyRules(threshold=threshold)
        print(f"threshold {threshold} without:", idf1(material, ours(rules, 0.0, constrained=False)(material)))


def report(material: Material) -> dict[str, Any]:
    """Figures of ours, with the product's defaults, and of the baselines."""
    defaults = IdentityConfig()
    rules, share = rules_of(defaults), defaults.travel_share
    linkers: dict[str, Linker] = {
        "no_linking": no_linking,
        "nearest_neighbour": nearest_neighbour(NEAREST),
        "ours_without_constraints": ours(replace(rules, threshold=UNCONSTRAINED), share, constrained=False),
        "ours_without_looking_back": ours(replace(rules, revise_seconds=0.0), share),
        "ours": ours(rules, share),
        "every_tracklet_named_rightly": best_possible,
    }
    found = {name: idf1(material, linker(material)) for name, linker in linkers.items()}
    return {name: {key: round(value, 4) for key, value in each.items()} for name, each in found.items()}


def material_of(config: RoundsConfig, options: argparse.Namespace) -> Material | None:
    """Of one site, rendered and run as far as it is not; None while cameras are missing."""
    site, cameras = ROOT / "runs" / f"rounds-{config.seed}", list(config.cameras)
    render_rounds(
        config,
        site,
        workers=options.workers,
        tell=lambda text: print(text, file=sys.stderr),
        cameras=options.cameras,
    )
    return prepare(config, site, cameras) if (site / MARKER).is_file() else None


def main() -> int:
    """Prepare, link, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true", help="try settings on the tuning site, and end")
    parser.add_argument("--others", type=int, nargs="*", default=[], help="seeds of sites that are reported too")
    parser.add_argument("--cameras", nargs="+", help="draw only these now; the rest when called again")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "identity.json")
    options = parser.parse_args()
    config = load(SITE, RoundsConfig).model_copy(update=TUNING if options.tune else {})
    material = material_of(config, options)
    if material is None:
        return 0
    if options.tune:
        tune(material)
        return 0
    others = []
    for seed in options.others:
        another = material_of(config.model_copy(update={"seed": seed}), options)
        if another is not None:
            others.append({"seed": seed, "tracklets": len(another.known), "idf1": report(another)})
    result = {
        "benchmark": "identity",
        "synthetic": True,
        "site": {
            "seed": config.seed,
            "people": config.people,
            "seconds": config.seconds,
            "cameras": list(config.cameras),
        },
        "tracklets": len(material.known),
        "true_boxes": material.truth,
        "settings": {
            **IdentityConfig().model_dump(),
            "nearest_neighbour_cosine": NEAREST,
            "threshold_without_constraints": UNCONSTRAINED,
            "chosen_on_seed": TUNING["seed"],
        },
        "idf1": report(material),
        "others": others,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["idf1"], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
