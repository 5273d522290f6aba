"""What a camera's ``source`` is, and how it may be shown: a password in it never reaches a log, an error or a file."""

import re
from urllib.parse import unquote

NETWORK_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
HIDDEN = "***"

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"^/dev/\w+$")
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_USER = re.compile(r"^[^/?#]*@")
_VALUE = re.compile(r"(?:(?<=[?&;#])|^)([^=&;#]*=)?([^&;#]+)")  # of a query; a part without a name is all value
# Many recorders take them in the path: rtsp://10.0.0.21/user=admin&password=1234&channel=1.sdp
_IN_PATH = re.compile(
    r"((?:^|[/&;_,])(?:user|usr|username|login|account|pwd|pw|pass|passwd|password|token|auth|key|apikey|secret)=)([^/&;,]+)",
    re.IGNORECASE,
)


def scheme_of(source: str) -> str | None:
    """The scheme of a URL in lower case; None for a path."""
    found = _SCHEME.match(source)
    return found[1].lower() if found else None


def is_device(source: str) -> bool:
    """Whether it is a camera of this machine: ``/dev/video0``, or its number alone."""
    return source.isdigit() or bool(_DEVICE.match(source))


def is_live(source: str) -> bool:
    """Whether frames come as they are taken, so that nobody can ask for them again."""
    return scheme_of(source) in NETWORK_SCHEMES or is_device(source)


def without_secrets(source: str) -> str:
    """The source as it may be shown: without user, password, the values of query and fragment, and secrets in the path.

    Anything that is not a URL comes back as it is.
    """
    found = _SCHEME.match(source)
    if not found or found[1].lower() == "file":
        return source
    rest = source[found.end() :]
    rest = f"{HIDDEN}@{rest.rpartition('@')[2]}" if _USER.match(rest) or "@" in rest.partition("?")[0] else rest
    path, mark, query = _split(rest)
    hidden = _VALUE.sub(lambda part: f"{part[1] or ''}{HIDDEN}", query)
    return f"{found[0]}{_IN_PATH.sub(lambda part: f'{part[1]}{HIDDEN}', path)}{mark}{hidden}"


def _split(rest: str) -> tuple[str, str, str]:
    """Path, the first ? or #, and what is behind it."""
    at = min((place for place in (rest.find("?"), rest.find("#")) if place >= 0), default=len(rest))
    return rest[:at], rest[at : at + 1], rest[at + 1 :]


def hide_secrets(text: str, source: str) -> str:
    """A text of somebody else's (FFmpeg, the system) about this source, as it may be shown."""
    text = text.replace(source, without_secrets(source))
    for secret in _secrets(source):
        text = text.replace(secret, HIDDEN)
    return hide_urls(text)


def hide_urls(text: str) -> str:
    """A text as it may be shown: without the secrets of any address in it."""
    return _URL_IN_TEXT.sub(lambda found: without_secrets(found[0]), text)


def _secrets(source: str) -> list[str]:
    """Account, password, secrets in the path, values of query and fragment, as written and decoded; longest first."""
    found = _SCHEME.match(source)
    if not found or found[1].lower() == "file":
        return []
    rest, _, query = _split(source[found.end() :])
    secrets = [value for _, value in (*_VALUE.findall(query), *_IN_PATH.findall(rest))]
    before = source[found.end() :].partition("?")[0]
    if "@" in before:
        account = before.rpartition("@")[0]
        secrets += [account, account.partition(":")[2]]
    secrets += [unquote(secret) for secret in secrets]
    return sorted({secret for secret in secrets if len(secret) > 2}, key=len, reverse=True)
