"""What a camera showed last: from the frames of the run in this process, made when somebody looks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.frame import Frame
from pipeline.thermal import ThermalWindow, Windows
from reid.modality import Modality
from tests.pipeline.factories import NOON
from tests.pipeline.footage import frame_of, picture
from tests.pipeline.server.conftest import Serve, beside


def shown(data: bytes) -> NDArray[Any]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]


def seen_ago(frame: Frame, seconds: float) -> Frame:
    return replace(frame, arrived_at=datetime.now(UTC) - timedelta(seconds=seconds))


def test_it_is_the_last_frame_in_small_with_its_time_and_age(gallery: Path, serve: Serve) -> None:
    frames = [frame_of(picture(each, width=960, height=640), each) for each in range(3)]
    client = serve(gallery, pipeline=beside(gallery, *frames[:2], seen_ago(frames[2], 90)))
    answer = client.get("/cameras/gate/picture")
    assert answer.status_code == 200, answer.text
    image = shown(answer.content)
    assert image.shape == (320, 480, 3)
    assert image[160, 80] == pytest.approx([220, 0, 0], abs=12)
    assert image[160, 240] == pytest.approx([20, 20, 20], abs=12)
    assert answer.headers["x-captured-at"] == "2026-06-01T12:00:00.200Z"
    assert 90 <= float(answer.headers["x-age-seconds"]) < 120
    assert answer.headers["cache-control"] == "no-store"


def test_however_many_look_it_is_made_once_in_a_while_and_its_age_is_told_as_it_is(
    gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("pipeline.server.pictures.time", SimpleNamespace(monotonic=lambda: now[0]))
    pipeline = beside(gallery, frame_of(picture(1), 1))
    client = serve(gallery, pipeline=pipeline)
    first = client.get("/cameras/gate/picture")
    pipeline.latest.leave(frame_of(picture(9), 9))
    now[0] += 1
    assert client.get("/cameras/gate/picture").headers["x-captured-at"] == first.headers["x-captured-at"]
    now[0] += 2
    later = client.get("/cameras/gate/picture")
    assert later.headers["x-captured-at"] == "2026-06-01T12:00:00.900Z"
    pipeline.latest.forget("gate")
    now[0] += 3
    assert client.get("/cameras/gate/picture").status_code == 404


def test_without_a_run_or_a_frame_it_says_so(gallery: Path, serve: Serve) -> None:
    alone = serve(gallery).get("/cameras/gate/picture")
    assert (alone.status_code, alone.headers["content-type"]) == (404, "application/problem+json")
    assert "no pipeline runs in this process" in alone.json()["detail"]
    early = serve(gallery, pipeline=beside(gallery)).get("/cameras/gate/picture")
    assert (early.status_code, early.json()["detail"]) == (404, "no picture of camera gate yet")


@pytest.mark.parametrize("window", [ThermalWindow(), ThermalWindow(low=7000, high=9000)])
def test_thermal_is_shown_as_the_line_shows_it_and_the_line_learns_nothing_from_it(
    gallery: Path, serve: Serve, window: ThermalWindow
) -> None:
    rng = np.random.default_rng(0)
    empty = (8000 + 40 * rng.standard_normal((60, 80))).astype(np.uint16)
    hot = empty.copy()
    hot[10:50, 30:50] = 8600
    frames = [frame_of(image, n, camera_id="dock", modality=Modality.THERMAL) for n, image in enumerate((empty, hot))]
    windows = Windows({"dock": window})
    lines = [windows.gray8(each) for each in frames]
    before = dict(vars(window))
    pipeline = beside(gallery, frames[1], windows=windows)
    small = pipeline.latest.small("dock", width=480)
    assert small is not None
    assert np.array_equal(small.image[..., 0], lines[1])
    answer = serve(gallery, pipeline=pipeline).get("/cameras/dock/picture")
    assert np.abs(shown(answer.content)[..., 0].astype(int) - lines[1]).mean() < 5  # it is a JPEG
    assert all(value is before[name] for name, value in vars(window).items())


def test_a_camera_whose_first_frame_is_still_to_be_windowed_has_a_picture(gallery: Path, serve: Serve) -> None:
    counts = np.linspace(7000, 9000, 64 * 64).reshape(64, 64).astype(np.uint16)
    frame = frame_of(counts, 0, camera_id="dock", modality=Modality.THERMAL)
    image = shown(serve(gallery, pipeline=beside(gallery, frame)).get("/cameras/dock/picture").content)
    assert image[-1, -1, 0] > image[0, 0, 0] + 60


def test_its_time_is_that_of_the_camera(gallery: Path, serve: Serve) -> None:
    frame = replace(frame_of(picture(1), 0), captured_at=NOON - timedelta(days=3))
    answer = serve(gallery, pipeline=beside(gallery, frame)).get("/cameras/gate/picture")
    assert answer.headers["x-captured-at"] == "2026-05-29T12:00:00.000Z"
    assert float(answer.headers["x-age-seconds"]) < 30
