"""Learns when a track and a box are one person: ``python benchmarks/association.py``, 5 minutes on two cores.

Writes trackers/probability.json, the weights of `trackers.probability`, and benchmarks/results/association.json
(``--keep``: only the latter, of the weights that are there). Those that are shipped were learnt before
`high_confidence` fell with the lift, and were left then (docs/experiments.md): learning anew gives others, whose
figures differ by the noise of a training.

From the sequences of ../shared/data/mot (or SURVEILLANCE_DATA/mot) with their ground truth: the default tracker runs
over them, as they are, thinned out, and degraded as a weak detector degrades them; each pair of a track and a box that
overlap is a lesson, right if the box shows whom the track's last 15 boxes mostly showed. As what the tracker meets
depends on what it decided, it learns in three rounds, each from what the one before met (Ross et al., "A reduction of
imitation learning to no-regret online learning", 2011); before the first, overlap, height, surprise and confidence are
multiplied.

The weights are of all sequences, and every sequence at hand is one of them. So what is claimed is cross-fitted: the
scenes are split into four groups, weights are learnt, in all three rounds, from three of them, and track the fourth;
benchmarks/results/association_weights.json keeps them.
`_fps10` and `_weak` belong to the scene that they were made from.
"""

import argparse
import json
import os
import sys
import zlib
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial, reduce
from itertools import islice
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, this folder comes first, and then `trackers` would be benchmarks/trackers.py.
sys.path[:] = [str(ROOT), *(each for each in sys.path if Path(each or ".").resolve() != ROOT / "benchmarks")]

from benchmarks.machine import describe  # noqa: E402
from trackers.boxes import iou_matrix, xywh_to_xyxy  # noqa: E402
from trackers.cautious import DEFAULT_SETTINGS, CautiousTracker  # noqa: E402
from trackers.evaluate import TrueSequence, load_truth  # noqa: E402
from trackers.metrics.scores import Scores  # noqa: E402
from trackers.metrics.sequence import PEDESTRIAN  # noqa: E402
from trackers.mot import rows_of  # noqa: E402
from trackers.probability import CLAIMS, CLIP, CUES, LEAST, Candidates, LearntProbability, Probability  # noqa: E402
from trackers.run import DetectedSequence, load, track  # noqa: E402
from trackers.structures import Detections  # noqa: E402

GROUPS, ROUNDS, EPOCHS, UNITS, SEED = 4, 3, 12, 24, 0
PATIENCE = 2.0  # seconds that a lost track waits while lessons are taken
CLAIM_SCALE = 1 / 3  # of the logarithms of claims
MEMORY = 15  # boxes that say whom a track shows
COLUMNS = ("HOTA", "DetA", "AssA", "IDF1", "Pur", "MixTrk", "Trk/Id", "IDSW")
OF_TRACKLETS = ("Pur", "MixTrk", "Trk/Id")
NOBODY = -1
OF_GROUPS = ROOT / "benchmarks" / "results" / "association_weights.json"
Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class Seen(NamedTuple):
    """A sequence as a tracker meets it.

    Attributes:
        frames: What was detected.
        people: Whom each box shows, `NOBODY` where nobody.
        seconds: When.
    """

    frames: tuple[Detections, ...]
    people: tuple[Rows, ...]
    seconds: tuple[float, ...]


class Lesson(NamedTuple):
    """The pairs of a frame, (k,) each, and whether they are one person; 0 where the track shows nobody known."""

    cues: torch.Tensor  # (k, 16)
    track: torch.Tensor
    box: torch.Tensor
    right: torch.Tensor
    known: torch.Tensor


class Handmade:
    """What is multiplied before anything was learnt."""

    def __call__(self, candidates: Candidates) -> Array:
        """Of each pair, (k,) in [0, 1]."""
        cues = candidates.table[CLAIMS:]
        overlap, tall, surprise = np.exp(cues[0]) - 0.02, np.exp(cues[1]) - 0.02, np.exp(cues[2]) / 8
        likely: Array = np.clip(overlap * np.sqrt(np.clip(tall, 0, 1) / surprise) * cues[9], 0, 1)
        return likely


class Teacher(CautiousTracker):
    """The default, that notes what it compares, and whom its tracks really show."""

    def __init__(self, probability: Probability) -> None:
        self._people: list[deque[int]] = []
        self.lessons: list[Lesson] = []
        self.truth: Rows = np.empty(0, np.int64)  # of the frame to come
        super().__init__(replace(DEFAULT_SETTINGS, lost_seconds=PATIENCE), probability=probability)

    def _weigh(self, frame: Any) -> Any:
        weighed = super()._weigh(frame)
        track, box = weighed.pairs.track, weighed.pairs.box
        if len(track):
            shown = [Counter(each for each in last if each != NOBODY).most_common(1) for last in self._people]
            person = np.array([each[0][0] if each else NOBODY for each in shown])[track]
            right = person == self.truth[frame.rows[box]]
            arrays = (self._cues.T.astype(np.float32), track, box, right, person != NOBODY)
            self.lessons.append(Lesson(*(torch.from_numpy(np.ascontiguousarray(each)) for each in arrays)))
        return weighed

    @property
    def _cues(self) -> Array:
        return self._probability.cues  # type: ignore[attr-defined]

    def _continue(self, made: Any, weighed: Any, frame: Any) -> NDArray[np.float32]:
        for row, box in zip(made.track, made.box, strict=True):
            self._people[row].append(int(self.truth[frame.rows[box]]))
        return super()._continue(made, weighed, frame)

    def _start(self, born: Rows, frame: Any, *, confirmed: bool) -> None:
        super()._start(born, frame, confirmed=confirmed)
        self._people += [deque([int(self.truth[row])], maxlen=MEMORY) for row in frame.rows[born]]

    def _keep(self, tracks: NDArray[np.bool_]) -> None:
        super()._keep(tracks)
        self._people = [each for each, stays in zip(self._people, tracks, strict=True) if stays]


class Noting:
    """A probability that keeps the cues it was asked about."""

    def __init__(self, probability: Probability) -> None:
        self._probability = probability
        self.cues: Array = np.empty((len(CUES), 0))

    def __call__(self, candidates: Candidates) -> Array:
        """Of each pair, (k,) in [0, 1]."""
        self.cues = candidates.table[CLAIMS : CLAIMS + len(CUES)].copy()
        return self._probability(candidates)


class Network(torch.nn.Module):
    """`LearntProbability` as PyTorch learns it; cues are brought to mean 0 and deviation 1."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation
        self.evidence = torch.nn.Linear(len(CUES), 1)
        self.hidden = torch.nn.Linear(CLAIMS + len(CUES), UNITS)
        self.output = torch.nn.Linear(UNITS, 1)

    def forward(self, cues: torch.Tensor, track: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
        """Log odds of each pair, (k,)."""
        usual = (cues - self.mean) / self.deviation
        evidence = self.evidence(usual)[:, 0].clamp(-CLIP, CLIP)
        own = torch.exp(evidence)
        of_track, of_box = _others(own, track), _others(own, box)
        as_track, as_box = own / (1 + of_track), own / (1 + of_box)
        claims = [own, of_box, of_track, _others(as_track, box), _others(as_box, track)]
        logarithms = torch.log(torch.stack(claims, 1).clamp(min=0) + LEAST)
        seen = torch.cat([CLAIM_SCALE * logarithms, usual], 1)
        return self.output(torch.relu(self.hidden(seen)))[:, 0]

    def learnt(self) -> LearntProbability:
        """With the scaling of the cues in the weights."""
        evidence = _unscaled(self.evidence, self.mean, self.deviation)[0]
        hidden = _unscaled(self.hidden, self.mean, self.deviation)
        hidden[:, :CLAIMS] *= CLAIM_SCALE
        output = torch.cat([self.output.weight[0], self.output.bias])
        return LearntProbability(*(each.detach().numpy() for each in (evidence, hidden, output)))


def _others(values: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """At each pair the sum of the values at its place, without its own."""
    return torch.zeros(int(at.max()) + 1).index_add(0, at, values)[at] - values


def _unscaled(layer: torch.nn.Linear, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Weights and bias for cues as they come, which are the last of what the layer sees."""
    weight, cues = layer.weight.detach().clone(), len(mean)
    weight[:, -cues:] /= deviation
    bias = layer.bias.detach() - weight[:, -cues:] @ mean
    return torch.cat([weight, bias[:, None]], 1)


def meet(truth: TrueSequence, detected: DetectedSequence) -> Seen:
    """Who is on each box: whom it overlaps by half and more, of all ways the one of the greatest sum."""
    people = []
    real = (truth.truth.class_id == PEDESTRIAN) & (truth.truth.confidence != 0)
    for number, frame in enumerate(detected.frames, 1):
        here = np.flatnonzero(real & (truth.truth.frame == number))
        shown = np.full(len(frame), NOBODY)
        overlap = iou_matrix(frame.xyxy.astype(np.float64), xywh_to_xyxy(truth.truth.xywh[here]))
        overlap[overlap < 0.5] = 0.0
        box, person = linear_sum_assignment(-overlap)
        matched = overlap[box, person] > 0
        shown[box[matched]] = truth.truth.identity[here[person[matched]]]
        people.append(shown)
    times = tuple(number / detected.info.fps for number in range(len(people)))
    return Seen(detected.frames, tuple(people), times)


def thinned(seen: Seen, every: int, first: int) -> Seen:
    """Every so many frames."""
    return Seen(*(tuple(islice(each, first, None, every)) for each in seen))


def weakened(seen: Seen, strength: float, seed: int) -> Seen:
    """As a weak detector sees it: boxes missing, shaken, less sure and less steadily so, and some of nobody."""
    rng, frames, people = np.random.default_rng(seed), [], []
    sizes = np.concatenate([each.xyxy[:, 2:] - each.xyxy[:, :2] for each in seen.frames])
    places = np.concatenate([each.xyxy[:, :2] for each in seen.frames])
    for frame, shown in zip(seen.frames, seen.people, strict=True):
        size = frame.xyxy[:, 2:] - frame.xyxy[:, :2]
        corner = frame.xyxy[:, :2] + rng.normal(0, 0.04 * strength, size.shape) * size
        size = size * np.maximum(1 + rng.normal(0, 0.04 * strength, size.shape), 0.5)
        confidence = frame.confidence * rng.uniform(1 - 0.6 * strength, 1, len(frame))
        stays = (rng.random(len(frame)) > 0.2 * strength) & (confidence >= 0.05)
        false = rng.poisson(strength)
        corner = np.concatenate([corner[stays], places[rng.integers(0, len(places), false)]])
        size = np.concatenate([size[stays], sizes[rng.integers(0, len(sizes), false)]])
        sure = np.concatenate([confidence[stays], rng.uniform(0.05, 0.55, false)])
        frames.append(
            Detections(np.concatenate([corner, corner + size], 1).astype(np.float32), sure.astype(np.float32))
        )
        people.append(np.concatenate([shown[stays], np.full(false, NOBODY)]))
    return Seen(tuple(frames), tuple(people), seen.seconds)


def curriculum(name: str, seen: Seen) -> list[Seen]:
    """A sequence in the ways that lessons are taken from it; what was made of another is taken as it is."""
    if scene(name) != name:
        return [seen]
    seed = zlib.crc32(name.encode())
    ways = [seen, thinned(seen, 2, 1), thinned(seen, 3, 2)]
    return [*ways, weakened(seen, 1.0, seed), thinned(weakened(seen, 0.5, seed + 1), 2, 0)]


def scene(name: str) -> str:
    """What was filmed, whatever was done to it since."""
    return name.split("_")[0]


def lessons(seen: Seen, probability: Probability) -> list[Lesson]:
    """What the tracker meets."""
    teacher = Teacher(Noting(probability))
    for frame, people, seconds in zip(*seen, strict=True):
        teacher.truth = people
        teacher.update(frame, pts_seconds=seconds)
    return teacher.lessons


def batches(taken: Sequence[Lesson], frames: int = 60) -> list[Lesson]:
    """So many frames as one, the tracks and boxes of each apart."""
    result = []
    for first in range(0, len(taken), frames):
        part, tracks, boxes = taken[first : first + frames], 0, 0
        moved = []
        for each in part:
            moved.append(each._replace(track=each.track + tracks, box=each.box + boxes))
            tracks, boxes = tracks + int(each.track.max()) + 1, boxes + int(each.box.max()) + 1
        result.append(Lesson(*(torch.cat(column) for column in zip(*moved, strict=True))))
    return result


def fit(taken: Sequence[tuple[float, Lesson]], *, epochs: int) -> LearntProbability:
    """Weighted lessons, by cross entropy."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    sample = torch.cat([lesson.cues for _, lesson in taken[::7]])
    network = Network(sample.mean(0), sample.std(0) + 1e-6)
    optimiser = torch.optim.Adam(network.parameters(), 4e-3, weight_decay=1e-5)
    steps = epochs * (len(taken) // 4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=steps + 1)
    for _ in range(epochs):
        order = rng.permutation(len(taken))
        for first in range(0, len(order) - 3, 4):
            wrong, total = torch.zeros(()), 0.0
            for weight, lesson in (taken[at] for at in order[first : first + 4]):
                logit = network(lesson.cues, lesson.track, lesson.box)[lesson.known]
                right = lesson.right[lesson.known].float()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, right, reduction="sum")
                wrong, total = wrong + weight * loss, total + weight * len(right)
            optimiser.zero_grad()
            (wrong / max(total, 1.0)).backward()
            optimiser.step()
            schedule.step()
    return network.learnt()


def learn(data: Path, epochs: int, left_out: frozenset[str]) -> LearntProbability:
    """All rounds, without these scenes."""
    torch.set_num_threads(1)
    truth = [each for each in load_truth(data) if scene(each.name) not in left_out]
    ways = [(each.name, way) for each in truth for way in curriculum(each.name, meet(each, load(data / each.name)))]
    sets = Counter(each.set_name.split("_")[0] for each in truth if scene(each.name) == each.name)
    most = max(sets.values())
    weight = {each.name: most / sets[each.set_name.split("_")[0]] for each in truth}
    probability: Probability = Handmade()
    before: list[tuple[float, Lesson]] = []
    for _ in range(ROUNDS):
        now = [(weight[name], each) for name, way in ways for each in batches(lessons(way, probability))]
        probability, before = fit([*before, *now], epochs=epochs), now
    return probability  # type: ignore[return-value]


def score(data: Path, truth: TrueSequence, probability: Probability) -> tuple[Scores, Scores]:
    """Of the default's tracks and tracklets."""
    tracks, _ = track(load(data / truth.name), CautiousTracker(probability=probability))
    return truth.score(rows_of(tracks)), truth.score(rows_of(tracks, ids="tracklet"))


def table(truth: Sequence[TrueSequence], scores: dict[str, tuple[Scores, Scores]]) -> dict[str, Any]:
    """By set."""
    report: dict[str, Any] = {}
    for name in dict.fromkeys(each.set_name for each in truth):
        whole, pieces = (
            reduce(add, [scores[each.name][kind] for each in truth if each.set_name == name]).row() for kind in (0, 1)
        )
        report[name] = {"tracks": {column: round(whole[column], 2) for column in COLUMNS}}
        report[name]["tracklets"] = {column: round(pieces[column], 2) for column in OF_TRACKLETS}
    return report


def of_other_scenes(name: str, *, path: Path = OF_GROUPS) -> LearntProbability:
    """Weights that saw nothing of the sequence's scene."""
    return next(weights for left_out, weights in _of_groups(path) if scene(name) in left_out)


@cache
def _of_groups(path: Path) -> list[tuple[frozenset[str], LearntProbability]]:
    parts = json.loads(path.read_text())
    return [(frozenset(each["left_out"]), LearntProbability.of(each["weights"])) for each in parts]


def groups(truth: Sequence[TrueSequence]) -> list[frozenset[str]]:
    """Scenes left out together: every fourth of each set."""
    parts: list[set[str]] = [set() for _ in range(GROUPS)]
    for name in dict.fromkeys(each.set_name for each in truth):
        scenes = [each.name for each in truth if each.set_name == name and scene(each.name) == each.name]
        for at, each in enumerate(scenes):
            parts[at % GROUPS].add(each)
    return [frozenset(each) for each in parts]


def write_weights(options: argparse.Namespace, left_out: Sequence[frozenset[str]]) -> None:
    """Learn from all scenes, and without each of the groups."""
    with ProcessPoolExecutor(max_workers=2) as workers:
        found = list(workers.map(partial(learn, options.data, options.epochs), [*left_out, frozenset[str]()]))
    written = [rounded(each.as_json()) for each in found]
    options.weights.write_text(json.dumps(written.pop()) + "\n")
    parts = [{"left_out": sorted(names), "weights": each} for names, each in zip(left_out, written, strict=True)]
    options.groups.write_text(json.dumps(parts) + "\n")


def main() -> None:
    """Learn, measure, and write both files."""
    shared = Path(os.environ.get("SURVEILLANCE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared / "mot", help="folder of sequences with manifest.json")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="fewer to try it")
    parser.add_argument("--weights", type=Path, default=ROOT / "trackers" / "probability.json")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "association.json")
    parser.add_argument("--groups", type=Path, default=OF_GROUPS, help="for the weights of each group")
    parser.add_argument("--keep", action="store_true", help="measure the weights that are there, and learn none")
    options = parser.parse_args()
    truth = load_truth(options.data)
    if not options.keep:
        write_weights(options, groups(truth))
    report: dict[str, Any] = {"machine": describe(), "rounds": ROUNDS, "kept": options.keep}
    report["left_out"] = [part["left_out"] for part in json.loads(options.groups.read_text())]
    others = partial(of_other_scenes, path=options.groups)
    report["cross_fitted"] = table(truth, {each.name: score(options.data, each, others(each.name)) for each in truth})
    everything = LearntProbability.of(json.loads(options.weights.read_text()))
    report["learnt_from_all"] = table(truth, {each.name: score(options.data, each, everything) for each in truth})
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({key: report[key] for key in ("cross_fitted", "learnt_from_all")}, indent=1))


def rounded(weights: Any) -> Any:
    """Five significant digits."""
    if isinstance(weights, dict):
        return {key: rounded(value) for key, value in weights.items()}
    if isinstance(weights, list):
        return [rounded(each) for each in weights]
    return float(f"{weights:.5g}") if isinstance(weights, float) else weights


if __name__ == "__main__":
    main()
