"""The commands about the server: who may log in. None of them prints."""

import argparse
import getpass
import sys
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.gallery_commands import Outcome
from pipeline.server.roles import Role
from pipeline.server.users import USERS, Users

_LONGEST = 1024


def _users(options: argparse.Namespace) -> Users:
    path: Path = options.file or options.gallery / USERS
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder; give --file, or --gallery with the folder of a run")
    return Users(path)


def _password(options: argparse.Namespace) -> str:
    """From the terminal, twice, or the first line of stdin; never from the command line, which everybody can read."""
    if options.password_stdin or not sys.stdin.isatty():
        return sys.stdin.readline(_LONGEST + 2).rstrip("\r\n")
    first, again = getpass.getpass("Password: "), getpass.getpass("Again: ")
    if first != again:
        raise UsageError("the two passwords differ")
    return first


def _add(options: argparse.Namespace) -> Outcome:
    users = _users(options)
    cameras = options.camera or None
    users.add(options.name, Role(options.role), cameras, _password(options))
    seen = "all cameras" if cameras is None else ", ".join(sorted(set(cameras)))
    return Outcome({"user": options.name, "role": options.role, "cameras": cameras},
                   f"{options.name} may log in as {options.role} and see {seen}")  # fmt: skip


def _remove(options: argparse.Namespace) -> Outcome:
    users = _users(options)
    users.remove(options.name, last=options.last)
    left = "" if len(users) else f"; {_nobody(users)}"
    return Outcome({"user": options.name}, f"{options.name} may log in no more; open sessions have ended{left}")


def _passwd(options: argparse.Namespace) -> Outcome:
    users = _users(options)
    users.set_password(options.name, _password(options))
    return Outcome({"user": options.name}, f"{options.name} has a new password; open sessions have ended")


def _list(options: argparse.Namespace) -> Outcome:
    users = _users(options)
    plain = [
        {"user": each.name, "role": each.role.value, "cameras": None if each.cameras is None else list(each.cameras)}
        for each in users.all()
    ]
    lines = [f"{each['user']}: {each['role']}, {', '.join(each['cameras'] or ['all cameras'])}" for each in plain]
    return Outcome(plain, "\n".join(lines) or _nobody(users))


def _nobody(users: Users) -> str:
    """What it means that there are no users."""
    if users.path.is_file():
        return f"nobody may log in until users add; without {users.path} nobody need, on a loopback address"
    return "nobody: on a loopback address nobody need log in, but where server.users names this file"


COMMANDS = {"users add": _add, "users remove": _remove, "users passwd": _passwd, "users list": _list}
