"""Metrics and health are told over HTTP while the line runs."""

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import ResourceError
from pipeline.monitoring import CameraStatus, Metrics, check_free, served
from pipeline.prefetch import Ledger
from pipeline.sources.base import SourceAccount, SourceState

pytestmark = pytest.mark.alone


def status(state: SourceState | None, *, camera: str = "gate") -> CameraStatus:
    account = None if state is None else SourceAccount(state=state)
    ledger = Ledger(10, 7, Counter(stale=3), Counter(damaged=2), 4)
    return CameraStatus(camera, "thermal", live=True, account=account, ledger=ledger, queued=5)


def get(port: int, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_every_figure_of_a_camera_has_its_labels_and_names_follow_prometheus(tmp_path: Path) -> None:
    metrics = Metrics(lambda: [status(SourceState.STALLED)], tmp_path)
    metrics.pair_skew_seconds.labels("gate").set(0.3)
    with served(metrics, "127.0.0.1", 0) as port:
        code, text = get(port, "/metrics")
    assert code == 200
    labels = 'camera="gate",modality="thermal"'
    for line in (
        f"xreid_frames_decoded_total{{{labels}}} 10.0",
        f"xreid_frames_processed_total{{{labels}}} 7.0",
        f'xreid_frames_dropped_total{{{labels},cause="stale"}} 3.0',
        f'xreid_frames_skipped_total{{{labels},cause="damaged"}} 2.0',
        f"xreid_reconnects_total{{{labels}}} 4.0",
        f"xreid_queue_frames{{{labels}}} 5.0",
        'xreid_pair_skew_seconds{pair="gate"} 0.3',
    ):
        assert sorted_labels(line) in {sorted_labels(each) for each in text.splitlines()}
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert all(name.startswith(("xreid_", "process_", "python_")) for name in names)


def sorted_labels(line: str) -> str:
    head, brace, rest = line.partition("{")
    if not brace:
        return line
    labels, _, value = rest.partition("}")
    return f"{head}{{{','.join(sorted(labels.split(',')))}}}{value}"


@pytest.mark.parametrize(
    ("states", "ready"),
    [
        ([SourceState.RUNNING, SourceState.RECONNECTING], True),
        ([SourceState.ENDED], True),
        ([SourceState.RECONNECTING, None], False),
        ([SourceState.FAILED], False),
    ],
)
def test_it_is_ready_when_a_camera_gives_frames(states: list[SourceState | None], ready: bool, tmp_path: Path) -> None:
    cameras = [status(state, camera=f"c{number}") for number, state in enumerate(states)]
    metrics = Metrics(lambda: cameras, tmp_path)
    with served(metrics, "127.0.0.1", 0) as port:
        assert get(port, "/readyz")[0] == 503  # the line has not begun
        metrics.beat()
        code, body = get(port, "/readyz")
        assert code == (200 if ready else 503)
        assert list(json.loads(body)["cameras"]) == [each.camera_id for each in cameras]


def test_a_line_that_makes_no_step_any_more_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    metrics = Metrics(list, tmp_path)
    with served(metrics, "127.0.0.1", 0) as port:
        assert get(port, "/healthz") == (200, '{"status": "starting"}\n')
        monkeypatch.setattr("pipeline.monitoring.time", SimpleNamespace(monotonic=lambda: now[0]))
        metrics.beat()
        now[0] += 29
        assert get(port, "/healthz")[0] == 200
        now[0] += 2
        assert get(port, "/healthz")[0] == 503
        assert get(port, "/")[0] == 404


def test_a_run_that_hangs_while_it_begins_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pipeline.monitoring.time", SimpleNamespace(monotonic=lambda: now[0]))
    metrics = Metrics(list, tmp_path)
    with served(metrics, "127.0.0.1", 0) as port:
        now[0] += 299
        assert get(port, "/healthz") == (200, '{"status": "starting"}\n')
        now[0] += 2
        assert get(port, "/healthz") == (503, '{"status": "starting"}\n')
        metrics.beat()
        assert get(port, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_an_error_and_leaving_frees_it_and_ends_all_threads(tmp_path: Path) -> None:
    metrics = Metrics(list, tmp_path)
    with served(metrics, "127.0.0.1", 0) as port:
        taken = pytest.raises(ResourceError, match=f"monitoring.port: 127.0.0.1:{port} cannot be listened on")
        with taken, served(metrics, "127.0.0.1", port):
            pass
        with pytest.raises(ResourceError, match=f"monitoring.port: 127.0.0.1:{port} cannot"):
            check_free("127.0.0.1", port)
    check_free("127.0.0.1", port)
    with served(metrics, "127.0.0.1", port):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "monitoring"]
