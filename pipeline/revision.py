"""Between the one who identifies and the store: operators' decisions go one way, late evidence the other."""

import logging
from collections.abc import Iterable

from pipeline.audit import PROGRAM
from pipeline.errors import ResourceError, UsageError
from pipeline.identify import Identifier
from pipeline.persons import Decision, Persons
from pipeline.store import LinkState, Store

logger = logging.getLogger(__name__)


class Reviser:
    """Keeps an identifier and the store that it fills of one mind."""

    def __init__(self, store: Store, identifier: Identifier) -> None:
        """Take over what operators decided before.

        Args:
            store: Open to be filled.
            identifier: Resumed from it.
        """
        self._store = store
        self._identifier = identifier
        self._persons = Persons(store)
        self._followed = 0
        self.revised = 0
        self.follow()

    def follow(self) -> None:
        """Take over what operators decided since.

        An operator who merges, splits or rejects has looked at those persons: what they hold then stays theirs,
        whatever the evidence says later. So does what is confirmed, until that is taken back.
        """
        last = self._last_decision()
        if last == self._followed:
            return
        new = self._persons.decisions(after=self._followed)
        for decision in new:
            if decision.actor != PROGRAM.name:
                self._take_over(decision)
        self._followed = last
        links = self._store.links()
        self._identifier.keep_apart(
            (each.tracklet_id, each.to_tracklet_id) for each in links if each.state is LinkState.REJECTED
        )
        confirmed = (each for each in links if each.state is LinkState.CONFIRMED)
        self._identifier.keep_confirmed(name for each in confirmed for name in (each.tracklet_id, each.to_tracklet_id))

    def look_back(self, *, finally_: bool = False) -> int:
        """Let late evidence revise what it is time to revise, or, at the end, all that it can.

        Returns:
            How many tracklets were given to other persons.

        Raises:
            ResourceError: When the disk is full or fails; what could not be written is as it was.
        """
        self.follow()
        done = 0
        revisions = self._identifier.look_back(at_once=finally_)
        for place, revision in enumerate(revisions):
            try:
                if self._persons.revise(revision.tracklet_id, revision.person_id, revision.links):
                    done += 1
                else:
                    self._identifier.move(revision.tracklet_id, revision.before)
                    self._identifier.pin([revision.tracklet_id])
            except UsageError:  # it, or what it is linked to, has aged away or was never kept
                logger.debug("%s cannot be revised: it is not in the gallery any more", revision.tracklet_id)
                self._identifier.move(revision.tracklet_id, revision.before)
            except ResourceError:  # the store did not follow
                for each in revisions[place:]:
                    self._identifier.move(each.tracklet_id, each.before)
                raise
        self.revised += done
        self._followed = self._last_decision()
        if done:
            logger.info("late evidence gave %d tracklets to other persons", done)
        return done

    def _take_over(self, decision: Decision) -> None:
        rows = [row for row, _, _ in decision.moved]
        for stored in self._store.by_rows(rows):
            if stored.person_id is not None:
                self._identifier.move(stored.tracklet_id, stored.person_id)
                self._identifier.pin([stored.tracklet_id])
        for person in _persons_of(decision.moved):
            self._identifier.pin(self._identifier.members(person))

    def _last_decision(self) -> int:
        with self._store.reading() as db:
            (last,) = db.execute("SELECT COALESCE(MAX(decision_id), 0) FROM decisions").fetchone()
        return int(last)


def _persons_of(moved: Iterable[tuple[int, int, int]]) -> set[int]:
    return {person for _, before, after in moved for person in (before, after)}
