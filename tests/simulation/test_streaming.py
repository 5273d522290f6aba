import json
import os
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from simulation import streaming
from simulation.__main__ import main
from simulation.clips import encode, images_of
from simulation.site import MARKER
from simulation.streaming import PACKAGES, StreamingError, Streams, clips_of, need_gstreamer, python_with_gstreamer
from simulation.writers import ImageFolder, VideoFile

pytestmark = pytest.mark.alone

REPOSITORY = Path(__file__).resolve().parents[2]
COUNTS = [np.full((64, 96), 7300 + 10 * number, np.uint16) for number in range(12)]


def need_server() -> None:
    if os.environ.get("FAIL_WITHOUT_GSTREAMER"):
        need_gstreamer()
    if python_with_gstreamer() is None:
        pytest.skip(f"no RTSP server here: {' '.join(PACKAGES)}")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """As ``simulation site`` writes one, of one second."""
    with VideoFile(tmp_path / "gate.mp4", fps=10, width=96, height=64) as file:
        for number in range(12):
            file.write(np.full((64, 96, 3), 20 * number, np.uint8))
    with ImageFolder(tmp_path / "roof") as folder:
        for counts in COUNTS:
            folder.write(counts)
    cameras = {
        "gate": {"recording": "gate.mp4", "fps": 10, "modality": "rgb"},
        "roof": {"recording": "roof", "fps": 10, "modality": "thermal"},
    }
    (tmp_path / MARKER).write_text(json.dumps({"cameras": cameras}))
    return tmp_path


def decoded(units: list[bytes], codec: str) -> list[np.ndarray]:  # type: ignore[type-arg]
    context = av.CodecContext.create(codec, "r")
    packets = [*(av.Packet(unit) for unit in units), None]
    return [np.asarray(frame.to_ndarray()) for packet in packets for frame in context.decode(packet)]  # type: ignore[attr-defined]


def test_counts_come_out_of_a_lossless_clip_as_they_went_in(tmp_path: Path) -> None:
    clip = encode(COUNTS, fps=10, lossless=True)
    clip.write(tmp_path / "a.units")
    assert (tmp_path / "a.units").read_bytes()[4 : 4 + len(clip.units[0])] == clip.units[0]
    for back, counts in zip(decoded(clip.units, "hevc"), COUNTS, strict=True):
        np.testing.assert_array_equal(back + clip.offset, counts)


def test_a_clip_can_be_begun_twice_a_second() -> None:
    images = [np.full((64, 96, 3), 10 * number, np.uint8) for number in range(12)]
    clip = encode(images, fps=10)
    assert (clip.codec, clip.gop, len(clip.units)) == ("h264", 5, 12)
    assert len(decoded(clip.units[5:], "h264")) == 7


def test_a_sites_recordings_become_clips_as_often_as_wanted(site: Path) -> None:
    assert [len(list(images_of(site / name, most=5))) for name in ("gate.mp4", "roof")] == [5, 5]
    told: list[str] = []
    clips = clips_of(site, seconds=1, number=2, tell=told.append)
    assert told == ["encoding gate", "encoding roof"]
    assert list(clips) == ["gate_1", "roof_1", "gate_2", "roof_2"]
    assert [len(clip.units) for clip in clips.values()] == [10, 10, 10, 10]
    with pytest.raises(StreamingError, match="holds no site"):
        clips_of(site / "roof", seconds=1, tell=told.append)
    assert len(told) == 2, "nothing is told before it is known that there is a site"


def test_without_gstreamer_it_is_said_what_to_install(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streaming, "python_with_gstreamer", lambda: None)
    assert main(["stream", "--site", str(site), "--seconds", "1"]) == 2
    assert "apt-get install python3-gi" in capsys.readouterr().err
    with pytest.raises(StreamingError, match="apt-get install"):
        Streams({"gate": encode(COUNTS, fps=10)}).__enter__()
    assert not [thread for thread in threading.enumerate() if thread.name == "streams"]


def test_ci_installs_what_the_streams_need() -> None:
    text = (REPOSITORY / ".ci" / "run").read_text()
    assert all(package in text for package in PACKAGES)


def test_faults_of_a_camera_that_is_not_served_are_refused(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_server()
    plan = site / "strange.yaml"
    plan.write_text("faults: [{kind: skew, camera: yard, by: 0.3}]")
    assert main(["stream", "--site", str(site), "--seconds", "1", "--faults", str(plan)]) == 2
    assert "no camera 'yard'" in (told := capsys.readouterr().err)
    assert "there are gate, roof" in told


def test_the_command_serves_a_site_with_faults_and_tells_what_it_did(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_server()
    plan = site / "faults.yaml"
    plan.write_text("faults: [{kind: kill, camera: gate, at_seconds: 1.0, for_seconds: 0.2}]")
    seen: list[int] = []

    def watch() -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end and not seen:
            try:
                with av.open("rtsp://127.0.0.1:18555/roof", timeout=2, options={"rtsp_transport": "tcp"}) as container:
                    seen.extend(frame.width for frame, _ in zip(container.decode(video=0), range(3), strict=False))
            except av.error.FFmpegError:
                time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert main(["stream", "--site", str(site), "--port", "18554", "--seconds", "4", "--faults", str(plan)]) == 0
    watcher.join()
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "gate=rtsp://127.0.0.1:18554/gate,modality=rgb",
        "roof=rtsp://127.0.0.1:18555/roof,modality=thermal",
    ]
    assert "gate: 1 kill" in told.err
    assert seen == [96, 96, 96]
