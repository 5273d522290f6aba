"""Command line of the simulator: ``python -m simulation site|rounds|tracklets|vvi|stream``; each has ``--help``."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simulation.config import ConfigError, RoundsConfig, SiteConfig, TrackletsConfig, VviConfig, load
from simulation.faults import FaultPlan
from simulation.rounds import render_rounds
from simulation.site import render_site
from simulation.streaming import Serving, StreamingError, Streams, clips_of, modalities_of, need_gstreamer
from simulation.tracklets import render_tracklets
from simulation.vvi import render_vvi
from simulation.workers import tell
from simulation.writers import OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Render what is asked for; 0 when done, 2 when it cannot be asked for so."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "stream":
            _stream(options)
        elif options.command == "site":
            render_site(load(options.config, SiteConfig), options.output, workers=options.workers, tell=tell)
        elif options.command == "rounds":
            render_rounds(load(options.config, RoundsConfig), options.output, workers=options.workers, tell=tell)
        elif options.command == "vvi":
            render_vvi(load(options.config, VviConfig), options.output, workers=options.workers, tell=tell)
        else:
            render_tracklets(load(options.config, TrackletsConfig), options.output, workers=options.workers, tell=tell)
    except (ConfigError, OutputError, StreamingError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Synthetic people, cameras and truth.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, meaning in (
        ("site", "recordings of a site's cameras, with ground truth"),
        ("rounds", "a site over hours, recorded on motion, with ground truth"),
        ("tracklets", "crops of people in all modalities, to train from"),
        ("vvi", "synthetic-vvi: a benchmark in the layouts of HITSZ-VCM and BUPTCampus"),
    ):
        command = commands.add_parser(name, help=meaning)
        command.add_argument("--config", type=Path, required=True, metavar="FILE")
        command.add_argument("--output", type=Path, required=True, metavar="DIR")
        command.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, metavar="N", help="processes")
    _add_stream(commands.add_parser("stream", help="a rendered site as live RTSP cameras, with faults on a plan"))
    return parser


def _add_stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--site", type=Path, required=True, metavar="DIR", help="what `simulation site` wrote")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="what goes wrong, and when (YAML)")
    parser.add_argument("--port", type=_positive, default=8554, help="of the first camera; the next has the next")
    parser.add_argument("--copies", type=_positive, default=1, metavar="N", help="cameras of each recording")
    parser.add_argument("--clip-seconds", type=_positive, default=30, metavar="S", help="of each recording, in a loop")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="to serve; without it, until interrupted")


def _stream(options: argparse.Namespace) -> None:
    """Serve until the time is over, or SIGINT or SIGTERM comes."""
    plan = load(options.faults, FaultPlan) if options.faults else FaultPlan()
    need_gstreamer()
    modalities = modalities_of(options.site, number=options.copies)
    strangers = sorted(plan.cameras() - modalities.keys())
    if strangers:
        there = ", ".join(modalities)
        raise StreamingError(
            f"{options.faults}: no camera {strangers[0]!r} of {options.site} is served; there are {there}"
        )
    clips = clips_of(options.site, seconds=options.clip_seconds, number=options.copies, tell=tell)
    end = time.monotonic() + options.seconds if options.seconds else float("inf")
    with Streams(clips, Serving(first_port=options.port, plan=plan)) as streams, _stop_on_signals() as stopped:
        for name, url in streams.urls.items():
            sys.stdout.write(f"{name}={url},modality={modalities[name]}\n")
        sys.stdout.flush()
        while not stopped and time.monotonic() < end:
            time.sleep(0.2)
        for name in streams.urls:
            counts = ", ".join(f"{count} {what}" for what, count in sorted(streams.counts(name).items()))
            tell(f"{name}: {counts or 'nobody watched'}")


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """Those that came."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, frame: received.append(got)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
