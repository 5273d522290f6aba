import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from simulation.config import ConfigError, load
from simulation.faults import CameraFaults, Fault, FaultPlan, Tampering

REPOSITORY = Path(__file__).resolve().parents[2]


def tampering(*faults: dict[str, Any], at: float = 1.0) -> tuple[Tampering, CameraFaults]:
    made = CameraFaults([Fault.model_validate(each) for each in faults], Random(0))  # noqa: S311
    return Tampering(made, lambda: at), made


def rtp(number: int, *, marker: bool = True, stamp: int = 90_000) -> bytes:
    return struct.pack(">BBHII", 0x80, 96 | (0x80 if marker else 0), number, stamp, 7) + bytes(200)


def report(*, seconds: float, stamp: int) -> bytes:
    return struct.pack(">BBHIQI", 0x80, 200, 6, 7, round(seconds * 2**32), stamp) + bytes(8)


def told(packet: bytes) -> tuple[float, int]:
    ntp, stamp = struct.unpack_from(">QI", packet, 8)
    return ntp / 2**32, stamp


def test_without_faults_packets_come_through_and_are_counted() -> None:
    proxy, faults = tampering()
    assert proxy.of(0, rtp(1, marker=False)) == [rtp(1, marker=False)]
    assert proxy.of(0, rtp(2)) == [rtp(2)]
    assert proxy.of(1, report(seconds=5, stamp=9)) == [report(seconds=5, stamp=9)]
    assert faults.counts == {"packets": 2, "frames": 1}


@pytest.mark.parametrize(("kind", "numbers"), [("drop", []), ("duplicate", [1, 1, 2, 2, 3, 3]), ("reorder", [2, 1])])
def test_packets_are_lost_doubled_and_swapped(kind: str, numbers: list[int]) -> None:
    proxy, faults = tampering({"kind": kind, "for_seconds": 9})
    out = [packet for number in (1, 2, 3) for packet in proxy.of(0, rtp(number))]
    assert [struct.unpack_from(">H", packet, 2)[0] for packet in out] == numbers
    assert faults.counts[kind] == 3


def test_a_damaged_packet_keeps_its_head() -> None:
    proxy, _ = tampering({"kind": "corrupt", "for_seconds": 9})
    (out,) = proxy.of(0, rtp(1))
    assert out[:12] == rtp(1)[:12]
    assert 1 <= sum(a != b for a, b in zip(out, rtp(1), strict=True)) <= 20


def test_only_a_share_of_the_packets_is_hit_and_only_while_the_fault_lasts() -> None:
    proxy, faults = tampering({"kind": "drop", "share": 0.1, "for_seconds": 9})
    for number in range(2000):
        proxy.of(0, rtp(number))
    assert 140 < faults.counts["drop"] < 260
    before, later = (tampering({"kind": "drop", "at_seconds": 2, "for_seconds": 3}, at=at)[0] for at in (1.9, 5.1))
    assert before.of(0, rtp(1)) == later.of(0, rtp(1)) == [rtp(1)]


def test_skew_and_jumps_are_of_the_reported_clock_and_the_stream_goes_on() -> None:
    proxy, _ = tampering({"kind": "skew", "by": 0.3}, {"kind": "clock_jump", "by": -2.0, "at_seconds": 0.5})
    (out,) = proxy.of(1, report(seconds=100, stamp=90_000))
    assert told(out) == (pytest.approx(98.3), 90_000)
    assert proxy.of(0, rtp(1)) == [rtp(1)]


def test_drift_runs_the_clock_and_the_stream_alike() -> None:
    proxy, _ = tampering({"kind": "drift", "by": 0.005, "at_seconds": 0}, at=100.0)
    (out,) = proxy.of(1, report(seconds=100, stamp=9_000_000))
    assert told(out) == (pytest.approx(100.5), 9_045_000)
    (packet,) = proxy.of(0, rtp(1, stamp=9_000_000))
    assert struct.unpack_from(">I", packet, 4)[0] == 9_045_000


def test_timestamps_wrap_around_as_they_do() -> None:
    proxy, _ = tampering({"kind": "timestamp_jump", "by": 1.0})
    (packet,) = proxy.of(0, rtp(1, stamp=2**32 - 1))
    assert struct.unpack_from(">I", packet, 4)[0] == 89_999


def test_a_fault_comes_back() -> None:
    fault = Fault(kind="freeze", at_seconds=10, for_seconds=2, every_seconds=30)
    assert [fault.active(at) for at in (9, 10, 11.9, 12, 39, 41, 42.5)] == [
        False,
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    assert [fault.times(at) for at in (9, 10, 39, 40, 100)] == [0, 1, 1, 2, 4]


def test_the_plan_that_is_shipped_has_every_kind_and_each_camera_its_own(tmp_path: Path) -> None:
    plan = load(REPOSITORY / "configs" / "simulation" / "faults.yaml", FaultPlan)
    assert {each.kind for each in plan.faults} == set(Fault.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
    assert {each.kind for each in plan.of("gate").faults} == {"kill", "drop", "duplicate", "reorder", "corrupt"}
    wrong = tmp_path / "plan.yaml"
    wrong.write_text("faults: [{kind: explode}]")
    with pytest.raises(ConfigError, match=r"faults\.0\.kind"):
        load(wrong, FaultPlan)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "skew"},
        {"kind": "drift", "by": 3},
        {"kind": "drop", "share": 1.5},
        {"kind": "kill", "for_seconds": 5, "every_seconds": 5},
        {"kind": "kill", "colour": "red"},
    ],
)
def test_faults_that_make_no_sense_are_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(fault)
