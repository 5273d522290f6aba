"""Paired cameras: two of different modality at one place, matched by time and never by the number of a frame.

What the two clocks differ by is measured (`pipeline.skew`) and taken out. With that, each view of a person gets its
counterpart, cut out of the other camera's frame of the same moment; and two tracklets, one of each camera, that are at
the same places at the same times are confirmed to be one person across modalities, whatever they look like.
"""

import csv
import json
import logging
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.event_files import EXAMPLES, append_whole
from pipeline.frame import Frame
from pipeline.losses import Losses
from pipeline.skew import ClockFit, Motion, fit
from pipeline.tracklets import Counterpart, Crop, RejectedTracklet, Tracklet, cut_out
from trackers.boxes import iou_matrix

logger = logging.getLogger(__name__)

Aside = Callable[[Callable[[], ClockFit | None]], "Future[ClockFit | None]"]

_FIT_SECONDS = 10.0  # between two fits, at first
_FIT_SHARE = 0.1  # and of the time that a fit looked at, later: it costs more, and changes less
_MOST_FAILED = 6  # fits in a row that find nothing although as much moves as when one did
_AS_LIVELY = 0.5  # share of how lively it was then
_NO_FIT = ClockFit(at=0.0, skew_seconds=0.0, drift=0.0, agreement=0.0)
_RING_SECONDS = 1.5  # of the other camera's pictures that are kept
_RING_BYTES = 100_000_000
_MEMORY_SECONDS = 170.0  # of tracklets that may still find theirs
_MEMORY_OF_TIMES = 320.0  # of frames, in seconds
_SET_BACK_SECONDS = 2.0  # a clock that goes back by more begins anew
_PADDING = 0.03
_LEAST_TOGETHER = 10  # frames
_LEAST_OVERLAP = 0.4  # mean, of the two boxes
_LEAST_SHARE = 0.7  # of the frames of the shorter tracklet
_MOST_WAITING = 1000  # examples of tracklets that are not stored
_RIVAL_OVERLAP = 0.2  # and a third tracklet makes it doubtful


@dataclass(frozen=True, slots=True)
class PairSettings:
    """One pair.

    Attributes:
        cameras: Two; the clock of the first counts.
        max_skew_seconds: Frames further apart, once the measured skew is taken out, are no pair.
        settled_seconds: Age after which it is said of a frame whether it is paired: the clocks are known best in the
            midst of what a fit looks at.
        first_seconds: No frame is settled before so much has been seen: clocks are known the better, the more it is.
    """

    cameras: tuple[str, str]
    max_skew_seconds: float = 0.1
    settled_seconds: float = 150.0
    first_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Example:
    """Two tracklets that one person left in two modalities.

    Attributes:
        pair_id: Of which pair.
        tracklets: One of each camera, in their order.
        frames: In which both were seen.
        overlap: Mean intersection over union of their boxes, as shares of the frames.
    """

    pair_id: str
    tracklets: tuple[str, str]
    frames: int
    overlap: float


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """Where a finished tracklet was: seconds of its camera's clock (n,), boxes (n, 4) as shares of the frame."""

    tracklet_id: str
    seconds: NDArray[np.float64]
    boxes: NDArray[np.float32]


@dataclass(slots=True)
class _Side:
    """What is remembered of one camera of a pair; all of it bounded."""

    motion: Motion = field(default_factory=Motion)
    frames: deque[Frame] = field(default_factory=deque)  # the latest pictures
    bytes: int = 0
    seconds_of: dict[int, float] = field(default_factory=dict)  # by frame index, the latest
    indices: deque[int] = field(default_factory=deque)  # of those
    undecided: deque[float] = field(default_factory=deque)  # times of frames that have no partner yet
    times: deque[float] = field(default_factory=deque)
    wanted: deque[tuple[str, Crop, Frame]] = field(default_factory=deque)  # views that wait for the other's picture
    traces: deque[_Trace] = field(default_factory=deque)
    begun: float = 0.0  # time of the first frame
    paired: int = 0
    unpaired: int = 0

    def see(self, frame: Frame, seconds: float) -> bool:
        """Take the next frame; returns whether the clock was set back, and all before is no time of it any more."""
        set_back = False
        if self.times and seconds <= self.times[-1]:
            if self.times[-1] - seconds < _SET_BACK_SECONDS:
                return False  # its frames are no pair until it is past the time it had
            self._begin_anew()
            set_back = True
        if not self.times:
            self.begun = seconds
        self.motion.add(frame.image, seconds)
        self.frames.append(frame)
        self.bytes += frame.image.nbytes
        while len(self.frames) > 1 and (self.bytes > _RING_BYTES or seconds - _seconds(self.frames[0]) > _RING_SECONDS):
            self.bytes -= self.frames.popleft().image.nbytes
        self.times.append(seconds)
        self.undecided.append(seconds)
        self.seconds_of[frame.index] = seconds
        self.indices.append(frame.index)
        while seconds - self.times[0] > _MEMORY_OF_TIMES:
            self.times.popleft()
            self.seconds_of.pop(self.indices.popleft(), None)
        return set_back

    def _begin_anew(self) -> None:
        """The clock was set back: what it showed before is no time of it any more."""
        self.unpaired += len(self.undecided)
        self.motion, self.bytes = Motion(), 0
        for each in (self.frames, self.seconds_of, self.indices, self.undecided, self.times, self.wanted, self.traces):
            each.clear()


class Pair:
    """Two cameras at one place."""

    def __init__(self, pair_id: str, settings: PairSettings, *, aside: Aside | None = None) -> None:
        """Begin anew.

        Args:
            pair_id: Its name.
            settings: Of its cameras.
            aside: Compares clocks meanwhile, where nobody may wait for that; without it, `see` does so at once.
        """
        self.pair_id = pair_id
        self.settings = settings
        self._aside = aside
        self._measuring: Future[ClockFit | None] | None = None
        self.examples = 0
        self.fit: ClockFit | None = None
        self._sides = {camera: _Side() for camera in settings.cameras}
        self._cuts: dict[str, dict[int, Counterpart]] = {}  # by tracklet, by frame index of the view
        self._fitted_at = float("-inf")
        self._latest = 0.0
        self._trusted_until = 0.0  # an error of the drift grows, the quicker the less a fit has seen
        self._lost = False  # clocks that were known are not any more
        self._failed = 0  # fits in a row
        self._liveliness = (0.0, 0.0)  # of both, at the last fit that found something

    def knows(self, seconds: float) -> bool:
        """Whether frames of then may be put together: by a fit that holds, or by the cameras' own clocks at first."""
        return not self._lost if self.fit is None else seconds <= self._trusted_until

    def see(self, frame: Frame, views: Iterable[tuple[str, Crop]]) -> list[tuple[float, float | None]]:
        """Take a frame of either camera, with the views that it gave of open tracklets.

        Returns:
            What this decides: times of frames of the first camera, each with the time, on the second's clock, of its
            partner, or None.
        """
        side, seconds = self._sides[frame.camera_id], _seconds(frame)
        if side.see(frame, seconds):
            self._measuring = None  # what is being compared is of before
            if self.fit is not None:
                self._lose(f"the clock of {frame.camera_id} was set back")
        side.wanted.extend((tracklet_id, view, frame) for tracklet_id, view in views)
        if frame.camera_id == self.settings.cameras[0]:
            self._latest = seconds
            wait = max(_FIT_SECONDS, _FIT_SHARE * side.motion.span_seconds)
            if self._measuring is None and not self._fitted_at <= seconds < self._fitted_at + wait:
                self._fitted_at = seconds
                self._measure()
        if self._measuring is not None and self._measuring.done():
            self._take(self._measuring.result())
            self._measuring = None
        for camera in self.settings.cameras:
            self._cut(camera)
        first, second = self.settings.cameras
        self._decide(second)
        return self._decide(first)

    def finish(self, tracklet: Tracklet) -> tuple[Tracklet, list[Example]]:
        """Give a finished tracklet its counterpart, and find the tracklet of the other camera that is the same person.

        Returns:
            The tracklet, and what it confirms.
        """
        cuts = self._cuts.get(tracklet.tracklet_id, {})
        self.forget(tracklet.tracklet_id)
        best = max(
            (crop for crop in tracklet.crops if crop.frame_index in cuts), key=lambda crop: crop.quality, default=None
        )
        if best is not None:
            tracklet = replace(tracklet, counterparts=(cuts[best.frame_index],))
        return tracklet, self._confirm(tracklet)

    def forget(self, tracklet_id: str) -> None:
        """A tracklet has ended: it needs no counterpart any more, nor do its views that still wait for one."""
        self._cuts.pop(tracklet_id, None)
        for side in self._sides.values():
            side.wanted = deque(each for each in side.wanted if each[0] != tracklet_id)

    def report(self) -> dict[str, Any]:
        """What was measured, as plain values."""
        first, second = (self._sides[camera] for camera in self.settings.cameras)
        found = self.fit if self.knows(self._latest) else None
        return {
            "cameras": list(self.settings.cameras),
            "skew_ms": round(1000 * found.skew(self._latest), 1) if found else None,
            "drift_percent": round(100 * found.drift, 4) if found else None,
            "at": datetime.fromtimestamp(self._latest, UTC).isoformat() if found else None,
            "fitted_at": datetime.fromtimestamp(found.at, UTC).isoformat() if found else None,
            "agreement": round(found.agreement, 3) if found else None,
            "frames_paired": first.paired,
            "frames_unpaired": {
                camera: side.unpaired for camera, side in zip(self.settings.cameras, (first, second), strict=True)
            },
            "examples": self.examples,
        }

    def flush(self) -> list[tuple[float, float | None]]:
        """The frames have ended: compare the clocks once more and decide what is undecided; returns what `see` does."""
        first, second = self.settings.cameras
        if self._latest > self._fitted_at:
            self._take(fit(self._sides[first].motion, self._sides[second].motion, known=self.fit))
        self._decide(second, at_the_end=True)
        return self._decide(first, at_the_end=True)

    def _nearest(self, camera: str, seconds: float) -> float | None:
        """The time, on its own clock, of the other camera's frame nearest to one of this; None where none is near."""
        other = self._sides[self._other(camera)].times
        there = self._translate(camera, seconds)
        place = bisect_left(other, there)
        near = [other[i] for i in (place - 1, place) if 0 <= i < len(other)]
        nearest = min(near, key=lambda each: abs(each - there), default=None)
        if nearest is None or abs(nearest - there) > self.settings.max_skew_seconds:
            return None
        return nearest

    def _measure(self) -> None:
        first, second = (self._sides[camera].motion for camera in self.settings.cameras)
        if self._aside is None:
            self._take(fit(first, second, known=self.fit))
        else:
            self._measuring = self._aside(partial(fit, first.copy(), second.copy(), known=self.fit))

    def _take(self, found: ClockFit | None) -> None:
        lively = tuple(self._sides[camera].motion.liveliness() for camera in self.settings.cameras)
        if found is None:
            as_lively = all(now >= _AS_LIVELY * then for now, then in zip(lively, self._liveliness, strict=True))
            self._failed += as_lively
            if self.fit is not None and self._failed >= _MOST_FAILED:
                self._lose("what moves before the two does not agree any more")
            return
        self._failed, self._lost, self._liveliness = 0, False, (lively[0], lively[1])
        self._trusted_until = self._latest + self._sides[self.settings.cameras[0]].motion.span_seconds
        if self.fit is None:
            logger.info(
                "pair %s: the clock of %s is %+.0f ms off that of %s, and drifts by %+.3f %%", self.pair_id,
                self.settings.cameras[1], 1000 * found.skew(self._latest), self.settings.cameras[0],
                100 * found.drift,
            )  # fmt: skip
        self.fit = found

    def _lose(self, why: str) -> None:
        """The clocks are not known any more: nothing is put together until they are found anew."""
        logger.warning("pair %s: %s: frames are no pairs until the clocks are found anew", self.pair_id, why)
        self.fit, self._lost, self._failed = None, True, 0

    def _other(self, camera: str) -> str:
        first, second = self.settings.cameras
        return second if camera == first else first

    def _translate(self, camera: str, seconds: float) -> float:
        """A time of this camera's clock, on the other's."""
        clocks = self.fit or _NO_FIT
        return clocks.to_second(seconds) if camera == self.settings.cameras[0] else clocks.to_first(seconds)

    def _cut(self, camera: str) -> None:
        """Cut the views of one camera that wait out of the other's pictures, as far as those have come."""
        side, other = self._sides[camera], self._sides[self._other(camera)]
        while side.wanted:
            tracklet_id, view, frame = side.wanted[0]
            there = self._translate(camera, _seconds(frame))
            newest = _seconds(other.frames[-1]) if other.frames else float("-inf")
            if newest < there and side.frames and _seconds(side.frames[-1]) - _seconds(frame) < _RING_SECONDS:
                return  # it may still come
            side.wanted.popleft()
            picture = min(other.frames, key=lambda each: abs(_seconds(each) - there), default=None)
            near = picture is not None and abs(_seconds(picture) - there) <= self.settings.max_skew_seconds
            if picture is not None and near and self.knows(_seconds(frame)):
                self._keep(tracklet_id, view, frame, picture)

    def _keep(self, tracklet_id: str, view: Crop, frame: Frame, picture: Frame) -> None:
        scale = np.array([*picture.resolution_wh] * 2, np.float32) / np.array([*frame.resolution_wh] * 2, np.float32)
        box = np.asarray(view.xyxy * scale, np.float32)
        image = cut_out(picture, box, padding=_PADDING)
        if image is not None:
            self._cuts.setdefault(tracklet_id, {})[view.frame_index] = Counterpart(
                picture.camera_id, picture.modality, image, picture.captured_at, box
            )

    def _decide(self, camera: str, *, at_the_end: bool = False) -> list[tuple[float, float | None]]:
        """Count the frames of a camera that are paired, once they are old enough.

        Clocks are known better in the midst of what a fit has looked at than at its end, and hardly at all before the
        first one.
        """
        side, settings = self._sides[camera], self.settings
        decided: list[tuple[float, float | None]] = []
        if not at_the_end and side.undecided and side.undecided[-1] - side.begun < settings.first_seconds:
            return decided
        while side.undecided and (at_the_end or side.undecided[-1] - side.undecided[0] > settings.settled_seconds):
            seconds = side.undecided.popleft()
            partner = self._partner(camera, seconds)
            side.paired += partner is not None
            side.unpaired += partner is None
            decided.append((seconds, partner))
        return decided

    def _partner(self, camera: str, seconds: float) -> float | None:
        """The frame of the other camera that is nearest to this one, when this one is nearest to that."""
        partner = self._nearest(camera, seconds) if self.knows(seconds) else None
        mutual = partner is not None and self._nearest(self._other(camera), partner) == seconds
        return partner if mutual else None

    def _confirm(self, tracklet: Tracklet) -> list[Example]:
        camera = tracklet.camera_id
        side, other = self._sides[camera], self._sides[self._other(camera)]
        known = np.array([index in side.seconds_of for index in tracklet.frame_index.tolist()], bool)
        if not known.any():
            return []
        seconds = np.array([side.seconds_of[index] for index in tracklet.frame_index[known].tolist()])
        size = np.array([*tracklet.resolution_wh] * 2, np.float32)
        trace = _Trace(tracklet.tracklet_id, seconds, np.asarray(tracklet.xyxy[known] / size, np.float32))
        side.traces.append(trace)
        for each in (side, other):
            while each.traces and each.times and each.times[-1] - each.traces[0].seconds[-1] > _MEMORY_SECONDS:
                each.traces.popleft()
        if self.fit is None or not self.knows(self._latest):
            return []
        overlaps = [(*self._together(camera, trace, each), each) for each in other.traces]
        rivals = [each for frames, overlap, each in overlaps if frames >= 3 and overlap >= _RIVAL_OVERLAP]
        sure = [
            (frames, overlap, each)
            for frames, overlap, each in overlaps
            if frames >= max(_LEAST_TOGETHER, _LEAST_SHARE * min(len(seconds), len(each.seconds)))
            and overlap >= _LEAST_OVERLAP
        ]
        if len(sure) != 1 or len(rivals) != 1:
            return []
        ((frames, overlap, partner),) = sure
        names = trace.tracklet_id, partner.tracklet_id
        ordered = names if camera == self.settings.cameras[0] else names[::-1]
        self.examples += 1
        return [Example(self.pair_id, (ordered[0], ordered[1]), frames, overlap)]

    def _together(self, camera: str, trace: _Trace, other: _Trace) -> tuple[int, float]:
        """In how many frames both are there, and how much their boxes overlap in those."""
        there = np.array([self._translate(camera, seconds) for seconds in trace.seconds])
        if there[-1] < other.seconds[0] or there[0] > other.seconds[-1]:
            return 0, 0.0
        places = np.clip(np.searchsorted(other.seconds, there), 1, max(1, len(other.seconds) - 1))
        left = np.minimum(places - 1, len(other.seconds) - 1)
        right = np.minimum(places, len(other.seconds) - 1)
        nearest = np.where(np.abs(other.seconds[left] - there) <= np.abs(other.seconds[right] - there), left, right)
        close = np.abs(other.seconds[nearest] - there) <= self.settings.max_skew_seconds
        if not close.any():
            return 0, 0.0
        overlaps = np.diag(iou_matrix(trace.boxes[close], other.boxes[nearest[close]]))
        return int(close.sum()), float(overlaps.mean())


class Pairs:
    """All pairs of a run."""

    def __init__(
        self,
        settings: Mapping[str, PairSettings],
        root: Path,
        losses: Losses | None = None,
        *,
        aside: Aside | None = None,
        live: Collection[str] = (),
    ) -> None:
        """Begin anew; confirmed examples are appended to ``pairs.jsonl`` in ``root``, as far as the disk has room.

        Args:
            settings: By pair.
            root: Of the run.
            losses: Counts what the disk did not take.
            aside: See ``Pair``; for pairs of which a camera is live.
            live: Which are; looked at whenever pairs change.
        """
        self._losses = losses or Losses()
        self._aside = aside
        self._live = live
        self._pairs: dict[str, Pair] = {}
        self._of_camera: dict[str, Pair] = {}
        self._path = root / EXAMPLES
        self._found: list[Example] = []
        self._faults: Counter[str] = Counter()  # by pair
        self.change(settings)

    def change(self, settings: Mapping[str, PairSettings]) -> None:
        """Go on with other pairs; one that is as it was keeps what it has measured."""
        self._pairs = {
            name: self._pairs[name]
            if name in self._pairs and self._pairs[name].settings == each
            else self._begun(name, each)
            for name, each in settings.items()
        }
        for name in self._faults.keys() - settings.keys():
            del self._faults[name]
        self._of_camera = {camera: pair for pair in self._pairs.values() for camera in pair.settings.cameras}

    def _begun(self, name: str, settings: PairSettings) -> Pair:
        return Pair(name, settings, aside=self._aside if set(settings.cameras) & set(self._live) else None)

    @contextmanager
    def _guarding(self, pair: Pair) -> Iterator[None]:
        """Within, a fault costs the pair what it has measured, and no camera anything."""
        try:
            yield
        except Exception:
            name = pair.pair_id
            if not self._faults[name]:
                logger.exception("pair %s: begins anew; report.json counts how often from now on", name)
            self._faults[name] += 1
            self._pairs[name] = begun = self._begun(name, pair.settings)
            self._of_camera.update(dict.fromkeys(pair.settings.cameras, begun))

    def see(self, frame: Frame, views: Iterable[tuple[str, Crop]]) -> None:
        """Take a frame of any camera."""
        if (pair := self._of_camera.get(frame.camera_id)) is not None:
            with self._guarding(pair):
                pair.see(frame, views)

    def finish(self, item: Tracklet | RejectedTracklet) -> Tracklet | RejectedTracklet:
        """Give a finished tracklet its counterpart; what it confirms waits for `write`."""
        tracklet = item.tracklet if isinstance(item, RejectedTracklet) else item
        pair = self._of_camera.get(tracklet.camera_id)
        if pair is None:
            return item
        if isinstance(item, RejectedTracklet):
            pair.forget(tracklet.tracklet_id)
            return item
        with self._guarding(pair):
            tracklet, examples = pair.finish(tracklet)
            self._found += examples
        return tracklet

    def flush(self) -> None:
        """The frames have ended."""
        for pair in list(self._pairs.values()):
            with self._guarding(pair):
                pair.flush()

    def report(self) -> dict[str, Any]:
        """What every pair has measured, and how often it began anew by a fault."""
        return {name: pair.report() | {"faults": self._faults[name]} for name, pair in self._pairs.items()}

    def write(self, stored: Callable[[str], bool]) -> None:
        """Append what was confirmed of tracklets that are stored; one that names another waits."""
        examples = [each for each in self._found if all(map(stored, each.tracklets))]
        self._found = [each for each in self._found if each not in examples][-_MOST_WAITING:]
        lines = [
            json.dumps({"pair": each.pair_id, "tracklets": list(each.tracklets), "frames": each.frames,
                        "overlap": round(each.overlap, 3)}) + "\n"
            for each in examples
        ]  # fmt: skip
        for line in lines:
            with self._losses.counting("pairs"):
                append_whole(self._path, line.encode())


def _seconds(frame: Frame) -> float:
    return frame.captured_at.timestamp()


def draft_of_pairs(root: Path, table: Path) -> int:
    """Write the table of ``export --confirmed`` from what the pairs of a run have confirmed.

    A person is one passage before one pair: who passes twice is two persons of this table.

    Returns:
        How many tracklets it names.

    Raises:
        UsageError: When the run confirmed none, or the table exists.
    """
    path = root / EXAMPLES
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    together: dict[str, frozenset[str]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            first, second = json.loads(line)["tracklets"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break  # a line that a crash left unfinished
            raise UsageError(f"{path}:{number}: not a confirmed pair") from None
        whole = together.get(first, frozenset([first])) | together.get(second, frozenset([second]))
        together.update(dict.fromkeys(whole, whole))
    if not together:
        raise UsageError(f"{root}: no pair of cameras has confirmed anybody ({EXAMPLES})")
    groups = sorted(dict.fromkeys(together.values()), key=min)
    rows = [(name, f"pair-{number:04d}") for number, group in enumerate(groups, start=1) for name in sorted(group)]
    try:
        with table.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("tracklet_id", "person"))
            writer.writerows(rows)
    except FileExistsError:
        raise UsageError(f"{table}: exists already; choose another file") from None
    return len(rows)
