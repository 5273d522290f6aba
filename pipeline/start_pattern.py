"""The time in a file's name, by a pattern as ``strptime`` has it."""

import re
from datetime import UTC, datetime, tzinfo

_DIRECTIVES = {
    "%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%j": r"\d{3}", "%b": r"[A-Za-z]{3}",
    "%H": r"\d{2}", "%I": r"\d{2}", "%p": r"[AaPp][Mm]", "%M": r"\d{2}", "%S": r"\d{2}", "%f": r"\d{1,6}",
    "%z": r"Z|[+-]\d{2}:?\d{2}", "%s": r"(?<!\d)(?:\d{9,10}|\d{12,13})(?!\d)",
}  # fmt: skip
_PART = re.compile(r"%.|\*|[^%*]+|%$")


class StartPattern:
    """A pattern such as ``gate_%d.%m.%Y-%H%M%S*``: ``strptime``'s directives, ``%s`` for seconds since 1970, ``*``.

    Of 12 or 13 digits, ``%s`` is milliseconds.
    """

    def __init__(self, text: str, zone: tzinfo = UTC) -> None:
        """Compile.

        Args:
            text: The pattern of the whole name, with or without its suffix.
            zone: Of times that do not say theirs by ``%z`` or ``%s``. Of an hour that comes twice, the first is taken.

        Raises:
            ValueError: When a directive is unknown, given twice, or no moment can come of them.
        """
        self._text = text
        self._zone = zone
        self._found: list[str] = []
        self._expression = re.compile("".join(map(self._part, _PART.findall(text))))
        self._check()

    def __str__(self) -> str:
        return self._text

    def time_in(self, name: str) -> datetime | None:
        """The moment in a file's name, UTC; None where the name does not fit, or names a day that there is not."""
        match = self._expression.fullmatch(name) or self._expression.fullmatch(name.rpartition(".")[0])
        if match is None:
            return None
        if "%s" in self._found:
            digits = match[1 + self._found.index("%s")]
            return datetime.fromtimestamp(int(digits) / (1000 if len(digits) > 10 else 1), UTC)
        try:
            moment = datetime.strptime(" ".join(match.groups()), " ".join(self._found))
            return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def _part(self, text: str) -> str:
        if text == "*":
            return ".*?"
        if not text.startswith("%"):
            return re.escape(text)
        if text == "%%":
            return "%"
        if text not in _DIRECTIVES:
            raise ValueError(f"{text} is not one of {', '.join(_DIRECTIVES)}")
        if text in self._found:
            raise ValueError(f"{text} is given twice")
        self._found.append(text)
        return f"({_DIRECTIVES[text]})"

    def _check(self) -> None:
        found = set(self._found)
        has_day = found >= {"%m", "%d"} or found >= {"%b", "%d"} or "%j" in found
        has_hour = "%H" in found or found >= {"%I", "%p"}
        if "%s" not in found and not (found & {"%Y", "%y"} and has_day and has_hour and "%M" in found):
            raise ValueError("year, month, day, hour and minute are needed (%Y %m %d %H %M), or %s alone")
