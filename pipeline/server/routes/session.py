"""Logging in and out, and what the page must know of who looks at it."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pipeline.audit import Actor
from pipeline.errors import PipelineError
from pipeline.server.access import AskedFirst, Caller
from pipeline.server.desk import Desk
from pipeline.server.origins import origin_of
from pipeline.server.problems import ProblemError
from pipeline.server.roles import PERMISSIONS
from pipeline.server.routes.asking import Anybody, TheDesk
from pipeline.server.schemas import Login, Session
from pipeline.server.sessions import COOKIE
from pipeline.server.users import Users
from pipeline.sinks import rfc3339

logger = logging.getLogger(__name__)
router = APIRouter(tags=["session"], route_class=AskedFirst)


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
    origin = origin_of(address)
    desk.logins.check(origin)
    is_known = desk.origins.knows(login.user, origin)
    if not is_known:
        desk.logins_as.check(login.user)
    users = desk.users
    user = await desk.hashers.run(lambda: users.verify(login.user, login.password))
    if user is None:
        await _failed(desk, users, login.user, address)
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "wrong name or password", headers={"WWW-Authenticate": "Session"})
    desk.logins.withdraw(origin)
    if not is_known:
        desk.logins_as.forget(login.user)  # what was mistyped before does not count
    desk.origins.add(user.name, origin)
    token = desk.sessions.begin(user.name, users)
    caller = desk.sessions.caller_of(token, users)
    if caller is None:
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "wrong name or password")  # removed this very moment
    logger.info("%s logged in from %s", user.name, address)
    await _noted(desk, Actor(user.name), "login", address)
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
async def log_out(desk: TheDesk, caller: Anybody, request: Request, response: Response) -> None:
    """Log out."""
    desk.sessions.end(caller.session)
    if desk.users is not None:
        address = request.client.host if request.client else "?"
        logger.info("%s logged out from %s", caller.user, address)
        await _noted(desk, Actor(caller.user), "logout", address)
    response.delete_cookie(COOKIE, path="/", secure=desk.secure, httponly=True, samesite="strict")


async def _failed(desk: Desk, users: Users, name: str, address: str) -> None:
    """A name that nobody has is not kept: it may be a password in the wrong field."""
    who = name if users.get(name) else "unknown"
    count = desk.logins.count(origin_of(address))
    logger.warning("login failed: user %s, from %s, which makes %d within a minute", who, address, count)
    await _noted(desk, Actor(who), "login_failed", address)


async def _noted(desk: Desk, actor: Actor, action: str, address: str) -> None:
    """Add it to the audit; where the disk is full one can log in nevertheless, to see that."""
    try:
        await desk.recorder.record(actor, action, {"address": address}, ())
    except (PipelineError, ProblemError) as error:
        logger.error("not in the audit: %s of %s from %s: %s", action, actor.name, address, error)


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
