"""How likely a track and a box are the same person, given all that else is in the frame.

A small network, learnt from sequences with ground truth by ``benchmarks/association.py``, weighs what was measured of a
pair (its `CUES`) against the pairs that compete with it. In two steps: a linear evidence of each pair,

    e = w . cues + b,    E = exp(e),

and the claims of its rivals, without the pair's own: what else there is for the track, what else there is for the box
(the two sums of a dual softmax, as in Sun et al., "LoFTR", 2021), and the same where each rival counts only as far as
it has nothing else. One hidden layer sees the logarithms of these and the cues, and gives the probability. It is
invariant to the order of tracks and boxes, to the place and the size of the scene, and its cost is linear in the pairs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

CUES = (
    "log overlap",
    "log likeness of heights",
    "log surprise",
    "x",
    "y",
    "width",
    "height",
    "bottom",
    "top",
    "confidence",
    "missed seconds",
    "lost",
    "tentative",
    "uncertainty",
    "step seconds",
    "lift",
)
"""Of a pair. The six from x on say how far the box is from where it was expected, in heights of the track."""
CLAIMS = 5  # the pair's own evidence, its rivals' for the box and for the track, and these as far as they need them
_WEIGHTS = Path(__file__).with_name("probability.json")
LONGEST_STEP = 0.2  # seconds; from no longer ones anything was learnt
LEAST = 1e-3  # added to a claim, so that it has a logarithm, and no rounding below 0 matters
_SOFTEN = np.array([[0.02], [0.02], [8.0]], np.float32)  # of what the first three cues are logarithms
_LIMITS = np.full((len(CUES) + 1, 1), 5.0, np.float32)
_LIMITS[CUES.index("missed seconds")], _LIMITS[CUES.index("step seconds")] = 2.0, LONGEST_STEP
CLIP = 10.0  # of an evidence


class Candidates(NamedTuple):
    """The pairs of one frame that could be made.

    Attributes:
        table: Rows for the claims, then the `CUES`, then a row of ones, a column a pair, (5 + 16 + 1, k); the claims
            are filled in by who weighs them.
        track: Which track, (k,).
        box: Which box, (k,).
        tracks: How many there are.
        boxes: How many there are.
        resemblance: What embeddings leave of the evidence, (k,) in (0, 1]; None where none are known.
    """

    table: NDArray[np.float32]
    track: Rows
    box: Rows
    tracks: int
    boxes: int
    resemblance: Array | None = None


class Probability(Protocol):
    """Says how likely each pair is one person."""

    def __call__(self, candidates: Candidates) -> Array:
        """Of each pair, (k,) in [0, 1]."""
        ...


class Measured(NamedTuple):
    """What is known of the pairs, (k,) each; see `CUES`.

    Attributes:
        overlap: Intersection over union.
        tall: The same of the vertical extents, or how well statures on the floor agree.
        surprise: Squared distance in the stream's variances.
        apart: Where the track was expected, less where the box is: cx, cy, w, h in pixels, (4, k).
        confidence: Of the box, on the common scale.
        of_track: Of the track: its height at its last box in pixels; and the cues from "missed seconds" to
            "uncertainty": seconds since that box, whether it was lost, whether it is tentative, and the standard
            deviation of the innovation in heights, (5, k).
    """

    overlap: Array
    tall: Array
    surprise: Array
    apart: Array
    confidence: Array
    of_track: Array


def table_of(measured: Measured, *, step_seconds: float, lift: float) -> NDArray[np.float32]:
    """The cues in their places in `Candidates.table`.

    Args:
        measured: Of the pairs.
        step_seconds: Since the last frame.
        lift: What the stream's confidences are multiplied by, 1 where the detector is strong.
    """
    table = np.empty((CLAIMS + len(CUES) + 1, len(measured.overlap)), np.float32)
    cues = table[CLAIMS:]
    cues[0], cues[1], cues[2] = measured.overlap, measured.tall, measured.surprise
    cues[:3] += _SOFTEN
    np.log(cues[:3], out=cues[:3])
    np.divide(measured.apart, measured.of_track[0], out=cues[3:7])
    half = cues[6] / 2
    np.add(cues[4], half, out=cues[7])
    np.subtract(cues[4], half, out=cues[8])
    np.abs(cues[3:9], out=cues[3:9])
    cues[9] = measured.confidence
    cues[10:14] = measured.of_track[1:]
    cues[14], cues[15], cues[16] = step_seconds, lift, 1.0
    np.minimum(cues, _LIMITS, out=cues)
    return table


@dataclass(frozen=True, slots=True)
class LearntProbability:
    """The network; see above. Single precision is enough for what was learnt in it, and takes half the time.

    Attributes:
        evidence: Of the cues and of 1, (16 + 1,).
        hidden: Of the claims, the cues and of 1, (units, 5 + 16 + 1).
        output: Of the hidden units and of 1, (units + 1,).
    """

    evidence: NDArray[np.float32]
    hidden: NDArray[np.float32]
    output: NDArray[np.float32]

    def __post_init__(self) -> None:
        units, rows = len(self.output) - 1, CLAIMS + len(CUES) + 1
        for name, shape in {"evidence": (len(CUES) + 1,), "hidden": (units, rows), "output": (units + 1,)}.items():
            value = getattr(self, name)
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite and {shape}, got {value.shape}")

    @classmethod
    def of(cls, weights: Mapping[str, Any]) -> "LearntProbability":
        """From what `as_json` gave.

        Raises:
            ValueError: When they are of other cues or of wrong shapes.
        """
        if tuple(weights["cues"]) != CUES:
            raise ValueError(f"weights must be of the cues {CUES}, got {tuple(weights['cues'])}")
        return cls(*(np.array(weights[name], np.float32) for name in ("evidence", "hidden", "output")))

    def as_json(self) -> dict[str, Any]:
        """The weights, as `of` takes them."""
        return {"cues": list(CUES)} | {name: getattr(self, name).tolist() for name in self.__slots__}

    def __call__(self, candidates: Candidates) -> Array:
        """Of each pair, (k,) in [0, 1]."""
        table = candidates.table
        if not len(candidates.track):
            return np.empty(0)
        evidence = self.evidence @ table[CLAIMS:]
        np.minimum(np.maximum(evidence, -CLIP, out=evidence), CLIP, out=evidence)
        self._claim(candidates, evidence)
        hidden = self.hidden @ table
        np.maximum(hidden, 0.0, out=hidden)
        odds = np.exp(self.output[:-1] @ hidden + self.output[-1]).astype(np.float64)
        probability: Array = odds / (1 + odds)
        return probability

    @staticmethod
    def _claim(candidates: Candidates, evidence: NDArray[np.float32]) -> None:
        """Fill in the logarithms of what the pair and its rivals claim; all sums of one kind are made at once."""
        table, boxes = candidates.table, candidates.boxes
        own = np.exp(evidence).astype(np.float64)  # sums less one of their terms would lose it in single precision
        if candidates.resemblance is not None:
            own *= candidates.resemblance
        at = np.empty((2, len(own)), np.int64)
        at[0] = candidates.box
        np.add(candidates.track, boxes, out=at[1])
        claims, places = table[:CLAIMS], boxes + candidates.tracks
        rivals = np.empty((2, len(own)))
        rivals[:] = own
        others = _others(rivals, at, places)
        np.divide(own, 1 + others, out=rivals[::-1])  # of the box's others the claims as tracks, and of the track's
        claims[0], claims[1:3], claims[3:5] = own, others, _others(rivals, at, places)
        claims += LEAST
        np.log(claims, out=claims)


def _others(values: Array, at: Rows, places: int) -> Array:
    """At each pair the sum of the values (r, k) at its places (r, k), without its own."""
    others = np.bincount(at.ravel(), values.ravel(), places).take(at)
    return np.subtract(others, values, out=others, dtype=np.float64)


@cache
def learnt() -> LearntProbability:
    """The weights of this package."""
    return LearntProbability.of(json.loads(_WEIGHTS.read_text()))
