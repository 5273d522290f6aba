"""Cases, what they hold, and the evidence that is exported of them."""

import logging
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from pipeline.cases import Cases
from pipeline.errors import UsageError
from pipeline.server import media
from pipeline.server.access import AskedFirst
from pipeline.server.guard import is_head
from pipeline.server.lists import cursor_of, place_of
from pipeline.server.problems import ProblemError, not_found
from pipeline.server.routes.asking import (
    CaseId,
    CaseReader,
    CursorText,
    ExportId,
    Investigator,
    InvestigatorOfAll,
    Limit,
    TheDesk,
    TrackletId,
)
from pipeline.server.schemas import Case, CaseDetails, Export, ExportVerdict, Hold, NewCase, NewExport, Page
from pipeline.server.showing import case_details, cases_page, require_case
from pipeline.server.sight import visible_tracklet
from pipeline.store import Store

logger = logging.getLogger(__name__)
router = APIRouter(tags=["cases"], route_class=AskedFirst)


@router.get("/cases", response_model=Page[Case])
async def cases(desk: TheDesk, caller: CaseReader, limit: Limit = 50, cursor: CursorText = None) -> dict[str, Any]:
    """All cases, by name, each with those of its tracklets that I may see."""
    place = place_of(cursor, str)
    return await desk.workers.use(lambda store: cases_page(store, caller, after=place[0] if place else "", limit=limit))


@router.post("/cases", response_model=CaseDetails, status_code=201)
async def open_case(desk: TheDesk, caller: Investigator, asked: NewCase) -> dict[str, Any]:
    """Begin a case, or open a closed one again; what is in it is neither aged nor erased."""

    def job(store: Store) -> dict[str, Any]:
        there = next((each for each in Cases(store).all() if each.case_id == asked.case_id), None)
        if there is not None and there.closed is None:
            raise ProblemError(HTTPStatus.CONFLICT, f"case {asked.case_id} is open already; take another name")
        if there is not None and caller.cameras is not None:
            raise ProblemError(HTTPStatus.FORBIDDEN, "who opens a closed case again must see all cameras")
        Cases(store, desk.audit(store)).open(asked.case_id, asked.title, desk.actor(caller))
        return case_details(desk, store, caller, asked.case_id)

    return await desk.writer.use(job)


@router.get("/cases/{case_id}", response_model=CaseDetails)
async def case(desk: TheDesk, caller: CaseReader, case_id: CaseId) -> dict[str, Any]:
    """A case with its tracklets and exports."""
    return await desk.workers.use(lambda store: case_details(desk, store, caller, case_id))


@router.post("/cases/{case_id}/items", response_model=CaseDetails, status_code=201)
async def hold(desk: TheDesk, caller: Investigator, case_id: CaseId, asked: Hold) -> dict[str, Any]:
    """Put tracklets into an open case."""

    def job(store: Store) -> dict[str, Any]:
        require_case(store, case_id)
        for each in asked.tracklets:
            visible_tracklet(store, caller, each)
        Cases(store, desk.audit(store)).hold(
            case_id, asked.tracklets, desk.actor(caller, case_id=case_id), note=asked.note
        )
        return case_details(desk, store, caller, case_id)

    return await _unless_closed(desk, job)


@router.delete("/cases/{case_id}/items/{tracklet_id}", status_code=204)
async def release(desk: TheDesk, caller: Investigator, case_id: CaseId, tracklet_id: TrackletId) -> None:
    """Take a tracklet out of an open case."""

    def job(store: Store) -> dict[str, Any]:
        require_case(store, case_id)
        visible_tracklet(store, caller, tracklet_id)
        if tracklet_id not in Cases(store).items(case_id):
            raise not_found(f"tracklet {tracklet_id} in case {case_id}")
        Cases(store, desk.audit(store)).release(case_id, [tracklet_id], desk.actor(caller, case_id=case_id))
        return {}

    await _unless_closed(desk, job)


@router.post("/cases/{case_id}/close", response_model=CaseDetails)
async def close_case(desk: TheDesk, caller: InvestigatorOfAll, case_id: CaseId) -> dict[str, Any]:
    """End a case: what is in it may be aged and erased again."""

    def job(store: Store) -> dict[str, Any]:
        require_case(store, case_id)
        Cases(store, desk.audit(store)).close(case_id, desk.actor(caller, case_id=case_id))
        return case_details(desk, store, caller, case_id)

    return await _unless_closed(desk, job)


@router.post("/cases/{case_id}/exports", response_model=Export, status_code=202)
async def export(desk: TheDesk, caller: Investigator, case_id: CaseId, asked: NewExport) -> dict[str, Any]:
    """Begin to write the evidence of a case as a zip: of those of its tracklets that I may see."""
    await desk.workers.use(lambda store: require_case(store, case_id))
    return await desk.exports.begin(caller, case_id, asked)


@router.get("/exports", response_model=Page[Export])
async def exports(desk: TheDesk, caller: CaseReader, limit: Limit = 50, cursor: CursorText = None) -> dict[str, Any]:
    """What was exported, newest first, of cameras that I may see."""
    place = place_of(cursor, str)
    found = await desk.workers.run(lambda: desk.exports.all(caller, before=place[0] if place else None))
    return {"items": found[:limit], "next": cursor_of(found[limit - 1]["export_id"]) if len(found) > limit else None}


@router.get("/exports/{export_id}", response_model=Export)
async def one_export(desk: TheDesk, caller: CaseReader, export_id: ExportId) -> dict[str, Any]:
    """How far an export is."""
    return desk.exports.get(caller, export_id)


@router.get(
    "/exports/{export_id}/file",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/zip": {}}, "description": "the whole zip"},
        206: {"content": {"application/zip": {}}, "description": "the part that Range asks for"},
    },
)
async def export_file(desk: TheDesk, caller: Investigator, request: Request, export_id: ExportId) -> Response:
    """The zip."""
    path, name = desk.exports.file(caller, export_id), desk.exports.file_name(caller, export_id)
    answer = media.file(request, path, "application/zip", name=name)
    if not is_head(request) and answer.status_code != HTTPStatus.NOT_MODIFIED:
        address = request.client.host if request.client else "?"
        logger.info("%s downloads export %s from %s", caller.user, export_id, address)
        asked = request.headers.get("range")
        details = {"export": export_id, "range": asked, "address": address}
        await desk.recorder.record(desk.actor(caller), "download", details, ())
    return answer


@router.get("/exports/{export_id}/verify", response_model=ExportVerdict)
async def verify_export(desk: TheDesk, caller: CaseReader, export_id: ExportId) -> dict[str, Any]:
    """Compare the zip with its manifest, byte by byte."""
    return await desk.exports.verify(caller, export_id)


@router.delete("/exports/{export_id}", status_code=204)
async def remove_export(
    desk: TheDesk,
    caller: Investigator,
    export_id: ExportId,
    purpose: Annotated[str | None, Query(max_length=500, description="stands in the audit")] = None,
) -> None:
    """Remove an export, zip and note; the audit keeps that it was made, and that it was removed."""
    await desk.exports.remove(caller, export_id, purpose=purpose)


async def _unless_closed(desk: Any, job: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await desk.writer.use(job)
    except UsageError as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
    return found
