"""The command line. Results go to stdout, logs and progress to stderr; every failure is one message and an exit code.

Exit codes: 0 done, 1 failed, 2 usage or config, 3 a source cannot be read, 4 gallery of another model, 5 out of disk or
device, 130 interrupted by SIGINT; SIGTERM ends a run of live cameras with 0, and one of recordings, which is not done,
with 143.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pipeline.address import hide_urls, without_secrets
from pipeline.columns import columns
from pipeline.errors import PipelineError, ResourceError, SourceError, StoppedError, UsageError
from pipeline.gallery_options import add_commands, add_purpose, device

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run one command, and return its exit code."""
    options = _parser().parse_args(arguments)
    _set_up_logging(options)
    try:
        code = int(options.command(options))
        sys.stdout.flush()
        return code
    except PipelineError as error:
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to say when Python ends
        return 128 + signal.SIGPIPE  # whoever reads has seen enough, as `head` has
    except OSError as error:
        _complain(f"{error.filename or 'disk'}: {error.strerror or error}")
        return ResourceError.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130


def program() -> NoReturn:
    """The whole program: `main`, and an end that takes no time.

    What libraries do when an interpreter is taken down can last seconds, and a thread that a dead network holds inside
    of FFmpeg can crash it. By then everything is written and closed.
    """
    try:
        code = main()
    except SystemExit as end:  # argparse's
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # such as a pipe that nobody reads any more
            stream.flush()
    os._exit(code)


class _Parser(argparse.ArgumentParser):
    """Repeats what it refuses, less the secrets in it; a command refuses what is left over with its own usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{self._meant(rest[0])}")
        return options, rest

    def _meant(self, text: str) -> str:
        for option in ("--config", "--tracklet"):
            if option in self._option_string_actions and not text.startswith("-"):
                return f"; did you mean {option} {text}?"
        return ""

    def error(self, message: str) -> NoReturn:
        what, colon, given = message.partition(": ")
        super().error(f"{what}{colon}{without_secrets(given)}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_pipeline.py",
        description="Person tracklets from RGB, near-infrared and thermal cameras, matched across modalities.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage or config, 3 source, 4 gallery of another model, 5 resources,"
        " 130 interrupted; SIGTERM ends a run of live cameras with 0, one of recordings with 143.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="detect, track, embed and identify the people of recordings"))
    _add_search(commands.add_parser("search", help="find a person in the gallery of a run"))
    _add_calibrate(commands.add_parser("calibrate", help="fit probabilities to what operators confirmed at this site"))
    _add_evaluate(commands.add_parser("evaluate", help="compare a run with ground truth"))
    _add_export(commands.add_parser("export", help="tracklets with confirmed identities, as a data set to train on"))
    add_commands(commands, _add_common, _answered)
    _add_serve(commands.add_parser("serve", help="the page and its API over a gallery, beside a run or alone"))
    _add_validate(commands.add_parser("validate", help="check a config file without running it"))
    _add_doctor(commands.add_parser("doctor", help="check this machine: decoder, GPU, weights, disk, clock"))
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="only errors on stderr")
    volume.add_argument("-v", "--verbose", action="store_true", help="also debug messages on stderr")


def _add_configured(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the site's YAML; see configs/default.yaml")
    parser.add_argument(
        "-s", "--source", action="append", default=[], metavar="NAME=URI[,modality=M][,start=T][,fps=N]",
        help="a camera without a config file; repeat it for more (modality: rgb, nir, thermal)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override one key of the config, e.g. --set detector.backend=onnx",
    )  # fmt: skip


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_configured(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where results go (default: the config's)")
    parser.add_argument("--device", metavar="DEVICE", help="auto, cpu or cuda:N, for detector and embedding")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    existing.add_argument(
        "--append",
        action="store_true",
        help="add to an earlier run's gallery and events; its other results are replaced",
    )
    parser.add_argument("--max-frames", type=_positive, metavar="N", help="stop after N frames in total")
    parser.add_argument("--no-video", action="store_true", help="write no annotated videos")
    parser.add_argument(
        "--serve", nargs="?", const="", metavar="HOST:PORT",
        help="also serve the page from this process (default: the config's server.host and port)",
    )  # fmt: skip
    parser.add_argument("--no-progress", action="store_true", help="no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    _add_common(parser)
    parser.set_defaults(command=_run)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-g", "--gallery", type=Path, metavar="DIR", help="a run's folder (default: runs/latest); its config counts"
    )
    where.add_argument("-c", "--config", type=Path, metavar="FILE", help="the site's YAML: its output.root and server")
    parser.add_argument(
        "--address", metavar="HOST:PORT",
        help="where to listen (default: the config's, 127.0.0.1:8080); others than loopback need users and TLS",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override one key of the config, e.g. --set server.trusted_proxy=10.0.0.2",
    )  # fmt: skip
    parser.add_argument(
        "--device", type=device, default="auto", metavar="DEVICE", help="auto, cpu or cuda:N, for pictures and index"
    )
    _add_common(parser)
    parser.set_defaults(command=_serve)


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "query", nargs="+",
        help="a tracklet id, or an image or video file that shows the person; several are examples of one person",
    )  # fmt: skip
    parser.add_argument(
        "-g", "--gallery", type=Path, default=Path("runs/latest"), metavar="DIR",
        help="a run's folder (default: runs/latest, where run writes unless told otherwise)",
    )  # fmt: skip
    parser.add_argument(
        "--not", dest="negatives", action="append", default=[], metavar="QUERY",
        help="a tracklet or file that shows somebody else: answers like it fall back; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--at", metavar="TIME",
        help="with --box: the moment, as a time or in seconds of the recording; the query is a video file or a camera",
    )  # fmt: skip
    parser.add_argument("--box", metavar="X1,Y1,X2,Y2", help="with --at: where the person stands, in pixels")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--query-modality", metavar="M", help="what the query file shows: rgb, nir or thermal")
    shown.add_argument(
        "--query-camera",
        metavar="ID",
        help="the run's camera that recorded the query file: its modality and its thermal settings are the file's",
    )
    parser.add_argument("--whole", action="store_true", help="the query image shows one person: take it as it is")
    _add_filters(parser)
    parser.add_argument(
        "--fmr", type=_rate, metavar="RATE",
        help="leave out what more than this share of strangers is alike to, e.g. 0.01",
    )  # fmt: skip
    parser.add_argument(
        "--rerank", action=argparse.BooleanOptionalAction, help="order by common neighbours (k-reciprocal)"
    )
    add_purpose(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--device", type=device, default="auto", metavar="DEVICE", help="auto, cpu or cuda:N")
    _add_common(parser)
    parser.set_defaults(command=_search)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--modality", action="append", metavar="M", help="only cameras of this modality; repeatable")
    parser.add_argument("--camera", action="append", metavar="ID", help="only this camera; repeatable")
    parser.add_argument("--from", dest="start", metavar="TIME", help="not before, e.g. 2026-06-01T20:00:00Z")
    parser.add_argument("--to", dest="end", metavar="TIME", help="not after")
    parser.add_argument("--time-of-day", metavar="HH:MM-HH:MM", help="only then, by the site's clock, e.g. 22:00-06:00")
    parser.add_argument("--zone", action="append", metavar="NAME", help="only who stood in this zone; repeatable")
    parser.add_argument("--min-quality", type=_quality, metavar="Q", help="only where the best view is as good, 0 to 1")
    parser.add_argument("--person", action="append", metavar="P0007", help="only this person's; repeatable")
    parser.add_argument(
        "--include-own", action="store_true", help="also the query itself, and its camera at the same moment"
    )
    parser.add_argument("--top-k", type=_positive, default=10, metavar="N", help="answers at most (default 10)")


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-g", "--gallery", type=Path, default=Path("runs/latest"), metavar="DIR", help="a run's folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="for reid.calibration; JSON")
    parser.add_argument("--json", action="store_true", help="print what was fitted as JSON")
    _add_common(parser)
    parser.set_defaults(command=_calibrate)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run's folder")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="the folder with ground_truth/")
    parser.add_argument("--videos", action="store_true", help="draw the annotated videos anew, right and wrong marked")
    parser.add_argument("--no-progress", action="store_true", help="no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    _add_common(parser)
    parser.set_defaults(command=_evaluate)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", metavar="verify", help="compare a zip of evidence with its manifest, byte by byte, and end"
    )
    parser.add_argument("zip", nargs="?", metavar="ZIP", help="with verify: the zip, as case export wrote it")
    parser.add_argument("-g", "--gallery", type=Path, default=Path("runs/latest"), metavar="DIR", help="a run's folder")
    table = parser.add_mutually_exclusive_group()
    table.add_argument("--draft", type=Path, metavar="CSV", help="write the table for an operator to fill in, and end")
    table.add_argument(
        "--paired", type=Path, metavar="CSV", help="write the table with what pairs of cameras confirmed, and end"
    )
    table.add_argument("--confirmed", type=Path, metavar="CSV", help="the table, with the confirmed persons filled in")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where the data set goes; must not exist")
    parser.add_argument(
        "--layout",
        choices=("hitsz_vcm", "folder"),
        default="hitsz_vcm",
        help="that of HITSZ-VCM (RGB and near-infrared), or a tracklet folder (thermal too)",
    )
    add_purpose(parser)
    parser.add_argument("--held-out", type=_share, default=0.2, metavar="SHARE", help="of persons, not to train on")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    _add_common(parser)
    parser.set_defaults(command=_export)


def _add_validate(parser: argparse.ArgumentParser) -> None:
    _add_configured(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the config file")
    _add_common(parser)
    parser.set_defaults(command=_validate)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    _add_configured(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    _add_common(parser)
    parser.set_defaults(command=_doctor)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, got {text!r}")
    return share


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        quality = -1.0
    if not 0 <= quality <= 1:
        raise argparse.ArgumentTypeError(f"expected a quality from 0 to 1, got {text!r}")
    return quality


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"expected a rate between 0 and 1, got {text!r}")
    return rate


# --- commands ----------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    with _stop_on_signals(hang_up=not options.config) as stop, _reload_on_signal(options) as new_config:
        config = _configured(options)
        # A run of live cameras has no other end than being told to stop; one of recordings is not done.
        endless = any(camera.live for camera in config.cameras.values())
        try:
            with stop.at_once():  # until the run opens its gallery: what takes long to load is loaded within
                return _run_until(options, config, stop, new_config, endless=endless)
        except StoppedError as error:
            _complain(str(error))
            return _end_of(stop.numbers[0], endless=endless)


def _run_until(options: argparse.Namespace, config: Any, stop: "_Stop", new_config: Any, *, endless: bool) -> int:
    from pipeline.run import RunOptions, run
    from pipeline.tally import incomplete_sources

    existing = "overwrite" if options.overwrite else "append" if options.append else "refuse"
    beside = _server_beside(config, options)
    with _progress(options) as on_progress:
        choices = RunOptions(
            existing=existing,
            max_frames=options.max_frames,
            should_stop=lambda: bool(stop.numbers),
            on_open=stop.in_order,
            new_config=new_config,
            on_progress=on_progress,
            **beside,
        )
        try:
            report = run(config, choices)
        except OSError as error:
            where, why = error.filename or config.output.root, error.strerror or error
            raise ResourceError(f"{where}: {why}; results that were finished are kept") from error
    _show(report, options, _run_summary(report, config.output.root))
    for line in incomplete_sources(report):
        _complain(line)
    if stop.numbers:
        return _end_of(stop.numbers[0], endless=endless)
    return SourceError.exit_code if incomplete_sources(report) else 0


def _end_of(number: int, *, endless: bool) -> int:
    """Exit code of a run that a signal ended."""
    return 0 if endless and number == signal.SIGTERM else 128 + number


def _server_beside(config: Any, options: argparse.Namespace) -> dict[str, Any]:
    """What `run` is told of a server in its process; it listens from now on, so that a port that is taken ends it."""
    if options.serve is None:
        return {}
    from pipeline.server.serving import open_door, served, with_address

    door = open_door(config.output.root, with_address(config.server, options.serve or None))
    return {"beside": lambda told: served(told.root, door, device=config.reid.device, pipeline=told)}


def _serve(options: argparse.Namespace) -> int:
    from pipeline.config import ServerConfig, load
    from pipeline.query import CONFIG
    from pipeline.server.serving import open_door, served, with_address
    from pipeline.store import Store

    root = options.gallery or Path("runs/latest")
    path = options.config or root / CONFIG
    settings = ServerConfig()
    if path.is_file() or options.config or options.overrides:
        config = load(path, overrides=options.overrides)
        settings, root = config.server, config.output.root if options.config else root
    Store.read(root).close()
    door = open_door(root, with_address(settings, options.address))
    with _stop_on_signals("answering what was asked") as stop, served(root, door, device=options.device):
        print(door.address, flush=True)
        while not stop.numbers:  # signal.pause would miss one that comes just before it
            time.sleep(0.25)
    return 0 if stop.numbers[0] == signal.SIGTERM else 128 + stop.numbers[0]


def _search(options: argparse.Namespace) -> int:
    from pipeline.gallery_commands import actor_of, recorded
    from pipeline.query import Asked, QueryFile, SearchOptions, search
    from pipeline.replies import search_record, search_reply

    modality = _modality(options.query_modality, "--query-modality") if options.query_modality else None
    asked = Asked(
        examples=tuple(options.query),
        negatives=tuple(options.negatives),
        file=QueryFile(modality=modality, camera=options.query_camera, whole=options.whole),
        spot=_spot(options),
    )
    wanted = _search_filter(options)
    how = SearchOptions(rerank=options.rerank, false_match_rate=options.fmr, device=options.device)
    with recorded(options.gallery, actor_of(options)) as record:
        result = search(options.gallery, asked, wanted, how)
        plain = search_reply(result)
        record("search", *search_record(wanted, how, plain))
    _show(plain, options, _answers_text(result))
    return 0


def _answers_text(result: Any) -> str:
    """One block an answer: who, where, when by the clock on the wall, and why it stands there."""
    from pipeline.search import compared

    queries = [result.query, *result.examples]
    lines = [f"query: {each.description} ({each.modality.value})" for each in queries]
    lines += [f"not:   {each.description} ({each.modality.value})" for each in result.negatives]
    lines.append(result.explanation)
    for answer in result.answers:
        local = f"{answer.start_local:%Y-%m-%d %H:%M:%S} to {answer.end_local:%H:%M:%S %Z}"
        utc = f" ({answer.start:%H:%M:%S} UTC)" if answer.start_local.utcoffset() else ""
        lines += [
            "",
            f"{answer.rank}. P{answer.person_id:04d} at {answer.camera_id} ({answer.modality.value}), {local}{utc}:"
            f" p {compared(answer.probability)}",
            f"   {answer.why}",
            f"   tracklet {answer.tracklet_id}" + (f", zones {', '.join(answer.zones)}" if answer.zones else ""),
            f"   crop {answer.best_crop or 'aged away'}",
        ]
        lines += [f"   {each.modality.value} of {each.camera_id}: {each.crop}" for each in answer.counterparts]
    return "\n".join(lines)


def _spot(options: argparse.Namespace) -> Any:
    from pipeline.clips import Spot
    from pipeline.config import parse_time

    if (options.at is None) != (options.box is None):
        raise UsageError("--at and --box belong together: a moment of a recording, and where the person stands then")
    if options.at is None:
        return None
    at: Any
    try:
        at = float(options.at)
    except ValueError:
        try:
            at = parse_time(options.at)
        except ValueError as error:
            raise UsageError(f"--at {error}, or seconds of the recording") from error
    return Spot.parse(at, options.box)


def _check_output(path: Path) -> None:
    """Before anything is read for it.

    Raises:
        UsageError: When no file can have this name.
    """
    if path.is_dir():
        raise UsageError(f"--output {path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")


def _calibrate(options: argparse.Namespace) -> int:
    from pipeline.calibrate import calibrate
    from pipeline.sinks import write_whole
    from pipeline.store import Store

    _check_output(options.output)
    with Store.read(options.gallery) as store:
        calibration, report = calibrate(store)
        found = calibration.to_dict() | {"model": store.model_id}
    write_whole(options.output, (json.dumps(found, indent=1) + "\n").encode())
    rows = [
        [
            f"{first.value}-{second.value}", str(each.same), str(each.different),
            "-" if each.before is None else f"{each.before:.3f}", "kept" if each.after is None else f"{each.after:.3f}",
        ]
        for (first, second), each in report.items()
    ]  # fmt: skip
    plain = [dict(zip(("pair", "same", "different", "error_before", "error_after"), row, strict=True)) for row in rows]
    table = columns(["pair", "one person", "two people", "error before", "error after"], rows)
    table += "\nerror: between claimed and true, of these pairs, weighed to the share of one person in use"
    worse = [f"{first.value}-{second.value}" for (first, second), each in report.items() if each.is_worse]
    table += f"\nworse than before: {', '.join(worse)}" if worse else ""
    _show(plain, options, f"{table}\n{options.output}: name it in the config as reid.calibration")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from pipeline.evaluate import evaluate_run, table

    with _progress(options) as on_progress:
        on_drawn = partial(on_progress, "drawing") if options.videos else None
        report = evaluate_run(options.run, options.truth, on_drawn=on_drawn)
    _show(report, options, table(report))
    return 0


def _export(options: argparse.Namespace) -> int:
    from pipeline.export import draft, export, read_confirmed
    from pipeline.gallery_commands import actor_of, recorded

    if options.what:
        return _export_verify(options)
    if not (options.draft or options.paired or options.confirmed):
        raise UsageError("say what: --draft CSV, --paired CSV, --confirmed CSV, or verify ZIP; evidence: case export")
    if options.draft:
        with recorded(options.gallery, actor_of(options)) as record:
            rows = draft(options.gallery, options.draft)
            record("export", {"output": str(options.draft), "tracklets": rows}, [])
        _show(
            {"table": str(options.draft), "tracklets": rows}, options, f"{options.draft}: {rows} tracklets to look at"
        )
        return 0
    if options.paired:
        from pipeline.pairs import draft_of_pairs

        with recorded(options.gallery, actor_of(options)) as record:
            rows = draft_of_pairs(options.gallery, options.paired)
            record("export", {"output": str(options.paired), "tracklets": rows}, [])
        _show({"table": str(options.paired), "tracklets": rows}, options, f"{options.paired}: {rows} tracklets")
        return 0
    if options.output is None:
        raise UsageError("--output DIR is missing: where the data set goes")
    confirmed = read_confirmed(options.confirmed)
    with recorded(options.gallery, actor_of(options)) as record:
        done = export(options.gallery, confirmed, options.output, layout=options.layout, held_out=options.held_out)
        record("export", {"output": str(options.output), "tracklets": sorted(confirmed)}, sorted(confirmed))
    counts = {modality.value: count for modality, count in done.tracklets.items()}
    text = (
        f"{options.output}: persons: {done.persons} ({done.both_modalities} seen in visible light and infrared,"
        f" {done.held_out} held out); tracklets: {', '.join(f'{count} {name}' for name, count in counts.items())}"
        + (f"; {done.left_out} left out, which the layout cannot hold" if done.left_out else "")
    )
    plain = {"persons": done.persons, "held_out": done.held_out, "both_modalities": done.both_modalities}
    _show(plain | {"tracklets": counts, "left_out": done.left_out}, options, text)
    return 0


def _export_verify(options: argparse.Namespace) -> int:
    from pipeline.bundle import verify_bundle

    if options.what != "verify" or options.zip is None:
        raise UsageError(f"expected verify ZIP, got {' '.join(filter(None, (options.what, options.zip)))}")
    found = verify_bundle(Path(options.zip))
    plain = {"files": found.files, "sha256": found.sha256, "findings": list(found.findings), "notes": list(found.notes)}
    lines = [*(f"finding: {each}" for each in found.findings), *(f"note: {each}" for each in found.notes)]
    lines.append(f"files: {found.files}, findings: {len(found.findings)}; SHA-256 {found.sha256}")
    _show(plain, options, "\n".join(lines))
    return 1 if found.findings else 0


def _validate(options: argparse.Namespace) -> int:
    from pipeline.config import schema

    if options.schema:
        print(json.dumps(schema(), indent=2))
        return 0
    config = _configured(options)
    rows = [
        [camera_id, camera.modality.value, _start_of(camera), without_secrets(camera.source)]
        for camera_id, camera in config.cameras.items()
    ]
    network = f" with {config.detector.weights}" if config.detector.weights else ""
    print(f"ok; cameras: {', '.join(config.cameras)}")
    print(columns(["camera", "modality", "start", "source"], rows))
    print(f"detector {config.detector.backend}{network}, tracker {config.tracker.name}, re-ID {config.reid.weights}")
    print(f"results go to {config.output.root}; sources and weights were not opened: doctor does that")
    return 0


def _start_of(camera: Any) -> str:
    if camera.live:
        return "live"
    return str(camera.start.isoformat() if camera.start else camera.start_pattern or "-")


def _doctor(options: argparse.Namespace) -> int:
    from pipeline.doctor import examine

    config = _configured(options) if options.config or options.source else None
    checks = examine(config)
    plain = [{"name": each.name, "status": str(each.status), "detail": each.detail} for each in checks]
    width = max(len(each["name"]) for each in plain)
    _show(plain, options, "\n".join(f"{each['status']:4}  {each['name']:{width}}  {each['detail']}" for each in plain))
    return 1 if any(each["status"] == "fail" for each in plain) else 0


def _answered(name: str) -> Callable[[argparse.Namespace], int]:
    """A command about a gallery, printing what it has to say."""

    def run(options: argparse.Namespace) -> int:
        from pipeline.gallery_commands import COMMANDS

        if name.startswith("users "):
            from pipeline.server.commands import COMMANDS as USERS_COMMANDS

            outcome = USERS_COMMANDS[name](options)
        else:
            outcome = COMMANDS[name](options)
        _show(outcome.plain, options, outcome.text)
        return outcome.code

    return run


# --- what they share ---------------------------------------------------------


def _configured(options: argparse.Namespace) -> Any:
    """The config that the options describe."""
    from pipeline.config import from_sources, load

    overrides = list(options.overrides)
    if getattr(options, "output", None):
        overrides.append(f"output.root={json.dumps(str(options.output))}")
    if getattr(options, "no_video", False):
        overrides.append("output.video=false")
    if getattr(options, "device", None):
        overrides += [f"{section}.device={json.dumps(options.device)}" for section in ("detector", "reid")]
    if options.config and options.source:
        raise UsageError("give either --config or --source, not both: a config file names its cameras itself")
    if options.config:
        return load(options.config, overrides=overrides)
    if options.source:
        return from_sources(options.source, overrides=overrides)
    raise UsageError("no cameras: give --config FILE, or --source NAME=URI (repeatable)")


def _search_filter(options: argparse.Namespace) -> Any:
    from pipeline.filters import SearchFilter, TimeOfDay, parse_span
    from pipeline.identify import person_of_name

    start, end = parse_span(options.start, options.end)
    return SearchFilter(
        modalities=frozenset(_modality(each, "--modality") for each in options.modality) if options.modality else None,
        cameras=frozenset(options.camera) if options.camera else None,
        start=start,
        end=end,
        top_k=options.top_k,
        time_of_day=TimeOfDay.parse(options.time_of_day) if options.time_of_day else None,
        zones=frozenset(options.zone) if options.zone else None,
        min_quality=options.min_quality,
        persons=frozenset(map(person_of_name, options.person)) if options.person else None,
        include_own=options.include_own,
    )


def _modality(text: str, flag: str) -> Any:
    from pipeline.config import suggestion
    from reid.modality import Modality

    try:
        return Modality(text)
    except ValueError:
        raise UsageError(f"{flag}: {text!r} is not one of {', '.join(Modality)}{suggestion(text, Modality)}") from None


def _run_summary(report: dict[str, Any], root: Path) -> str:
    rows = [
        [
            camera_id, camera["modality"], camera["state"], str(camera["frames_processed"]),
            str(sum(camera["frames_dropped"].values())), str(sum(camera["frames_skipped"].values())),
            str(camera["tracklets"]),
        ]
        for camera_id, camera in report["cameras"].items()
    ]  # fmt: skip
    rejected = sum(report["tracklets"]["rejected"].values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in report["tracklets"]["rejected"].items())
    return "\n".join(
        [
            columns(["camera", "modality", "state", "frames", "dropped", "skipped", "tracklets"], rows),
            f"{report['tracklets']['accepted']} tracklets, {rejected} rejected"
            + (f" ({reasons})" if reasons else "")
            + f"; people in the gallery: {report['persons']}",
            f"{report['frames']} frames in {report['seconds']:.1f} s ({report['frames_per_second']:.1f} a second), "
            f"peak memory {report['peak_rss_mb']:.0f} MB",
            f"results: {root}",
        ]
    )


def _show(plain: Any, options: argparse.Namespace, text: str) -> None:
    from pipeline.sinks import without_nan

    print(json.dumps(without_nan(plain), indent=2, ensure_ascii=False) if options.json else text)


def _complain(message: str) -> None:
    with suppress(OSError):  # such as a pipe that nobody reads any more
        print(f"error: {hide_urls(message)}", file=sys.stderr)


@dataclass(slots=True)
class _Stop:
    """What signals have said.

    Attributes:
        numbers: Of those that came.
        interrupts: Whether the first one ends what goes on where it stands.
    """

    numbers: list[int] = field(default_factory=list)
    interrupts: bool = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While nothing is open, a signal waits for nothing.

        Raises:
            StoppedError: When one comes, or has come.
        """
        self.interrupts = True
        try:
            if self.numbers:
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            if not self.interrupts:
                raise
            raise StoppedError("told to stop before it began; nothing was changed") from None
        finally:
            self.interrupts = False

    def in_order(self) -> None:
        """From now on, the first signal lets what goes on end by itself."""
        self.interrupts = False


@contextmanager
def _stop_on_signals(doing: str = "finishing open tracklets", *, hang_up: bool = False) -> Iterator[_Stop]:
    """Let SIGINT and SIGTERM end what goes on in order; a second one ends it at once.

    Args:
        doing: What is said.
        hang_up: SIGHUP does so too, where it is not ignored, as under nohup.
    """
    stop = _Stop()

    def note(number: int, frame: FrameType | None) -> None:
        again = bool(stop.numbers)
        stop.numbers.append(number)
        if again or stop.interrupts:
            raise KeyboardInterrupt
        text = f"{signal.Signals(number).name}: {doing}; once more to end at once\n"
        with suppress(OSError):  # `2>&1 | tee log` gets the same SIGINT, and may be gone; print is not reentrant
            os.write(2, text.encode())

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hang_up and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _reload_on_signal(options: argparse.Namespace) -> Iterator[Any]:
    """Read the config file again after a SIGHUP; without a file, there is nothing to read."""
    if not options.config:
        yield lambda: None
        return
    asked: list[int] = []

    def new_config() -> Any:
        if not asked:
            return None
        asked.clear()
        logger.info("SIGHUP: reading %s again", options.config)
        return _configured(options)

    before = signal.signal(signal.SIGHUP, lambda number, frame: asked.append(number))
    try:
        yield new_config
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def _progress(options: argparse.Namespace) -> Iterator[Any]:
    """A bar a stage on a terminal; otherwise a plain line every ten seconds."""
    if options.no_progress or options.quiet:
        yield lambda stage, done, total: None
        return
    progress = _Bars() if _is_terminal() else _PlainProgress()
    try:
        yield progress.tell
    finally:
        progress.close()


def _is_terminal() -> bool:
    """Whether stderr is a terminal that can show a bar: one of a width (a container's may have none)."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


class _Bars:
    """The bar of the stage that is at work; that of the one before stays above it. Told from several threads."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar: Any = None

    def tell(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            from tqdm import tqdm

            self.close()
            self._stage = stage
            self._bar = tqdm(desc=stage, unit=" frames", total=total, file=sys.stderr, dynamic_ncols=True)
        self._bar.update(max(0, done - self._bar.n))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _PlainProgress:
    """One line every ten seconds; rates are those of the stage, without the loading of models before it."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._started = self._told = 0.0
        self._before = 0

    def tell(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._told, self._before = stage, now, now, done
        if now - self._told >= 10:
            self._told = now
            rate = (done - self._before) / (now - self._started)
            left = f" of {total}, {(total - done) / rate:.0f} s left" if total and rate else ""
            logger.info("%s: %d frames%s, %.1f frames/s", stage, done, left, rate)

    def close(self) -> None:
        """Nothing is open."""


class _Formatter(logging.Formatter):
    """Whatever logs (a library too) and however: an address in it, or in its traceback, tells no secret."""

    def format(self, record: logging.LogRecord) -> str:
        return hide_urls(super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (the library's name)
        """In UTC, as in events and reports."""
        return time.strftime(datefmt or "%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _set_up_logging(options: argparse.Namespace) -> None:
    level = logging.ERROR if options.quiet else logging.DEBUG if options.verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("pipeline", "reid", "trackers"):
        logging.getLogger(package).setLevel(level)
