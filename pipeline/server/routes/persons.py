"""People, the decisions about who is who, and links."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as InPath

from pipeline.errors import UsageError
from pipeline.persons import Decision as Decided
from pipeline.persons import Persons
from pipeline.replies import decision_reply, link_reply, person_reply, tracklet_reply
from pipeline.server.access import AskedFirst, Caller
from pipeline.server.desk import Desk
from pipeline.server.lists import cursor_of, place_of
from pipeline.server.problems import ProblemError, not_found
from pipeline.server.routes.asking import (
    CursorText,
    Decider,
    DeciderOfAll,
    Limit,
    Looker,
    PersonName,
    TheDesk,
    TrackletId,
)
from pipeline.server.schemas import Decision, Link, Merge, Page, Person, PersonDetails, Split, TwoTracklets, Why
from pipeline.server.showing import links_page, visible_links
from pipeline.server.sight import require_own_decision, visible_tracklet
from pipeline.store import LinkState, PersonState, Store, TrackletFilter

router = APIRouter(tags=["persons"], route_class=AskedFirst)

_LONGEST_PATH = 1000


@router.get("/persons", response_model=Page[Person])
async def persons(
    desk: TheDesk,
    caller: Looker,
    state: Annotated[list[PersonState] | None, Query(description="by default, whoever is not part of another")] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> dict[str, Any]:
    """People whom I may see, by number."""
    place = place_of(cursor, int)
    states = tuple(state) if state else (PersonState.PROBABLE, PersonState.CONFIRMED)

    def page(store: Store) -> dict[str, Any]:
        found = Persons(store).summaries(
            cameras=caller.cameras, states=states, after=place[0] if place else 0, limit=limit + 1
        )
        more = cursor_of(found[limit - 1].person_id) if len(found) > limit else None
        return {"items": [person_reply(each) for each in found[:limit]], "next": more}

    return await desk.workers.use(page)


@router.get("/persons/{person}", response_model=PersonDetails)
async def person(desk: TheDesk, caller: Looker, person: PersonName) -> dict[str, Any]:
    """Somebody, with the path over time."""

    def found(store: Store) -> dict[str, Any]:
        number = int(person[1:])
        try:
            summary = Persons(store).summary(number, cameras=caller.cameras)
        except UsageError:
            raise not_found(f"person {person}") from None
        wanted = TrackletFilter(person_id=number, cameras=caller.cameras)
        path = store.page(wanted, limit=_LONGEST_PATH + 1, newest_first=False)
        names = {each.tracklet_id for each in path[:_LONGEST_PATH]}
        links = {
            (each.tracklet_id, each.to_tracklet_id): link_reply(each)
            for name in names
            for each in visible_links(store, caller, name)
        }
        return person_reply(summary) | {
            "path": [tracklet_reply(each, desk.zone) for each in path[:_LONGEST_PATH]],
            "path_complete": len(path) <= _LONGEST_PATH,
            "links": [links[key] for key in sorted(links)],
        }

    return await desk.workers.use(found)


@router.post("/persons/merge", response_model=Decision, status_code=201)
async def merge(desk: TheDesk, caller: DeciderOfAll, asked: Merge) -> dict[str, Any]:
    """Two persons are one: all tracklets of `other` go to `into`."""
    into, other = int(asked.into[1:]), int(asked.other[1:])

    def decide(people: Persons, store: Store) -> Decided:
        known = {each.person_id for each in people.summaries(after=min(into, other) - 1)}
        for number, name in ((into, asked.into), (other, asked.other)):
            if number not in known:
                raise not_found(f"person {name}")
        return people.merge(into, other, desk.actor(caller, case_id=asked.case_id, purpose=asked.purpose))

    return await _decided(desk, decide)


@router.post("/persons/split", response_model=Decision, status_code=201)
async def split(desk: TheDesk, caller: DeciderOfAll, asked: Split) -> dict[str, Any]:
    """These tracklets of one person are somebody else, a new person."""

    def decide(people: Persons, store: Store) -> Decided:
        for each in asked.tracklets:
            visible_tracklet(store, caller, each)
        return people.split(asked.tracklets, desk.actor(caller, case_id=asked.case_id, purpose=asked.purpose))

    return await _decided(desk, decide)


@router.post("/persons/confirm", response_model=Decision, status_code=201)
async def confirm(desk: TheDesk, caller: Decider, asked: TwoTracklets) -> dict[str, Any]:
    """Two tracklets of one person do show that person."""

    def decide(people: Persons, store: Store) -> Decided:
        return people.confirm(*_both(store, caller, asked), _actor(desk, caller, asked))

    return await _decided(desk, decide)


@router.post("/persons/reject", response_model=Decision, status_code=201)
async def reject(desk: TheDesk, caller: Decider, asked: TwoTracklets) -> dict[str, Any]:
    """Two tracklets show two people; where they were one, the first becomes a new person."""

    def decide(people: Persons, store: Store) -> Decided:
        return people.reject(*_both(store, caller, asked), _actor(desk, caller, asked))

    return await _decided(desk, decide)


@router.get("/decisions", response_model=Page[Decision])
async def decisions(
    desk: TheDesk, caller: DeciderOfAll, limit: Limit = 50, cursor: CursorText = None
) -> dict[str, Any]:
    """What was decided about who is who, newest first; what the program revised by itself too."""
    place = place_of(cursor, int)

    def page(store: Store) -> dict[str, Any]:
        found = Persons(store).last_decisions(before=place[0] if place else None, limit=limit + 1)
        more = cursor_of(found[limit - 1].decision_id) if len(found) > limit else None
        return {"items": [decision_reply(each) for each in found[:limit]], "next": more}

    return await desk.workers.use(page)


@router.post("/decisions/{decision_id}/undo", response_model=Decision, status_code=201)
async def undo(
    desk: TheDesk, caller: Decider, decision_id: Annotated[int, InPath(ge=1, lt=2**63)], why: Why
) -> dict[str, Any]:
    """Take a decision back; who may not see all cameras, only confirmations and rejections of their own."""

    def decide(people: Persons, store: Store) -> Decided:
        require_own_decision(store, caller, decision_id)
        return people.undo(decision_id, desk.actor(caller, case_id=why.case_id, purpose=why.purpose))

    return await _decided(desk, decide)


@router.get("/links", response_model=Page[Link])
async def links(
    desk: TheDesk,
    caller: Looker,
    tracklet_id: TrackletId | None = None,
    state: Annotated[list[LinkState] | None, Query()] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> dict[str, Any]:
    """Links between tracklets both of which I may see, by their later tracklet."""
    place = place_of(cursor, str, str)
    return await desk.workers.use(
        lambda store: links_page(
            store, caller, tracklet_id=tracklet_id, states=tuple(state or LinkState), after=place, limit=limit
        )
    )


def _both(store: Store, caller: Caller, asked: TwoTracklets) -> tuple[str, str]:
    for each in (asked.tracklet_id, asked.to_tracklet_id):
        visible_tracklet(store, caller, each)
    return asked.tracklet_id, asked.to_tracklet_id


def _actor(desk: Desk, caller: Caller, asked: TwoTracklets) -> Any:
    return desk.actor(caller, case_id=asked.case_id, purpose=asked.purpose)


async def _decided(desk: Desk, decide: Any) -> dict[str, Any]:
    """Do it; what the state of things does not allow is a conflict."""

    def job(store: Store) -> dict[str, Any]:
        return decision_reply(decide(Persons(store, desk.audit(store)), store))

    try:
        return await desk.writer.use(job)
    except UsageError as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
