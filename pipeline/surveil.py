"""The spine: frames in, sightings out. No thread, no file; every stage is an iterator over the one before."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.detectors.base import Detector
from pipeline.frame import Frame
from pipeline.identify import Sighting
from pipeline.tracklets import RejectedTracklet, Tracklet, TrackletBuilder
from reid.embedding import rounded
from trackers.base import Tracker
from trackers.structures import Detections, Tracks

if TYPE_CHECKING:  # torch takes seconds to import
    from reid.extractor import Extractor

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """A frame with what was detected and tracked on it."""

    frame: Frame
    detections: Detections
    tracks: Tracks


class Identifies(Protocol):
    """Gives tracklets their person."""

    def identify(self, tracklets: Sequence[Tracklet], embeddings: NDArray[np.float32]) -> list[Sighting]:
        """Link each tracklet, with its unit-length embedding (n, d), to a person."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """The stages, ready to run.

    Attributes:
        detector: Shared by all cameras.
        trackers: One a camera.
        builders: One a camera.
        extractor: Crops to embeddings.
        identifier: Embeddings to people.
        frames_a_batch: Frames that go through the detector together.
        tracklets_a_batch: Tracklets that go through the extractor together.
    """

    detector: Detector
    trackers: Mapping[str, Tracker]
    builders: Mapping[str, TrackletBuilder]
    extractor: "Extractor"
    identifier: Identifies
    frames_a_batch: int
    tracklets_a_batch: int


def surveil(
    frames: Iterable[Frame], line: Line, *, on_tracked: Callable[[TrackedFrame], None]
) -> Iterator[Sighting | RejectedTracklet]:
    """Run the whole line over frames of any number of cameras.

    Args:
        frames: In order of time within each camera.
        line: The stages.
        on_tracked: Called with every frame once it is tracked, before its tracklets end.

    Yields:
        Each finished tracklet exactly once: with its person, or with the reason why it has none.
    """
    items = tracked(frames, line.detector, line.trackers, frames_a_batch=line.frames_a_batch)
    finished = gather(_observed(items, on_tracked), line.builders)
    yield from identify(finished, line)


def tracked(
    frames: Iterable[Frame], detector: Detector, trackers: Mapping[str, Tracker], *, frames_a_batch: int
) -> Iterator[TrackedFrame]:
    """Detect in batches, then track each camera on its own."""
    for batch in batched(frames, frames_a_batch):
        for frame, detections in zip(batch, detector.detect(batch), strict=True):
            tracks = trackers[frame.camera_id].update(detections, pts_seconds=frame.pts_seconds)
            yield TrackedFrame(frame, detections, tracks)


def gather(
    items: Iterable[TrackedFrame], builders: Mapping[str, TrackletBuilder]
) -> Iterator[Tracklet | RejectedTracklet]:
    """Build tracklets; when the frames end, finish those still open."""
    for item in items:
        yield from builders[item.frame.camera_id].update(item.frame, item.tracks)
    for builder in builders.values():
        yield from builder.flush()


def identify(finished: Iterable[Tracklet | RejectedTracklet], line: Line) -> Iterator[Sighting | RejectedTracklet]:
    """Embed accepted tracklets in batches and give each its person; pass rejected ones through."""
    for batch in batched(finished, line.tracklets_a_batch):
        yield from (item for item in batch if isinstance(item, RejectedTracklet))
        tracklets = [item for item in batch if isinstance(item, Tracklet)]
        if tracklets:
            clips = [[crop.image for crop in tracklet.crops] for tracklet in tracklets]
            embeddings = rounded(line.extractor.extract(clips, [tracklet.modality for tracklet in tracklets]))
            yield from line.identifier.identify(tracklets, embeddings)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut an iterable into lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _observed(items: Iterable[T], observe: Callable[[T], None]) -> Iterator[T]:
    for item in items:
        observe(item)
        yield item
