"""Score trackers: ``python -m trackers.evaluate --data D R...`` scores every R/SEQ.txt by D/SEQ/gt/gt.txt.

Where D holds a manifest.json, a list of {"seq": ..., "set": ...}, sequences are combined by set, otherwise all of D is
one. Metrics and preprocessing are those of TrackEval 1.3.0 (HOTA, CLEAR, identity), and the purity of tracklets; the
distractor classes are those of MOT20 in sequences or sets whose name begins so, of MOT17 in all others.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trackers.metrics.scores import COLUMNS, COUNTS, Scores
from trackers.metrics.scores import evaluate as evaluate_sequence
from trackers.metrics.sequence import MOT17_DISTRACTORS, MOT20_DISTRACTORS, prepare
from trackers.mot import MotFormatError, MotRows, read_ground_truth, read_results, read_sequence_info
from trackers.places import PlaceError, check_folder, check_new_file, describe

ALL = "ALL"  # the key of a whole set beside its sequences
Rows = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, eq=False)
class TrueSequence:
    """A sequence with its ground truth.

    Attributes:
        name: Of its folder.
        set_name: Of the sequences that it is combined with.
        frames: Its length.
        truth: Its people.
    """

    name: str
    set_name: str
    frames: int
    truth: MotRows

    def score(self, results: MotRows, *, ignore_zero_marked: bool = False) -> Scores:
        """Score a tracker's rows; see `trackers.metrics.sequence.prepare` for the option.

        Raises:
            ValueError: When a row lies behind the last frame.
        """
        mot20 = self.name.startswith("MOT20") or self.set_name.startswith("MOT20")
        prepared = prepare(
            self.truth,
            results,
            frames=self.frames,
            distractors=MOT20_DISTRACTORS if mot20 else MOT17_DISTRACTORS,
            ignore_zero_marked=ignore_zero_marked,
        )
        return evaluate_sequence(prepared)


def load_truth(data: Path, sets: Sequence[str] | None = None) -> list[TrueSequence]:
    """Every sequence of a folder that has a gt/gt.txt, or those of these sets.

    Raises:
        MotFormatError: When there is none, a set is unknown, or a file is malformed.
        OSError: When a file cannot be read.
    """
    set_of = _manifest(data / "manifest.json")
    names = sorted(file.parent.parent.name for file in data.glob("*/gt/gt.txt"))
    if not names:
        raise MotFormatError(f"{data}: no SEQ/gt/gt.txt in it")
    known = {set_of.get(name, "all") for name in names}
    unknown = sorted(set(sets or ()) - known)
    if unknown:
        raise MotFormatError(f"{data}: no set {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [
        TrueSequence(
            name=name,
            set_name=set_of.get(name, "all"),
            frames=read_sequence_info(data / name / "seqinfo.ini").frames,
            truth=read_ground_truth(data / name / "gt" / "gt.txt"),
        )
        for name in names
        if sets is None or set_of.get(name, "all") in sets
    ]


def _manifest(path: Path) -> dict[str, str]:
    """Set of each sequence; empty where there is no manifest."""
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(entry["seq"]): str(entry["set"]) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise MotFormatError(f"{path}: expected a JSON list of objects with seq and set: {error!r}") from error


def score_folder(
    sequences: Sequence[TrueSequence], results: Path, *, partial: bool = False, ignore_zero_marked: bool = False
) -> dict[str, Rows]:
    """Score one tracker: by set, its row under `ALL` and one for each sequence.

    Sets without any result are left out.

    Args:
        sequences: Of `load_truth`.
        results: Holds SEQ.txt.
        partial: Whether a set may lack some of its results; it is then scored on the others.
        ignore_zero_marked: See `trackers.metrics.sequence.prepare`.

    Raises:
        MotFormatError: When there is no result at all, a set lacks some, or a file is malformed.
        OSError: When a file cannot be read.
    """
    files = {each.name: results / f"{each.name}.txt" for each in sequences}
    there = {name for name, file in files.items() if file.is_file()}
    begun = {each.set_name for each in sequences if each.name in there}
    if not there:
        raise MotFormatError(f"{results}: no SEQ.txt of {', '.join(files)} in it")
    missing = [each.name for each in sequences if each.set_name in begun and each.name not in there]
    if missing and not partial:
        raise MotFormatError(f"{results}: {', '.join(missing)} missing; --partial scores the others alone")
    by_set: dict[str, Rows] = {}
    totals: dict[str, Scores] = {}
    for sequence in (each for each in sequences if each.name in there):
        scores = _score_file(sequence, files[sequence.name], ignore_zero_marked=ignore_zero_marked)
        by_set.setdefault(sequence.set_name, {ALL: {}})[sequence.name] = scores.row()
        known = totals.get(sequence.set_name)
        totals[sequence.set_name] = scores if known is None else known + scores
    for set_name, total in totals.items():
        by_set[set_name][ALL] = total.row()
    return by_set


def _score_file(sequence: TrueSequence, file: Path, *, ignore_zero_marked: bool) -> Scores:
    rows = read_results(file)
    try:
        return sequence.score(rows, ignore_zero_marked=ignore_zero_marked)
    except ValueError as error:
        raise MotFormatError(f"{file}: {error}") from error


def table(scores: dict[str, dict[str, Rows]], *, per_sequence: bool = False) -> str:
    """Text with a block a set: scores are by set, then by tracker, as in the JSON."""
    width = max([len(name) for by_tracker in scores.values() for name in by_tracker] + [22])
    lines = []
    for set_name in sorted(scores):
        lines += ["", f"## {set_name}", " " * width + "".join(f"{column:>8}" for column in COLUMNS)]
        for tracker, rows in scores[set_name].items():
            lines.append(_line(tracker, rows[ALL], width))
            if per_sequence:
                lines += [_line(f"  {name}", row, width) for name, row in rows.items() if name != ALL]
    return "\n".join(lines[1:]) + "\n"


def _line(name: str, row: dict[str, float], width: int) -> str:
    cells = (f"{row[column]:>8d}" if column in COUNTS else f"{row[column]:>8.2f}" for column in COLUMNS)
    return f"{name:<{width}}" + "".join(cells)


def main(arguments: list[str] | None = None) -> int:
    """Score folders of results and print a table; 0 when all went well, 2 when a file is missing or bad."""
    options = _parser().parse_args(arguments)
    scores: dict[str, dict[str, Rows]] = {}
    try:
        _check_places(options.data, options.results, options.json)
        sequences = load_truth(options.data, options.sets)
        for folder, label in zip(options.results, _labels(options.results), strict=True):
            by_set = score_folder(
                sequences, folder, partial=options.partial, ignore_zero_marked=options.ignore_zero_marked
            )
            for set_name, rows in by_set.items():
                scores.setdefault(set_name, {})[label] = rows
        if options.json:
            _write_json(options.json, scores)
    except (MotFormatError, PlaceError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{describe(error)}\n")
        return 2
    sys.stdout.write(table(scores, per_sequence=options.per_sequence))
    return 0


def _check_places(data: Path, results: Sequence[Path], json_file: Path | None) -> None:
    """Before anything is read.

    Raises:
        PlaceError: When a folder cannot be read or is given twice, or the file cannot be written.
    """
    check_folder(data, of="SEQ/gt/gt.txt and SEQ/seqinfo.ini")
    first: dict[Path, Path] = {}
    for each in results:
        check_folder(each, of="SEQ.txt, as trackers.run writes it")
        known = first.setdefault(each.resolve(), each)
        if known is not each:
            as_what = "" if str(known) == str(each) else f", first as {known}"
            raise PlaceError(f"{each}: is given twice{as_what}; expected each folder of results once")
    if json_file:
        check_new_file(json_file)


def _labels(results: Sequence[Path]) -> list[str]:
    """What each is called in the table: its name, or its path where another has the same name."""
    names = [each.resolve().name for each in results]
    return [name if names.count(name) == 1 else str(each) for each, name in zip(results, names, strict=True)]


def _write_json(path: Path, scores: dict[str, dict[str, Rows]]) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _set_names(text: str) -> list[str]:
    names = [each.strip() for each in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names of sets with a comma between two, got {text!r}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trackers.evaluate", description=__doc__.split("\n\n")[0])
    parser.add_argument("results", type=Path, nargs="+", metavar="R", help="folder of SEQ.txt, one a tracker")
    parser.add_argument("--data", type=Path, required=True, help="folder of SEQ/gt/gt.txt and SEQ/seqinfo.ini")
    parser.add_argument(
        "--sets", type=_set_names, metavar="SETS", help="only these sets of manifest.json, separated by commas"
    )
    parser.add_argument("--per-sequence", action="store_true", help="a row for each sequence, too")
    parser.add_argument("--partial", action="store_true", help="score sets of which some results are missing")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all rows there, unrounded")
    parser.add_argument(
        "--ignore-zero-marked",
        action="store_true",
        help="drop results on people of confidence 0 in the truth, where TrackEval counts them as false",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
