"""Foreign packages of the same name are refused: ``reid`` and ``trackers`` are taken on the package index."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_foreign_package_of_the_same_name_is_refused_with_both_paths(tmp_path: Path) -> None:
    (tmp_path / "reid").mkdir()
    foreign = tmp_path / "reid" / "__init__.py"
    foreign.write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import pipeline"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert str(foreign) in done.stderr
    assert str(ROOT / "reid" / "__init__.py") in done.stderr
