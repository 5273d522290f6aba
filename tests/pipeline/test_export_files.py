"""What killed processes leave among the exports."""

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from pipeline.crop_files import write_whole
from pipeline.export_files import EXPORTS, exports_with, remove_leftovers

_WRITE = (
    "import sys, pathlib; from pipeline.crop_files import write_whole; write_whole(pathlib.Path(sys.argv[1]), b'1')"
)
_KILLED = f"import os; os.fsync = lambda _: os.kill(os.getpid(), 9); {_WRITE}"


@pytest.mark.parametrize("name", ["01A.json.part", ".01A.zip.part"])
def test_what_a_killed_process_left_half_written_is_found_and_removed(tmp_path: Path, name: str) -> None:
    left = tmp_path / EXPORTS / name
    left.parent.mkdir()
    left.write_bytes(b"{")
    assert exports_with(tmp_path, ["gate-ann"]) == [f"{EXPORTS}/{name}"]
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_the_note_of_a_writer_killed_before_it_is_durable_is_removed(tmp_path: Path) -> None:
    (tmp_path / EXPORTS).mkdir()
    process = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / EXPORTS / "01A.json")], check=False)
    assert process.returncode == -9
    assert [each.name for each in (tmp_path / EXPORTS).iterdir()] == ["01A.json.part"]
    remove_leftovers(tmp_path)
    assert not list((tmp_path / EXPORTS).iterdir())


def test_what_somebody_writes_at_this_moment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / EXPORTS / "01A.json"
    note.parent.mkdir()
    monkeypatch.setattr("pipeline.crop_files.os.fsync", lambda _: remove_leftovers(tmp_path))
    write_whole(note, b"{}")
    assert [each.name for each in note.parent.iterdir()] == [note.name]


def test_who_tidies_up_between_the_first_byte_and_the_lock_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / EXPORTS / "01A.json"
    note.parent.mkdir()
    lock = fcntl.flock
    removed: list[str] = []

    def late(file: IO[bytes], how: int) -> None:
        if not removed:
            removed.append(file.name)
            Path(file.name).unlink()
        lock(file, how)

    monkeypatch.setattr("pipeline.crop_files.fcntl.flock", late)
    write_whole(note, b"{}")
    assert removed
    assert (note.read_bytes(), len(list(note.parent.iterdir()))) == (b"{}", 1)


def test_who_tidies_up_when_all_is_written_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / EXPORTS / "01A.json"
    note.parent.mkdir()
    replace = Path.replace

    def late(part: Path, target: Path) -> Path:
        remove_leftovers(tmp_path)
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", late)
    write_whole(note, b"{}")
    assert note.read_bytes() == b"{}"
