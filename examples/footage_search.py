"""The night search on real footage: a street by day and a thermal camera by night, from recordings to the answer.

python examples/footage_search.py DATA runs/footage

DATA is a folder of yours, of which nothing comes with this repository, with the files named below: a street by day
(OpenCV's sample clip vtest), images of a thermal camera (nato_camp of the TNO Image Fusion Dataset) and weights of
YOLOv8n (needs ultralytics). The embedded weights know synthetic people only, and the two recordings show different
people: what is shown is that the line holds on real pixels. "Not seen again with confidence" is the right answer.
"""

import argparse
import signal
from pathlib import Path

from night_search import story

from pipeline.config import from_sources
from pipeline.errors import PipelineError
from pipeline.run import RunOptions, run

DAY, NIGHT = "video/vtest_480x360.mp4", "thermal/tno_nato_camp/thermal"
WEIGHTS = "weights/yolov8n.pt"


def main(data: Path, output: Path, *, most_frames: int) -> list[str]:
    """Run the pipeline over both, then ask where the people of the street were at night."""
    config = from_sources(
        [
            f"street={data / DAY},start=2026-06-01T14:00:00Z",
            f"camp={data / NIGHT}/*.png,modality=thermal,start=2026-06-01T22:00:00Z",
        ],
        overrides=[
            "detector.backend=ultralytics",
            f"detector.weights={data / WEIGHTS}",
            "tracklets.min_height_px=20",
            "output.video=false",
            f"output.root={output}",
        ],
    )
    run(config, RunOptions(existing="overwrite", max_frames=most_frames))
    return list(story(output, "street", least=0.3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of real footage")
    parser.add_argument("output", type=Path, help="where the run's results go")
    parser.add_argument("--most-frames", type=int, default=1000)
    options = parser.parse_args()
    missing = [name for name in (DAY, NIGHT, WEIGHTS) if not (options.data / name).exists()]
    if missing:
        parser.error(
            f"{options.data}: expected a folder with {', '.join((DAY, NIGHT, WEIGHTS))}; missing: {', '.join(missing)}"
        )
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        print("\n".join(main(options.data, options.output, most_frames=options.most_frames)))
    except PipelineError as error:
        parser.error(str(error))
