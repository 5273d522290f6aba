"""What routes have in common: what they depend on, and how they look things up."""

from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Query
from starlette.requests import Request

from pipeline.server.access import Caller, Needs
from pipeline.server.desk import Desk
from pipeline.server.roles import Permission
from pipeline.server.schemas import CameraId, CaseId, ExportId, PersonName, Problem, QueryId, TrackletId

PROBLEMS: dict[int | str, dict[str, Any]] = {
    each: {"model": Problem, "description": "what was wrong (RFC 9457)", "content": {"application/problem+json": {}}}
    for each in ("4XX", "5XX")
}

Limit: TypeAlias = Annotated[int, Query(ge=1, le=500, description="at most so many")]
CursorText: TypeAlias = Annotated[str | None, Query(max_length=400, description="`next` of the page before")]


async def desk_of(request: Request) -> Desk:
    """What all routes share. Not a plain function: FastAPI would have each wait for a thread of its own."""
    desk: Desk = request.app.state.desk
    return desk


TheDesk: TypeAlias = Annotated[Desk, Depends(desk_of)]
Anybody: TypeAlias = Annotated[Caller, Depends(Needs(Permission.SESSION, limited=False))]
AtSite: TypeAlias = Annotated[Caller, Depends(Needs(Permission.SITE))]
Looker: TypeAlias = Annotated[Caller, Depends(Needs(Permission.LOOK))]
Seeker: TypeAlias = Annotated[Caller, Depends(Needs(Permission.SEARCH))]
Decider: TypeAlias = Annotated[Caller, Depends(Needs(Permission.DECIDE))]
DeciderOfAll: TypeAlias = Annotated[Caller, Depends(Needs(Permission.DECIDE, all_cameras=True))]
CaseReader: TypeAlias = Annotated[Caller, Depends(Needs(Permission.CASES))]
Investigator: TypeAlias = Annotated[Caller, Depends(Needs(Permission.EVIDENCE))]
InvestigatorOfAll: TypeAlias = Annotated[Caller, Depends(Needs(Permission.EVIDENCE, all_cameras=True))]
Auditor: TypeAlias = Annotated[Caller, Depends(Needs(Permission.AUDIT, all_cameras=True))]
ConfigReader: TypeAlias = Annotated[Caller, Depends(Needs(Permission.CONFIG, all_cameras=True))]

__all__ = [
    "PROBLEMS", "Anybody", "AtSite", "Auditor", "CameraId", "CaseId", "CaseReader", "ConfigReader", "CursorText",
    "Decider", "DeciderOfAll", "ExportId", "Investigator", "InvestigatorOfAll", "Limit", "Looker", "PersonName",
    "QueryId", "Seeker", "TheDesk", "TrackletId",
]  # fmt: skip
