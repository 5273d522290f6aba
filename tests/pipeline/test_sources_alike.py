"""The same clip as a lossless video, as images and as a live stream: the same boxes, the same tracklets."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.detectors.motion import MotionDetector, MotionSettings
from pipeline.frame import Frame
from pipeline.sources.images import ImageSource, SequenceTiming
from pipeline.sources.video import VideoSource
from pipeline.thermal import Windows
from pipeline.tracklets import RejectedTracklet, Tracklet, TrackletBuilder, TrackletRules
from reid.modality import Modality
from simulation.clips import Clip, encode
from simulation.streaming import Serving, Streams
from tests.pipeline.footage import write_images
from tests.pipeline.recordings import FPS, scene
from tests.pipeline.streams import require_gstreamer, watching
from trackers.cautious import CautiousSettings, CautiousTracker

FRAMES = 45


def mux(clip: Clip, path: Path) -> Path:
    """The clip's own frames as an MP4, not encoded again."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(clip.fps))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number, unit in enumerate(clip.units):
            packet = av.Packet(unit)
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = number
            packet.is_keyframe = number % clip.gop == 0
            container.mux(packet)
    return path


def line(frames: Iterable[Frame]) -> tuple[list[NDArray[np.float32]], list[Tracklet | RejectedTracklet]]:
    """Boxes of each frame, and tracklets."""
    detector = MotionDetector(MotionSettings(), windows=Windows(), confidence=0.25)
    tracker, builder = CautiousTracker(CautiousSettings()), TrackletBuilder(TrackletRules())
    boxes, tracklets = [], []
    for frame in frames:
        (found,) = detector.detect([frame])
        boxes.append(found.xyxy)
        tracks = tracker.update(found, pts_seconds=frame.pts_seconds)
        tracklets += builder.update(frame, tracks)
    return boxes, [*tracklets, *builder.flush()]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return encode((scene(number) for number in range(FRAMES)), fps=FPS, lossless=True)


@pytest.fixture(scope="module")
def recorded(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    return list(VideoSource("gate", mux(clip, tmp_path_factory.mktemp("alike") / "clip.mp4"), Modality.RGB))


def assert_alike(frames: list[Frame], others: list[Frame]) -> None:
    assert len(frames) == len(others)
    for one, other in zip(frames, others, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_allclose([f.pts_seconds for f in frames], [f.pts_seconds for f in others], atol=1e-3)
    (boxes, tracklets), (other_boxes, other_tracklets) = line(frames), line(others)
    assert sum(len(each) for each in boxes) > 20
    for box, other_box in zip(boxes, other_boxes, strict=True):
        np.testing.assert_allclose(box, other_box, atol=1e-3)
    assert [type(each) for each in tracklets] == [type(each) for each in other_tracklets]
    accepted = [(a, b) for a, b in zip(tracklets, other_tracklets, strict=True) if isinstance(a, Tracklet)]
    assert accepted
    for a, b in accepted:
        assert isinstance(b, Tracklet)
        np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-3)


def test_a_lossless_video_and_its_images_are_alike(recorded: list[Frame], tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", [frame.image for frame in recorded])
    assert_alike(recorded, list(ImageSource("gate", str(folder), Modality.RGB, timing=SequenceTiming(fps=FPS))))


def test_a_lossless_video_and_its_live_stream_are_alike(recorded: list[Frame], clip: Clip) -> None:
    require_gstreamer()
    serving = Serving(from_start=True)
    with Streams({"gate": clip}, serving) as streams, watching(streams.urls["gate"]) as watch:
        watch.until(lambda: watch.source.account.error_code or len(watch.frames) >= FRAMES)
    received = [frame for frame in watch.frames if frame.index < FRAMES]
    assert len(received) >= FRAMES - 1  # FFmpeg keeps the last until the next begins, and there is none
    assert_alike(recorded[: len(received)], received)
