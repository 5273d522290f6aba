"""The application: order, threads and the outside world. Imports ``trackers`` and ``reid``, is imported by neither."""

from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parent.parent


def _check_neighbours() -> None:
    """Refuse to run with foreign packages: ``reid`` and ``trackers`` are names of other people's distributions too."""
    for name in ("reid", "trackers"):
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        expected = _HERE / name / "__init__.py"
        if origin != expected:
            raise ImportError(
                f"package {name!r} must be {expected}, got {origin}: another distribution installs a package of the "
                f"same name; uninstall it or use a fresh virtual environment"
            )


_check_neighbours()
