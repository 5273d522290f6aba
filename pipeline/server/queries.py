"""Pictures of people who are to be searched for: taken in, judged, and kept for a while for who brought them.

Whoever brought one must be allowed to see its camera still, each time that it is used, and what it was taken from must
be there still: the tracklet, or the recording. Of a tracklet no picture is kept here, but looked up again.
"""

import re
import secrets
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import UploadFile

from pipeline.clips import Query, Spot
from pipeline.errors import PipelineError
from pipeline.frame import Image
from pipeline.query import QueryFile, clip_of_file, clip_of_spot
from pipeline.server.access import Caller
from pipeline.server.media import crop_picture, jpeg
from pipeline.server.problems import ProblemError, not_found
from pipeline.server.recordings import has_recording, recording_mark
from pipeline.server.schemas import Example
from pipeline.server.sight import visible_camera, visible_tracklet
from pipeline.server.uploads import check_image
from pipeline.sinks import blur_effect, rfc3339
from pipeline.store import Store, StoredTracklet, read_crop
from reid.modality import Modality

if TYPE_CHECKING:
    from pipeline.server.desk import Desk

_MINUTES = 30
_MOST_BYTES = 256_000_000
_MOST_BYTES_OF_ONE = 64_000_000  # user: nobody pushes out what another has brought
_OWN_BYTES = 128_000  # of each beside its pictures: so their number has a bound too
_DARK = 60.0  # mean grey level of a colour picture, below which it is called night
_FEW_PIXELS, _LOW = 48, 96  # heights
_BLURRED, _SOFT = 0.75, 0.6  # effect of blur
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a query is from.

    Attributes:
        tracklet_id: A stored tracklet.
        camera_id: That recorded it, or of which whoever brought it said so; None where no camera is known.
        spot: Whether it is a box on a frame of that camera's recording.
    """

    tracklet_id: str | None = None
    camera_id: str | None = None
    spot: bool = False


@dataclass(slots=True, eq=False)
class Kept:
    """One query.

    Attributes:
        query_id: Its name; nobody can guess it.
        owner: The user who brought it; nobody else may use it.
        clip: Crops of the person; none of a stored tracklet.
        query: What it is.
        quality: How well it shows the person.
        expires: When it is forgotten.
        origin: Where it is from.
        vector: Once it was embedded.
    """

    query_id: str
    owner: str
    clip: Sequence[Image]
    query: Query
    quality: dict[str, Any]
    expires: datetime
    origin: Origin
    vector: NDArray[np.float32] | None = None
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = _OWN_BYTES + sum(each.nbytes for each in self.clip)

    def jpeg(self) -> bytes:
        """The picture, for the eye, of what is no stored tracklet."""
        return jpeg(self.clip[len(self.clip) // 2])


class Queries:
    """What is kept, the newest; safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def keep(
        self,
        owner: str,
        clip: Sequence[Image],
        query: Query,
        quality: dict[str, Any],
        origin: Origin,
    ) -> Kept:
        """Take one in."""
        expires = datetime.now(UTC) + timedelta(minutes=_MINUTES)
        made = Kept(f"q-{secrets.token_urlsafe(18)}", owner, clip, query, quality, expires, origin)
        with self._lock:
            self._forget_old()
            self._kept[made.query_id] = made
            self._make_room()
        return made

    def _make_room(self) -> None:
        """Forget the oldest of whoever has too much, or of whoever has most where all have too much together."""
        sizes: Counter[str] = Counter()
        for each in self._kept.values():
            sizes[each.owner] += each.size
        while sizes.total() > _MOST_BYTES or max(sizes.values()) > _MOST_BYTES_OF_ONE:
            most = max(sizes, key=sizes.__getitem__)
            oldest = next(each for each in self._kept.values() if each.owner == most)
            sizes[most] -= self._kept.pop(oldest.query_id).size

    def get(self, query_id: str, caller: Caller) -> Kept:
        """One of somebody's; `query_of` also asks whether what it was taken from is there still.

        Raises:
            ProblemError: 404, when it is not theirs, of a camera that they may not see (any more), or forgotten.
        """
        with self._lock:
            self._forget_old()
            found = self._kept.get(query_id)
        camera = None if found is None else found.origin.camera_id
        if found is None or found.owner != caller.user or (camera is not None and not caller.sees(camera)):
            raise not_found(f"query {query_id}: it may have been forgotten, for they are kept for {_MINUTES} minutes")
        return found

    def _forget_old(self) -> None:
        now = datetime.now(UTC)
        for name in [name for name, each in self._kept.items() if each.expires <= now]:
            del self._kept[name]


async def query_of(desk: "Desk", caller: Caller, query_id: str) -> Kept:
    """A query of the caller's that they may use.

    Raises:
        ProblemError: 404, when it is not theirs, of a camera that they may not see (any more), or forgotten; or when
            its tracklet, or the recording that it was taken from, is gone.
    """
    kept = desk.queries.get(query_id, caller)
    if (name := kept.origin.tracklet_id) is not None:
        await desk.workers.use(lambda store: visible_tracklet(store, caller, name))
    camera = kept.origin.camera_id or ""
    if kept.origin.spot and await desk.workers.run(lambda: recording_mark(desk.config, camera)) is None:
        raise not_found(f"recording of camera {camera} any more")
    return kept


async def picture_of(desk: "Desk", caller: Caller, query_id: str) -> bytes:
    """The picture of the person, a JPEG for the eye.

    Raises:
        ProblemError: 404, as for `query_of`, or when the images of its tracklet have aged away.
    """
    kept = await query_of(desk, caller, query_id)
    if (name := kept.origin.tracklet_id) is None:
        return await desk.workers.run(kept.jpeg)

    def best(store: Store) -> bytes:
        own = visible_tracklet(store, caller, name)
        if own.best_crop is None:
            raise not_found(f"picture of tracklet {name} any more")
        return crop_picture(own.best_crop, own.modality, native=False)[0]

    return await desk.workers.use(best)


async def preview_of_example(desk: "Desk", caller: Caller, example: Example) -> dict[str, Any]:
    """Keep a stored tracklet, or a box on a frame, as a query, and tell what it shows."""
    if example.query_id is not None:
        return _told(await query_of(desk, caller, example.query_id))
    if example.tracklet_id is not None:
        name = example.tracklet_id
        return _told(await desk.workers.use(lambda store: _keep_tracklet(desk, store, caller, name)))
    return _told(await keep_spot(desk, caller, example))


async def keep_spot(desk: "Desk", caller: Caller, example: Example) -> Kept:
    """Keep a box on a frame as a query.

    Raises:
        ProblemError: 404 when there is no such recording or moment, 422 when the box is of no use.
    """
    spot, config = example.spot, desk.config
    if spot is None:
        raise ValueError("not a spot")
    await desk.workers.use(lambda store: visible_camera(desk.config, store, caller, spot.camera_id))
    if config is None or not has_recording(config, spot.camera_id):
        raise not_found(f"recording of camera {spot.camera_id}")
    left, top, right, bottom = spot.xyxy
    moment = spot.at if spot.at is not None else spot.seconds or 0.0
    where = Spot(moment, (left, top, right, bottom))
    clip, query, cut = await desk.decoders.run(lambda: _usable(lambda: clip_of_spot(spot.camera_id, where, config)))
    quality = _quality(clip[0], query.modality, bottom - top, right - left, truncated=cut)
    desk.search.prepare_model()
    return desk.queries.keep(caller.user, clip, query, quality, Origin(camera_id=spot.camera_id, spot=True))


async def preview_of_upload(
    desk: "Desk",
    caller: Caller,
    file: UploadFile,
    *,
    modality: Modality | None,
    camera_id: str | None,
    whole: bool,
) -> dict[str, Any]:
    """Keep an uploaded picture as a query, and tell what it shows.

    Raises:
        ProblemError: 413 when it is too large, 415 when it is no picture, 422 when it shows nobody, or is grey and
            nobody says of which modality.
    """
    if camera_id is not None:
        name = camera_id
        await desk.workers.use(lambda store: visible_camera(desk.config, store, caller, name))
    data = await file.read()
    most_pixels = round(1e6 * desk.settings.upload_megapixels)
    title = _UNSAFE.sub("_", Path(file.filename or "").stem)[:60].strip("._") or "upload"
    config = desk.config
    known = camera_id if config is not None and camera_id in config.cameras else None
    about = QueryFile(None if known else modality, known, whole)

    def take_in() -> Kept:
        suffix = check_image(data, most_pixels=most_pixels)
        with tempfile.TemporaryDirectory(prefix="query-") as folder:
            path = Path(folder) / f"{title}{suffix}"
            path.write_bytes(data)
            clip, query = _usable(lambda: clip_of_file(path, about, config), hide=f"{folder}/")
        query = replace(query, description=query.description.replace(f"{folder}/", ""))
        height, width = clip[0].shape[:2]
        quality = _quality(clip[0], query.modality, height, width)
        return desk.queries.keep(caller.user, clip, query, quality, Origin(camera_id=camera_id))

    kept = await desk.models.run(take_in)
    desk.search.prepare_model()
    return _told(kept)


def _usable(job: Any, *, hide: str = "") -> Any:
    try:
        return job()
    except PipelineError as error:
        said = str(error).replace(hide, "") if hide else str(error)
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, said, kind="query-unusable") from None


def _keep_tracklet(desk: "Desk", store: Store, caller: Caller, tracklet_id: str) -> Kept:
    own = visible_tracklet(store, caller, tracklet_id)
    if own.rejected is not None:
        said = f"tracklet {tracklet_id} was rejected ({own.rejected.value}) and has no vector to search by"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, said, kind="query-unusable")
    clip = [read_crop(own.best_crop)] if own.best_crop is not None and own.best_crop.is_file() else []
    query = Query(tracklet_id, own.modality, own.camera_id, own.start, own.end)
    quality = _quality_of(store, own, clip)
    return desk.queries.keep(caller.user, [], query, quality, Origin(tracklet_id, own.camera_id))


def _quality_of(store: Store, own: StoredTracklet, clip: Sequence[Image]) -> dict[str, Any]:
    record = store.record(own.tracklet_id)
    if not clip or not record.crops:
        return _quality(None, own.modality, 0, 0, score=own.quality)
    _, _, _, _, _, left, top, right, bottom = max(record.crops, key=lambda crop: (crop[2], -crop[0]))
    cut = left <= 1 or top <= 1 or right >= record.width - 1 or bottom >= record.height - 1
    return _quality(clip[0], own.modality, bottom - top, right - left, truncated=cut, score=own.quality)


def _quality(
    image: Image | None,
    modality: Modality,
    height: float,
    width: float,
    *,
    truncated: bool | None = None,
    score: float | None = None,
) -> dict[str, Any]:
    """How well a picture shows the person, and what is wrong with it in words."""
    blur = 1.0 if image is None else blur_effect(image)
    night = modality is not Modality.RGB or (image is not None and float(np.mean(image)) < _DARK)
    bad: list[str] = []
    doubtful: list[str] = []
    if image is None:
        doubtful.append("its pictures have aged away: the search goes by what was kept of them")
    else:
        (bad if height < _FEW_PIXELS else doubtful if height < _LOW else []).append(
            f"the person is {height:.0f} pixels high; {_LOW} and more are better"
        )
        (bad if blur > _BLURRED else doubtful if blur > _SOFT else []).append(f"blurred ({blur:.2f} of 1)")
    if truncated:
        doubtful.append("cut by the border of the picture")
    if score is not None and score < 0.3:
        doubtful.append(f"a poor view of one whole person ({score:.2f} of 1)")
    return {
        "width_px": round(width),
        "height_px": round(height),
        "blur": round(min(max(blur, 0.0), 1.0), 4),
        "truncated": truncated,
        "night": bool(night),
        "score": score,
        "verdict": "poor" if bad else "fair" if doubtful else "good",
        "warnings": [*bad, *doubtful],
    }


def _told(kept: Kept) -> dict[str, Any]:
    query = kept.query
    return {
        "query_id": kept.query_id,
        "description": query.description,
        "modality": query.modality.value,
        "camera_id": query.camera_id,
        "start": None if query.start is None else rfc3339(query.start),
        "end": None if query.end is None else rfc3339(query.end),
        "people": query.people,
        "quality": kept.quality,
        "crop": f"/api/v1/queries/{kept.query_id}/crop",
        "expires": rfc3339(kept.expires),
    }
