"""Cameras: what they saw, their live state, and single frames of what they recorded."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.requests import Request
from starlette.responses import Response

from pipeline.server.access import AskedFirst
from pipeline.server.media import picture
from pipeline.server.pictures import LatestPicture
from pipeline.server.problems import not_found
from pipeline.server.recordings import frame_at, recording_of
from pipeline.server.routes.asking import AtSite, CameraId, Looker, TheDesk
from pipeline.server.schemas import Camera, Recording
from pipeline.server.sight import visible_camera
from pipeline.server.state import cameras_of
from pipeline.sinks import rfc3339
from pipeline.store import Store

router = APIRouter(tags=["cameras"], route_class=AskedFirst)


@router.get("/cameras", response_model=list[Camera])
async def cameras(desk: TheDesk, caller: AtSite) -> list[dict[str, Any]]:
    """All cameras that I may see."""
    return await desk.workers.use(lambda store: cameras_of(desk, store, caller.cameras))


@router.get("/cameras/{camera_id}", response_model=Camera)
async def camera(desk: TheDesk, caller: AtSite, camera_id: CameraId) -> dict[str, Any]:
    """One camera."""
    found = await desk.workers.use(lambda store: cameras_of(desk, store, caller.cameras))
    for each in found:
        if each["camera_id"] == camera_id:
            return each
    raise not_found(f"camera {camera_id}")


@router.get("/cameras/{camera_id}/recording", response_model=Recording)
async def recording(desk: TheDesk, caller: Looker, camera_id: CameraId) -> dict[str, Any]:
    """What can be looked at of a camera whose source is a recording; 404 for a stream, or when the files are gone."""
    await desk.workers.use(lambda store: visible_camera(desk.config, store, caller, camera_id))
    return await desk.decoders.run(lambda: recording_of(desk.config, camera_id))


@router.get(
    "/cameras/{camera_id}/picture",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "what the camera showed last"}},
)
async def latest_picture(desk: TheDesk, caller: Looker, camera_id: CameraId) -> Response:
    """What a camera showed last, small and for the eye; 404 when no run in this process reads it.

    ``X-Captured-At`` says when it was taken, ``X-Age-Seconds`` how long ago the run read it: of a camera that is down
    it grows. However many ask, a new picture is made every two seconds at most.
    """

    def found(store: Store) -> LatestPicture:
        visible_camera(desk.config, store, caller, camera_id)
        return desk.pictures.of(camera_id)

    latest = await desk.workers.use(found)
    headers = {"X-Captured-At": rfc3339(latest.frame.captured_at), "X-Age-Seconds": f"{latest.age_seconds:.1f}"}
    return Response(latest.data, media_type="image/jpeg", headers=headers)


@router.get(
    "/cameras/{camera_id}/frame",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "the frame shown at that moment"}},
)
async def frame(
    desk: TheDesk,
    caller: Looker,
    request: Request,
    camera_id: CameraId,
    at: Annotated[AwareDatetime | None, Query(description="a moment; or else `seconds`")] = None,
    seconds: Annotated[float | None, Query(ge=0, le=10_000_000, allow_inf_nan=False)] = None,
) -> Response:
    """The frame of a recording that is shown at a moment, for the eye; headers say which it is.

    ``X-Frame-Index``, ``X-Seconds`` and ``X-Captured-At`` name the frame: a box drawn on it is searched for with the
    same seconds. Without a moment, the first frame.
    """
    await desk.workers.use(lambda store: visible_camera(desk.config, store, caller, camera_id))
    moment: datetime | float = at if at is not None else seconds or 0.0
    shown, image = await desk.decoders.run(lambda: frame_at(desk.config, camera_id, moment))
    headers = {
        "X-Frame-Index": str(shown.index),
        "X-Seconds": repr(shown.pts_seconds),
        "X-Captured-At": rfc3339(shown.captured_at),
        "X-Width": str(shown.resolution_wh[0]),
        "X-Height": str(shown.resolution_wh[1]),
    }
    return picture(request, image, "image/jpeg", headers=headers)
