"""What a camera's ``source`` is, and how it may be shown: a password in it never reaches a log, an error or a file.

``without_secrets`` alone decides what is shown. A password may have any characters, and people forget to encode them:
of two ways to read a source, the one that hides more is taken.
"""

import glob
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NETWORK_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
HIDDEN = "***"
LEAST_EXPANDED = 4  # characters of the environment's that are looked for within a text: a channel's 1 is everywhere

_URL = r"[A-Za-z][A-Za-z0-9+.-]{0,19}://"
_SCHEME = re.compile(rf"^{_URL}")
_DEVICE = re.compile(r"^/dev/(?!(?:shm|fd)/)[^/]")  # whether it is plugged in or not; files lie in those two only
_MEANT_AS_URL = re.compile(r"://|(?<![\w/.-])(?:rtsps?|https?)\b", re.IGNORECASE)
_NAMES = (
    "pwd|pw|pass|passwd|password|passphrase|passcode|token|auth|key|apikey|secret|credential|session|sessionid|sid|sig|"
    "signature"
)
# Many recorders take them in the path: rtsp://10.0.0.21/user=admin&password=1234&channel=1.sdp, others as /token/1234
_NAMED = rf"(?:^|[/&;_,?#])(?:user|usr|username|login|account|{_NAMES})="
_SECRET = re.compile(rf"[?#]|{_NAMED}|/(?:{_NAMES})/", re.IGNORECASE)  # what follows is hidden, up to the end
_SECRET_OF_PATH = re.compile(rf"[?#&;]\w+=|{_NAMED}", re.IGNORECASE)  # files may have ? and # in their names
# In a text nobody knows where a password ends: at the last @ before the next address, or the end of the line.
_URL_IN_TEXT = re.compile(rf"{_URL}(?:(?:(?![\s'\"(\[,]{_URL}).)*@(?=\S))?[^\s'\"<>]*")
_AFTER_URL = ".,;:!?)"
_NUMBER = re.compile(r"%0?\d*d")
# A segment of a path that is the whole credential, as recorders and clouds make them up
_UUID = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z0-9]{8,}")
_TURN = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[0-9])|[0-9](?=[A-Za-z])")  # h264Preview has two
_MOST_TURNS = 3  # of what people or makers call a stream
# Of this process: an address is shown where nobody knows its config any more. Copied before it is looked through, for a
# config may be read anew meanwhile.
_expanded: set[str] = set()


def remember_expanded(values: Iterable[str]) -> None:
    """Texts that a config took from the environment: in the path of an address, they are hidden from now on."""
    _expanded.update(value for value in values if len(value) >= LEAST_EXPANDED)


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
        return scheme + (_hidden(_without_secret_segments(rest), _SECRET) if _is_readable(source) else HIDDEN)
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


def _without_secret_segments(rest: str) -> str:
    for first, last in reversed(_secret_segments(rest)):
        rest = rest[:first] + HIDDEN + rest[last:]
    return rest


def _secret_segments(rest: str) -> list[tuple[int, int]]:
    """Where segments of an address's path begin and end that came from the environment, or look made up by a machine.

    A path begins behind the last @ and the host, and ends before the query.
    """
    path = rest.find("/", rest.rfind("@") + 1)
    if path < 0:
        return []
    end = min((at for at in (rest.find("?", path), rest.find("#", path)) if at >= 0), default=len(rest))
    expanded = [
        found.span() for value in tuple(_expanded) for found in re.finditer(re.escape(_SCHEME.sub("", value)), rest)
    ]
    return [
        (first, last)
        for first, last in (found.span() for found in re.compile(r"[^/]+").finditer(rest, path, end))
        if any(begin < last and behind > first for begin, behind in expanded) or _looks_made_up(rest[first:last])
    ]


def _looks_made_up(segment: str) -> bool:
    return bool(_UUID.search(segment)) or any(len(_TURN.findall(run)) > _MOST_TURNS for run in _RUN.findall(segment))


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
    rest = _SCHEME.sub("", source)
    account, _, place = rest.rpartition("@")
    found = _SECRET.search(place)
    behind = place[found.end() :] if found else ""
    segments = [rest[first:last] for first, last in _secret_segments(rest)]
    segments += [value for value in tuple(_expanded) if any(value in segment for segment in segments)]
    secrets = [account, account.partition(":")[2], behind, *segments, *re.split(r"[&;#]?[^=&;#]*=|[&;#]", behind)]
    secrets += [spell(secret) for secret in secrets for spell in (unquote, lambda each: repr(each)[1:-1])]
    return sorted({secret for secret in secrets if len(secret) > 2}, key=len, reverse=True)
