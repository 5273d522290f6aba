"""Who of the people seen in colour by day was on the infrared cameras afterwards? Reads the gallery of a run.

python examples/night_search.py runs/demo --day gate
"""

import argparse
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.filters import SearchFilter
from pipeline.search import Searcher
from pipeline.store import Store, TrackletFilter
from reid.modality import Modality

INFRARED = frozenset({Modality.NIR, Modality.THERMAL})


def answers(run: Path, camera: str, *, least: float) -> list[str]:
    """A sentence for each tracklet of ``camera``: where on the infrared cameras since, and how surely."""
    lines = []
    with Store.read(run) as store:
        searcher = Searcher(store, store.calibration)
        known = store.cameras()
        if camera not in known:
            raise UsageError(f"--day {camera}: no such camera in {run}; there are {', '.join(known) or 'none'}")
        for seen in store.tracklets(TrackletFilter(cameras=frozenset({camera}))):
            wanted = SearchFilter(modalities=INFRARED, start=seen.end, top_k=2)
            found = searcher.by_tracklet(seen.tracklet_id, wanted).answers
            likely = [
                f"{each.camera_id} ({each.modality.value}) at {each.start:%H:%M:%S}, p = {each.probability:.2f}"
                for each in found
                if each.probability >= least
            ]
            lines.append(
                f"{seen.start:%H:%M:%S} {seen.tracklet_id}: " + ("; ".join(likely) or "not seen again with confidence")
            )
    return lines


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--day", required=True, metavar="CAMERA", help="the colour camera")
    parser.add_argument("--least", type=float, default=0.3, help="least probability to tell")
    options = parser.parse_args()
    try:
        print("\n".join(answers(options.run, options.day, least=options.least)))
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
