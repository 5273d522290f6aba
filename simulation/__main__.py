"""Command line of the simulator: ``python -m simulation site|rounds|tracklets|vvi --config FILE --output DIR``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from simulation.config import ConfigError, RoundsConfig, SiteConfig, TrackletsConfig, VviConfig, load
from simulation.rounds import render_rounds
from simulation.site import render_site
from simulation.tracklets import render_tracklets
from simulation.vvi import render_vvi
from simulation.writers import OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Render what is asked for; 0 when done, 2 when it cannot be asked for so."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "site":
            render_site(load(options.config, SiteConfig), options.output, workers=options.workers, tell=_tell)
        elif options.command == "rounds":
            render_rounds(load(options.config, RoundsConfig), options.output, workers=options.workers, tell=_tell)
        elif options.command == "vvi":
            render_vvi(load(options.config, VviConfig), options.output, workers=options.workers, tell=_tell)
        else:
            render_tracklets(load(options.config, TrackletsConfig), options.output, workers=options.workers, tell=_tell)
    except (ConfigError, OutputError) as error:
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
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def _tell(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    raise SystemExit(main())
