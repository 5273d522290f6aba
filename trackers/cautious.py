"""Our own default: a tracker that would rather begin a new tracklet than join two people.

Its parts, each measured in ``docs/experiments.md``: confidences on one scale for every camera
(`trackers.calibration`); all tracks moved on in seconds, and by what the camera turned (`trackers.camera_motion`);
a filter that trusts a box as far as the detector does (Du et al., "GIAOTracker", 2021); a learnt probability that
track and box are one person, from overlap, heights (Yang et al., "Hybrid-SORT", 2024), the surprise at the motion on a
scale that each stream teaches, and all rivals (`trackers.probability`); weak boxes for tracks seen in the last frame
only (Zhang et al., "ByteTrack", 2022); a lost track taken up again only where that is likely enough, the likelier the
longer it was lost; no birth on top of a living track (Shim et al., "TrackTrack", 2025); and two ids, of which
`tracklet_id` ends wherever the tracker was in doubt (`trackers.purity`).
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign_pairs
from trackers.calibration import ScoreCalibration
from trackers.camera_motion import Turns
from trackers.ground import FloorFilter, GroundedFilter, GroundPlane
from trackers.kalman import MotionNoise, WalkFilter
from trackers.pairs import DOUBLE, ORDER, Pairs, corners, doubles, greatest, overlap_by, overlapping
from trackers.probability import LONGEST_STEP, Candidates, Measured, Probability, learnt, table_of
from trackers.purity import CutRules, Evidence, risk
from trackers.structures import Detections, Tracks
from trackers.table import CONFIRMED, LOST, TENTATIVE, patience

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Matrix = NDArray[np.float64]

_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time
_NOISE = MotionNoise(measurement=0.08, position=0.15, acceleration=0.7)
_DISTRUST = 3.0  # a box of confidence c counts as measured with (1 + 3 (1 - c)) times the noise
_SURPRISE_QUANTILE, _SURPRISE_LIMIT = 0.93, 9.5  # the stream's scale is such that 93 % of the distances are below 9.5
_SCALE_RANGE, _SCALE_RATE, _SCALE_STEP = (0.5, 3.0), 0.04, 0.6
_MEMORY_OF_SCORES = 20.0  # seconds
_WEAK = 1.2  # a stream whose confidences are lifted by more is that of a weak detector
_EXPECTED = 0.5  # overlap of a box with the place where a track is expected, that says that this one may be it
_APPEARANCE_MEMORY = 0.9  # share of a track's embedding that stays when a box is added

_STATURE_POWER = 8  # of the ratio of statures, in place of the overlap of heights
_DISTANCE_HALF = 8.0  # squared distance on the floor, of 2 coordinates, at which that has fallen to a half
_USUAL_PATIENCE = 1.5  # seconds
_MOST_UNCERTAIN = 0.4  # heights: of a newborn after the longest step
_LIFTED = 0.05  # how much likelier a pair must be for each time that confidences are lifted by their own size

_SHARES = ("_confidence", "_probability", "_margin", "_overlap", "_weight")  # endings of settings in [0, 1]
_STATE, _TRACK, _TRACKLET, _HITS, _OVERLAPPED = range(5)  # rows of integers, a column a track
_JUST_SEEN = -1  # a state within a frame
_NOBODY, _NO_RISK = np.empty(0, np.int64), np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class CautiousSettings:
    """What may be asked of the tracker; the defaults are for every camera. Numbers are in [0, 1] but for the seconds.

    Confidences are on the common scale: as a good detector by day would give them.

    Attributes:
        low_confidence: Boxes below are not looked at.
        high_confidence: Boxes below can only continue a track that was seen in the last frame. Where confidences are
            lifted it is divided by the square root of the lift.
        new_confidence: A box that no track claims starts one from here on.
        reference_confidence: A stream whose own scale is below (see `ScoreCalibration`) has its confidences lifted.
        calibration_strength: How much, at least 0; 0 takes confidences as they come.
        match_probability: How likely track and box must be one person for a match; more where confidences are lifted.
        new_probability: The same, for tracks seen once.
        weak_probability: The same, for boxes below `high_confidence`.
        revival_probability: The same, for lost tracks.
        revival_margin: How much more that is when a track was lost for a second; in proportion for shorter and longer.
            Where `lost_seconds` is above 1.5, so much less that it comes to the same at the end: nothing is as likely
            as 1, and nobody would be found again.
        lost_seconds: How long an unseen track waits to be found again; at least until the next frame, in a stream whose
            frames always come so seldom.
        new_overlap: A box that overlaps the box of a living track, or of one that starts with it and is surer, by this
            much starts none; 1 allows all but doubles (`trackers.pairs.DOUBLE`).
        appearance_weight: How much of a pair's evidence against its rivals, and of its probability, goes with the
            embeddings, where given: 1 leaves none of it for opposite ones.
        static_camera: The camera never turns; nothing is compensated.
        ground: The floor, of a camera that never turns: people are compared by where they stand and how tall they are,
            which tells who comes back, so that a lost track asks for no more than a living one.
        estimate_ground: The same with a floor that is learnt from the boxes.
    """

    low_confidence: float = 0.1
    high_confidence: float = 0.6
    new_confidence: float = 0.65
    reference_confidence: float = 0.8
    calibration_strength: float = 3.0
    match_probability: float = 0.3
    new_probability: float = 0.3
    weak_probability: float = 0.5
    revival_probability: float = 0.5
    revival_margin: float = 0.3
    lost_seconds: float = 1.5
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
    high: int  # so many are strong, see `high_confidence`
    embeddings: Matrix | None

    @property
    def cxcywh(self) -> Matrix:
        """(m, 4), a view."""
        return self.boxes[4:8].T


class _Weighed(NamedTuple):
    """The pairs of a track and a box that overlap, (k,) each."""

    pairs: Pairs
    surprise: Matrix  # squared distance in the stream's variances
    probability: Matrix  # that the two are one person


class _Made(NamedTuple):
    """The pairs that are made, (c,) each."""

    rows: Rows  # into those that were weighed
    track: Rows
    box: Rows


class CautiousTracker:
    """Tracks of one camera; see `trackers.base.Tracker`.

    A track is tentative, without id, until the frame after its first, where it is confirmed or dropped; tracks of the
    very first frame are confirmed at once. A confirmed track that no box continues is lost, and dropped after
    `lost_seconds`. Ids count from 1 in the order of confirmation, tracklet ids in the order in which pieces begin.
    The state is a handful of arrays with a column a track: it can be pickled, and it does not grow with time. The order
    of a frame's boxes does not matter, nor does the unit of length or the origin, nor that of time.
    """

    def __init__(
        self,
        settings: CautiousSettings = DEFAULT_SETTINGS,
        rules: CutRules = DEFAULT_RULES,
        *,
        probability: Probability | None = None,
    ) -> None:
        self.settings, self.rules = settings, rules
        self._probability = learnt() if probability is None else probability
        strong = (settings.new_probability, settings.match_probability, settings.revival_probability)
        self._least = np.array([strong, (np.inf, settings.weak_probability, np.inf)])  # by state: boxes, weak boxes
        self._margin = settings.revival_margin * min(1.0, _USUAL_PATIENCE / settings.lost_seconds)
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
            ValueError: When time does not increase or is not finite, or embeddings do not fit the boxes or each other,
                or are infinite. The tracker is then as it was.
        """
        dt = self._step(pts_seconds)
        frame = self._look(detections, embeddings, dt)
        self._advance(pts_seconds, dt)
        first_frame, self._now, self._last_step = self._now == -math.inf, pts_seconds, dt
        seen, boxes, doubt = _NOBODY, _NOBODY, _NO_RISK
        if len(self._seen_at):
            self._follow_camera(frame)
        frame = self._without_doubles(frame)
        if len(self._seen_at) and len(frame.rows):
            weighed = self._weigh(frame)
            made = self._associate(weighed, frame)
            seen, boxes = made.track, made.box
            doubt = self._continue(made, weighed, frame)
        ids = self._lives[_TRACK : _TRACKLET + 1].take(seen, axis=1)
        self._retire(seen)
        born = self._births(boxes, frame)
        if len(born):
            self._start(born, frame, confirmed=first_frame)
            if first_frame:
                boxes, ids, doubt = born, self._lives[_TRACK : _TRACKLET + 1], np.zeros(len(born), np.float32)
        rows = frame.rows.take(boxes)
        order = rows.argsort()
        ids = ids.take(order, axis=1)
        return Tracks.of(detections, rows.take(order), ids[0], ids[1], doubt.take(order), lift=self._calibration.factor)

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
        rows = np.lexsort((detections.xyxy @ ORDER, sinking))
        sinking = sinking[rows]
        rows = rows[: sinking.searchsorted(-self.settings.low_confidence, "right")]
        # What a weak detector is sure of flickers more, and lifting it lifts that too.
        strong = self.settings.high_confidence / math.sqrt(self._calibration.factor)
        high = int(sinking.searchsorted(-strong, "right"))
        boxes = np.empty((9, len(rows)))
        boxes[:4] = detections.xyxy.take(rows, axis=0).T
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
        endless = np.isinf(vectors).any(axis=1)
        if endless.any():
            raise ValueError(f"embeddings must be finite, or NaN where unknown, got infinity in row {endless.argmax()}")
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
        steady = self._lives[_STATE] == CONFIRMED
        steady &= self._lives[_HITS] >= 2
        expected = self._filter.state[:4].compress(steady, axis=1).T
        shift = self._turns.shift(expected, frame.cxcywh[: frame.high], dt=self._last_step, gains=self._filter.gains)
        if shift is not None:
            self._filter.shift(shift)

    def _without_doubles(self, frame: _Frame) -> _Frame:
        """Without strong boxes of somebody whom a surer one shows, unless two are expected there: they may be two.

        Weak boxes start no track, and are hardly rivals.
        """
        again = doubles(DOUBLE, frame.boxes[:, : frame.high])
        if not len(again):
            return frame
        places = corners(self._filter.state[:4])
        expected = np.count_nonzero(overlap_by(_EXPECTED, places, frame.boxes.take(again, axis=1)), axis=0)
        again = again[expected < 2]
        kept = np.delete(np.arange(len(frame.rows)), again)
        looks = None if frame.embeddings is None else frame.embeddings[kept]
        high = frame.high - len(again)
        return _Frame(frame.rows[kept], frame.boxes[:, kept], frame.raw[kept], frame.confidence[kept], high, looks)

    def _weigh(self, frame: _Frame) -> _Weighed:
        pairs = overlapping(corners(self._filter.state[:4]), frame.boxes)
        of_track = self._of_tracks().take(pairs.track, axis=1)
        surprise = pairs.distance / of_track[0]
        on_floor = None if self._floor is None else self._stand(self._floor, pairs, frame)
        measured = Measured(
            overlap=pairs.overlap,
            tall=pairs.height_overlap if on_floor is None else on_floor,
            surprise=surprise,
            apart=pairs.apart,
            confidence=frame.confidence[pairs.box],
            of_track=of_track[1:],
        )
        resemblance, looks = (None if on_floor is None else on_floor * on_floor), None
        if frame.embeddings is not None and self._embeddings is not None:
            looks = self._resemblance(self._embeddings[pairs.track], frame.embeddings[pairs.box])
            resemblance = looks if resemblance is None else looks * resemblance
        table = table_of(measured, step_seconds=self._last_step, lift=self._calibration.factor)
        candidates = Candidates(table, pairs.track, pairs.box, len(self._seen_at), len(frame.rows), resemblance)
        probability = self._probability(candidates)
        return _Weighed(pairs, surprise, probability if looks is None else probability * looks)

    def _of_tracks(self) -> Matrix:
        """What surprise is measured in, square pixels, and what `Measured.of_track` asks, a column a track, (6, n)."""
        life, variance, square = self._lives[_STATE], self._filter.innovation, self._filter.state[11]
        table = np.empty((6, len(life)))
        np.multiply(variance, self._surprise_scale, out=table[0])
        table[1] = square
        np.divide(variance, square, out=table[5])
        np.sqrt(table[1::4], out=table[1::4])
        np.subtract(self._now, self._seen_at, out=table[2])
        table[3], table[4] = life == LOST, life == TENTATIVE
        if self._last_step > LONGEST_STEP:  # slower streams than any that was learnt from
            np.minimum(table[2], LONGEST_STEP, out=table[2], where=life != LOST)
            np.minimum(table[5], _MOST_UNCERTAIN, out=table[5], where=life != LOST)
        return table

    @property
    def _floor(self) -> FloorFilter | None:
        return self._filter.floor if isinstance(self._filter, GroundedFilter) else None

    @staticmethod
    def _stand(floor: FloorFilter, pairs: Pairs, frame: _Frame) -> Matrix:
        """How well statures and places on the floor agree, in [0, 1].

        It stands for the overlap of heights, and weighs the evidence; the network never learnt with a floor, so that
        its probabilities are a ranking there.
        """
        distance, stature = floor.fit(pairs, frame.cxcywh)
        agree: Matrix = stature**_STATURE_POWER / (1 + distance / _DISTANCE_HALF)
        return agree

    def _resemblance(self, known: Matrix, embeddings: Matrix) -> Matrix:
        """1 for equal embeddings and where one is unknown, ``1 - appearance_weight`` for opposite ones."""
        cosine = np.nan_to_num(np.einsum("ij,ij->i", known, embeddings), nan=1.0)
        factor: Matrix = 1 - self.settings.appearance_weight * (1 - cosine) / 2
        return factor

    def _associate(self, weighed: _Weighed, frame: _Frame) -> _Made:
        """Which of the pairs are made."""
        pairs, state = weighed.pairs, self._lives[_STATE]
        least = self._least.take(state, axis=1)
        if self._floor is None:
            lost = (state == LOST).nonzero()[0]
            least[0, lost] += self._margin * (self._now - self._seen_at[lost])
        else:
            least[0, state == LOST] = self.settings.match_probability
        asked = least.ravel().take(pairs.track + len(state) * (pairs.box >= frame.high))
        gain = weighed.probability - asked
        if self._calibration.factor > 1:
            gain -= _LIFTED * (self._calibration.factor - 1)
        rows = assign_pairs(pairs.track, pairs.box, gain, shape=(len(state), len(frame.rows)))
        return _Made(rows, pairs.track[rows], pairs.box[rows])

    def _continue(self, made: _Made, weighed: _Weighed, frame: _Frame) -> NDArray[np.float32]:
        """Update what was seen, confirm the tentative of it, and say how doubtful each of these pairs is."""
        seen, boxes = made.track, made.box
        lives = self._lives.take(seen, axis=1)
        new = lives[_STATE] == TENTATIVE
        self._learn_surprise(weighed.surprise[made.rows], lives[_HITS] >= 2)
        evidence = self._evidence(made, weighed, len(frame.rows))
        was_overlapped, weak = lives[_OVERLAPPED] > 0, self._calibration.factor > _WEAK
        cut, lives[_OVERLAPPED] = self.rules.cut(evidence, was_overlapped=was_overlapped, weak=weak)
        lives[_HITS] += 1
        self._lives[:, seen] = lives
        if np.count_nonzero(cut):
            self._begin_tracklets(seen[cut & ~new])
        if np.count_nonzero(new):
            self._confirm(seen[new])
        self._filter.update(seen, frame.boxes[4:8].take(boxes, axis=1).T, 1 + _DISTRUST * (1 - frame.confidence[boxes]))
        self._see(seen, boxes, frame)
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

    def _evidence(self, made: _Made, weighed: _Weighed, boxes: int) -> Evidence:
        """What speaks against each of these pairs."""
        pairs, state = weighed.pairs, self._lives[_STATE]
        places = pairs.overlap * (state != TENTATIVE)[pairs.track]
        places[made.rows] = 0.0
        beside = greatest(places, pairs.box, boxes)[made.box]
        unseen = np.ones(len(state))
        unseen[made.track] = 0.0
        places *= unseen[pairs.track]
        hidden = greatest(places, pairs.box, boxes)[made.box]
        missed = (self._now - self._seen_at[made.track]) * (state[made.track] == LOST)
        return Evidence(missed, beside, hidden, weighed.probability[made.rows], weighed.surprise[made.rows])

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
        self._lives[_TRACK, tracks] = self._ids_given + 1 + np.arange(len(tracks))
        self._ids_given += len(tracks)
        self._begin_tracklets(tracks)

    def _begin_tracklets(self, tracks: Rows) -> None:
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
        near = overlap_by(
            limit, frame.boxes.take(born, axis=1), frame.boxes.take(np.concatenate([boxes, born]), axis=1)
        )
        alone = np.logical_not(near[:, : len(boxes)].any(axis=1))
        if np.count_nonzero(alone) > 1:
            twins = near[:, len(boxes) :]
            for row in range(len(born) - 1):
                if alone[row]:
                    alone[row + 1 :] &= ~twins[row, row + 1 :]
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
        self._lives, self._seen_at = self._lives.compress(tracks, axis=1), self._seen_at[tracks]
        if self._embeddings is not None:
            self._embeddings = self._embeddings[tracks]
