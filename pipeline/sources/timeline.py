"""Time told by a camera that may lie: presentation times that only increase, and capture times in UTC.

``PresentationClock`` makes seconds that trackers can trust of ticks that jump, repeat or run backwards.
``CaptureClock`` finds when a frame of a live stream was taken: by the camera's own clock where it tells it (RTCP sender
reports), else from the stream's ticks, set by the frames that came through the network fastest, else by arrival.
"""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.frame import TimeSource
from pipeline.sources.base import SourceAccount

_LEAST_STEP = 1e-3  # seconds between two frames whose times say nothing
_LATE_SECONDS = 0.5  # a frame that is older than the last by less may only be late: what follows decides
_GAP_INTERVALS = 2.5  # usual intervals without a frame
_MOST_GAP_SECONDS = 366 * 86400.0  # of a recording: what leaps farther is no gap, but a time that is damaged
_INTERVAL_SHARE = 0.1  # of a new interval in the running mean
_EARLY_SECONDS = 1.0  # ticks that run ahead of this machine's clock by more have jumped
_JUMP_SECONDS = 0.1  # of the capture clock against the stream's ticks
_WINDOW_SECONDS = 10.0  # the fastest frame of the last one or two windows sets the arrival
_SLOWEST_RATE = 0.5  # a capture clock that was set back runs at this rate until it is right again
_CONFIRMED_SECONDS = 0.02  # two sender times that agree so well are believed
_TRUSTED_SHARE, _TRUSTED_SECONDS = 0.8, 5.0  # of the limit, for so long: then a clock is believed again
_SET_SECONDS = 1.0  # this machine's UTC against its monotonic clock: more is not drift, it was set
_FAR_BACK_SECONDS = 5.0  # a capture clock that is so far ahead goes back at once


class PresentationClock:
    """Seconds since a source's first frame, strictly increasing."""

    def __init__(self, account: SourceAccount) -> None:
        self._account = account
        self._last: float | None = None
        self._ticks: float | None = None
        self._interval: float | None = None
        self._late = self._guessed = False

    @property
    def ticks(self) -> float | None:
        """Of the last frame; guessed where the stream left one out, None where it has none at all."""
        return self._ticks

    def restart(self) -> None:
        """The stream was connected anew: its ticks have nothing to do with those before."""
        self._ticks, self._late, self._guessed = None, False, False

    def advance(self, ticks: float | None, *, elapsed: float | None = None) -> float | None:
        """Give a frame its time.

        Args:
            ticks: The stream's own time in seconds; None where it has none. FFmpeg leaves one out now and then, when
                packets come in a heap: it is then guessed to be the usual interval after the last.
            elapsed: Seconds that passed on this machine since the frame before; None for recordings.

        Returns:
            The time; None when it has the time of an earlier frame, and must be skipped.
        """
        if self._last is None:
            self._last, self._ticks = 0.0, ticks
            return self._last
        guess = ticks is None and self._ticks is not None and self._interval is not None
        if guess and self._ticks is not None:
            ticks = self._ticks + self._usual
        step = self._step(ticks, elapsed)
        if step is None:
            return None
        self._last += max(step, _LEAST_STEP)
        if ticks is not None:
            self._ticks, self._late = ticks, False
        self._guessed = guess
        return self._last

    def _step(self, ticks: float | None, elapsed: float | None) -> float | None:
        if ticks is None or self._ticks is None:
            return elapsed if elapsed is not None else self._usual
        step = ticks - self._ticks
        if self._guessed and -self._usual <= step <= 0:
            return _LEAST_STEP
        if step == 0:
            self._account.clock_event("duplicates")
            return None
        if step < 0:
            return self._back(step, elapsed)
        if elapsed is not None and step > elapsed + _EARLY_SECONDS + self._usual:
            self._account.clock_event("jumps")
            return elapsed
        if elapsed is None and step > _MOST_GAP_SECONDS:
            self._account.clock_event("jumps")
            return self._usual
        if self._interval is not None and step > _GAP_INTERVALS * self._interval:
            self._account.clock_event("gaps")
        else:
            usual = self._interval or step
            self._interval = usual + _INTERVAL_SHARE * (step - usual)
        return step

    def _back(self, step: float, elapsed: float | None) -> float | None:
        """One frame that is a little older comes late; a second one, or a great step, is a clock that was set back."""
        if not self._late and step > -_LATE_SECONDS:
            self._late = True
            self._account.clock_event("backwards")
            return None
        if not self._late:
            self._account.clock_event("backwards")
        return elapsed if elapsed is not None else self._usual

    @property
    def _usual(self) -> float:
        return self._interval or 0.1


@dataclass(frozen=True, slots=True)
class Arrival:
    """When something came, by the two clocks of this machine.

    Attributes:
        monotonic: Seconds of a clock that nobody sets.
        utc: Seconds since 1970.
    """

    monotonic: float
    utc: float


class CaptureClock:
    """When frames were taken, UTC; never earlier than the frame before, but where a clock was set far back.

    Attributes:
        rejected_error: Of the camera's clock in seconds, while it is not believed; else None.
        machine_set_by: Seconds by which this machine's own clock was set since the frame before; 0.0 for not at all.
    """

    def __init__(self, account: SourceAccount, *, max_error_seconds: float) -> None:
        """``max_error_seconds``: a camera's clock that is further off is not believed."""
        self._account = account
        self._max_error = max_error_seconds
        self._fastest: deque[tuple[float, float]] = deque()  # begin of a window, least delay in it
        self._sender: float | None = None  # camera's clock minus ticks
        self._unconfirmed: float | None = None
        self._seen: tuple[float, float] | None = None  # ticks and arrival of the frame before
        self._last: float | None = None
        self._last_pts_seconds = 0.0
        self._right_since: float | None = None  # by the monotonic clock, while it is not believed
        self._is_by_machine = True  # whether the last was told by this machine's clock
        self._machine: float | None = None  # this machine's UTC minus its monotonic clock
        self.rejected_error: float | None = None
        self.machine_set_by = 0.0

    def restart(self) -> None:
        """The stream was connected anew; what was found of the camera's clock holds until it is judged again."""
        self._fastest.clear()
        self._sender = self._unconfirmed = self._seen = None

    def stamp(
        self, ticks: float | None, arrival: Arrival, *, pts_seconds: float, sender: float | None = None
    ) -> tuple[datetime, TimeSource]:
        """Tell a frame's capture time and where it came from.

        Args:
            ticks: The stream's own time in seconds; None where it has none.
            arrival: Of the frame.
            pts_seconds: What ``PresentationClock`` made of the ticks.
            sender: The camera's clock at its capture, seconds since 1970; None where the stream does not tell.
        """
        self._watch_machine(arrival)
        self._watch_ticks(ticks, arrival)
        found, source = self._by_arrival(ticks, arrival)
        if ticks is not None and (by_sender := self._by_sender(ticks, arrival, sender)) is not None:
            found, source = by_sender, TimeSource.SENDER_REPORT
        self._is_by_machine = source is not TimeSource.SENDER_REPORT
        return datetime.fromtimestamp(self._forward(found, pts_seconds), UTC), source

    def _watch_machine(self, arrival: Arrival) -> None:
        """When this machine's clock is set, all that was told by it was wrong by as much."""
        offset = arrival.utc - arrival.monotonic
        by = offset - (self._machine if self._machine is not None else offset)
        self._machine = offset
        self.machine_set_by = by if abs(by) > _SET_SECONDS else 0.0
        if self.machine_set_by:
            self._account.clock_event("machine_set")
            if self._last is not None and self._is_by_machine:
                self._last += by

    def _watch_ticks(self, ticks: float | None, arrival: Arrival) -> None:
        """Ticks that were set say nothing together with those before, and nor does what was found by them."""
        if ticks is not None and self._seen is not None:
            step, elapsed = ticks - self._seen[0], arrival.monotonic - self._seen[1]
            if step < -_JUMP_SECONDS or step > elapsed + _EARLY_SECONDS:
                self.restart()
        self._seen = None if ticks is None else (ticks, arrival.monotonic)

    def _by_arrival(self, ticks: float | None, arrival: Arrival) -> tuple[float, TimeSource]:
        if ticks is None:
            return arrival.utc, TimeSource.ARRIVAL
        delay = arrival.monotonic - ticks
        if not self._fastest or arrival.monotonic - self._fastest[-1][0] > _WINDOW_SECONDS:
            self._fastest.append((arrival.monotonic, delay))
            if len(self._fastest) > 2:
                self._fastest.popleft()
        begin, least = self._fastest[-1]
        self._fastest[-1] = begin, min(least, delay)
        late = delay - min(least for _, least in self._fastest)
        return arrival.utc - max(late, 0.0), TimeSource.STREAM_PTS

    def _by_sender(self, ticks: float, arrival: Arrival, sender: float | None) -> float | None:
        """The camera's clock as far as it is known: told twice alike, and not absurd.

        FFmpeg gives the first frame after the first report the time of the next one; so one report alone is no report.
        """
        if sender is not None:
            offset = sender - ticks
            if self._unconfirmed is not None and abs(offset - self._unconfirmed) < _CONFIRMED_SECONDS:
                self._note_jump(offset)
                self._sender = offset
            self._unconfirmed = offset
        if self._sender is None:
            return None
        found = self._sender + ticks
        error = found - arrival.utc
        self.rejected_error = error if self._is_doubtful(error, arrival) else None
        return found if self.rejected_error is None else None

    def _is_doubtful(self, error: float, arrival: Arrival) -> bool:
        """Beyond the limit; and then until it was well below it for some seconds, or it would be so by turns."""
        share = 1.0 if self.rejected_error is None else _TRUSTED_SHARE
        if abs(error) > share * self._max_error:
            self._right_since = None
            return True
        if self.rejected_error is None:
            return False
        self._right_since = arrival.monotonic if self._right_since is None else self._right_since
        return arrival.monotonic - self._right_since < _TRUSTED_SECONDS

    def _note_jump(self, offset: float) -> None:
        if self._sender is not None and abs(offset - self._sender) > _JUMP_SECONDS:
            self._account.clock_event("jumps" if offset > self._sender else "backwards")

    def _forward(self, found: float, pts_seconds: float) -> float:
        """Let a clock that was set back run slowly until it is right again, so that no moment comes twice.

        One that was set back far would be wrong for long: it goes back at once.
        """
        if self._last is not None:
            slowest = self._last + max(_SLOWEST_RATE * (pts_seconds - self._last_pts_seconds), _LEAST_STEP)
            if slowest - found < _FAR_BACK_SECONDS:
                found = max(found, slowest)
        self._last, self._last_pts_seconds = found, pts_seconds
        return found
