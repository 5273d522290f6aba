"""The state of the site, its audit, its config, and what happens as it happens."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pipeline.audit import Audit
from pipeline.bundle import software_version
from pipeline.config import schema as config_schema
from pipeline.replies import audit_row_reply, audit_verdict_reply
from pipeline.server.access import AskedFirst
from pipeline.server.lists import cursor_of, place_of
from pipeline.server.routes.asking import AtSite, Auditor, ConfigReader, CursorText, Limit, TheDesk, TrackletId
from pipeline.server.schemas import AuditRow, AuditVerdict, Configuration, Health, Page, Site
from pipeline.server.state import site_of
from pipeline.store import Store

router = APIRouter(tags=["site"], route_class=AskedFirst)


@router.get("/health", response_model=Health, responses={503: {"model": Health, "description": "it cannot be read"}})
async def health(desk: TheDesk, response: Response) -> dict[str, Any]:
    """Whether the server answers and the gallery can be read; nobody is asked who they are."""
    try:
        await desk.workers.use(lambda store: store.last_row)
    except Exception:  # noqa: BLE001 (whatever it is, it is not healthy)
        response.status_code = 503
        return {"status": "failing", "version": software_version()}
    return {"status": "ok", "version": software_version()}


@router.get("/site", response_model=Site)
async def site(desk: TheDesk, caller: AtSite) -> dict[str, Any]:
    """The state of cameras, frames, gallery and disk."""
    return await desk.workers.use(lambda store: site_of(desk, store, caller))


@router.get("/audit", response_model=Page[AuditRow])
async def audit(desk: TheDesk, caller: Auditor, limit: Limit = 50, cursor: CursorText = None) -> dict[str, Any]:
    """What was done by whom and why, newest first."""
    place = place_of(cursor, int)

    def page(store: Store) -> dict[str, Any]:
        found = Audit(store).rows(limit=limit + 1, before=place[0] if place else None)[::-1]
        more = cursor_of(found[limit - 1].number) if len(found) > limit else None
        return {"items": [audit_row_reply(each) for each in found[:limit]], "next": more}

    return await desk.workers.use(page)


@router.get("/audit/verify", response_model=AuditVerdict)
async def verify_audit(
    desk: TheDesk,
    caller: Auditor,
    head: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,18}:[0-9a-f]{64}$", description="number:hash, kept elsewhere")
    ] = None,
) -> dict[str, Any]:
    """Look for any edit, deletion, insertion, reorder or truncation of the audit."""
    number, _, digest = (head or "").partition(":")
    known = (int(number), digest) if head else None
    return await desk.workers.use(lambda store: audit_verdict_reply(Audit(store).verify(head=known)))


@router.get("/config", response_model=Configuration)
async def config(desk: TheDesk, caller: ConfigReader) -> dict[str, Any]:
    """The config of the run, without secrets."""
    found = desk.config
    return {"config": None if found is None else found.model_dump(mode="json")}


@router.get("/config/schema", response_model=dict[str, Any])
async def schema_of_config(desk: TheDesk, caller: ConfigReader) -> dict[str, Any]:
    """JSON Schema of the config file."""
    return config_schema()


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "server-sent events, until you leave"}},
)
async def events(
    desk: TheDesk,
    caller: AtSite,
    request: Request,
    after: Annotated[TrackletId | None, Query(description="as Last-Event-ID, which counts before it")] = None,
) -> StreamingResponse:
    """What happens, as server-sent events: `begin`, `tracklet` (needs the right to look), `camera` and `gallery`.

    `tracklet` carries a tracklet, `camera` a camera, each as their own routes give them; `gallery` says that something
    was added, removed or decided, with counts for those who see all cameras. `begin` says that from here on all is
    told, and its id is the newest tracklet. A reader who was cut off goes on where it was by
    ``Last-Event-ID`` or `after`.
    """
    return desk.hub.stream(request, caller, after)
