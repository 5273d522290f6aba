"""What stands before every route: names, sizes and headers, looked at before anything else is.

A page of another site may make a browser ask a loopback address under a name of its own (DNS rebinding): so the name in
``Host`` must be one of this server's. Answers carry headers that keep a browser from doing what this page never needs.
"""

import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pipeline.server.problems import ProblemError, of_http

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_JSON = 262_144  # bytes
_DEEPEST_JSON = 32
_FORM_OVERHEAD = 65_536  # of a form around the file in it
# A string that has no end goes on to the end of the body, and is not tried again from each of its quotes.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
    " style-src 'self'; script-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_OF_PROXIES = frozenset({"forwarded", "via", "x-real-ip"})
_API = "/api/"
_HEAD = "head"  # in the scope of what is answered as GET
_SECURE = {"Strict-Transport-Security": "max-age=31536000"}


class Guard:
    """ASGI middleware."""

    def __init__(
        self,
        app: App,
        *,
        hosts: Collection[str] | None,
        upload: tuple[str, int],
        secure: bool,
        proxy: str | None = None,
    ) -> None:
        """Before an application.

        Args:
            app: What it guards.
            hosts: Names, without a port, under which the server may be asked; None for any.
            upload: Path to which a file may be posted as a form, and its bytes at most.
            secure: Whether browsers reach it by TLS only.
            proxy: Address of the one who may connect; None for anybody.
        """
        self._app = app
        self._hosts = None if hosts is None else {each.lower() for each in hosts}
        self._upload_path, self._most_upload = upload
        self._headers = [(k.lower().encode(), v.encode()) for k, v in (_HEADERS | (_SECURE if secure else {})).items()]
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] == "HEAD":
            scope, receive, send = {**scope, "method": "GET", _HEAD: True}, _left, _without_body(send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in self._headers if each[0] not in given)]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            self._check_peer(scope, headers)
            self._check_host(headers)
            self._check_site(scope, headers)
            receive = self._limited(scope, headers, receive)
        except HTTPException as error:
            await of_http(error)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check_peer(self, scope: Scope, headers: dict[str, str]) -> None:
        """Only the stated proxy may connect, and only its word on the caller's address is believed.

        Without a stated one, who was forwarded is refused: behind an unknown proxy everybody looks local. One that
        says nothing of itself cannot be told from a browser.
        """
        if self._proxy is None:
            if any(name in _OF_PROXIES or name.startswith("x-forwarded-") for name in headers):
                raise ProblemError(HTTPStatus.FORBIDDEN, "a proxy must be named as server.trusted_proxy")
            return
        forwarded = headers.get("x-forwarded-for")
        if (scope.get("client") or ("", 0))[0] != self._proxy:
            raise ProblemError(HTTPStatus.FORBIDDEN, "only the reverse proxy may connect")
        if forwarded:
            scope["client"] = (forwarded.rpartition(",")[2].strip()[:64], 0)
        scope["scheme"] = "https"

    def _check_host(self, headers: dict[str, str]) -> None:
        if self._hosts is not None and _host_name(headers.get("host", "")) not in self._hosts:
            raise ProblemError(
                HTTPStatus.MISDIRECTED_REQUEST, "this server is not known by that name; see server.hosts"
            )

    def _check_site(self, scope: Scope, headers: dict[str, str]) -> None:
        """A browser says from whose page a request comes: only ours may ask the API, though any may lead to the page.

        Another site's page cannot read an answer, but it could keep the server busy with what takes long.
        """
        foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        origin = headers.get("origin")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            foreign &= scope["path"].startswith(_API)
        elif origin is not None:
            foreign |= origin.partition("://")[2].lower() != headers.get("host", "").lower()
        if foreign:
            raise ProblemError(HTTPStatus.FORBIDDEN, "another site's page may not do this")

    def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """Hand the body on, but no more of it than there may be; JSON is looked at as a whole before.

        Nothing is read before somebody asks for it: routes look first at who sends it.
        """
        if sum(name == b"content-type" for name, _ in scope["headers"]) > 1:  # of which others may believe another
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the header Content-Type is there more than once")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        form = kind == "multipart/form-data" and (scope["method"], scope["path"]) == ("POST", self._upload_path)
        most = self._most_upload + _FORM_OVERHEAD if form else MOST_JSON
        said = headers.get("content-length", "0")
        if said.isdigit() and int(said[:18]) > most:
            raise _too_large(most)
        if form:
            return _counted(receive, most)
        return receive if scope["method"] in ("GET", "HEAD", "OPTIONS") else _checked(receive, most)


def is_head(request: Request) -> bool:
    """Whether only the headers of the answer are wanted."""
    return _HEAD in request.scope


def _without_body(send: Send) -> Send:
    """Only the headers are sent, and at once: the body of some has no end."""

    async def send_start(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_start


async def _left() -> Message:
    """Who wants only headers sends nothing, and waits for nothing after them."""
    return {"type": "http.disconnect"}


def _too_large(most: int) -> ProblemError:
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {most} bytes are taken")


def _counted(receive: Receive, most: int) -> Receive:
    count = 0

    async def receive_some() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > most:
            raise _too_large(most)
        return message

    return receive_some


async def _whole(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _checked(receive: Receive, most: int) -> Receive:
    read = False

    async def receive_whole() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        body = await _whole(receive, most)
        check_depth(body)
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_whole


def check_depth(body: bytes) -> None:
    """Refuse JSON that is nested deeper than any question is.

    Raises:
        ProblemError: 400.
    """
    if body.count(b"[") + body.count(b"{") <= _DEEPEST_JSON:
        return
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(body):
        first = found[0][:1]
        depth += 1 if first in b"[{" else -1 if first in b"]}" else 0
        if depth > _DEEPEST_JSON:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"JSON may be nested {_DEEPEST_JSON} deep at most")


def _host_name(host: str) -> str:
    """Without the port; an IPv6 address keeps its brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host
