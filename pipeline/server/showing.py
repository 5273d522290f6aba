"""What is told of tracklets, links and cases to somebody who may not see every camera."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.cases import Case, Cases
from pipeline.record import from_us
from pipeline.replies import case_reply, link_reply, tracklet_reply
from pipeline.server.access import Caller
from pipeline.server.desk import Desk
from pipeline.server.lists import cursor_of
from pipeline.server.problems import not_found
from pipeline.server.recordings import has_recording
from pipeline.sinks import rfc3339
from pipeline.store import LinkState, Store, StoredLink, StoredTracklet


def details_reply(desk: Desk, store: Store, caller: Caller, own: StoredTracklet) -> dict[str, Any]:
    """One tracklet with all that is known of it."""
    record = store.record(own.tracklet_id)
    address = f"/api/v1/tracklets/{own.tracklet_id}"
    clip = "recording" if has_recording(desk.config, own.camera_id) else "crops" if record.crops else None
    return tracklet_reply(own, desk.zone) | {
        "time_source": record.time_source,
        "width": record.width,
        "height": record.height,
        "crops": [
            {
                "position": position,
                "quality": quality,
                "captured_at": rfc3339(from_us(captured)),
                "frame_index": index,
                "xyxy": list(xyxy),
                "url": f"{address}/crops/{place}",
            }
            for place, (position, _, quality, captured, index, *xyxy) in enumerate(record.crops)
        ],
        "counterparts": [
            {
                "camera_id": each.camera_id,
                "modality": each.modality.value,
                "captured_at": rfc3339(each.captured_at),
                "url": f"{address}/counterparts/{each.camera_id}",
            }
            for each in store.counterparts(own.tracklet_id)
            if caller.sees(each.camera_id)
        ],
        "links": [link_reply(each) for each in visible_links(store, caller, own.tracklet_id)],
        "cases": _cases_with(store, own.row),
        "clip": clip,
    }


def _cases_with(store: Store, row: int) -> list[str]:
    with store.reading() as db:
        found = db.execute("SELECT case_id FROM case_items WHERE tracklet_row = ? ORDER BY case_id", [row])
        return [case_id for (case_id,) in found]


def boxes_reply(store: Store, own: StoredTracklet) -> dict[str, Any]:
    """Where a person was, frame by frame."""
    boxes, record = store.boxes_of(own.tracklet_id), store.record(own.tracklet_id)
    return {
        "tracklet_id": own.tracklet_id,
        "width": record.width,
        "height": record.height,
        "frame_index": boxes.frame_index.tolist(),
        "xyxy": boxes.xyxy.astype(float).round(2).tolist(),
        "confidence": boxes.confidence.astype(float).round(4).tolist(),
    }


def visible_links(store: Store, caller: Caller, tracklet_id: str) -> list[StoredLink]:
    """Links of a tracklet to those that the caller may see; to such as are gone, only for who may see all."""
    links = store.links(tracklet_id)
    if caller.cameras is None:
        return links
    others = {name for each in links for name in (each.tracklet_id, each.to_tracklet_id)}
    with store.reading() as db:
        found = db.execute(
            "SELECT tracklet_id FROM tracklets WHERE tracklet_id IN (SELECT value FROM json_each(?))"
            " AND camera_id IN (SELECT value FROM json_each(?))",
            [json.dumps(sorted(others)), json.dumps(sorted(caller.cameras))],
        )
        seen = {name for (name,) in found}
    return [each for each in links if each.tracklet_id in seen and each.to_tracklet_id in seen]


def links_page(
    store: Store,
    caller: Caller,
    *,
    tracklet_id: str | None,
    states: tuple[LinkState, ...],
    after: Sequence[str] | None,
    limit: int,
) -> dict[str, Any]:
    """Some links, both of whose tracklets exist and may be seen, by name of the later and the earlier tracklet."""
    later, earlier = after or ("", "")
    values: dict[str, Any] = {"states": json.dumps(sorted(states)), "name": tracklet_id}
    values |= {"later": later, "earlier": earlier}
    values |= {"all": caller.cameras is None, "cameras": json.dumps(sorted(caller.cameras or ())), "limit": limit + 1}
    with store.reading() as db:
        found = db.execute(
            "SELECT l.tracklet_row, t.tracklet_id, l.to_tracklet_id, l.cosine, l.probability, l.state"
            " FROM links l JOIN tracklets t ON t.row = l.tracklet_row"
            " JOIN tracklets o ON o.tracklet_id = l.to_tracklet_id"
            " WHERE (t.tracklet_id, l.to_tracklet_id) > (:later, :earlier)"
            " AND l.state IN (SELECT value FROM json_each(:states))"
            " AND (:name IS NULL OR t.tracklet_id = :name OR l.to_tracklet_id = :name)"
            " AND (:all OR (t.camera_id IN (SELECT value FROM json_each(:cameras))"
            " AND o.camera_id IN (SELECT value FROM json_each(:cameras))))"
            " ORDER BY t.tracklet_id, l.to_tracklet_id LIMIT :limit",
            values,
        ).fetchall()
    links = [
        StoredLink(row, name, to, cosine, probability, LinkState(state))
        for row, name, to, cosine, probability, state in found[:limit]
    ]
    more = cursor_of(links[-1].tracklet_id, links[-1].to_tracklet_id) if len(found) > limit else None
    return {"items": [link_reply(each) for each in links], "next": more}


def require_case(store: Store, case_id: str) -> Case:
    """A case.

    Raises:
        ProblemError: 404, when there is none.
    """
    for each in Cases(store).all():
        if each.case_id == case_id:
            return each
    raise not_found(f"case {case_id}")


def visible_items(store: Store, caller: Caller, case_id: str) -> list[str]:
    """Tracklets of a case that the caller may see, in order of time."""
    items = Cases(store).items(case_id)
    if caller.cameras is None:
        return items
    return [each for each in items if caller.sees(store.tracklet(each).camera_id)]


def cases_page(store: Store, caller: Caller, *, after: str, limit: int) -> dict[str, Any]:
    """Some cases, by name."""
    found = [each for each in Cases(store).all() if each.case_id > after]
    items = [case_reply(each, visible_items(store, caller, each.case_id)) for each in found[:limit]]
    return {"items": items, "next": cursor_of(found[limit - 1].case_id) if len(found) > limit else None}


def case_details(desk: Desk, store: Store, caller: Caller, case_id: str) -> dict[str, Any]:
    """A case with its tracklets and what was exported of it."""
    case = require_case(store, case_id)
    items = visible_items(store, caller, case_id)
    return case_reply(case, items) | {
        "details": [
            {"tracklet": tracklet_reply(store.tracklet(name), desk.zone), "added": rfc3339(from_us(added)),
             "added_by": by, "note": note}
            for name in items
            for added, by, note in [Cases(store).entry(case_id, name)]
        ],
        "exports": desk.exports.all(caller, case_id=case_id),
    }  # fmt: skip
