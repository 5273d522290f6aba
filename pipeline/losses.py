"""What a full disk costs a run: counted by kind and told once, and the run goes on."""

import errno
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ResourceError

logger = logging.getLogger(__name__)


class Losses:
    """Counts by kind of what could not be written: events, pairs, mot, detections, reports, revisions, config."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    @contextmanager
    def counting(self, kind: str) -> Iterator[None]:
        """Within, a full disk costs one of a kind, and nothing else; what fails otherwise is raised."""
        try:
            yield
        except (ResourceError, OSError) as error:
            if not is_full(error):
                raise
            self.count(kind, error)

    def count(self, kind: str, error: BaseException) -> None:
        """One more of a kind is lost; the first of each is logged."""
        if not self.counts[kind]:
            logger.error("disk full: what it costs (%s) is counted in report.json from now on: %s", kind, error)
        self.counts[kind] += 1


def is_full(error: BaseException) -> bool:
    """Whether a full disk is the cause."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "database or disk is full" in str(seen):
            return True
        seen = seen.__cause__
    return False
