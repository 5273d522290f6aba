"""Metrics and health are told over HTTP while the line runs."""

import http.client
import json
import logging
import socket
import struct
import threading
import time
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


def test_a_client_that_resets_its_connection_is_a_line_of_the_debug_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), served(Metrics(list, tmp_path), "127.0.0.1", 0) as port:
        for _ in range(5):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
            client.sendall(b"GET /metrics HTTP/1.0\r\n")
            client.close()
        deadline = time.monotonic() + 5
        while caplog.text.count("a client is gone") < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert caplog.text.count("a client is gone") == 5
    assert "Exception occurred during processing" not in capfd.readouterr().err
    assert {record.levelname for record in caplog.records if "gone" in record.message} == {"DEBUG"}


def test_a_fault_while_it_answers_is_an_error_of_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken = False

    def cameras() -> list[CameraStatus]:
        if broken:
            raise KeyError("gate")
        return []

    metrics = Metrics(cameras, tmp_path)
    broken = True
    with served(metrics, "127.0.0.1", 0) as port, pytest.raises((OSError, http.client.HTTPException)):
        get(port, "/readyz")
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.exc_info is not None
    assert told.exc_info[0] is KeyError
    assert "Exception occurred during processing" not in capfd.readouterr().err


@pytest.mark.parametrize(("page", "status"), [("/metrics", 200), ("/healthz", 200), ("/readyz", 503), ("/x", 404)])
def test_head_is_answered_as_get_without_the_page(tmp_path: Path, page: str, status: int) -> None:
    with served(Metrics(list, tmp_path), "127.0.0.1", 0) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("HEAD", page)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b"")
        assert int(answer.headers["Content-Length"]) > 0
        connection.close()
