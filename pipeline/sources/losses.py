"""Which pictures show what was filmed, when some of the stream was lost on the way."""

import re
from collections import deque
from collections.abc import Iterable

_HELD_SECONDS = 10.0  # without a key frame after a loss, then pictures are given out again
_MISSED = re.compile(r"RTP: missed (\d+) packets")  # FFmpeg's words; it tells of RTP's sequence numbers in no other way


def missed_packets(log: Iterable[tuple[int, str, str]]) -> int:
    """RTP packets that never came, by what FFmpeg logged."""
    return sum(int(match[1]) for _, _, message in log if (match := _MISSED.search(message)))


class Losses:
    """Holds pictures back from a loss on to the next key frame, or for ten seconds where none comes.

    Packets are numbered as they are decoded, pictures come as they are shown; so with B-frames a loss tells nothing
    about pictures that were decoded before it, and a key frame nothing about those that are shown before it.

    Attributes:
        given_up: How often pictures were given out again without a whole key frame.
    """

    def __init__(self) -> None:
        self.given_up = 0
        self.restart()

    def restart(self) -> None:
        """The stream was connected anew. It may begin between two key frames, which is as bad as a loss."""
        self._at: deque[int] = deque([-1])
        self._since: float | None = None
        self._tolerant = False

    def note(self, number: int) -> None:
        """A packet, or something just before it, is incomplete."""
        if not self._at or self._at[-1] < number:
            self._at.append(number)

    def holds(self, number: int, *, seconds: float, is_key: bool, is_corrupt: bool) -> bool:
        """Whether a picture must be held back.

        Args:
            number: Of its packet.
            seconds: When that came, by a clock that nobody sets.
            is_key: Whether it can be decoded alone.
            is_corrupt: Whether the decoder found it incomplete.
        """
        if is_corrupt and not self._tolerant:
            self.note(number)
        self._tolerant &= is_corrupt
        while is_key and self._at and self._at[0] < number:
            self._at.popleft()
            self._since = None
        if not self._at or number < self._at[0]:
            return False
        self._since = seconds if self._since is None else self._since
        if seconds - self._since < _HELD_SECONDS:
            return True
        self._at.clear()
        self._since, self._tolerant = None, True
        self.given_up += 1
        return False
