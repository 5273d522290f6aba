"""Our own default: a tracker that would rather begin a new tracklet than join two people.

Its parts, each measured in ``docs/experiments.md``: confidences on one scale for every camera
(`trackers.calibration`); all tracks moved on in seconds, and by what the camera turned (`trackers.camera_motion`);
a filter that trusts a box as far as the detector does (Du et al., "GIAOTracker", 2021); likeness from overlap, height
(Yang et al., "Hybrid-SORT", 2024) and the surprise at the motion, on a scale that each stream teaches; weak boxes for
tracks seen in the last frame only (Zhang et al., "ByteTrack", 2022); a lost track taken up again only where nothing
else comes near to fitting, the less near the longer it was lost; no birth on top of a living track (Shim et al.,
"TrackTrack", 2025); and two ids, of which `tracklet_id` ends wherever the tracker was in doubt (`trackers.purity`).
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign_pairs
from trackers.boxes import iou_matrix
from trackers.calibration import ScoreCalibration
from trackers.camera_motion import Turns
from trackers.ground import FloorFilter, GroundedFilter, GroundPlane
from trackers.kalman import MotionNoise, WalkFilter
from trackers.pairs import Pairs, corners, greatest, overlapping
from trackers.purity import CutRules, Evidence, risk
from trackers.structures import Detections, Tracks
from trackers.table import CONFIRMED, LOST, TENTATIVE, patience

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Matrix = NDArray[np.float64]

_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time
_NOISE = MotionNoise(measurement=0.08, position=0.15, acceleration=0.7)
_DISTRUST = 3.0  # a box of confidence c counts as measured with (1 + 3 (1 - c)) times the noise
_SURPRISE_HALF = 8.0  # squared distance, of 4 coordinates, at which the likeness has fallen to 1 / sqrt 2
_SURPRISE_QUANTILE, _SURPRISE_LIMIT = 0.93, 9.5  # the stream's scale is such that 93 % of the distances are below 9.5
_SCALE_RANGE, _SCALE_RATE, _SCALE_STEP = (0.5, 3.0), 0.04, 0.6
_MEMORY_OF_SCORES = 20.0  # seconds
_WEAK = 1.2  # a stream whose confidences are lifted by more is that of a weak detector
_APPEARANCE_MEMORY = 0.9  # share of a track's embedding that stays when a box is added

_STATURE_POWER = 8  # of the ratio of statures, under the root
_GROUND_MARGIN = 0.5  # share of the margin of revival where statures tell people apart

_SETTLED = 0.3  # likeness times confidence from which on a living track has found its box
_SETTLED_RIVALRY = 0.75  # how much such a track, or such a box, counts as the rival of others
_SHARES = ("_confidence", "likeness", "_margin", "_overlap", "_weight")  # endings of settings in [0, 1]
_STATE, _TRACK, _TRACKLET, _HITS, _OVERLAPPED = range(5)  # rows of integers, a column a track
_JUST_SEEN = -1  # a state within a frame
_ORDER = np.array([1.0, 2.0, 3.0, 5.0]) ** 0.5
_NOBODY, _NO_RISK = np.empty(0, np.int64), np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class CautiousSettings:
    """What may be asked of the tracker; the defaults are for every camera. Numbers are in [0, 1] but for the seconds.

    Confidences are on the common scale: as a good detector by day would give them.

    Attributes:
        low_confidence: Boxes below are not looked at.
        high_confidence: Boxes below can only continue a track that was seen in the last frame.
        new_confidence: A box that no track claims starts one from here on.
        reference_confidence: A stream whose own scale is below (see `ScoreCalibration`) has its confidences lifted.
        calibration_strength: How much, at least 0; 0 takes confidences as they come.
        likeness: Overlap times confidence, less for other heights and surprising places, that a match must exceed.
        new_likeness: The same, for tracks seen once.
        weak_likeness: The same without the confidence, for boxes below `high_confidence`.
        revival_likeness: Like `likeness`, for lost tracks.
        revival_margin: How far the best other track or box must fall short when a track was lost for a second; in
            proportion for shorter and longer.
        lost_seconds: How long an unseen track waits to be found again; at least until the next frame, in a stream whose
            frames always come so seldom.
        new_overlap: A box that overlaps the box of a living track, or of one that starts with it and is surer, by this
            much starts none; 1 allows all.
        appearance_weight: How much of the likeness goes with the embeddings, where given: 1 leaves none of it for
            opposite ones.
        static_camera: The camera never turns; nothing is compensated.
        ground: The floor, of a camera that never turns: people are compared by where they stand and how tall they are.
        estimate_ground: The same with a floor that is learnt from the boxes.
    """

    low_confidence: float = 0.1
    high_confidence: float = 0.6
    new_confidence: float = 0.65
    reference_confidence: float = 0.8
    calibration_strength: float = 3.0
    likeness: float = 0.1
    new_likeness: float = 0.2
    weak_likeness: float = 0.5
    revival_likeness: float = 0.15
    revival_margin: float = 0.2
    lost_seconds: float = 1.0
    new_overlap: float = 0.5
    appearance_weight: float = 0.5
    static_camera: bool = False
    ground: GroundPlane | None = None
    estimate_ground: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(_SHARES) and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must be in [0, 1], got {value}")
        if not self.low_confidence <= self.high_confidence <= self.new_confidence:
            raise ValueError(
                "low_confidence <= high_confidence <= new_confidence must hold, got "
                f"{self.low_confidence}, {self.high_confidence}, {self.new_confidence}"
            )
        if self.reference_confidence == 0:
            raise ValueError("reference_confidence must be above 0")
        if not (math.isfinite(self.lost_seconds) and self.lost_seconds > 0):
            raise ValueError(f"lost_seconds must be a positive number, got {self.lost_seconds}")
        if not (math.isfinite(self.calibration_strength) and self.calibration_strength >= 0):
            raise ValueError(f"calibration_strength must be a number not below 0, got {self.calibration_strength}")
        if self.ground is not None and self.estimate_ground:
            raise ValueError("estimate_ground must be false where ground is given")


DEFAULT_SETTINGS = CautiousSettings()
DEFAULT_RULES = CutRules()


class _Frame(NamedTuple):
    """The boxes of a frame that are looked at, the most confident first."""

    rows: Rows  # into the detections as they came
    boxes: Matrix  # (9, m), see `trackers.pairs.corners`
    raw: NDArray[np.float32]  # confidence as it came
    confidence: Matrix  # on the common scale
    high: int  # so many reach `high_confidence`
    embeddings: Matrix | None

    @property
    def cxcywh(self) -> Matrix:
        """(m, 4), a view."""
        return self.boxes[4:8].T


class _Likeness(NamedTuple):
    """Of the pairs of a track and a box that overlap, (k,) each."""

    pairs: Pairs
    surprise: Matrix  # squared distance in the stream's variances
    like: Matrix
    fused: Matrix  # like, times the confidence, 0 where a lost track must not be taken up again


class CautiousTracker:
    """Tracks of one camera; see `trackers.base.Tracker`.

    A track is tentative, without id, until the frame after its first, where it is confirmed or dropped; tracks of the
    very first frame are confirmed at once. A confirmed track that no box continues is lost, and dropped after
    `lost_seconds`. Ids count from 1 in the order of confirmation, tracklet ids in the order in which pieces begin.
    The state is a handful of arrays with a column a track: it can be pickled, and it does not grow with time. The order
    of a frame's boxes does not matter, nor does the unit of length or the origin, nor that of time.
    """

    def __init__(self, settings: CautiousSettings = DEFAULT_SETTINGS, rules: CutRules = DEFAULT_RULES) -> None:
        self.settings, self.rules = settings, rules
        self._ids_given = self._tracklets_given = 0
        self.reset()

    def reset(self) -> None:
        """Forget all tracks, the time, and what was learnt of the stream. Ids already given are not given again."""
        settings = self.settings
        self._calibration = ScoreCalibration(
            reference=settings.reference_confidence,
            strength=settings.calibration_strength,
            memory_seconds=_MEMORY_OF_SCORES,
        )
        grounded = settings.ground is not None or settings.estimate_ground
        self._filter = GroundedFilter(_NOISE, settings.ground) if grounded else WalkFilter(_NOISE)
        self._turns = Turns()
        self._lives = np.empty((5, 0), np.int64)
        self._seen_at = np.empty(0)  # time of the last box
        self._embeddings: Matrix | None = None  # (tracks, d), unit length; NaN where none is known
        self._surprise_scale = 1.0
        self._now = -math.inf  # before the first frame
        self._last_step = 0.0  # seconds between the last two frames

    def __len__(self) -> int:
        """Tracks held, the tentative and the lost included."""
        return len(self._seen_at)

    def update(
        self, detections: Detections, *, pts_seconds: float, embeddings: NDArray[np.floating] | None = None
    ) -> Tracks:
        """Take the next frame's boxes and return those that belong to a confirmed track, in their order.

        Args:
            detections: Boxes of this frame.
            pts_seconds: Presentation time, strictly greater than at the last call; steps may differ.
            embeddings: What each box looks like, (n, d) of any length above 0; a row of NaN says nothing. They decide
                among places that are possible, and make no impossible one possible.

        Raises:
            ValueError: When time does not increase or is not finite, or embeddings do not fit the boxes or each other.
        """
        dt = self._step(pts_seconds)
        frame = self._look(detections, embeddings, dt)
        self._advance(pts_seconds, dt)
        first_frame, self._now, self._last_step = self._now == -math.inf, pts_seconds, dt
        seen, boxes, doubt = _NOBODY, _NOBODY, _NO_RISK
        if len(self._seen_at) and len(frame.rows):
            self._follow_camera(frame)
            likeness = self._compare(frame)
            chosen = self._associate(likeness, frame)
            seen, boxes = likeness.pairs.track[chosen], likeness.pairs.box[chosen]
            doubt = self._continue(chosen, likeness, frame)
        ids = self._lives[_TRACK : _TRACKLET + 1, seen]
        self._retire(seen)
        born = self._births(boxes, frame)
        if len(born):
            self._start(born, frame, confirmed=first_frame)
            if first_frame:
                boxes, ids, doubt = born, self._lives[_TRACK : _TRACKLET + 1], np.zeros(len(born), np.float32)
        rows = frame.rows[boxes]
        order = rows.argsort()
        return Tracks.of(
            detections, rows[order], ids[0, order], ids[1, order], doubt[order], lift=self._calibration.factor
        )

    def _step(self, pts_seconds: float) -> float:
        """Seconds since the last frame, 0 at the first."""
        if not math.isfinite(pts_seconds):
            raise ValueError(f"pts_seconds must be finite, got {pts_seconds}")
        if self._now == -math.inf:
            return 0.0
        if pts_seconds <= self._now:
            raise ValueError(f"pts_seconds must be greater than at the last call, {self._now}, got {pts_seconds}")
        return pts_seconds - self._now

    def _look(self, detections: Detections, embeddings: NDArray[np.floating] | None, dt: float) -> _Frame:
        vectors = None if embeddings is None else self._unit(embeddings, len(detections))
        confidence = self._calibration.calibrate(detections.confidence.astype(np.float64), detections.xyxy, dt=dt)
        # Boxes of one confidence are put in an order that is their own, so that the order in which they came is none.
        sinking = -confidence
        rows = np.lexsort((detections.xyxy @ _ORDER, sinking))
        sinking = sinking[rows]
        rows = rows[: sinking.searchsorted(-self.settings.low_confidence, "right")]
        high = int(sinking.searchsorted(-self.settings.high_confidence, "right"))
        boxes = np.empty((9, len(rows)))
        boxes[:4] = detections.xyxy[rows].T
        np.subtract(boxes[2:4], boxes[:2], out=boxes[6:8])
        np.add(boxes[:2], boxes[6:8] / 2, out=boxes[4:6])
        np.multiply(boxes[6], boxes[7], out=boxes[8])
        raw, looks = detections.confidence[rows], None if vectors is None else vectors[rows]
        return _Frame(rows, boxes, raw, -sinking[: len(rows)], high, looks)

    def _unit(self, embeddings: NDArray[np.floating], count: int) -> Matrix:
        vectors = np.asarray(embeddings, dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != count:
            raise ValueError(f"embeddings must be ({count}, d), one a box, got {vectors.shape}")
        if self._embeddings is not None and self._embeddings.shape[1] != vectors.shape[1]:
            raise ValueError(f"embeddings must be (n, {self._embeddings.shape[1]}) as before, got {vectors.shape}")
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Matrix = np.divide(vectors, length, out=np.full_like(vectors, np.nan), where=length > 0)
        return unit

    def _advance(self, pts_seconds: float, dt: float) -> None:
        """Move all tracks to this time, without those unseen for too long."""
        if len(self):
            most = patience(self.settings.lost_seconds, dt, self._last_step)
            waiting = pts_seconds - self._seen_at <= most + _TIME_SLACK
            if np.count_nonzero(waiting) < len(waiting):
                self._keep(waiting)
            self._filter.predict(dt)

    def _follow_camera(self, frame: _Frame) -> None:
        if self.settings.static_camera or isinstance(self._filter, GroundedFilter):
            return
        state, hits = self._lives[_STATE], self._lives[_HITS]
        steady = (state == CONFIRMED) & (hits >= 2)
        shift = self._turns.shift(self._filter.mean[steady], frame.cxcywh[: frame.high], dt=self._last_step)
        if shift is not None:
            self._filter.shift(shift)

    def _compare(self, frame: _Frame) -> _Likeness:
        pairs = overlapping(corners(self._filter.state[:4]), frame.boxes)
        surprise = pairs.distance / (self._filter.innovation * self._surprise_scale)[pairs.track]
        like = pairs.overlap * self._steadiness(pairs, surprise, frame)
        if frame.embeddings is not None and self._embeddings is not None:
            like *= self._resemblance(self._embeddings[pairs.track], frame.embeddings[pairs.box])
        fused = like * frame.confidence[pairs.box]
        self._guard_revivals(fused, pairs, len(frame.rows))
        return _Likeness(pairs, surprise, like, fused)

    def _steadiness(self, pairs: Pairs, surprise: Matrix, frame: _Frame) -> Matrix:
        """What is left of an overlap in [0, 1]: less for other heights and surprising places, on the floor if known."""
        tall: Matrix = pairs.height_overlap
        if self._floor is not None:
            distance, stature = self._floor.fit(pairs, frame.cxcywh)
            tall = stature**_STATURE_POWER / (1 + distance / _SURPRISE_HALF)
        left: Matrix = np.sqrt(tall / (1 + surprise / _SURPRISE_HALF))
        return left

    def _resemblance(self, known: Matrix, embeddings: Matrix) -> Matrix:
        """1 for equal embeddings and where one is unknown, ``1 - appearance_weight`` for opposite ones."""
        cosine = np.nan_to_num(np.einsum("ij,ij->i", known, embeddings), nan=1.0)
        factor: Matrix = 1 - self.settings.appearance_weight * (1 - cosine) / 2
        return factor

    def _guard_revivals(self, fused: Matrix, pairs: Pairs, boxes: int) -> None:
        """Forbid lost tracks all boxes but those that fit by a margin better than any other pairing of either.

        A living track and a box that are each other's best are settled, and count three quarters as rivals of others.
        """
        state = self._lives[_STATE][pairs.track]
        lost = state == LOST
        if not np.count_nonzero(lost):
            return
        track, box, tracks = pairs.track, pairs.box, len(self._seen_at)
        best = greatest(fused, track, tracks)[track]
        best = np.maximum(best, greatest(fused, box, boxes)[box])
        settled = (fused >= best) & (fused > _SETTLED) & (state == CONFIRMED)
        of_track, of_box = np.ones(tracks), np.ones(boxes)
        of_track[track[settled]] = _SETTLED_RIVALRY
        of_box[box[settled]] = _SETTLED_RIVALRY
        taken = of_box[box]
        rivals = fused * of_track[track] * taken
        best = np.maximum(greatest(rivals, track, tracks)[track], greatest(rivals, box, boxes)[box])
        hopeful = (lost & (taken == 1) & (rivals >= best)).nonzero()[0]
        found = fused[hopeful]
        fused[lost] = 0.0
        if not len(hopeful):
            return
        rivals[hopeful] = 0.0
        of, on = track[hopeful], box[hopeful]
        rival = np.maximum(greatest(rivals, track, tracks)[of], greatest(rivals, box, boxes)[on])
        margin = self._revival_margin() * (self._now - self._seen_at[of])
        fused[hopeful] = np.where(found < np.maximum(rival + margin, self.settings.revival_likeness), 0.0, found)

    def _revival_margin(self) -> float:
        return self.settings.revival_margin * (1.0 if self._floor is None else _GROUND_MARGIN)

    @property
    def _floor(self) -> FloorFilter | None:
        return self._filter.floor if isinstance(self._filter, GroundedFilter) else None

    def _associate(self, likeness: _Likeness, frame: _Frame) -> Rows:
        """Which of the pairs are made."""
        settings, pairs, state = self.settings, likeness.pairs, self._lives[_STATE]
        of = state[pairs.track]
        floor = np.array([settings.new_likeness, settings.likeness, settings.likeness])  # by state
        weak = np.array([np.inf, settings.weak_likeness, np.inf])
        strong, faint = likeness.fused - floor[of], likeness.like - weak[of]
        gain = np.where(pairs.box < frame.high, strong, faint)
        return assign_pairs(pairs.track, pairs.box, gain, shape=(len(state), len(frame.rows)))

    def _continue(self, chosen: Rows, likeness: _Likeness, frame: _Frame) -> NDArray[np.float32]:
        """Update what was seen, confirm the tentative of it, and say how doubtful each of these pairs is."""
        seen, boxes = likeness.pairs.track[chosen], likeness.pairs.box[chosen]
        state, hits = self._lives[_STATE], self._lives[_HITS]
        self._learn_surprise(likeness.surprise[chosen], hits[seen] >= 2)
        evidence = self._evidence(chosen, likeness, len(frame.rows))
        was_overlapped, weak = self._lives[_OVERLAPPED][seen] > 0, self._calibration.factor > _WEAK
        cut, overlapped = self.rules.cut(evidence, was_overlapped=was_overlapped, weak=weak)
        new = state[seen] == TENTATIVE
        self._begin_tracklets(seen[cut & ~new])
        self._lives[_OVERLAPPED, seen] = overlapped
        self._filter.update(seen, frame.boxes[4:8].take(boxes, axis=1).T, 1 + _DISTRUST * (1 - frame.confidence[boxes]))
        self._see(seen, boxes, frame)
        hits[seen] += 1
        self._confirm(seen[new])
        self._seen_at[seen] = self._now
        return risk(evidence, lost_seconds=self.settings.lost_seconds).astype(np.float32)

    def _learn_surprise(self, surprise: Matrix, steady: Mask) -> None:
        """Scale the variances until the usual share of distances is below the limit."""
        count = np.count_nonzero(steady)
        if not count:
            return
        excess = np.count_nonzero(steady & (surprise > _SURPRISE_LIMIT)) / count - (1 - _SURPRISE_QUANTILE)
        rate = min(_SCALE_STEP, _SCALE_RATE * count)
        scale = self._surprise_scale * math.exp(rate * excess / _SURPRISE_QUANTILE)
        self._surprise_scale = min(max(scale, _SCALE_RANGE[0]), _SCALE_RANGE[1])

    def _evidence(self, chosen: Rows, likeness: _Likeness, boxes: int) -> Evidence:
        """What speaks against each of these pairs."""
        track, box, overlap, _, _ = likeness.pairs
        seen, found, state = track[chosen], box[chosen], self._lives[_STATE]
        others = likeness.fused.copy()
        others[chosen] = 0.0
        own = likeness.fused[chosen]
        rival_track = greatest(others, box, boxes)[found] / own
        rival_box = greatest(others, track, len(state))[seen] / own
        places = overlap * (state[track] != TENTATIVE)
        places[chosen] = 0.0
        unseen = np.ones(len(state), bool)
        unseen[seen] = False
        missed = (self._now - self._seen_at[seen]) * (state[seen] == LOST)
        beside = greatest(places, box, boxes)[found]
        hidden = greatest(places * unseen[track], box, boxes)[found]
        return Evidence(missed, beside, hidden, rival_track, rival_box, likeness.surprise[chosen])

    def _see(self, seen: Rows, boxes: Rows, frame: _Frame) -> None:
        """Mix the boxes' embeddings into those of their tracks."""
        if frame.embeddings is None:
            return
        if self._embeddings is None:
            self._embeddings = np.full((len(self), frame.embeddings.shape[1]), np.nan)
        old, new = self._embeddings[seen], frame.embeddings[boxes]
        new = np.where(np.isnan(new), old, new)
        mixed = _APPEARANCE_MEMORY * np.where(np.isnan(old), new, old) + (1 - _APPEARANCE_MEMORY) * new
        length = np.linalg.norm(mixed, axis=1, keepdims=True)
        self._embeddings[seen] = np.divide(mixed, length, out=mixed, where=length > 0)

    def _confirm(self, tracks: Rows) -> None:
        if len(tracks):
            self._lives[_TRACK, tracks] = self._ids_given + 1 + np.arange(len(tracks))
            self._ids_given += len(tracks)
            self._begin_tracklets(tracks)

    def _begin_tracklets(self, tracks: Rows) -> None:
        if len(tracks):
            self._lives[_TRACKLET, tracks] = self._tracklets_given + 1 + np.arange(len(tracks))
            self._tracklets_given += len(tracks)

    def _retire(self, seen: Rows) -> None:
        """Lose the confirmed that were not seen, and drop the tentative."""
        if len(seen) == len(self._seen_at):
            self._lives[_STATE] = CONFIRMED
            return
        state = self._lives[_STATE]
        state[seen] = _JUST_SEEN
        missed = state == CONFIRMED
        state[missed] = LOST
        self._filter.stop_growth(missed)
        keep = state != TENTATIVE
        state[seen] = CONFIRMED
        if np.count_nonzero(keep) < len(keep):
            self._keep(keep)

    def _births(self, boxes: Rows, frame: _Frame) -> Rows:
        """Of the boxes that no track took, those that start one: confident, and not on top of a living track.

        Of two newborn in one place the surer one is it.
        """
        free = frame.confidence >= self.settings.new_confidence
        free[boxes] = False
        born, limit = free.nonzero()[0], self.settings.new_overlap
        if len(born):
            born = self._no_bushes(born, frame)
        if len(born) == 0 or limit == 1:
            return born
        corner = frame.boxes[:4].T
        near = iou_matrix(corner[born], corner[np.concatenate([boxes, born])]) >= limit
        alone = np.logical_not(near[:, : len(boxes)].any(axis=1))
        twins = np.triu(near[:, len(boxes) :], 1)
        for row in np.flatnonzero(twins.any(axis=1)):
            if alone[row]:
                alone &= ~twins[row]
        kept: Rows = born[alone]
        return kept

    def _no_bushes(self, born: Rows, frame: _Frame) -> Rows:
        """Without those that only the stream's lift makes sure, and that stand where something always stood."""
        lifted = frame.raw[born] < self.settings.new_confidence
        if not np.count_nonzero(lifted):
            return born
        kept: Rows = born[~(lifted & self._calibration.stood(frame.boxes[:4, born].T))]
        return kept

    def _start(self, born: Rows, frame: _Frame, *, confirmed: bool) -> None:
        count = len(born)
        lives = np.zeros((5, count), np.int64)
        lives[_HITS] = 1
        lives[_STATE] = CONFIRMED if confirmed else TENTATIVE
        self._filter.append(frame.cxcywh[born])
        self._lives = np.concatenate([self._lives, lives], axis=1)
        self._seen_at = np.concatenate([self._seen_at, np.full(count, self._now)])
        if frame.embeddings is not None and self._embeddings is None:
            self._embeddings = np.full((len(self) - count, frame.embeddings.shape[1]), np.nan)
        if self._embeddings is not None:
            unknown = np.full((count, self._embeddings.shape[1]), np.nan)
            new = unknown if frame.embeddings is None else frame.embeddings[born]
            self._embeddings = np.concatenate([self._embeddings, new])
        if confirmed:
            self._confirm(np.arange(len(self) - count, len(self)))

    def _keep(self, tracks: Mask) -> None:
        self._filter.keep(tracks)
        self._lives, self._seen_at = self._lives[:, tracks], self._seen_at[tracks]
        if self._embeddings is not None:
            self._embeddings = self._embeddings[tracks]
