"""Searching: what a query shows is told before it is searched for."""

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.server.access import AskedFirst
from pipeline.server.media import picture
from pipeline.server.queries import picture_of, preview_of_example, preview_of_upload
from pipeline.server.routes.asking import CameraId, QueryId, Seeker, TheDesk
from pipeline.server.schemas import Example, Preview, SearchRequest, SearchResult
from pipeline.server.searching import search_for
from reid.modality import Modality

router = APIRouter(tags=["search"], route_class=AskedFirst)
UPLOAD = "/queries"


@router.post("/queries/preview", response_model=Preview, status_code=201)
async def preview(desk: TheDesk, caller: Seeker, example: Example) -> dict[str, Any]:
    """What a tracklet, or a box on a frame, would be searched with: modality and quality."""
    return await preview_of_example(desk, caller, example)


@router.post(UPLOAD, response_model=Preview, status_code=201)
async def upload(
    desk: TheDesk,
    caller: Seeker,
    file: Annotated[UploadFile, File(description="JPEG, PNG, TIFF, BMP or WebP that shows the person")],
    modality: Annotated[Modality | None, Form(description="needed for a grey picture of 8 bits")] = None,
    camera_id: Annotated[CameraId | None, Form(description="that recorded it: its modality is the picture's")] = None,
    whole: Annotated[bool, Form(description="the picture shows one person and little else")] = False,
) -> dict[str, Any]:
    """Take a picture in, find the person in it, and tell modality and quality."""
    return await preview_of_upload(desk, caller, file, modality=modality, camera_id=camera_id, whole=whole)


@router.get(
    "/queries/{query_id}/crop",
    name="query_crop",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "the picture of the person"}},
)
async def crop(desk: TheDesk, caller: Seeker, request: Request, query_id: QueryId) -> Response:
    """The picture that a search would be made with."""
    return picture(request, await picture_of(desk, caller, query_id), "image/jpeg")


@router.post("/search", response_model=SearchResult)
async def search(desk: TheDesk, caller: Seeker, asked: SearchRequest) -> Response:
    """Find a person; what ``run_pipeline.py search --json`` prints for the same question, and as it does, audited."""
    return JSONResponse(
        await search_for(desk, caller, asked)
    )  # made of its schema already; to check it costs as much again
