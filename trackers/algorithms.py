"""Every tracker by its name: the one list for command lines and configs."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from trackers.base import Tracker
from trackers.botsort import BoTSort, BoTSortSettings
from trackers.bytetrack import ByteTrack, ByteTrackSettings
from trackers.cautious import CautiousSettings, CautiousTracker
from trackers.ocsort import OCSort, OCSortSettings
from trackers.sort import Sort, SortSettings


class Algorithm(NamedTuple):
    """A tracker's class and that of its settings, a frozen dataclass whose fields all have defaults."""

    tracker: Callable[[Any], Tracker]
    settings: type[Any]

    def build(self, **settings: Any) -> Tracker:
        """A new tracker with these settings and the defaults of all others.

        Raises:
            TypeError: For a setting that this tracker does not have.
            ValueError: For a value that cannot be meant.
        """
        return self.tracker(self.settings(**settings))


TRACKERS: Mapping[str, Algorithm] = MappingProxyType(
    {
        "cautious": Algorithm(CautiousTracker, CautiousSettings),
        "sort": Algorithm(Sort, SortSettings),
        "bytetrack": Algorithm(ByteTrack, ByteTrackSettings),
        "ocsort": Algorithm(OCSort, OCSortSettings),
        "botsort": Algorithm(BoTSort, BoTSortSettings),
    }
)
DEFAULT = "cautious"
