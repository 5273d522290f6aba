"""Tracklets: lists, one with all that is known of it, its pictures and its clip."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from pipeline.errors import UsageError
from pipeline.record import to_us
from pipeline.replies import link_reply, tracklet_reply
from pipeline.server.access import AskedFirst
from pipeline.server.lists import cursor_of, place_of
from pipeline.server.media import crop_picture, picture
from pipeline.server.problems import ProblemError, not_found
from pipeline.server.routes.asking import CameraId, CursorText, Limit, Looker, PersonName, TheDesk, TrackletId
from pipeline.server.schemas import Link, Page, Share, Tracklet, TrackletBoxes, TrackletDetails
from pipeline.server.showing import boxes_reply, details_reply, visible_links
from pipeline.server.sight import visible_tracklet
from pipeline.store import Store, TrackletFilter
from reid.modality import Modality

router = APIRouter(tags=["tracklets"], route_class=AskedFirst)

View = Annotated[
    Literal["eye", "native"], Query(description="`eye`: JPEG, infrared stretched; `native`: the file as it is kept")
]
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "the picture"},
    304: {"description": "the one you have is still right"},
}


@router.get("/tracklets", response_model=Page[Tracklet])
async def tracklets(
    desk: TheDesk,
    caller: Looker,
    camera: Annotated[list[CameraId] | None, Query(max_length=1000)] = None,
    modality: Annotated[list[Modality] | None, Query()] = None,
    start: Annotated[datetime | None, Query(alias="from", description="that end at or after")] = None,
    end: Annotated[datetime | None, Query(alias="to", description="that start before")] = None,
    person: PersonName | None = None,
    zone: Annotated[list[CameraId] | None, Query(max_length=1000)] = None,
    min_quality: Share | None = None,
    rejected: bool = False,
    order: Literal["newest", "oldest"] = "newest",
    limit: Limit = 50,
    cursor: CursorText = None,
) -> dict[str, Any]:
    """Tracklets that I may see, by start time."""
    for name, moment in (("from", start), ("to", end)):
        if moment is not None and moment.tzinfo is None:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name} must say its offset from UTC, such as ...Z")
    chosen = None if camera is None else frozenset(camera)
    if caller.cameras is not None:
        chosen = caller.cameras if chosen is None else chosen & caller.cameras
    wanted = TrackletFilter(
        cameras=chosen,
        modalities=None if modality is None else frozenset(modality),
        start=start,
        end=end,
        person_id=None if person is None else int(person[1:]),
        zones=None if zone is None else frozenset(zone),
        min_quality=min_quality,
        rejected=rejected,
    )
    place = place_of(cursor, int, str)
    after = None if place is None else (place[0], place[1])

    def page(store: Store) -> dict[str, Any]:
        found = store.page(wanted, limit=limit + 1, after=after, newest_first=order == "newest")
        shown = found[:limit]
        more = cursor_of(to_us(shown[-1].start), shown[-1].tracklet_id) if len(found) > limit else None
        return {"items": [tracklet_reply(each, desk.zone) for each in shown], "next": more}

    return await desk.workers.use(page)


@router.get("/tracklets/{tracklet_id}", response_model=TrackletDetails)
async def tracklet(desk: TheDesk, caller: Looker, tracklet_id: TrackletId) -> dict[str, Any]:
    """One tracklet with its views, counterparts, links and cases."""
    return await desk.workers.use(
        lambda store: details_reply(desk, store, caller, visible_tracklet(store, caller, tracklet_id))
    )


@router.get("/tracklets/{tracklet_id}/boxes", response_model=TrackletBoxes)
async def boxes(desk: TheDesk, caller: Looker, tracklet_id: TrackletId) -> dict[str, Any]:
    """Where the person was, frame by frame."""
    return await desk.workers.use(lambda store: boxes_reply(store, visible_tracklet(store, caller, tracklet_id)))


@router.get("/tracklets/{tracklet_id}/links", response_model=list[Link], name="links_of_tracklet")
async def links(desk: TheDesk, caller: Looker, tracklet_id: TrackletId) -> list[dict[str, Any]]:
    """What links it to others, in both directions."""

    def found(store: Store) -> list[dict[str, Any]]:
        own = visible_tracklet(store, caller, tracklet_id)
        return [link_reply(each) for each in visible_links(store, caller, own.tracklet_id)]

    return await desk.workers.use(found)


@router.get("/tracklets/{tracklet_id}/crops/{position}", response_class=Response, responses=_PICTURE)
async def crop(
    desk: TheDesk,
    caller: Looker,
    request: Request,
    tracklet_id: TrackletId,
    position: Annotated[str, InPath(pattern=r"^(best|[0-9]{1,4})$", description="`best`, or a number from 0")],
    view: View = "eye",
) -> Response:
    """One of its views; `best` is the clearest."""

    def found(store: Store) -> tuple[bytes, str]:
        own = visible_tracklet(store, caller, tracklet_id)
        if position == "best":
            path = own.best_crop
        else:
            crops = store.crops(tracklet_id)
            path = crops[int(position)] if int(position) < len(crops) else None
        if path is None:
            raise not_found(f"crop {position} of tracklet {tracklet_id}")
        return crop_picture(path, own.modality, native=view == "native")

    data, kind = await desk.workers.use(found)
    return picture(request, data, kind)


@router.get("/tracklets/{tracklet_id}/counterparts/{camera_id}", response_class=Response, responses=_PICTURE)
async def counterpart(
    desk: TheDesk,
    caller: Looker,
    request: Request,
    tracklet_id: TrackletId,
    camera_id: CameraId,
    view: View = "eye",
) -> Response:
    """The same moment through the camera of another modality."""

    def found(store: Store) -> tuple[bytes, str]:
        visible_tracklet(store, caller, tracklet_id)
        for each in store.counterparts(tracklet_id):
            if each.camera_id == camera_id and caller.sees(camera_id):
                return crop_picture(each.crop, each.modality, native=view == "native")
        raise not_found(f"counterpart of tracklet {tracklet_id} in camera {camera_id}")

    data, kind = await desk.workers.use(found)
    return picture(request, data, kind)


@router.get(
    "/tracklets/{tracklet_id}/clip",
    response_class=Response,
    responses={
        200: {"content": {"video/mp4": {}}, "description": "the whole clip"},
        206: {"content": {"video/mp4": {}}, "description": "the part that Range asks for"},
    },
)
async def clip(
    desk: TheDesk,
    caller: Looker,
    request: Request,
    tracklet_id: TrackletId,
    box: Annotated[bool, Query(description="whether the box is drawn")] = True,
) -> Response:
    """H.264 of the recording while the person was in view, or of the kept views where there is no recording."""
    await desk.workers.use(lambda store: visible_tracklet(store, caller, tracklet_id))
    try:
        data = await desk.clips.get(tracklet_id, box=box)  # which looks itself whether all is still there
    except UsageError as error:
        raise not_found(str(error)) from None
    return picture(request, data, "video/mp4")
