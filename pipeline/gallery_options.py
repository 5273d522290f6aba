"""The options of the commands about a gallery that is there; what they do is in ``pipeline.gallery_commands``.

Apart from it, for a command line that only wants its options should not wait for what the commands need.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEFAULT = Path("runs/latest")
_CUDA = re.compile(r"cuda(:[0-9]+)?")

Add = Callable[[argparse.ArgumentParser], None]


def add_commands(commands: Any, add_common: Add, command: Callable[[str], Any]) -> None:
    """Add ``gallery``, ``case``, ``person``, ``audit`` and ``users`` to a command line.

    Args:
        commands: Of argparse.
        add_common: Adds the options that every command has.
        command: Gives what the command line calls for a name such as ``gallery stats``.
    """
    for name, (text, members) in _GROUPS.items():
        group = commands.add_parser(name, help=text).add_subparsers(required=True, metavar="COMMAND")
        for member, (about, add) in members.items():
            parser = group.add_parser(member, help=about)
            parser.add_argument(
                "-g", "--gallery", type=Path, default=DEFAULT, metavar="DIR", help="a run's folder (runs/latest)"
            )
            add(parser)
            parser.add_argument("--json", action="store_true", help="print the answer as JSON")
            add_common(parser)
            parser.set_defaults(command=command(f"{name} {member}"))


def add_purpose(parser: argparse.ArgumentParser) -> None:
    """Options that say who asks, and why."""
    parser.add_argument("--purpose", metavar="TEXT", help="what it is for; stands in the audit")
    parser.add_argument("--case", metavar="ID", help="the case that it is for; stands in the audit")
    parser.add_argument("--operator", metavar="NAME", help="who asks (default: the user of this machine)")


def device(text: str) -> str:
    """Of argparse: where to compute, as it is written. Whether there is such a GPU is another question.

    Raises:
        argparse.ArgumentTypeError: When no machine has a device of that name.
    """
    if text not in ("auto", "cpu") and not _CUDA.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:N, got {text!r}")
    return text


def _nothing(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tracklet", action="append", default=[], metavar="ID", help="this tracklet; repeatable")
    parser.add_argument("--person", action="append", default=[], metavar="P", help="all of P0007; repeatable")
    parser.add_argument("--camera", action="append", default=[], metavar="ID", help="only of this camera; repeatable")
    parser.add_argument("--from", dest="start", metavar="TIME", help="that end at or after, e.g. 2026-06-01T20:00:00Z")
    parser.add_argument("--to", dest="end", metavar="TIME", help="that start before")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--camera", action="append", default=[], metavar="ID", help="only of this camera; repeatable")
    parser.add_argument("--best", type=int, metavar="N", help="only the N that were seen best")
    parser.add_argument("--only", choices=("id", "crop"), help="print ids alone, or the files of their best views")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="bring records, images and events up to the database")


def _add_reindex(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, metavar="FILE", help="the new model: a checkpoint, or xreid-tiny")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="this site's curves for that model, in place of those it carries",
    )
    parser.add_argument("--device", type=device, default="auto", metavar="DEVICE", help="auto, cpu or cuda:N")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="tracklets embedded together (8)")
    add_purpose(parser)


def _add_erase(parser: argparse.ArgumentParser) -> None:
    _add_choice(parser)
    parser.add_argument("--without-crops", action="store_true", help="tracklets whose images have aged away")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    add_purpose(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_choice(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="a new folder")
    add_purpose(parser)


def _add_merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("other", type=Path, metavar="OTHER", help="the folder of the gallery that comes in")
    parser.add_argument(
        "--rename-camera", action="append", default=[], metavar="OLD=NEW", help="call a camera of OTHER something else"
    )
    parser.add_argument("--same-cameras", action="store_true", help="cameras of one name are one camera")
    parser.add_argument("--restore-erased", action="store_true", help="take in again what was erased here")
    add_purpose(parser)


def _add_case(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="CASE")
    parser.add_argument("--title", default="", metavar="TEXT", help="what it is about")
    parser.add_argument("--operator", metavar="NAME", help="who asks (default: the user of this machine)")
    parser.set_defaults(case=None, purpose=None)


def _add_items(parser: argparse.ArgumentParser) -> None:
    _add_case(parser)
    _add_choice(parser)
    parser.add_argument("--note", metavar="TEXT", help="stands beside the tracklets")


def _add_evidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="CASE")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="ZIP", help="a new file")
    parser.add_argument("--blur-others", action="store_true", help="nobody but the case's people can be recognised")
    parser.add_argument("--no-clips", action="store_true", help="only pictures, events and the audit")
    parser.add_argument("--purpose", metavar="TEXT", help="what it is for; stands in the audit and the manifest")
    parser.add_argument("--operator", metavar="NAME", help="who asks (default: the user of this machine)")
    parser.set_defaults(case=None)


def _add_removal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="EXPORT", help="as case exports lists it")
    add_purpose(parser)


def _add_two_persons(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("into", metavar="P", help="who stays, P0007")
    parser.add_argument("other", metavar="Q", help="who is the same person")
    add_purpose(parser)


def _add_two_tracklets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tracklet", metavar="ID")
    parser.add_argument("to", metavar="OTHER_ID")
    add_purpose(parser)


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tracklets", nargs="+", metavar="ID", help="the tracklets that show somebody else")
    add_purpose(parser)


def _add_undo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("decision", type=int, metavar="N")
    add_purpose(parser)


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--last", type=int, metavar="N", help="only the last N rows")


def _add_head(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--head", metavar="N:HASH", help="as audit head printed it once: that row must still be there")


def _add_users_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, metavar="FILE", help="of the users (default: users.json in the gallery)")


def _add_user(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    _add_users_file(parser)


def _add_removed_user(parser: argparse.ArgumentParser) -> None:
    _add_user(parser)
    parser.add_argument("--last", action="store_true", help="even the last one: then nobody may log in")


def _add_password(parser: argparse.ArgumentParser) -> None:
    _add_user(parser)
    parser.add_argument("--password-stdin", action="store_true", help="the password is the first line of stdin")


def _add_new_user(parser: argparse.ArgumentParser) -> None:
    _add_password(parser)
    parser.add_argument(
        "--role", required=True, choices=("viewer", "operator", "admin", "auditor"), help="see docs/access.md"
    )
    parser.add_argument(
        "--camera", action="append", default=[], metavar="ID", help="only this camera; repeatable (default: all)"
    )


_GROUPS: dict[str, tuple[str, dict[str, tuple[str, Add]]]] = {
    "gallery": (
        "look after a gallery",
        {
            "list": ("the tracklets that can be searched by, the best seen first", _add_list),
            "stats": ("how much is in it, of which cameras, and how large it is", _nothing),
            "verify": ("compare database, crops, events, index and audit; rebuild a damaged database", _add_verify),
            "reindex": ("embed all tracklets anew with another model; goes on where it was killed", _add_reindex),
            "erase": ("take a person, tracklets or a time out, and leave nothing behind", _add_erase),
            "age": ("take out what is too old or too much, as the config's retention says", _nothing),
            "export": ("some tracklets as a gallery of their own", _add_export),
            "import": ("take in what export wrote", _add_merge),
            "merge": ("take another site's gallery in; its persons get new numbers", _add_merge),
        },
    ),
    "case": (
        "cases, whose tracklets are held: neither aged nor erased",
        {
            "open": ("begin a case", _add_case),
            "close": ("end a case", _add_case),
            "hold": ("put tracklets into a case", _add_items),
            "release": ("take tracklets out of a case", _add_items),
            "list": ("all cases", _nothing),
            "export": ("the evidence of a case as one zip; export verify ZIP checks it", _add_evidence),
            "exports": ("what the page has exported, of all cases", _nothing),
            "remove-export": ("remove what the page has exported", _add_removal),
        },
    ),
    "person": (
        "what operators decide about people; every decision can be undone",
        {
            "list": ("everybody, and every decision", _nothing),
            "merge": ("two persons are one", _add_two_persons),
            "split": ("tracklets of a person show somebody else", _add_split),
            "confirm": ("two tracklets of one person do show that person", _add_two_tracklets),
            "reject": ("two tracklets show two people", _add_two_tracklets),
            "undo": ("take a decision back", _add_undo),
        },
    ),
    "audit": (
        "who searched for whom, and why",
        {
            "show": ("the rows", _add_limit),
            "verify": ("find any edit, deletion, reorder or truncation", _add_head),
            "head": ("number and hash of the last row, to be kept somewhere else", _nothing),
        },
    ),
    "users": (
        "who may log in to the page, where it is served to others",
        {
            "add": ("let somebody in; asks for the password", _add_new_user),
            "remove": ("let somebody in no more", _add_removed_user),
            "passwd": ("give somebody another password", _add_password),
            "list": ("everybody, with role and cameras", _add_users_file),
        },
    ),
}
