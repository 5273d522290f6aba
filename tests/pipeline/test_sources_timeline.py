from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest

from pipeline.frame import TimeSource
from pipeline.sources.base import SourceAccount
from pipeline.sources.timeline import Arrival, CaptureClock, PresentationClock

NOW = 1_790_000_000.0
RNG = np.random.default_rng(0)


def presented(ticks: list[float | None], *, elapsed: float | None = 0.1) -> tuple[list[float | None], SourceAccount]:
    account = SourceAccount()
    clock = PresentationClock(account)
    return [clock.advance(each, elapsed=elapsed) for each in ticks], account


@pytest.mark.parametrize("elapsed", [0.1, None])
def test_times_begin_at_zero_and_follow_the_ticks(elapsed: float | None) -> None:
    times, account = presented([50.0, 50.1, 50.25, 50.3], elapsed=elapsed)
    np.testing.assert_allclose(np.array(times, float), [0, 0.1, 0.25, 0.3])
    assert account.clock == SourceAccount().clock


def test_a_frame_that_has_the_time_of_the_last_is_a_duplicate() -> None:
    times, account = presented([0, 0.1, 0.1, 0.2])
    assert times[2] is None
    assert account.clock.duplicates == 1


def test_one_late_frame_is_left_out_and_the_others_keep_their_times() -> None:
    times, account = presented([0, 0.1, 0.3, 0.2, 0.4])
    assert times[3] is None
    np.testing.assert_allclose(np.array([t for t in times if t is not None]), [0, 0.1, 0.3, 0.4])
    assert account.clock.backwards == 1


@pytest.mark.parametrize("elapsed", [0.1, None])
@pytest.mark.parametrize("back", [0.35, 3600.0])
def test_ticks_that_are_set_back_go_on_from_where_the_source_is(elapsed: float | None, back: float) -> None:
    ticks = [0, 0.1, 0.2, 0.3, 0.4, *(0.5 - back + n / 10 for n in range(10))]
    times, account = presented(list(ticks), elapsed=elapsed)
    given = [time for time in times if time is not None]
    assert len(given) >= len(ticks) - 1
    assert np.all(np.diff(given) > 0)
    assert given[-1] == pytest.approx(1.4, abs=0.11)
    assert account.clock.backwards == 1


def test_live_ticks_that_leap_ahead_of_time_are_a_jump_and_move_nothing() -> None:
    times, account = presented([0, 0.1, 3600.2, 3600.3])
    np.testing.assert_allclose(np.array(times, float), [0, 0.1, 0.2, 0.3])
    assert account.clock.jumps == 1


def test_a_recordings_gap_is_kept_and_counted() -> None:
    times, account = presented([0, 0.1, 0.2, 60.2, 60.3], elapsed=None)
    np.testing.assert_allclose(np.array(times, float), [0, 0.1, 0.2, 60.2, 60.3])
    assert account.clock.gaps == 1
    assert account.clock.jumps == 0


def test_a_new_connection_goes_on_by_the_time_that_passed() -> None:
    clock = PresentationClock(SourceAccount())
    assert clock.advance(7.0, elapsed=None) == 0
    clock.restart()
    assert clock.advance(2.0, elapsed=30.0) == 30.0
    assert clock.advance(2.1, elapsed=0.1) == pytest.approx(30.1)


def test_ticks_that_are_left_out_now_and_then_are_guessed() -> None:
    account = SourceAccount()
    clock = PresentationClock(account)
    given = [clock.advance(each, elapsed=0.01) for each in (5.0, 5.1, 5.2, None, 5.4, None, 5.55, 5.65)]
    np.testing.assert_allclose(np.array(given, float), [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.65], atol=0.01)
    assert clock.ticks == 5.65
    assert account.clock == SourceAccount().clock


def test_whatever_the_ticks_say_times_increase() -> None:
    ticks = [None if RNG.random() < 0.1 else float(RNG.normal(0, 100)) for _ in range(2000)]
    for elapsed in (None, 0.04):
        given = [time for time in presented(ticks, elapsed=elapsed)[0] if time is not None]
        assert len(given) > 1000
        assert np.all(np.diff(given) > 0)


def stamped(
    count: int,
    *,
    jitter: float = 0.0,
    rate: float = 1.0,
    sender: dict[int, float] | None = None,
    max_error: float = 5.0,
) -> tuple[list[float], list[TimeSource], SourceAccount]:
    """Capture times, less the truth, of frames ten a second; ``sender`` gives the clock's error from a frame on."""
    account = SourceAccount()
    clock = CaptureClock(account, max_error_seconds=max_error)
    errors, sources, error = [], [], None
    for number in range(count):
        true = number / 10
        late = 0.05 + jitter * float(RNG.random())
        error = (sender or {}).get(number, error)
        told = None if error is None else NOW + true + error
        arrival = Arrival(true + late, NOW + true + late)
        moment, source = clock.stamp(rate * true + 400, arrival, pts_seconds=true, sender=told)
        errors.append(moment.timestamp() - NOW - true)
        sources.append(source)
    return errors, sources, account


def test_without_reports_the_fastest_frames_set_the_time_and_jitter_is_gone() -> None:
    errors, sources, _ = stamped(300, jitter=0.3)
    assert set(sources) == {TimeSource.STREAM_PTS}
    assert np.ptp(errors[100:]) < 0.02
    assert np.all(np.abs(errors) < 0.36)


def test_a_stream_clock_that_drifts_is_followed() -> None:
    for rate in (0.999, 1.001):
        errors, _, _ = stamped(2000, jitter=0.05, rate=rate)
        assert np.abs(np.array(errors[1000:]) - 0.05).max() < 0.08


def test_a_report_is_believed_when_the_next_frame_confirms_it() -> None:
    errors, sources, account = stamped(40, sender={10: 0.1, 11: 0.0})  # FFmpeg's first is a frame off
    assert sources[11] is TimeSource.STREAM_PTS
    assert set(sources[12:]) == {TimeSource.SENDER_REPORT}
    np.testing.assert_allclose(errors[14:], 0, atol=1e-6)
    assert account.clock.jumps == 0


def test_a_camera_clock_that_leaps_is_followed_at_once_and_counted() -> None:
    errors, _, account = stamped(100, sender={0: 0.0, 50: 2.0})
    np.testing.assert_allclose(errors[55:], 2.0, atol=1e-6)
    assert (account.clock.jumps, account.clock.backwards) == (1, 0)


def test_a_camera_clock_that_is_set_back_runs_slowly_until_it_is_right() -> None:
    errors, _, account = stamped(100, sender={0: 0.0, 50: -2.0})
    moments = np.array(errors) + np.arange(100) / 10
    assert np.all(np.diff(moments) > 0)
    np.testing.assert_allclose(errors[95:], -2.0, atol=1e-6)
    assert (account.clock.jumps, account.clock.backwards) == (0, 1)


def test_a_clock_that_is_absurd_is_not_used_and_said() -> None:
    account = SourceAccount()
    clock = CaptureClock(account, max_error_seconds=5)
    for number in range(3):
        at = number / 10
        moment, source = clock.stamp(at, Arrival(at, NOW + at), pts_seconds=at, sender=NOW - 86400 + at)
    assert source is TimeSource.STREAM_PTS
    assert abs(moment.timestamp() - NOW) < 1
    assert clock.rejected_error == pytest.approx(-86400, abs=1)
    clock.restart()
    assert clock.rejected_error is not None  # nobody has looked at it since


def test_frames_without_ticks_have_the_time_of_their_arrival() -> None:
    clock = CaptureClock(SourceAccount(), max_error_seconds=5)
    assert clock.stamp(None, Arrival(3.0, NOW), pts_seconds=0) == (datetime.fromtimestamp(NOW, UTC), TimeSource.ARRIVAL)


def shown_over(seconds: int, *, machine: float = 0.0, ticks: float = 0.0, sender: bool = False) -> list[float]:
    """Errors of captured_at of frames ten a second, when after half the time a clock is set by so many seconds."""
    account = SourceAccount()
    presentation, clock = PresentationClock(account), CaptureClock(account, max_error_seconds=5)
    errors, last = [], None
    for number in range(10 * seconds):
        true, is_late = number / 10, number >= 5 * seconds
        arrival = Arrival(1000 + true, NOW + true + (0.0 if is_late else -machine))
        elapsed = None if last is None else arrival.monotonic - last
        last = arrival.monotonic
        pts = presentation.advance(5000 + true + (ticks if is_late else 0.0), elapsed=elapsed)
        if pts is not None:
            told = NOW + true if sender else None
            moment, _ = clock.stamp(presentation.ticks, arrival, pts_seconds=pts, sender=told)
            errors.append(moment.timestamp() - NOW - true)
    assert account.clock.machine_set == (abs(machine) > 1)
    return errors


@pytest.mark.parametrize("sender", [False, True])
@pytest.mark.parametrize("by", [-8 * 3600.0, -3.0, 3.0, 8 * 3600.0])
def test_when_this_machines_clock_is_set_times_are_right_at_once(by: float, sender: bool) -> None:
    errors = shown_over(60, machine=by, sender=sender)
    assert errors[250] == pytest.approx(0.0 if sender and abs(by) < 5 else -by, abs=0.01)
    np.testing.assert_allclose(errors[310:], 0, atol=0.01)


@pytest.mark.parametrize("by", [-3600.0, -2.0, 2.0, 3600.0])
def test_ticks_that_are_set_move_no_capture_time(by: float) -> None:
    np.testing.assert_allclose(shown_over(60, ticks=by), 0, atol=0.15)


def test_a_camera_clock_that_is_set_back_far_is_followed_at_once() -> None:
    errors, _, account = stamped(100, sender={0: 20.0, 50: 0.0}, max_error=30)
    np.testing.assert_allclose(errors[53:], 0, atol=1e-6)
    assert account.clock.backwards == 1


def test_a_camera_clock_that_drifts_over_the_limit_is_given_up_once() -> None:
    jitter = np.random.default_rng(1).normal(0, 0.03, 3000)
    drifting = {number: 4.9 + 0.2 * number / 3000 + float(jitter[number] > 0) * 0.05 for number in range(3000)}
    _, sources, _ = stamped(3000, jitter=0.05, sender=drifting)
    changes = sum(before is not after for before, after in pairwise(sources[5:]))
    assert sources[2900:] == [TimeSource.STREAM_PTS] * 100
    assert changes == 1


def test_a_camera_clock_that_was_wrong_is_believed_again_when_it_is_right_for_some_seconds() -> None:
    _, sources, _ = stamped(300, sender={0: 7.0, 100: 4.5, 200: 3.0})
    assert set(sources[:245]) == {TimeSource.STREAM_PTS}
    assert set(sources[260:]) == {TimeSource.SENDER_REPORT}
