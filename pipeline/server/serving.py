"""The server itself: where it may listen, and a thread in which it does, beside a pipeline or alone.

One of the files with threads. What breaks here is logged and ends here: the pipeline goes on.
"""

import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import uvicorn

from pipeline.config import ServerConfig
from pipeline.errors import ResourceError, UsageError
from pipeline.run import Beside
from pipeline.server.app import create_app
from pipeline.server.connections import Connections, Limits
from pipeline.server.desk import Desk
from pipeline.server.users import USERS, Users

logger = logging.getLogger(__name__)

_START_SECONDS = 30.0
_GRACE_SECONDS = 3
_LIMITS = Limits()
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_WEAK_MODES = 0o077


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server listens, and for whom.

    Attributes:
        listening: The socket.
        settings: Of the server, host and port as they are.
        users: Who may log in; None where nobody has to.
        hosts: Names under which it may be asked; None for any.
    """

    listening: socket.socket
    settings: ServerConfig
    users: Users | None
    hosts: frozenset[str] | None

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by TLS."""
        return self.settings.tls is not None or self.settings.trusted_proxy is not None

    @property
    def address(self) -> str:
        """Of the page, for people."""
        name = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{'https' if self.settings.tls else 'http'}://{name}:{self.settings.port}/"


def with_address(settings: ServerConfig, address: str | None) -> ServerConfig:
    """The settings with another ``HOST:PORT``, ``HOST`` or ``:PORT``.

    Raises:
        UsageError: When it is none of these.
    """
    if address is None:
        return settings
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, ""
    host = host.removeprefix("[").removesuffix("]")
    wanted = "expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080"
    if (port and not (port.isdigit() and int(port) <= 65535)) or (":" in host and not _is_address(host)):
        raise UsageError(f"address {address!r}: {wanted}")
    try:
        socket.getaddrinfo(host or settings.host, None)
    except OSError as error:
        raise UsageError(f"address {address!r}: no host {host!r} is known here ({error.strerror}); {wanted}") from error
    return settings.model_copy(update={"host": host or settings.host, "port": int(port) if port else settings.port})


def open_door(root: Path, settings: ServerConfig) -> Door:
    """Listen, once it is safe to: nothing is answered yet.

    Raises:
        UsageError: When anybody could come in: users, TLS or a proxy are missing; or certificate or key are unfit.
        ResourceError: When the address cannot be listened on.
    """
    path = settings.users or root / USERS
    users = Users(path) if path.is_file() or settings.users is not None else None
    check_safe(settings, users, path)
    listening = _listen(settings)
    known = settings.model_copy(update={"port": listening.getsockname()[1]})
    return Door(listening, known, users, _hosts(settings))


def check_safe(settings: ServerConfig, users: Users | None, path: Path) -> None:
    """Refuse to let anybody in from elsewhere who is not known, or whose password everybody could read.

    Raises:
        UsageError: Says what is missing.
    """
    for key in (settings.tls.cert, settings.tls.key) if settings.tls else ():
        if not key.is_file():
            raise UsageError(f"server.tls: {key}: no such file")
    if settings.tls is not None:
        _tls(settings)
    if path.is_file() and path.stat().st_mode & _WEAK_MODES:
        raise UsageError(f"{path}: others may read it; it must be for its owner only (chmod 600)")
    if is_loopback(settings.host) and settings.trusted_proxy is None:
        return
    where = f"server.host {settings.host}" if not is_loopback(settings.host) else "server.trusted_proxy"
    if not users:
        raise UsageError(f"{where}: others can reach it, and there is nobody in {path}: run users add NAME first")
    if settings.tls is None and settings.trusted_proxy is None:
        raise UsageError(
            f"{where}: passwords would cross the network in the clear: give server.tls a certificate, or name the"
            " reverse proxy that has one as server.trusted_proxy; or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _hosts(settings: ServerConfig) -> frozenset[str] | None:
    """Names that may stand in ``Host``; None for any, where it listens everywhere and nobody says under which name."""
    if not settings.hosts and not is_loopback(settings.host) and settings.host in ("0.0.0.0", "::"):  # noqa: S104
        return None
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    loopback = _LOOPBACK_NAMES if is_loopback(settings.host) else ()
    return frozenset({own, *loopback, *settings.hosts})


def _tls(settings: ServerConfig) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls.cert, settings.tls.key)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"server.tls: {settings.tls.cert} and {settings.tls.key} do not fit: {error}") from None
    return context


def _listen(settings: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With its protocol named, for asyncio sends without delay (TCP_NODELAY) only where it is.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(256)
        return listening
    except OSError as error:
        listening.close()
        raise ResourceError(
            f"server: {settings.host}:{settings.port} cannot be listened on: {error.strerror or error}"
        ) from error


@contextmanager
def served(root: Path, door: Door, *, device: str = "auto", pipeline: Beside | None = None) -> Iterator[None]:
    """Answer until left, in a thread of its own.

    Args:
        root: The gallery's folder, in which there is a gallery.
        door: Where; closed when left.
        device: For embedding pictures to search by, and for the index.
        pipeline: The run in this process.

    Raises:
        ResourceError: When it does not come up.
    """
    desk = Desk(root, door.settings, door.users, device, pipeline, door.secure)
    tls = door.settings.tls
    connections = Connections(_LIMITS, proxy=door.settings.trusted_proxy, secure=door.secure)
    config = uvicorn.Config(
        create_app(desk, hosts=door.hosts),
        http=connections.begin,  # type: ignore[arg-type] # a class is asked for, and called
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=None if tls is None else str(tls.cert),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
    server, failed = uvicorn.Server(config), Event()

    def answer() -> None:
        try:
            server.run(sockets=[door.listening])
        except BaseException:  # SystemExit too: what ends the server ends nothing else
            logger.exception("the server ended")
        finally:
            failed.set()

    thread = Thread(target=answer, name="server", daemon=True)
    thread.start()
    try:
        _wait_until(server, failed)
        logger.info("the page is at %s (%s)", door.address, _who(door.users))
        yield
    finally:
        desk.hub.end()  # else streams, which have no end of their own, would be waited for
        server.should_exit = True
        thread.join(_GRACE_SECONDS + 5)
        door.listening.close()


def _who(users: Users | None) -> str:
    if users is None:
        return "nobody need log in"
    return f"{len(users)} users may log in" if users else f"nobody may log in: {users.path} has no users; run users add"


def _wait_until(server: uvicorn.Server, failed: Event) -> None:
    for _ in range(round(_START_SECONDS / 0.02)):
        if server.started:
            return
        if failed.wait(0.02):
            break
    raise ResourceError("the server did not come up; the log says why")
