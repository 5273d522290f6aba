"""How long people need from one camera to the next: what an installer knows of a site, as a graph."""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

# Log odds by which somebody who was at two distant cameras at one moment is less likely to be one person.
MOST_DOUBT = 6.0


@dataclass(frozen=True, slots=True)
class Way:
    """A way between two cameras, walked in both directions.

    Attributes:
        between: The cameras.
        min_seconds: Nobody is quicker; 0 where their views overlap, so that a person is in both at once.
        typical_seconds: Most people need about as long.
    """

    between: tuple[str, str]
    min_seconds: float
    typical_seconds: float

    def __post_init__(self) -> None:
        if self.between[0] == self.between[1]:
            raise ValueError(f"a way must be between two cameras, got {self.between[0]} twice")
        if not 0 <= self.min_seconds <= self.typical_seconds:
            raise ValueError(
                f"0 <= min_seconds <= typical_seconds must hold between {' and '.join(self.between)}, got"
                f" {self.min_seconds:g} and {self.typical_seconds:g}"
            )


@dataclass(frozen=True, slots=True)
class Stay:
    """Somebody in the view of a camera.

    Attributes:
        camera_id: Which.
        start: First seen, UTC.
        end: Last seen, UTC.
    """

    camera_id: str
    start: datetime
    end: datetime


class Ways:
    """The shortest times between all cameras that ways connect; of others it says nothing."""

    def __init__(self, ways: Iterable[Way] = ()) -> None:
        self._edges: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
        for way in ways:
            a, b = way.between
            if b in self._edges[a]:
                raise ValueError(f"two ways between {a} and {b}")
            self._edges[a][b] = self._edges[b][a] = (way.min_seconds, way.typical_seconds)
        self._least = {camera: _shortest(self._edges, camera, 0) for camera in self._edges}
        self._usual = {camera: _shortest(self._edges, camera, 1) for camera in self._edges}

    def __bool__(self) -> bool:
        return bool(self._edges)

    @property
    def cameras(self) -> frozenset[str]:
        """All that a way leads to."""
        return frozenset(self._edges)

    def least_seconds(self, a: str, b: str) -> float | None:
        """Nobody is quicker from one to the other; None where no way is known."""
        return 0.0 if a == b else self._least.get(a, {}).get(b)

    def typical_seconds(self, a: str, b: str) -> float | None:
        """What most people need; None where no way is known."""
        return 0.0 if a == b else self._usual.get(a, {}).get(b)

    def doubt(self, a: Stay, b: Stay) -> float:
        """By how much the log odds of being one person fall, since nobody could have come so soon; at least 0.

        In proportion to what is missing of the least time: ``MOST_DOUBT`` where it was at the same moment.
        """
        least = self.least_seconds(a.camera_id, b.camera_id)
        if not least:
            return 0.0
        return MOST_DOUBT * max(0.0, 1 - max(gap_seconds(a, b), 0.0) / least)


def gap_seconds(a: Stay, b: Stay) -> float:
    """Between the end of the earlier and the start of the later; below 0 where they overlap."""
    return max((b.start - a.end).total_seconds(), (a.start - b.end).total_seconds())


def _shortest(edges: dict[str, dict[str, tuple[float, float]]], begin: str, which: int) -> dict[str, float]:
    """Dijkstra over the least (0) or the typical (1) seconds."""
    found: dict[str, float] = {}
    waiting = [(0.0, begin)]
    while waiting:
        seconds, camera = heapq.heappop(waiting)
        if camera in found:
            continue
        found[camera] = seconds
        for other, times in edges[camera].items():
            heapq.heappush(waiting, (seconds + times[which], other))
    return found
