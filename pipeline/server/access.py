"""Who asks, and whether they may: what every route depends on."""

import hmac
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from pipeline.server.problems import ProblemError
from pipeline.server.roles import PERMISSIONS, Permission, Role

CSRF_HEADER = "X-CSRF-Token"
_LET_IN = "let_in"  # of the request's state
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        user: Name.
        role: What they are.
        cameras: Those that they may see; None is all.
        csrf: What their page must send with everything that changes something.
        session: Key of the session; empty where nobody has to log in.
        expires: When the session ends; None where there is none.
    """

    user: str
    role: Role
    cameras: frozenset[str] | None
    csrf: str
    session: str = ""
    expires: datetime | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return permission in PERMISSIONS[self.role]

    def sees(self, camera_id: str) -> bool:
        """Whether a camera may be seen."""
        return self.cameras is None or camera_id in self.cameras

    def sees_all(self, cameras: Collection[str]) -> bool:
        """Whether all of these may be seen."""
        return self.cameras is None or self.cameras.issuperset(cameras)


class Needs:
    """What a route asks of who calls it. Every route depends on exactly one of these, or is public."""

    def __init__(self, permission: Permission, *, all_cameras: bool = False, limited: bool = True) -> None:
        """Of everybody who calls.

        Args:
            permission: The role must have it.
            all_cameras: Only who may see every camera: what the route tells cannot be told in part.
            limited: Whether what is asked by POST or DELETE counts as an action, of which a user has so many a minute.
        """
        self.permission = permission
        self.all_cameras = all_cameras
        self.limited = limited

    async def __call__(self, request: Request) -> Caller:
        """Let them in.

        Raises:
            ProblemError: 401 when nobody has logged in, 403 when they may not or the CSRF token is missing or wrong,
                429 when a user does too much at a time.
        """
        known: Caller | None = getattr(request.state, _LET_IN, None)
        if known is not None:  # by this, before the body was read
            return known
        caller: Caller | None = request.app.state.desk.caller_of(request)
        if caller is None:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "log in first", headers={"WWW-Authenticate": "Session"})
        if not caller.may(self.permission):
            raise ProblemError(HTTPStatus.FORBIDDEN, f"a {caller.role} may not do this ({self.permission})")
        if self.all_cameras and caller.cameras is not None:
            raise ProblemError(HTTPStatus.FORBIDDEN, "this needs the right to all cameras")
        if request.method not in SAFE_METHODS:
            check_csrf(request, caller)
            if caller.session and self.limited:
                request.app.state.desk.actions.check(caller.user)
        setattr(request.state, _LET_IN, caller)
        return caller


class AskedFirst(APIRoute):
    """A route that looks who asks before it reads what they send."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What FastAPI answers with, which reads the body first of all, behind what the route needs."""
        needs, answer = needs_of(self), super().get_route_handler()
        if needs is None:
            return answer

        async def answer_who_may(request: Request) -> Response:
            await needs(request)
            return await answer(request)

        return answer_who_may


def check_csrf(request: Request, caller: Caller) -> None:
    """Refuse what another site's page makes a browser send.

    Raises:
        ProblemError: 403.
    """
    given = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(given.encode(), caller.csrf.encode()):
        said = f"the header {CSRF_HEADER} is missing or wrong; GET /api/v1/session"
        raise ProblemError(HTTPStatus.FORBIDDEN, said, kind="csrf")


def needs_of(route: Any) -> Needs | None:
    """What a route asks; None when it is public."""
    found = [each.call for each in route.dependant.dependencies if isinstance(each.call, Needs)]
    return found[0] if found else None
