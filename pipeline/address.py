"""What a camera's ``source`` is, and how it may be shown: a password in it never reaches a log, an error or a file.

``without_secrets`` alone decides what is shown. A password may have any characters, and people forget to encode them:
of two ways to read a source, the one that hides more is taken.
"""

import glob
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NETWORK_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
HIDDEN = "***"

_URL = r"[A-Za-z][A-Za-z0-9+.-]{0,19}://"
_SCHEME = re.compile(rf"^{_URL}")
_DEVICE = re.compile(r"^/dev/(?!(?:shm|fd)/)[^/]")  # whether it is plugged in or not; files lie in those two only
_MEANT_AS_URL = re.compile(r"://|(?<![\w/.-])(?:rtsps?|https?)\b", re.IGNORECASE)
# Many recorders take them in the path: rtsp://10.0.0.21/user=admin&password=1234&channel=1.sdp
_NAMED = r"(?:^|[/&;_,?#])(?:user|usr|username|login|account|pwd|pw|pass|passwd|password|token|auth|key|apikey|secret)="
_SECRET = re.compile(rf"[?#]|{_NAMED}", re.IGNORECASE)  # what follows is hidden, up to the end
_SECRET_OF_PATH = re.compile(rf"[?#&;]\w+=|{_NAMED}", re.IGNORECASE)  # files may have ? and # in their names
# In a text nobody knows where a password ends: at the last @ before the next address, or the end of the line.
_URL_IN_TEXT = re.compile(rf"{_URL}(?:(?:(?![\s'\"(\[,]{_URL}).)*@(?=\S))?[^\s'\"<>]*")
_AFTER_URL = ".,;:!?)"
_NUMBER = re.compile(r"%0?\d*d")


def scheme_of(source: str) -> str | None:
    """The scheme of a URL in lower case; None for a path."""
    found = _SCHEME.match(source)
    return found[0].removesuffix("://").lower() if found else None


def is_device(source: str) -> bool:
    """Whether it is a camera of this machine: ``/dev/video0`` or another name of it there, or its number alone."""
    return source.isdigit() or bool(_DEVICE.match(source))


def is_live(source: str) -> bool:
    """Whether frames come as they are taken, so that nobody can ask for them again."""
    return scheme_of(source) in NETWORK_SCHEMES or is_device(source)


def without_secrets(source: str) -> str:
    """A source, or what somebody gave for one, as it may be shown: without user, password, query and fragment.

    Devices, and paths where something lies, come back as they are.
    """
    if is_device(source):
        return source
    scheme = found[0] if (found := _SCHEME.match(source)) else ""
    rest = source.removeprefix(scheme)
    if scheme_of(source) not in (None, "file"):
        return scheme + (_hidden(rest, _SECRET) if _is_readable(source) else HIDDEN)
    hidden = _hidden(rest, _SECRET if _MEANT_AS_URL.search(rest) else _SECRET_OF_PATH)
    return source if hidden == rest or _is_there(rest) else scheme + hidden


def _hidden(rest: str, secret: re.Pattern[str]) -> str:
    """Up to the last @, and from the first secret on; nothing is shown where the @ may be a part of that secret."""
    account, at, place = rest.rpartition("@")
    if secret.search(account):
        return HIDDEN
    found = secret.search(place)
    place = place[: found.end()] + HIDDEN if found and found.end() < len(place) else place
    return f"{HIDDEN}@{place}" if at else place


def _is_readable(url: str) -> bool:
    """Whether its host and port can be told apart from the rest; a password's / or # makes a port of its beginning."""
    try:
        urlsplit(url).port  # noqa: B018 (reading it is what checks it)
    except ValueError:
        return False
    return True


def _is_there(path: str) -> bool:
    """Whether something lies there, or fits where it stands for several files."""
    with suppress(OSError, ValueError):
        return Path(path).exists() or any(glob.iglob(_NUMBER.sub("*", path), recursive=True))  # noqa: PTH207 (absolute)
    return False


def value_without_secrets(given: Any) -> Any:
    """Anything of a config as an error may show it, with every text in it as a source is shown."""
    if isinstance(given, str):
        return without_secrets(given)
    if isinstance(given, Mapping):
        return {value_without_secrets(key): value_without_secrets(value) for key, value in given.items()}
    return type(given)(map(value_without_secrets, given)) if isinstance(given, list | tuple | set) else given


def hide_secrets(text: str, source: str) -> str:
    """A text of somebody else's (FFmpeg, the system) about this source, as it may be shown."""
    for spelling in (source, repr(source)[1:-1]):
        text = text.replace(spelling, without_secrets(source))
    for secret in _secrets(source):
        text = text.replace(secret, HIDDEN)
    return hide_urls(text)


def hide_urls(text: str) -> str:
    """A text as it may be shown: without the secrets of any address in it."""
    return _URL_IN_TEXT.sub(_shown_in_text, text)


def _shown_in_text(found: re.Match[str]) -> str:
    url = found[0].rstrip(_AFTER_URL)
    return without_secrets(url) + found[0][len(url) :]


def _secrets(source: str) -> list[str]:
    """Account, password, secrets in the path, values of query and fragment, as written and decoded; longest first."""
    if without_secrets(source) == source:
        return []
    account, _, place = _SCHEME.sub("", source).rpartition("@")
    found = _SECRET.search(place)
    behind = place[found.end() :] if found else ""
    secrets = [account, account.partition(":")[2], behind, *re.split(r"[&;#]?[^=&;#]*=|[&;#]", behind)]
    secrets += [spell(secret) for secret in secrets for spell in (unquote, lambda each: repr(each)[1:-1])]
    return sorted({secret for secret in secrets if len(secret) > 2}, key=len, reverse=True)
