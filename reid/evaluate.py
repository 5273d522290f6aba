"""The only evaluation: embeddings of a split, ranked across modalities in every direction.

``python -m reid.evaluate --weights W --dataset hitsz_vcm --root DATA`` prints a table; ``--json FILE`` writes it,
``--sheet FILE.png`` shows queries beside their top ten. ``--protocol`` names a variant of the evaluation that is in
circulation, and ``--camera-rule``, ``--clips``, ``--frames`` and ``--legacy-drop-last`` change one thing of it.

Exit codes: 0 done, 1 done, but nothing was measured in some direction, 2 cannot be done as asked, 5 the disk.
"""

import argparse
import dataclasses
import json
import logging
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from reid import checkpoint
from reid.calibration import Calibration, Curve, Reliability, fit_curve, reliability
from reid.datasets.crops import read_crop
from reid.datasets.known import DATASETS, Dataset
from reid.datasets.split import DatasetError, Direction, TrackletSplit, every_direction
from reid.distributed import DeviceError
from reid.embedding import cosines
from reid.extractor import XReIDExtractor
from reid.metrics import CameraRule, RetrievalMetrics, evaluate
from reid.modality import Modality
from reid.protocols import PROTOCOLS, Clips, EvaluationProtocol, clip_positions, open_under
from reid.ranking_sheet import Sheet, write_sheet
from reid.reranking import Reranking, rerank
from reid.transforms import Preprocessing, prepare_clip

Results = dict[str, RetrievalMetrics]
CALIBRATION_NOTE = (
    "weights: as they carry it. reid.train fits it to the persons of its validation split; on that split this is no "
    "test of it. refitted: each half of the persons judged by the curve of the other half"
)
_TRACKLETS_AT_ONCE = 256  # whose crops are in memory together


class Clipped(Protocol):
    """Tracklets whose frames can be had prepared for the network: ``reid.datasets.crops.Crops``, or ``CropFiles``."""

    def __len__(self) -> int:
        """Tracklets."""
        ...

    def length(self, tracklet: int) -> int:
        """Frames of one."""
        ...

    def clip(self, tracklet: int, positions: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """(T, H, W, 3) of one."""
        ...


class CropFiles:
    """The files of a split, read when they are needed and prepared as ``XReIDExtractor.extract`` does."""

    def __init__(self, split: TrackletSplit, preprocessing: Preprocessing) -> None:
        self._split, self._preprocessing = split, preprocessing

    def __len__(self) -> int:
        return len(self._split)

    def length(self, tracklet: int) -> int:
        """Frames of a tracklet."""
        return len(self._split.paths[tracklet])

    def clip(self, tracklet: int, positions: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """(T, H, W, 3): the frames at these positions; each file is read once.

        Raises:
            DatasetError: When a file cannot be used; it is named.
        """
        paths, modality = self._split.paths[tracklet], self._split.modalities[tracklet]
        wanted = np.arange(len(paths)) if positions is None else positions
        try:
            images = {position: read_crop(paths[position], modality) for position in set(wanted.tolist())}
            return prepare_clip([images[position] for position in wanted.tolist()], modality, self._preprocessing)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{paths[0].parent}: {error}") from error


def embed_split(
    extractor: XReIDExtractor,
    crops: Clipped,
    split: TrackletSplit,
    *,
    clips: Clips = "weights",
    frames: int | None = None,
) -> NDArray[np.float32]:
    """Embed every tracklet: the mean over the features of its clips, at unit length: (n, d)."""
    frames = extractor.preprocessing.frames if frames is None else frames
    clips = extractor.preprocessing.sampling if clips == "weights" else clips
    parts = [np.zeros((0, extractor.dimension), np.float32)]
    for rows in np.array_split(np.arange(len(crops)), max(1, -(-len(crops) // _TRACKLETS_AT_ONCE))):
        chosen = [(row, each) for row in rows for each in clip_positions(crops.length(row), frames, clips, seed=row)]
        features = extractor.features_prepared(
            [crops.clip(row, positions) for row, positions in chosen],
            [split.modalities[row] for row, _ in chosen],
            cameras=[split.camera_names[split.camids[row]] for row, _ in chosen],
        )
        owner = np.array([row for row, _ in chosen], np.int64) - (rows[0] if len(rows) else 0)
        total = np.zeros((len(rows), extractor.dimension), np.float64)
        np.add.at(total, owner, features)
        parts.append((total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32))
    return np.concatenate(parts)


def similarities(
    features: NDArray[np.float32], direction: Direction, reranking: Reranking | None = None
) -> NDArray[np.float64]:
    """Cosines of the queries to the gallery, or what re-ranking makes of them: (q, g)."""
    q, g = features[direction.query], features[direction.gallery]
    return cosines(q, g) if reranking is None else rerank(q, g, reranking)


def evaluate_directions(
    features: NDArray[np.float32],
    split: TrackletSplit,
    *,
    camera_rule: CameraRule | str = CameraRule.SAME_CAM,
    directions: Mapping[str, Direction] | None = None,
    reranking: Reranking | None = None,
) -> Results:
    """Rank every query against the gallery, in each direction.

    Args:
        features: (n, d), rows of unit length, in the split's order.
        split: Who is who.
        camera_rule: See ``reid.metrics``.
        directions: Who is looked for among whom; None: every modality's tracklets among every other's.
        reranking: None ranks by cosine.

    Returns:
        By ``<query>-><gallery>``, such as ``rgb->nir``.
    """
    return {
        name: _evaluate(similarities(features, each, reranking), split, each, camera_rule)
        for name, each in (directions or every_direction(split)).items()
    }


def _evaluate(
    similarity: NDArray[Any], split: TrackletSplit, direction: Direction, camera_rule: CameraRule | str
) -> RetrievalMetrics:
    q, g = direction.query, direction.gallery
    return evaluate(similarity, split.pids[q], split.pids[g], split.camids[q], split.camids[g], camera_rule=camera_rule)


def evaluate_camera_pairs(
    features: NDArray[np.float32],
    split: TrackletSplit,
    *,
    camera_rule: CameraRule | str,
    directions: Mapping[str, Direction] | None = None,
) -> dict[str, dict[tuple[str, str], RetrievalMetrics]]:
    """The same with queries of one camera and the gallery of one camera, by direction and then by their names.

    Pairs without a valid query are left out: under every camera rule but ``none`` a camera has none with itself.
    """
    results: dict[str, dict[tuple[str, str], RetrievalMetrics]] = {}
    for name, direction in (directions or every_direction(split)).items():
        results[name] = {}
        for query, gallery in _camera_pairs(split, direction):
            part = Direction(
                direction.query[split.camids[direction.query] == query],
                direction.gallery[split.camids[direction.gallery] == gallery],
            )
            metrics = _evaluate(similarities(features, part), split, part, camera_rule)
            if metrics.valid_queries:
                results[name][split.camera_names[query], split.camera_names[gallery]] = metrics
    return results


def _camera_pairs(split: TrackletSplit, direction: Direction) -> Iterator[tuple[int, int]]:
    for query in np.unique(split.camids[direction.query]).tolist():
        for gallery in np.unique(split.camids[direction.gallery]).tolist():
            yield query, gallery


def fit_calibration(features: NDArray[np.float32], split: TrackletSplit) -> Calibration:
    """Fit a curve to the pairs of tracklets of each pair of modalities, and of different cameras within one.

    A modality with only one camera takes the pairs of that camera; a pair of modalities that has no pair of one person,
    or whose cosines say nothing, gets no curve.
    """
    curves: dict[tuple[Modality, Modality], Curve] = {}
    pairs = [*combinations(split.modality_set, 2), *((modality, modality) for modality in split.modality_set)]
    for first, second in pairs:
        cosine, same, _ = pairs_of(features, split, first, second)
        try:
            curves[first, second] = fit_curve(cosine, same)
        except ValueError as error:
            logging.getLogger(__name__).warning("no calibration of %s-%s: %s", first.value, second.value, error)
    return Calibration(curves)


def pairs_of(
    features: NDArray[np.float32], split: TrackletSplit, first: Modality, second: Modality
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Cosine of each pair of tracklets, whether it is one person, and the two persons, (n, 2).

    Within one modality only pairs of different cameras count, unless no person was seen by two.
    """
    a, b = split.rows_of(first), split.rows_of(second)
    cosine = cosines(features[a], features[b])
    same = split.pids[a][:, None] == split.pids[b][None, :]
    counted = np.ones_like(same)
    if first is second:
        counted = np.triu(counted, k=1)
        elsewhere = counted & (split.camids[a][:, None] != split.camids[b][None, :])
        counted = elsewhere if (elsewhere & same).any() else counted
    row, column = np.nonzero(counted)
    return cosine[counted], same[counted], np.stack([split.pids[a][row], split.pids[b][column]], axis=1)


def calibration_error(
    features: NDArray[np.float32], split: TrackletSplit, calibration: Calibration | None
) -> dict[str, dict[str, Reliability]]:
    """How far claimed probabilities are from the truth, by pair of modalities.

    ``weights`` are the curves that the weights carry, as a user gets them. ``refitted`` are curves fitted on one half
    of the persons of this split and tested on the other half, and the other way round: what a calibration on a site's
    own people would reach; none of them is tested on persons that it was fitted to. ``weights`` are, where the split is
    the one that ``reid.train`` validated on: see ``CALIBRATION_NOTE``. A pair without a curve is left out.
    """
    found: dict[str, dict[str, Reliability]] = {}
    known = set(calibration) if calibration else set()
    for first, second in combinations(split.modality_set, 2):
        cosine, same, persons = pairs_of(features, split, first, second)
        if not len(cosine):
            continue
        of_pair = found.setdefault(f"{first.value}-{second.value}", {})
        if calibration and {(first, second), (second, first)} & known:
            of_pair["weights"] = reliability(calibration.probability(cosine, first, second), same)
        refitted = _cross_fitted(cosine, same, persons)
        if refitted is not None:
            of_pair["refitted"] = refitted
    return found


def _cross_fitted(
    cosine: NDArray[np.float64], same: NDArray[np.bool_], persons: NDArray[np.int64]
) -> Reliability | None:
    """Pairs within each half of the persons, judged by the curve of the other half."""
    everybody = np.unique(persons)
    second_half = np.isin(persons, everybody[1::2])
    inside = [(~second_half).all(axis=1), second_half.all(axis=1)]
    claimed, true = [], []
    for fit, test in (inside, inside[::-1]):
        try:
            claimed.append(fit_curve(cosine[fit], same[fit]).probability(cosine[test]))
        except ValueError:
            return None
        true.append(same[test])
    return reliability(np.concatenate(claimed), np.concatenate(true))


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that was measured of one set of weights on one split."""

    protocol: EvaluationProtocol
    reranking: Reranking | None
    directions: Results
    camera_pairs: dict[str, dict[tuple[str, str], RetrievalMetrics]]
    calibration: dict[str, dict[str, Reliability]]

    def as_plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "protocol": {**dataclasses.asdict(self.protocol), "reranking": _plain_or_none(self.reranking)},
            "directions": as_plain(self.directions),
            "camera_pairs": {
                direction: [
                    {"query": query, "gallery": gallery, **_plain(metrics)}
                    for (query, gallery), metrics in pairs.items()
                ]
                for direction, pairs in self.camera_pairs.items()
            },
            "calibration": {
                pair: {of: _plain(each) for of, each in kinds.items()} for pair, kinds in self.calibration.items()
            },
            "calibration_note": CALIBRATION_NOTE,
        }


def _plain_or_none(settings: Reranking | None) -> dict[str, Any] | None:
    return None if settings is None else dataclasses.asdict(settings)


def evaluate_split(
    extractor: XReIDExtractor,
    dataset: Dataset,
    split_name: str,
    protocol: EvaluationProtocol,
    *,
    reranking: Reranking | None = None,
    sheet: Sheet | None = None,
) -> Evaluation:
    """Embed a split of a data set and measure everything.

    Args:
        extractor: The weights.
        dataset: The data.
        split_name: Of the split.
        protocol: The variant.
        reranking: None ranks by cosine; the figures by camera pair and the calibration are of cosines in any case.
        sheet: Also draw one.

    Raises:
        DatasetError: When there is no such split or a file cannot be used.
    """
    split = dataset.split(split_name)
    rule = dataset.camera_rule if protocol.camera_rule is None else protocol.camera_rule
    protocol = dataclasses.replace(
        protocol,
        camera_rule=rule,
        clips=extractor.preprocessing.sampling if protocol.clips == "weights" else protocol.clips,
        frames=protocol.frames or extractor.preprocessing.frames,
    )
    directions = dataset.directions(split_name)
    features = embed_split(
        extractor, CropFiles(split, extractor.preprocessing), split, clips=protocol.clips, frames=protocol.frames
    )
    if sheet is not None:
        ranked = {name: similarities(features, each, reranking) for name, each in directions.items()}
        write_sheet(sheet, split, directions, ranked, camera_rule=rule)
    return Evaluation(
        protocol=protocol,
        reranking=reranking,
        directions=evaluate_directions(features, split, camera_rule=rule, directions=directions, reranking=reranking),
        camera_pairs=evaluate_camera_pairs(features, split, camera_rule=rule, directions=directions),
        calibration=calibration_error(features, split, extractor.calibration),
    )


def as_plain(results: Mapping[str, RetrievalMetrics]) -> dict[str, dict[str, float | None]]:
    """The figures as JSON can hold them: None where there is none."""
    return {direction: _plain(metrics) for direction, metrics in results.items()}


def _plain(figures: RetrievalMetrics | Reliability) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in dataclasses.asdict(figures).items()}


def metrics_of(plain: Mapping[str, Any]) -> RetrievalMetrics:
    """The figures of one direction that ``as_plain`` made."""
    figures: dict[str, Any] = {name: math.nan if value is None else value for name, value in plain.items()}
    return RetrievalMetrics(**figures)


def machine() -> dict[str, str | int | None]:
    """What the figures were made on."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def as_table(results: Mapping[str, RetrievalMetrics]) -> str:
    """The figures as lines of text, in per cent; queries without a match after the camera rule are ``skipped``."""
    names = ("R1", "R5", "R10", "R20", "mAP", "mINP")
    lines = [f"{'direction':16}{''.join(f'{name:>7}' for name in names)}{'chance':>8}{'queries':>9}{'skipped':>9}"]
    for direction, m in results.items():
        figures = (m.rank1, m.rank5, m.rank10, m.rank20, m.mAP, m.mINP)
        shares = "".join(f"{100 * figure:7.1f}" for figure in figures)
        lines.append(f"{direction:16}{shares}{100 * m.chance_rank1:8.1f}{m.valid_queries:9d}{m.skipped_queries:9d}")
    return "\n".join(lines)


def camera_tables(camera_pairs: Mapping[str, Mapping[tuple[str, str], RetrievalMetrics]]) -> str:
    """A matrix a direction: Rank-1 / mAP in per cent, a row a query camera, a column a gallery camera."""
    lines = []
    for direction, pairs in camera_pairs.items():
        queries, galleries = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
        width = max([len(name) for name in (*galleries, *queries)] + [11]) + 2
        lines += ["", f"{direction}, Rank-1 / mAP by camera: query down, gallery across"]
        lines.append(" " * width + "".join(f"{name:>{width}}" for name in galleries))
        for query in queries:
            cells = [_cell(pairs.get((query, gallery))) for gallery in galleries]
            lines.append(f"{query:{width}}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines[1:])


def _cell(metrics: RetrievalMetrics | None) -> str:
    return "-" if metrics is None else f"{100 * metrics.rank1:.1f}/{100 * metrics.mAP:.1f}"


def calibration_table(found: Mapping[str, Mapping[str, Reliability]]) -> str:
    """Expected calibration error by pair of modalities and by curve."""
    lines = [f"{'pair':16}{'curve':12}{'ECE':>9}{'ECE > 5%':>10}{'log loss':>10}{'of rate':>9}{'pairs':>10}{'same':>8}"]
    for pair, kinds in found.items():
        for name, r in kinds.items():
            lines.append(
                f"{pair:16}{name:12}{r.error:9.4f}{r.error_of_likely:10.4f}{r.log_loss:10.4f}"
                f"{r.log_loss_of_rate:9.4f}{r.pairs:10d}{r.same:8d}"
            )
    return "\n".join([*lines, CALIBRATION_NOTE])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reid.evaluate", description="Evaluate weights on a data set.")
    parser.add_argument("--weights", required=True, help="a checkpoint file, or the name of embedded weights")
    parser.add_argument("--dataset", default="folder", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--root", required=True, type=Path, help="its folder")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the data set")
    parser.add_argument("--split", help="default: test, or val where there is no test")
    parser.add_argument("--protocol", default="weights", choices=PROTOCOLS)
    parser.add_argument("--camera-rule", choices=[rule.value for rule in CameraRule], help="in place of the protocol's")
    parser.add_argument("--clips", choices=get_args(Clips), help="in place of the protocol's")
    parser.add_argument("--frames", type=_positive, metavar="T", help="in place of the protocol's")
    parser.add_argument("--legacy-drop-last", action="store_true", help="drop what BUPTCampus's own test loader drops")
    parser.add_argument(
        "--rerank",
        nargs="?",
        const="20,6,0.3",
        metavar="K1,K2,LAMBDA",
        help="k-reciprocal re-ranking (default 20,6,0.3), which looks at the other queries too",
    )
    parser.add_argument("--by-camera", action="store_true", help="also print figures by pair of cameras")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="also draw queries beside their top ten")
    parser.add_argument("--sheet-queries", type=_positive, default=6, metavar="N", help="a direction, in the sheet")
    parser.add_argument("--sheet-wrong", action="store_true", help="only queries whose first answer is wrong")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def protocol_of(options: argparse.Namespace) -> EvaluationProtocol:
    """The named protocol with what the command line changes of it."""
    changes: dict[str, Any] = {}
    if options.camera_rule:
        changes["camera_rule"] = CameraRule(options.camera_rule)
    if options.clips:
        changes["clips"] = options.clips
    if options.frames:
        changes["frames"] = options.frames
    if options.legacy_drop_last:
        changes["legacy_drop_last"] = True
    return dataclasses.replace(PROTOCOLS[options.protocol], **changes)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` of the command line, values as YAML has them.

    Raises:
        DatasetError: When one has no ``=``, or its value is not YAML.
    """
    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found:
            raise DatasetError(f"--option {pair}: must be key=value")
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problem = str(error).splitlines()[0]
            raise DatasetError(f"--option {pair}: the value is not YAML, put it in quotes: {problem}") from error
    return parsed


def _device(text: str) -> str:
    """``cpu``, or a GPU that is there."""
    if text != "cpu" and not re.fullmatch(r"cuda(:\d+)?", text):
        raise DeviceError(f"--device {text}: must be cpu, cuda or cuda:N")
    if text != "cpu" and int(text.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise DeviceError(f"--device {text}: no such GPU; PyTorch sees {torch.cuda.device_count()}")
    return text


def _check_writable(path: Path | None) -> None:
    """Before the evaluation, whose figures would be lost."""
    if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
        raise DatasetError(f"--json {path}: must be a file that can be written, in a folder that exists")


def disk_failed(error: OSError) -> int:
    """Say so; the exit code of a disk or device that fails."""
    sys.stderr.write(f"{error.filename or 'disk'}: {error.strerror or error}\n")
    return 5


def _reranking(text: str | None) -> Reranking | None:
    if text is None:
        return None
    try:
        k1, k2, original = text.split(",")
        return Reranking(int(k1), int(k2), float(original))
    except ValueError as error:
        raise DatasetError(f"--rerank {text}: expected K1,K2,LAMBDA such as 20,6,0.3 ({error})") from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    options = _parser().parse_args(arguments)
    try:
        protocol = protocol_of(options)
        asked = parse_options(options.option)
        dataset = open_under(protocol, options.dataset, options.root, asked)
        if protocol.min_frames is not None and "min_frames" in asked:
            protocol = dataclasses.replace(protocol, min_frames=asked["min_frames"])
        split_name = options.split or ("test" if "test" in dataset.splits else "val")
        reranking = _reranking(options.rerank)
        _check_writable(options.json)
        extractor = checkpoint.load(options.weights, device=_device(options.device))
        sheet = None
        if options.sheet:
            sheet = Sheet(options.sheet, queries=options.sheet_queries, only_wrong=options.sheet_wrong)
        found = evaluate_split(extractor, dataset, split_name, protocol, reranking=reranking, sheet=sheet)
    except (checkpoint.CheckpointError, DatasetError, DeviceError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        return disk_failed(error)
    what = f"{split_name}: {dataset.split(split_name)}"
    sys.stdout.write(
        f"{extractor.model_id} on {dataset.name}, {what}\n{_described(found)}\n{as_table(found.directions)}\n"
    )
    if options.by_camera:
        sys.stdout.write(camera_tables(found.camera_pairs) + "\n")
    if found.calibration:
        sys.stdout.write(f"\nP(same person) of cosines:\n{calibration_table(found.calibration)}\n")
    if options.json:
        command = ["python", "-m", "reid.evaluate", *(sys.argv[1:] if arguments is None else arguments)]
        record = {
            "command": shlex.join(command),
            "machine": machine(),
            "model": extractor.model_id,
            "dataset": dataset.name,
            "data": what,
            "camera_rule": found.protocol.camera_rule,
            **found.as_plain(),
        }
        try:
            options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            return disk_failed(error)
    return _say_what_was_not_measured(found, what)


def _say_what_was_not_measured(found: Evaluation, what: str) -> int:
    """The exit code."""
    empty = [name for name, metrics in found.directions.items() if not metrics.valid_queries]
    if empty:
        rule = found.protocol.camera_rule
        problem = f"{', '.join(empty)}: measured nothing, no query has a match in the gallery under camera rule {rule}"
    elif not found.directions:
        problem = f"measured nothing, {what}: has one modality, and nobody to look for in another"
    else:
        return 0
    sys.stdout.flush()  # so that this is the last word in a log of both
    sys.stderr.write(f"{problem}\n")
    return 1


def _described(found: Evaluation) -> str:
    p = found.protocol
    parts = [f"camera rule {p.camera_rule}", f"clips {p.clips} of {p.frames} frames"]
    if p.legacy_drop_last:
        parts.append("without the visible tracklets beyond a multiple of 64")
    if p.min_frames:
        parts.append(f"tracklets of {p.min_frames} frames or more")
    if found.reranking:
        r = found.reranking
        parts.append(f"k-reciprocal re-ranking (k1 {r.k1}, k2 {r.k2}, λ {r.original})")
    return "protocol: " + ", ".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
