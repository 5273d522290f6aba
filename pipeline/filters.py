"""Which tracklets may be answers: filters over columns, applied before the nearest are taken, and counted."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pipeline.config import parse_time
from pipeline.errors import UsageError
from pipeline.record import from_us, to_us
from pipeline.sinks import rfc3339
from pipeline.stored import Columns
from pipeline.ways import Stay
from reid.modality import Modality

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

_DAY_US = 86_400_000_000
_QUARTER_US = 900_000_000  # no clock changes its offset but at a quarter of an hour
_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)")
_MODALITIES = list(Modality)


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A span of the day by the clock on the wall, over midnight where the end is before the start.

    Attributes:
        start_seconds: After midnight.
        end_seconds: After midnight, exclusive.
    """

    start_seconds: int
    end_seconds: int

    @classmethod
    def parse(cls, text: str) -> "TimeOfDay":
        """Read ``22:00-06:00``.

        Raises:
            UsageError: When it is not of that form, or empty.
        """
        found = _TIME_OF_DAY.fullmatch(text.replace(" ", ""))
        if found is None:
            raise UsageError(f"time of day {text!r}: expected HH:MM-HH:MM by the site's clock, such as 22:00-06:00")
        hours = list(map(int, found.groups()))
        start, end = 3600 * hours[0] + 60 * hours[1], 3600 * hours[2] + 60 * hours[3]
        if end > 86_400 or (start == end % 86_400 and (start, end) != (0, 86_400)):
            raise UsageError(f"time of day {text!r}: must begin and end at two times of the day")
        return cls(start, end)

    def __str__(self) -> str:
        """As it is written."""
        return "-".join(f"{at // 3600:02d}:{at // 60 % 60:02d}" for at in (self.start_seconds, self.end_seconds))


def parse_span(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """What the options ``--from`` and ``--to`` give.

    Raises:
        UsageError: When one is no time, or the first is not before the second.
    """
    moments = []
    for flag, text in (("--from", start), ("--to", end)):
        try:
            moments.append(parse_time(text) if text else None)
        except ValueError as error:
            raise UsageError(f"{flag} {error}") from error
    _check_span(*moments, prefix="--")
    return moments[0], moments[1]


def _check_span(start: datetime | None, end: datetime | None, *, prefix: str = "") -> None:
    if start is not None and end is not None and start >= end:
        raise UsageError(f"{prefix}from must be before {prefix}to, got {rfc3339(start)} and {rfc3339(end)}")


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which tracklets may be answers; None means any.

    Attributes:
        modalities: Only these.
        cameras: Only these.
        start: Only tracklets that end at or after this time, UTC.
        end: Only tracklets that start before this time, UTC.
        top_k: Most answers to give.
        time_of_day: Only tracklets that were in view within it, by the site's clock.
        zones: Only tracklets that stood in one of these.
        min_quality: Only tracklets whose best view is at least this good.
        persons: Only tracklets that were given to these.
        include_own: Also the query itself, and what its camera saw at the same moment.
    """

    modalities: frozenset[Modality] | None = None
    cameras: frozenset[str] | None = None
    start: datetime | None = None
    end: datetime | None = None
    top_k: int = 10
    time_of_day: TimeOfDay | None = None
    zones: frozenset[str] | None = None
    min_quality: float | None = None
    persons: frozenset[int] | None = None
    include_own: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top-k must be at least 1, got {self.top_k}")
        if self.min_quality is not None and not 0 <= self.min_quality <= 1:
            raise UsageError(f"the least quality must be in [0, 1], got {self.min_quality:g}")
        for name in ("start", "end"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise UsageError(
                    f"{name} must say its offset from UTC, such as ...T14:00:00Z, got {moment.isoformat()}"
                )
        _check_span(self.start, self.end)

    def to_json(self) -> dict[str, Any]:
        """Those that are set, as strings, numbers and lists."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: _plain(value) for name, value in found.items() if value not in (None, False)}


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    return str(value) if isinstance(value, TimeOfDay) else value


class Catalogue:
    """What filters look at of all tracklets, one array a property; rows ascend."""

    def __init__(self, tracklets: Columns | None = None) -> None:
        self._codes: dict[str, dict[str, int]] = {"camera": {}, "zones": {}}
        self._columns = self._of(Columns.empty())
        if tracklets is not None:
            self.put(tracklets)

    def __len__(self) -> int:
        return len(self._columns["row"])

    def snapshot(self) -> "Catalogue":
        """As it is now, whatever is put in or dropped later; costs nothing: columns are replaced, not changed."""
        found = Catalogue()
        found._columns = self._columns
        found._codes = {kind: dict(codes) for kind, codes in self._codes.items()}
        return found

    @property
    def rows(self) -> Ints:
        """Ascending."""
        rows: Ints = self._columns["row"]
        return rows

    def put(self, tracklets: Columns) -> None:
        """Add; one whose row is known takes its place."""
        new = self._of(tracklets)
        if not len(new["row"]):
            return
        if len(self) and new["row"][0] <= self.rows[-1]:
            self.drop(new["row"])
            at = np.searchsorted(self.rows, new["row"])
            self._columns = {name: np.insert(self._columns[name], at, new[name]) for name in new}
        else:
            self._columns = {name: np.concatenate([self._columns[name], new[name]]) for name in new}

    def drop(self, rows: Sequence[int] | Ints) -> None:
        """Forget; those not known have no effect."""
        gone = np.isin(self.rows, np.asarray(rows, np.int64))
        if gone.any():
            self._columns = {name: column[~gone] for name, column in self._columns.items()}

    def rows_of(self, modality: Modality, among: Mask) -> Ints:
        """Rows of this modality among those that a filter let pass."""
        own: Mask = among & (self._columns["modality"] == _MODALITIES.index(modality))
        return self.rows[own]

    def stay_of(self, row: int) -> Stay:
        """Where and when."""
        at = int(np.searchsorted(self.rows, row))
        camera = list(self._codes["camera"])[self._columns["camera"][at]]
        return Stay(camera, *(from_us(int(self._columns[name][at])) for name in ("start", "end")))

    def select(
        self,
        wanted: SearchFilter,
        *,
        zone: ZoneInfo,
        own_rows: frozenset[int] = frozenset(),
        stays: Sequence[Stay] = (),
        visible: frozenset[str] | None = None,
    ) -> tuple[Mask, dict[str, int]]:
        """Those that pass, and how many each filter removed, in the order in which the filters are applied.

        Args:
            wanted: The filters.
            zone: Of the site's clock.
            own_rows: Tracklets that are the query.
            stays: Where and when the query was seen: whoever that camera saw beside it is somebody else.
            visible: Cameras that the one who asks may see; what others saw is not even counted. None is all.
        """
        left = np.ones(len(self), bool) if visible is None else self._of_cameras(visible)
        removed: dict[str, int] = {}
        for name, passes in self._filters(wanted, zone, own_rows, stays):
            keep = passes()
            removed[name] = int(np.count_nonzero(left & ~keep))
            left &= keep
        return left, removed

    def _filters(
        self, wanted: SearchFilter, zone: ZoneInfo, own_rows: frozenset[int], stays: Sequence[Stay]
    ) -> list[tuple[str, Callable[[], Mask]]]:
        columns, codes_of = self._columns, self._codes
        found: list[tuple[str, Callable[[], Mask]]] = []
        if not wanted.include_own:
            found.append(("query itself", lambda: ~np.isin(columns["row"], list(own_rows))))
            found.append(("same camera at the same time", lambda: ~self._beside(stays)))
        if wanted.modalities is not None:
            codes = [_MODALITIES.index(each) for each in wanted.modalities]
            found.append(("modality", lambda: np.isin(columns["modality"], codes)))
        if wanted.cameras is not None:
            cameras = wanted.cameras
            found.append(("camera", lambda: self._of_cameras(cameras)))
        start, end = wanted.start, wanted.end
        if start is not None:
            found.append(("from", lambda: columns["end"] >= to_us(start)))
        if end is not None:
            found.append(("to", lambda: columns["start"] < to_us(end)))
        span = wanted.time_of_day
        if span is not None:
            found.append(("time of day", lambda: _within(span, columns["start"], columns["end"], zone)))
        if wanted.zones is not None:
            with_zone = [code for text, code in codes_of["zones"].items() if wanted.zones & set(json.loads(text))]
            found.append(("zone", lambda: np.isin(columns["zones"], with_zone)))
        least = wanted.min_quality
        if least is not None:
            found.append(("quality", lambda: columns["quality"] >= least))
        if wanted.persons is not None:
            people = list(wanted.persons)
            found.append(("person", lambda: np.isin(columns["person"], people)))
        return found

    def _of_cameras(self, cameras: frozenset[str]) -> Mask:
        codes = [code for name, code in self._codes["camera"].items() if name in cameras]
        return np.isin(self._columns["camera"], codes)

    def _beside(self, stays: Sequence[Stay]) -> Mask:
        """Seen by the same camera at the same moment as one of these."""
        found = np.zeros(len(self), bool)
        for stay in stays:
            code = self._codes["camera"].get(stay.camera_id)
            if code is not None:
                here = self._columns["camera"] == code
                found |= (
                    here & (self._columns["start"] <= to_us(stay.end)) & (to_us(stay.start) <= self._columns["end"])
                )
        return found

    def _of(self, new: Columns) -> dict[str, NDArray[Any]]:
        modality_of = {camera: _MODALITIES.index(modality) for camera, modality in new.modalities.items()}
        return {
            "row": new.rows,
            "start": new.start_us,
            "end": new.end_us,
            "person": new.persons,
            "quality": new.quality,
            "camera": self._coded("camera", new.cameras),
            "zones": self._coded("zones", new.zones),
            "modality": np.array([modality_of[camera] for camera in new.cameras], np.int8),
        }

    def _coded(self, kind: str, names: Sequence[str]) -> NDArray[np.int32]:
        codes = self._codes[kind]
        for name in dict.fromkeys(names):
            codes.setdefault(name, len(codes))
        return np.array([codes[name] for name in names], np.int32)


def _within(span: TimeOfDay, start: Ints, end: Ints, zone: ZoneInfo) -> Mask:
    """In view at some moment of the span, by the clock that hangs on the wall at that moment."""
    if not len(start):
        return np.zeros(0, bool)
    offsets = _offsets(start, zone)
    inside = _touches(span, start + offsets, end - start)
    if offsets.min() == offsets.max() == _offset(int(end.max()), zone):
        return inside
    for each in np.flatnonzero(offsets != _offsets(end, zone)).tolist():  # the clock was changed meanwhile
        inside[each] = _touches_by_quarters(span, int(start[each]), int(end[each]), zone)
    return inside


def _touches(span: TimeOfDay, local: Ints, duration: Ints) -> Mask:
    """Whether stays that begin at a local time, microseconds, reach into the span."""
    first, length = span.start_seconds * 1_000_000, (span.end_seconds - span.start_seconds) * 1_000_000 % _DAY_US
    since = (local - first) % _DAY_US
    return np.asarray((since < (length or _DAY_US)) | (_DAY_US - since <= duration))


def _touches_by_quarters(span: TimeOfDay, start: int, end: int, zone: ZoneInfo) -> bool:
    """The same of one stay, each quarter of an hour by its own clock: no clock is changed within one."""
    if end - start >= _DAY_US:
        return True
    first, last = start // _QUARTER_US, end // _QUARTER_US
    begins = np.array([start, *(each * _QUARTER_US for each in range(first + 1, last + 1))])
    ends = np.minimum(np.append(begins[1:] - 1, end), end)
    return bool(_touches(span, begins + _offsets(begins, zone), ends - begins).any())


def _offset(moment: int, zone: ZoneInfo) -> int:
    """Local time less UTC, microseconds."""
    offset = from_us(moment).astimezone(zone).utcoffset() or timedelta()
    return offset // timedelta(microseconds=1)


def _offsets(moments: Ints, zone: ZoneInfo) -> Ints:
    """Local time less UTC at each moment, microseconds."""
    if not len(moments):
        return moments
    quarters = moments // _QUARTER_US
    first = int(quarters.min())
    used = np.flatnonzero(np.bincount(quarters - first))  # np.unique would sort them all
    offsets = np.zeros(used[-1] + 1, np.int64)
    for each in used.tolist():
        offsets[each] = _offset((first + each) * _QUARTER_US, zone)
    return offsets[quarters - first]
