"""A file that only takes up room, for the moment when there is none left to open, or to remove, anything with."""

import os
import shutil
from pathlib import Path

RESERVE = "gallery.reserve"
_MOST_BYTES, _MOST_SHARE = 8_000_000, 0.03
_NEARLY_NOTHING = 1_000_000


class Reserve:
    """The reserve of one gallery: at most eight megabytes, or three hundredths of the disk."""

    def __init__(self, root: Path) -> None:
        self._path = root / RESERVE
        self.size = int(min(_MOST_BYTES, shutil.disk_usage(root).total * _MOST_SHARE))

    def fill(self) -> None:
        """Take the room again, if there is enough of it."""
        if self._path.exists() or shutil.disk_usage(self._path.parent).free < 2 * self.size:
            return
        with self._path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.size)

    def release(self) -> None:
        """Give it up."""
        self._path.unlink(missing_ok=True)

    def release_if_full(self) -> None:
        """Give it up where not even a database can be opened: that takes some room for its log."""
        if shutil.disk_usage(self._path.parent).free < _NEARLY_NOTHING:
            self.release()
