"""What all routes share: the gallery, who may look at it, and what is under way."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from starlette.requests import Request

from pipeline.audit import Actor, Audit
from pipeline.config import Config, ServerConfig
from pipeline.errors import ResourceError, UsageError
from pipeline.query import CONFIG, read_config
from pipeline.run import Beside
from pipeline.server.access import Caller
from pipeline.server.clipping import Clips
from pipeline.server.counting import Counting
from pipeline.server.exports import Exports
from pipeline.server.live import Hub
from pipeline.server.pictures import LatestPictures
from pipeline.server.queries import Queries
from pipeline.server.recording import Recorder
from pipeline.server.roles import Role
from pipeline.server.searching import SearchDesk
from pipeline.server.sessions import COOKIE, Origins, RateLimit, Sessions
from pipeline.server.users import Users
from pipeline.server.workers import Workers
from pipeline.store import Store

LOCAL_USER = "local"
BACKGROUND = "X-Background"  # header of what a page asks for while nobody touches it
_READERS = 3
_DECODERS, _MOST_TO_DECODE = 2, 16
_MOST_TO_HASH = 32
_WIDER = 10


@dataclass(slots=True)
class Desk:
    """The state of one server.

    Attributes:
        root: The gallery's folder.
        settings: Of the server.
        users: Who may log in; None where nobody has to.
        device: Where queries are embedded.
        pipeline: The run in this process.
        secure: Whether the page is reached by TLS, here or at a proxy.
    """

    root: Path
    settings: ServerConfig
    users: Users | None = None
    device: str = "auto"
    pipeline: Beside | None = None
    secure: bool = False
    sessions: Sessions = field(init=False)
    logins: RateLimit = field(init=False)  # that failed, by origin
    logins_as: RateLimit = field(init=False)  # by name, from where it is new: wide, for it locks out there
    origins: Origins = field(init=False, default_factory=Origins)
    actions: RateLimit = field(init=False)
    workers: Workers = field(init=False)
    hashers: Workers = field(init=False)  # of passwords: whoever tries many keeps nobody from reading
    decoders: Workers = field(init=False)  # of recordings and evidence: files that take long to read
    writer: Workers = field(init=False)
    recorder: Recorder = field(init=False)
    search: SearchDesk = field(init=False)
    counting: Counting = field(init=False, default_factory=Counting)
    queries: Queries = field(init=False, default_factory=Queries)
    pictures: LatestPictures = field(init=False)
    clips: Clips = field(init=False)
    exports: Exports = field(init=False)
    hub: Hub = field(init=False)
    _local_csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _config: tuple[tuple[int, int], Config] | None = None

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.settings)
        tried = "attempts to log in"
        self.logins = RateLimit(self.settings.logins_per_minute, tried)
        self.logins_as = RateLimit(_WIDER * self.settings.logins_per_minute, f"{tried} under this name")
        self.actions = RateLimit(self.settings.actions_per_minute, "searches, uploads and changes by one user")
        self.workers = Workers(self.root, threads=_READERS)
        self.hashers = Workers(self.root, threads=1, name="hash", most_waiting=_MOST_TO_HASH)
        self.decoders = Workers(self.root, threads=_DECODERS, name="decode", most_waiting=_MOST_TO_DECODE)
        self.writer = Workers(self.root, threads=1, name="writer", open_store=Store.edit)
        self.recorder = Recorder(self.writer, self.audit)
        self.pictures = LatestPictures(self.pipeline)
        self.search = SearchDesk(self.root, threads=self.settings.searches, device=self.device)
        self.clips, self.exports, self.hub = Clips(self, self.root), Exports(self, self.root), Hub(self)

    def close(self) -> None:
        """End all that is under way."""
        self.exports.close()
        self.clips.close()
        self.search.close()
        self.decoders.close()
        self.hashers.close()
        self.workers.close()
        self.writer.close()  # last: only who may write can bring what it wrote from the log into the database

    @property
    def models(self) -> Workers:
        """The one thread that runs models."""
        return self.search.models

    @property
    def config(self) -> Config | None:
        """Of the run that filled the gallery, as it is now; None for a gallery that no run filled."""
        path = self.root / CONFIG
        if not path.is_file():
            return None
        stamp = path.stat()
        key = (stamp.st_mtime_ns, stamp.st_size)
        if self._config is None or self._config[0] != key:
            try:
                self._config = key, read_config(self.root)
            except UsageError as error:  # what it forbids is not known then: nothing is answered
                raise ResourceError(f"the run's config cannot be read: {error}") from error
        return self._config[1]

    @property
    def zone(self) -> ZoneInfo:
        """Of the clock on the wall."""
        config = self.config
        return ZoneInfo("UTC") if config is None else config.site.zone

    def caller_of(self, request: Request, *, asks: bool = True) -> Caller | None:
        """Who asks, or listens since; None when nobody has logged in who must, or the session is over.

        What a page asks for by itself keeps no session: it says so, and of pictures the browser does.
        """
        if self.users is None:
            return Caller(LOCAL_USER, Role.ADMIN, None, self._local_csrf)
        by_itself = BACKGROUND in request.headers or request.headers.get("sec-fetch-dest") in ("image", "video")
        return self.sessions.caller_of(request.cookies.get(COOKIE, ""), self.users, asks=asks and not by_itself)

    def actor(self, caller: Caller, *, case_id: str | None = None, purpose: str | None = None) -> Actor:
        """Who does something, for the audit; where nobody logs in, the user of this process."""
        if self.users is None:
            return Actor.here(case_id=case_id, purpose=purpose)
        return Actor(caller.user, case_id, purpose)

    def audit(self, store: Store) -> Audit:
        """The gallery's."""
        return Audit(store, purpose_required=self.purpose_required)

    @property
    def purpose_required(self) -> bool:
        """Whether a search must say what it is for."""
        config = self.config
        return config is not None and config.storage.purpose_required
