import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from reid.progress import Board, Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (61, "1 min"), (3540, "59 min"), (11_100, "3 h 05 min")]
)
def test_a_duration_is_told_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_a_line_tells_steps_loss_and_the_time_that_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("reid.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    with caplog.at_level(logging.INFO), Progress(10, 100, line_every=60) as progress:
        for _ in range(9):
            now[0] += 10  # ten seconds a step
            progress.step(0.5)
    assert [record.getMessage() for record in caplog.records] == ["step 16/100, loss 0.500, 14 min left"]


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(5, 8) as progress:
        for _ in range(3):
            progress.step(1.25)
    shown = capsys.readouterr().err
    assert "8/8" in shown
    assert "loss=1.250" in shown


def test_the_board_does_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO), Board(tmp_path / "board") as board:
        board.write({"lr": 1.0}, 1)
    assert "pip install 'crossmodal-surveillance[train]'" in caplog.text
    assert not (tmp_path / "board").exists()
