"""Who of the people seen in colour was on the infrared cameras afterwards? Its searches are in the audit.

python examples/night_search.py runs/demo --day gate --purpose "theft at the gate"
"""

import argparse
import signal
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from pipeline.audit import Actor
from pipeline.errors import PipelineError
from pipeline.filters import SearchFilter
from pipeline.gallery_commands import recorded
from pipeline.identify import person_name
from pipeline.query import SearchOptions, check_name, read_config, search_rules
from pipeline.replies import search_record, search_reply
from pipeline.search import Answer, Searcher, compared
from pipeline.store import Store, StoredTracklet, TrackletFilter
from reid.modality import Modality


def story(run: Path, camera: str, *, purpose: str | None = None, least: float, most: int = 8) -> Iterator[str]:
    """For each person whom ``camera`` saw: when, and where on the infrared cameras since, as the night went on."""
    with Store.read(run) as store, recorded(run, Actor.here(purpose=purpose)) as record:
        infrared, rules = frozenset(Modality) - {Modality.RGB}, search_rules(read_config(run), SearchOptions())
        known = [name for name, modality in store.cameras().items() if modality is Modality.RGB]
        check_name(f"--day, a colour camera of {run}:", camera, known, "it has none")
        searcher = Searcher(store, store.calibration, rules=rules)
        seen = sorted(store.tracklets(TrackletFilter(frozenset({camera}))), key=lambda view: view.person_id or 0)
        for person, views in [(person, list(own)) for person, own in groupby(seen, lambda view: view.person_id)]:
            wanted = SearchFilter(modalities=infrared, start=min(view.end for view in views), top_k=most)
            found = searcher.by_examples([searcher.example_of(view.tracklet_id) for view in views], wanted)
            record("search", *search_record(wanted, SearchOptions(), search_reply(found)))
            times = ", ".join(f"{view.start.astimezone(rules.zone):%Y-%m-%d %H:%M:%S %Z}" for view in views)
            likely = sorted((each for each in found.answers if each.probability >= least), key=lambda each: each.start)
            yield f"{person_name(person or 0)}, in colour at {camera} at {times}:"
            yield from [_sighting(each, views) for each in likely] or ["  not seen again with confidence"]


def _sighting(answer: Answer, views: list[StoredTracklet]) -> str:
    """Where and when by the clock on the wall, how sure, and whether the run gave it to the same person."""
    same = "the same person to the run" if answer.person_id == views[0].person_id else person_name(answer.person_id)
    when = f"{answer.camera_id} ({answer.modality}) at {answer.start_local:%Y-%m-%d %H:%M:%S %Z}"
    return f"  {when}, p {compared(answer.probability)}, {same}; {answer.best_crop}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--day", required=True, metavar="CAMERA", help="the colour camera")
    parser.add_argument("--purpose", help="why you search, for the audit")
    parser.add_argument("--least", type=float, default=0.3, help="least probability to tell")
    options = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads has seen enough, as `head` has
    try:
        print(*story(options.run, options.day, purpose=options.purpose, least=options.least), sep="\n")
    except PipelineError as error:
        parser.error(str(error))
