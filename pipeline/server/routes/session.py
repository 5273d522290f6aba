"""Logging in and out, and what the page must know of who looks at it."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pipeline.server.access import Caller
from pipeline.server.desk import Desk
from pipeline.server.problems import ProblemError
from pipeline.server.roles import PERMISSIONS
from pipeline.server.routes.asking import Anybody, TheDesk
from pipeline.server.schemas import Login, Session
from pipeline.server.sessions import COOKIE
from pipeline.sinks import rfc3339

router = APIRouter(tags=["session"])


@router.get("/session", response_model=Session)
async def session(desk: TheDesk, caller: Anybody) -> dict[str, Any]:
    """Who I am, what I may do, and the CSRF token."""
    return _told(desk, caller)


@router.post("/session", response_model=Session, status_code=201)
async def log_in(desk: TheDesk, request: Request, response: Response, login: Login) -> dict[str, Any]:
    """Log in; the answer sets the cookie."""
    if desk.users is None:
        raise ProblemError(HTTPStatus.CONFLICT, "nobody need log in here: there are no users")
    address = request.client.host if request.client else "?"
    keys = f"address {address}", f"user {login.user}"
    desk.logins.check(*keys)
    users = desk.users
    user = await desk.workers.run(lambda: users.verify(login.user, login.password))
    if user is None:
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "wrong name or password", headers={"WWW-Authenticate": "Session"})
    desk.logins.forget(*keys)  # what was mistyped before does not count
    token = desk.sessions.begin(user.name, users)
    caller = desk.sessions.caller_of(token, users)
    if caller is None:
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "wrong name or password")  # removed this very moment
    response.set_cookie(
        COOKIE,
        token,
        max_age=round(3600 * desk.settings.session_hours),
        path="/",
        secure=desk.secure,
        httponly=True,
        samesite="strict",
    )
    return _told(desk, caller)


@router.delete("/session", status_code=204)
async def log_out(desk: TheDesk, caller: Anybody, response: Response) -> None:
    """Log out."""
    desk.sessions.end(caller.session)
    response.delete_cookie(COOKIE, path="/", secure=desk.secure, httponly=True, samesite="strict")


def _told(desk: Desk, caller: Caller) -> dict[str, Any]:
    config = desk.config
    return {
        "user": caller.user,
        "role": caller.role,
        "cameras": None if caller.cameras is None else sorted(caller.cameras),
        "local": desk.users is None,
        "csrf": caller.csrf,
        "expires": None if caller.expires is None else rfc3339(caller.expires),
        "permissions": sorted(PERMISSIONS[caller.role]),
        "timezone": desk.zone.key,
        "site": None if config is None else config.site.name,
        "purpose_required": desk.purpose_required,
    }
