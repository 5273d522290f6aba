"""``python -m reid.datasets check|convert``: is a data set whole, and BUPTCampus in the layout of HITSZ-VCM.

Exit codes: 0 done and all as published, 1 a difference or a problem, 2 usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reid.datasets.check import check
from reid.datasets.convert import convert
from reid.datasets.split import DatasetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see the module's docstring."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (DatasetError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reid.datasets", description="Look after data sets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    looks = commands.add_parser("check", help="every count beside the published one, every file looked at")
    looks.add_argument("--dataset", required=True, metavar="NAME", help="hitsz_vcm, bupt_campus, synthetic_vvi, folder")
    looks.add_argument("--root", required=True, type=Path, metavar="DIR")
    looks.add_argument("--quick", action="store_true", help="do not decode the images, only see whether they are there")
    looks.add_argument("--like", action="store_true", help="another data set in that layout: compare no counts")
    looks.set_defaults(command=_check)
    converts = commands.add_parser("convert", help="write BUPTCampus in the layout of HITSZ-VCM")
    converts.add_argument("--root", required=True, type=Path, metavar="DIR", help="folder with data_paths.json")
    converts.add_argument("--output", required=True, type=Path, metavar="DIR", help="must not exist")
    converts.add_argument("--way", choices=("i2v", "v2i"), default="i2v", help="direction of the test lists")
    converts.add_argument("--copy", action="store_true", help="copy images; otherwise hard links, where possible")
    converts.add_argument("--auxiliary", action="store_true", help="train on train_auxiliary.txt too")
    converts.set_defaults(command=_convert)
    return parser


def _check(options: argparse.Namespace) -> int:
    reports = check(options.dataset, options.root, quick=options.quick, like=options.like)
    sys.stdout.write("\n\n".join(map(str, reports)) + "\n")
    return 0 if all(report.is_good for report in reports) else 1


def _convert(options: argparse.Namespace) -> int:
    train, test = convert(options.root, options.output, way=options.way, copy=options.copy, auxiliary=options.auxiliary)
    sys.stdout.write(f"{options.output}: {train} tracklets to train on, {test} to test {options.way.upper()}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
