import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import doctor
from pipeline.cli import main
from pipeline.config import Config, from_sources
from pipeline.doctor import Check, Status, examine
from tests.pipeline.footage import picture, write_images, write_video
from tests.pipeline.onnx_file import write_constant_model
from tests.pipeline.streams import mjpeg_server


def found(config: Config | None) -> dict[str, Check]:
    return {check.name: check for check in examine(config)}


def test_the_machine_is_examined_without_a_config() -> None:
    checks = found(None)
    assert set(checks) == {
        "python",
        "packages",
        "decoder",
        "gpu",
        "cores and memory",
        "disk",
        "clock",
        "re-ID weights xreid-tiny",
    }
    for name in ("python", "packages", "decoder", "gpu", "clock"):
        assert checks[name].status is Status.OK
    assert "writes H.264" in checks["decoder"].detail
    assert "torch" in checks["packages"].detail


def test_sources_and_output_of_a_config_are_examined(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [picture(0), picture(1)])
    night = write_images(tmp_path / "night", [np.full((40, 50), 900, np.uint16)])
    root = tmp_path / "runs/new"
    config = from_sources(
        [f"gate={video}", f"yard={night},modality=thermal", f"lost={tmp_path}/none.mp4"],
        overrides=[f"output.root={root}", "site.timezone=Europe/Berlin"],
    )
    checks = found(config)
    assert checks["camera gate"].detail.startswith("rgb, 96x64, 8 bits, 10 frames a second, 2 frames, from ")
    assert checks["camera yard"].detail.startswith("thermal, 50x40, 16 bits")
    assert checks["camera lost"].status is Status.FAIL
    assert "no such file" in checks["camera lost"].detail
    assert "Europe/Berlin" in checks["clock"].detail
    assert checks["detector"].status is Status.OK
    assert str(root) in checks["disk"].detail
    assert not root.exists()


def test_missing_weights_are_a_failure_with_advice(tmp_path: Path) -> None:
    config = from_sources(
        [f"gate={tmp_path}"],
        overrides=[
            "detector.backend=onnx",
            f"detector.weights={tmp_path}/none.onnx",
            f"reid.weights={tmp_path}/none.safetensors",
        ],
    )
    checks = found(config)
    assert checks["detector"].status is Status.FAIL
    assert "put an ONNX export of YOLOX" in checks["detector"].detail
    assert checks[f"re-ID weights {tmp_path}/none.safetensors"].status is Status.FAIL


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_gpu_that_is_asked_for_and_not_there_is_a_failure(tmp_path: Path) -> None:
    config = from_sources([f"gate={tmp_path}"], overrides=["reid.device=cuda"])
    assert found(config)["gpu"].status is Status.FAIL


def test_an_output_below_a_file_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    config = from_sources([f"gate={tmp_path}"], overrides=[f"output.root={file}/run"])
    assert found(config)["disk"].status is Status.FAIL


def test_detector_weights_are_loaded_and_their_fingerprint_told(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "m.onnx", np.zeros((1, 84, 85), np.float32), input_shape=(1, 3, 64, 64))
    config = from_sources(
        [f"gate={tmp_path}"], overrides=["detector.backend=onnx", f"detector.weights={path}", "detector.device=cpu"]
    )
    check = found(config)["detector"]
    assert check.status is Status.OK
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in check.detail


def test_embedded_weights_are_told_with_their_fingerprint() -> None:
    from reid import checkpoint

    check = found(None)["re-ID weights xreid-tiny"]
    if "xreid-tiny" in checkpoint.embedded():
        assert check.status is Status.OK
        assert str(checkpoint.find("xreid-tiny")) in check.detail
        assert "sha256" in check.detail
    else:
        assert check.status is Status.FAIL


def test_little_disk_memory_and_an_unset_clock_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_DISK_GB", float("inf"))
    monkeypatch.setattr(doctor, "_LEAST_MEMORY_GB", float("inf"))
    monkeypatch.setattr(doctor, "_EARLIEST_CLOCK", datetime.max.replace(tzinfo=UTC))
    checks = found(from_sources([f"gate={tmp_path}"]))
    assert [checks[name].status for name in ("disk", "cores and memory", "clock")] == [Status.WARN] * 3


def test_missing_packages_and_codecs_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package",))
    monkeypatch.setattr(doctor, "_CODECS", {"no_such_codec": "r"})
    checks = found(None)
    assert checks["packages"].detail == "missing: no-such-package; run make setup"
    assert checks["decoder"].status is checks["packages"].status is Status.FAIL
    assert "no_such_codec" in checks["decoder"].detail


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_CODECS", None)
    check = found(None)["decoder"]
    assert check.status is Status.FAIL
    assert check.detail.startswith("AttributeError")


def test_a_live_camera_that_is_down_is_a_warning_for_a_run_waits_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    with mjpeg_server([picture(number) for number in range(20)]) as port:
        address = f"127.0.0.1:{port}/v.mjpg?token=opensesame"
        sources = [f"gate=http://{address}", "yard=rtsp://admin:hunter2@127.0.0.1:9/s1"]
        checks = found(from_sources(sources, overrides=["cameras.yard.stream.timeout_seconds=2"]))
        assert main(["doctor", *(word for source in sources for word in ("--source", source))]) == 0
        assert main(["validate", *(word for source in sources for word in ("--source", source))]) == 0
    assert checks["camera gate"].status is Status.OK
    assert checks["camera gate"].detail.startswith("rgb, 96x64, 8 bits, 25 frames a second, live, mjpeg on the CPU")
    assert checks["camera yard"].status is Status.WARN
    assert "nobody listens there" in checks["camera yard"].detail
    assert checks["camera yard"].detail.endswith("[STREAM_REFUSED]")
    told = capsys.readouterr()
    assert "http://127.0.0.1" in told.out
    for secret in ("hunter2", "opensesame", "admin"):
        assert secret not in told.out + told.err + str(checks)
