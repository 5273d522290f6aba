"""Counts say where every frame went."""

import math
import time
from collections import Counter
from datetime import datetime

import numpy as np
import pytest

from pipeline.config import from_sources
from pipeline.prefetch import Intake, Ledger
from pipeline.tally import UNPROCESSED, Ages, GreyWatch, Tally, account_of, incomplete_sources
from reid.modality import Modality
from tests.pipeline.footage import frame_of


def test_quantiles_of_ages_are_right_within_five_milliseconds_and_the_maximum_is_exact() -> None:
    ages, values = Ages(), np.random.default_rng(0).gamma(2.0, 0.1, 5000)
    for value in values:
        ages.add(float(value))
    for share in (0.5, 0.95, 0.99):
        assert 0 <= ages.quantile(share) - np.quantile(values, share) <= 0.006
    assert ages.most == values.max()
    assert math.isnan(Ages().quantile(0.5))


def test_ages_beyond_all_bins_are_kept_and_memory_does_not_grow() -> None:
    ages = Ages()
    for seconds in (0.1, 50.0, -0.2):  # a clock may step
        ages.add(seconds)
    assert ages.most == 50.0
    assert ages.quantile(1.0) <= 50.0


def test_an_account_is_a_sentence_that_adds_up() -> None:
    ledger = Ledger(100, 90, Counter(stale=7, shutdown=3), Counter(), 1)
    assert account_of("gate", ledger) == (
        "camera gate: 100 frames decoded = 90 processed + 10 dropped (3 left when the run ended, 7 stale)"
    )
    assert ledger.on_the_way == 0
    assert account_of("gate", ledger + Ledger(5, 0, Counter(), Counter(), 0)).endswith(" + 5 on the way")


def test_frames_that_a_stage_failed_on_are_told() -> None:
    camera = {"state": "ended", "frames_dropped": {UNPROCESSED: 2, "shutdown": 1}, "frames_skipped": {}}
    (line,) = incomplete_sources({"cameras": {"gate": camera}})
    assert line == "camera gate: 2 frames could not be processed; the log says why"


def test_a_camera_said_to_be_rgb_whose_pictures_are_grey_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    watch, rng = GreyWatch(), np.random.default_rng(0)
    for index in range(300):
        grey = np.repeat(rng.integers(0, 256, (64, 96, 1), dtype=np.uint8), 3, axis=2)
        coloured = grey.copy()
        coloured[:32, :48, 0] = 255 - coloured[:32, :48, 0]
        watch.look(frame_of(grey, index, camera_id="yard"))
        watch.look(frame_of(grey[..., 0], index, camera_id="dock", modality=Modality.THERMAL))
        watch.look(frame_of(coloured, index, camera_id="gate"))
        watch.look(frame_of(coloured if index >= 40 else grey, index, camera_id="plaza"))
    (line,) = caplog.messages
    assert line.startswith("camera yard: is said to be rgb, and its pictures are grey")


def test_the_report_s_start_is_when_the_seconds_began() -> None:
    with Intake() as intake:
        tally = Tally(intake, started=time.perf_counter() - 100)
        report = tally.report(from_sources(["gate=gate.mp4"]), model_id="m", persons=0)
    began, written = (datetime.fromisoformat(report[name]) for name in ("started", "written"))
    assert (written - began).total_seconds() == pytest.approx(report["seconds"], abs=0.1)
    assert 100 <= report["seconds"] < 130
