"""What ``benchmarks/streams.py`` says of its trials, of those that are committed."""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_line_that_waits_for_a_processor_is_not_told_to_be_what_stops_a_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    streams = importlib.import_module("streams")
    trials = json.loads((BENCHMARKS / "results" / "streams.json").read_text())["streams"]["trials"]
    failed = next(trial for trial in trials if not trial["held"])
    assert failed["machine_idle"] < 0.1
    assert streams.bottleneck(failed).startswith("the processor: ")
    assert streams.bottleneck(failed | {"machine_idle": 0.4}).startswith("the line, which is one thread: detect took ")
    idle = dict.fromkeys(failed["line_busy"], 0.1)
    assert streams.bottleneck(failed | {"machine_idle": 0.4, "line_busy": idle}).startswith("neither ")
