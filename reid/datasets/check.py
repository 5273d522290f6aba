"""Whether a data set on disk is the published one: every count beside the published figure, every file looked at.

The counts are taken from the raw lists, before any filter, and the files are all that the lists name.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from PIL import Image

from reid.datasets import bupt_campus, hitsz_vcm, published
from reid.datasets.crops import problems_of_caches
from reid.datasets.folder import Folder, FolderOptions
from reid.datasets.split import DatasetError
from reid.datasets.synthetic_vvi import LAYOUTS, MANIFEST
from reid.modality import Modality

_AT_ONCE = 4096
_LONG = 12
SIDES = (Modality.RGB, Modality.NIR)


@dataclass(slots=True)
class Report:
    """What was found in one root.

    Attributes:
        title: Which lists were read.
        counts: By name.
        expected: The published count of some or all of them.
        problems: Sentences, each naming a file.
        notes: Facts that are no fault.
        files: How many were looked at.
    """

    title: str
    counts: dict[str, int] = field(default_factory=dict)
    expected: Mapping[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0

    @property
    def differences(self) -> list[str]:
        """Names of the counts that are not the published ones."""
        return [name for name, count in self.expected.items() if self.counts.get(name) != count]

    @property
    def is_good(self) -> bool:
        """Whether nothing differs and nothing is wrong."""
        return not (self.differences or self.problems)

    def __str__(self) -> str:
        """A table of the counts, then notes and problems."""
        names = list(dict.fromkeys([*self.expected, *self.counts]))
        width = max(map(len, names), default=0)
        lines = [self.title, f"  {'':{width}}  {'found':>9}  {'expected':>9}"]
        for name in names:
            found, wanted = self.counts.get(name), self.expected.get(name)
            mark = "  differs" if wanted is not None and wanted != found else ""
            lines.append(f"  {name:{width}}  {_number(found):>9}  {_number(wanted):>9}{mark}")
        lines += [f"  note: {each}" for each in self.notes]
        lines += [f"  problem: {each}" for each in self.problems]
        lines.append(
            f"  {self.files} files looked at; {len(self.differences)} counts differ, {len(self.problems)} problems"
        )
        return "\n".join(lines)


def check(name: str, root: Path, *, quick: bool = False, like: bool = False) -> list[Report]:
    """Compare a root with what was published of the data set.

    Args:
        name: ``hitsz_vcm``, ``bupt_campus``, ``synthetic_vvi`` (both layouts) or ``folder``; hyphens allowed.
        root: Its folder.
        quick: Only ask whether files are there and not empty, in place of decoding each.
        like: Another data set in that layout, such as an export: its counts are its own.

    Raises:
        DatasetError: When the data set is unknown or the root is no folder.
    """
    key = name.replace("-", "_")
    if key not in _CHECKS:
        raise DatasetError(f"data set must be one of {', '.join(_CHECKS)}, got {name!r}")
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    reports = _CHECKS[key](root, quick)
    for report in reports if like else ():
        report.expected = {}
    reports[0].problems += problems_of_caches(root / "cache")
    return reports


def _check_vcm(root: Path, quick: bool, expected: Mapping[str, int] = published.HITSZ_VCM) -> list[Report]:
    report = Report(f"HITSZ-VCM layout in {root}", expected=expected)
    lists = hitsz_vcm.Lists(root)
    read = {split: part for split in ("train", "test") if (part := _vcm_part(report, lists, split, quick))}
    if "test" in read:
        _vcm_queries(report, lists, read["test"])
    if len(read) == 2:
        every = [*read["train"], *read["test"]]
        report.counts |= _vcm_totals(every)
        shared = {track.pid for track in read["train"]} & {track.pid for track in read["test"]}
        if shared:
            report.problems.append(f"{root}: {len(shared)} persons are in training and test, such as {min(shared)}")
    return [report]


def _vcm_part(report: Report, lists: hitsz_vcm.Lists, split: str, quick: bool) -> list[hitsz_vcm.Track]:
    """Read, count and look at one split; empty when it cannot be read."""
    try:
        names = lists.names(split)
        tracks = lists.tracks(split, len(names))
        folder = lists.folder(split, names)
    except DatasetError as error:
        report.problems.append(str(error))
        return []
    report.counts[f"{split} identities"] = len({track.pid for track in tracks})
    report.counts[f"{split} tracklets"] = len(tracks)
    report.counts[f"{split} names"] = len(names)
    for modality in SIDES:
        own = [track.length for track in tracks if track.modality is modality]
        long = [length for length in own if length >= _LONG]
        report.counts[f"{split} {modality} tracklets"] = len(own)
        report.counts[f"{split} {modality} frames"] = sum(own)
        report.counts[f"{split} {modality} tracklets of 12 frames or more"] = len(long)
        report.counts[f"{split} {modality} frames of these"] = sum(long)
    where = lists.root / hitsz_vcm.INFO / f"track_{split}_info.txt"
    report.problems += _vcm_disagreements(where, tracks, names)
    _look(report, [folder / name.path for name in names], quick)
    return tracks


def _vcm_disagreements(
    where: Path, tracks: Sequence[hitsz_vcm.Track], names: Sequence[hitsz_vcm.FrameName]
) -> Iterator[str]:
    """Tracklets whose frames' names tell another person, modality or camera, or that share frames with another."""
    covered: Counter[int] = Counter()
    for line, track in enumerate(tracks, start=1):
        covered.update(range(track.start, track.end + 1))
        told = {(int(name.pid), name.modality, name.camera) for name in names[track.start - 1 : track.end]}
        own = (track.pid, track.modality, track.camera)
        if told != {own}:
            say = ", ".join(sorted(map(_triple, told)))
            yield f"{where}:{line}: person, modality, camera are {_triple(own)}, but the frames' names say {say}"
    several = sum(count > 1 for count in covered.values())
    if several:
        yield f"{where}: {several} frames are in more than one tracklet"
    if len(covered) < len(names):
        yield f"{where}: {len(names) - len(covered)} frames of the name file are in no tracklet"


def _triple(value: tuple[int, Modality, int]) -> str:
    return f"{value[0]} {value[1].value} D{value[2]}"


def _vcm_queries(report: Report, lists: hitsz_vcm.Lists, tracks: Sequence[hitsz_vcm.Track]) -> None:
    where = lists.root / hitsz_vcm.INFO / "query_IDX.txt"
    try:
        queries = lists.queries(len(tracks)).tolist()
        last = lists.queries(len(tracks), last_line=True)
    except DatasetError as error:
        report.problems.append(str(error))
        return
    report.counts["queries tracklets"] = len(queries)
    if len(last) != len(queries):
        report.notes.append(f"{where}: has several lines; loaders that keep the last one see {len(last)} queries")
    if len(set(queries)) != len(queries):
        report.problems.append(f"{where}: {len(queries) - len(set(queries))} queries are listed twice")
    infrared = {row for row, track in enumerate(tracks) if track.modality is Modality.NIR}
    if set(queries) != infrared:
        odd = set(queries) ^ infrared
        report.problems.append(
            f"{where}: must list the infrared tracklets and no other; {len(odd)} are not so, such as {min(odd) + 1}"
        )


def _vcm_totals(tracks: Sequence[hitsz_vcm.Track]) -> dict[str, int]:
    found = {
        "identities": len({track.pid for track in tracks}),
        "tracklets": len(tracks),
        "frames": sum(track.length for track in tracks),
    }
    for modality in SIDES:
        own = [track for track in tracks if track.modality is modality]
        found[f"{modality} tracklets"] = len(own)
        found[f"{modality} frames"] = sum(track.length for track in own)
        found[f"{modality} cameras"] = len({track.camera for track in own})
    return found


def _check_bupt(root: Path, quick: bool, expected: Mapping[str, int] = published.BUPT_CAMPUS) -> list[Report]:
    report = Report(f"BUPTCampus layout in {root}", expected=expected)
    lists = bupt_campus.Lists(root)
    try:
        report.counts["cameras"] = len({camera for _, _, camera, _ in lists.everything()})
    except DatasetError as error:
        report.problems.append(str(error))
        return [report]
    try:
        _ = lists.numbers
    except DatasetError as error:
        report.problems.append(str(error))
    persons: dict[str, set[str]] = {}
    for name in bupt_campus.LISTS:
        try:
            listed = lists.listed(name)
        except DatasetError as error:
            report.problems.append(str(error))
            continue
        persons[name] = {each.pid for each in listed}
        _bupt_counts(report, lists, name, listed)
        report.problems += _bupt_repeated(lists.root / bupt_campus.LISTS[name], listed)
    report.counts["identities"] = len(set().union(*persons.values()))
    _bupt_overlaps(report, lists, persons)
    _look(report, list(_bupt_files(report, lists)), quick)
    return [report]


def _bupt_counts(report: Report, lists: bupt_campus.Lists, name: str, listed: Sequence[bupt_campus.Listed]) -> None:
    frames: Counter[Modality] = Counter()
    tracklets: Counter[Modality] = Counter()
    for each in listed:
        modality = bupt_campus.MODALITY_OF[each.modality]
        tracklets[modality] += 1
        try:
            frames[modality] += len(lists.frames(each))
        except DatasetError as error:
            report.problems.append(str(error))
    report.counts[f"{name} identities"] = len({each.pid for each in listed})
    for modality in SIDES:
        report.counts[f"{name} {modality} tracklets"] = tracklets[modality]
        report.counts[f"{name} {modality} frames"] = frames[modality]
    report.counts[f"{name} frames"] = sum(frames.values())


def _bupt_repeated(where: Path, listed: Sequence[bupt_campus.Listed]) -> Iterator[str]:
    """Tracklets that one list names more than once: as queries they are evaluated as often."""
    again: list[bupt_campus.Listed] = []
    known: set[tuple[str, str, str, str]] = set()
    for each in listed:
        keys = (each.pid, each.modality, each.camera, each.tracklet)
        again += [each] if keys in known else []
        known.add(keys)
    if again:
        first = again[0]
        line = first.where.rpartition(":")[2]
        yield (
            f"{where}: {len(again)} tracklets are listed again, such as that of line {line}:"
            f" {first.pid} {first.modality} {first.camera} {first.tracklet}"
        )


def _bupt_overlaps(report: Report, lists: bupt_campus.Lists, persons: Mapping[str, set[str]]) -> None:
    for one, other in (("train", "query"), ("train", "gallery"), ("auxiliary", "query"), ("auxiliary", "gallery")):
        shared = persons.get(one, set()) & persons.get(other, set())
        if shared:
            report.problems.append(
                f"{lists.root}: {len(shared)} persons are in {bupt_campus.LISTS[one]} and in"
                f" {bupt_campus.LISTS[other]}, such as {min(shared)}"
            )
    if {"query", "gallery"} <= set(persons):
        gallery = {(each.pid, each.camera) for each in lists.listed("gallery")}
        same = sum((each.pid, each.camera) in gallery for each in lists.listed("query"))
        report.notes.append(f"{same} queries have their own camera among their matches in the gallery")


def _bupt_files(report: Report, lists: bupt_campus.Lists) -> Iterator[Path]:
    """All that ``data_paths.json`` names."""
    where = str(lists.root / bupt_campus.PATHS)
    for keys in lists.everything():
        try:
            yield from lists.frames(bupt_campus.Listed(*keys, where))
        except DatasetError as error:
            report.problems.append(str(error))


def _check_vvi(root: Path, quick: bool) -> list[Report]:
    path = root / MANIFEST
    try:
        counts = json.loads(path.read_text(encoding="utf-8"))["counts"]
        expected = {
            layout: {
                f"{part} {what.replace('_', ' ')}": int(count)
                for part, by_name in counts[layout].items()
                for what, count in by_name.items()
            }
            for layout in LAYOUTS
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: not the manifest of synthetic-vvi: {error!r}") from error
    vcm = _check_vcm(root / "hitsz_vcm", quick, expected["hitsz_vcm"])
    return vcm + _check_bupt(root / "bupt_campus", quick, expected["bupt_campus"])


def _check_folder(root: Path, quick: bool) -> list[Report]:
    report = Report(f"tracklet folder in {root}")
    dataset = Folder(root, FolderOptions())
    persons: dict[str, set[int]] = {}
    try:
        for name in dataset.splits:
            split = dataset.split(name)
            persons[name] = set(split.pids.tolist())
            report.counts[f"{name} identities"] = len(np.unique(split.pids))
            for modality in split.modality_set:
                rows = split.rows_of(modality)
                report.counts[f"{name} {modality} tracklets"] = len(rows)
                report.counts[f"{name} {modality} frames"] = int(split.lengths[rows].sum())
            _look(report, [path for frames in split.paths for path in frames], quick)
    except DatasetError as error:
        report.problems.append(str(error))
    for one, other in combinations(persons, 2):
        shared = persons[one] & persons[other]
        if shared:
            where = root / "tracklets.csv"
            report.problems.append(f"{where}: {len(shared)} persons are in {one} and in {other}, such as {min(shared)}")
    return [report]


_CHECKS: dict[str, Callable[[Path, bool], list[Report]]] = {
    "hitsz_vcm": _check_vcm,
    "bupt_campus": _check_bupt,
    "synthetic_vvi": _check_vvi,
    "folder": _check_folder,
}


def _look(report: Report, paths: Sequence[Path], quick: bool) -> None:
    """Look at each file once."""
    unique = iter(dict.fromkeys(paths))
    look = _stat if quick else _open
    with ThreadPoolExecutor() as pool:
        while some := list(islice(unique, _AT_ONCE)):
            report.files += len(some)
            report.problems += [problem for problem in pool.map(look, some) if problem]


def _stat(path: Path) -> str | None:
    if not path.is_file():
        return f"{path}: missing"
    return None if path.stat().st_size else f"{path}: empty"


def _open(path: Path) -> str | None:
    problem = _stat(path)
    if problem:
        return problem
    try:
        with Image.open(path) as image:
            image.load()  # unlike OpenCV, refuses a file that ends too soon
    except (ImportError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # ImportError: Ultralytics patches Pillow
        return f"{path}: unreadable: {error}"
    return None


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
