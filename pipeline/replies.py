"""What is told of a gallery, as JSON: the same on the command line and over HTTP.

Whoever may see only some cameras is told only of those: no tracklet, person, link or count gives the others away.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.audit import AuditRow, Verdict
from pipeline.cases import Case
from pipeline.filters import SearchFilter
from pipeline.identify import person_name
from pipeline.persons import Decision, PersonSummary
from pipeline.query import SearchOptions
from pipeline.record import within_gallery
from pipeline.search import SearchResult
from pipeline.sinks import rfc3339
from pipeline.stored import StoredLink, StoredTracklet

Plain = dict[str, Any]


def tracklet_reply(each: StoredTracklet, zone: ZoneInfo) -> Plain:
    """One stay of one person in one camera."""
    return {
        "tracklet_id": each.tracklet_id,
        "camera_id": each.camera_id,
        "modality": each.modality.value,
        "start": rfc3339(each.start),
        "end": rfc3339(each.end),
        "start_local": rfc3339(each.start.astimezone(zone)),
        "end_local": rfc3339(each.end.astimezone(zone)),
        "seconds": round((each.end - each.start).total_seconds(), 3),
        "person": None if each.person_id is None else person_name(each.person_id),
        "rejected": each.rejected.value if each.rejected else None,
        "frames": each.frames,
        "quality": each.quality,
        "zones": list(each.zones),
        "best_crop": None if each.best_crop is None else within_gallery(each.best_crop),
    }


def link_reply(each: StoredLink) -> Plain:
    """Evidence that two tracklets show one person."""
    plain = asdict(each)
    del plain["row"]
    return plain | {"state": each.state.value}


def person_reply(each: PersonSummary) -> Plain:
    """Somebody."""
    return {
        "person_id": each.person_id,
        "person": person_name(each.person_id),
        "state": each.state.value,
        "merged_into": None if each.merged_into is None else person_name(each.merged_into),
        "tracklets": each.tracklets,
        "cameras": list(each.cameras),
        "modalities": [modality.value for modality in each.modalities],
        "first": None if each.first is None else rfc3339(each.first),
        "last": None if each.last is None else rfc3339(each.last),
        "best_tracklet": each.best_tracklet,
    }


def decision_reply(each: Decision) -> Plain:
    """A change of who is who."""
    return {**asdict(each), "made": rfc3339(each.made), "moved": [list(row) for row in each.moved]}


def case_reply(each: Case, items: Sequence[str]) -> Plain:
    """A case, and the tracklets in it."""
    return {
        "case": each.case_id,
        "title": each.title,
        "opened": rfc3339(each.opened),
        "closed": None if each.closed is None else rfc3339(each.closed),
        "items": list(items),
    }


def audit_row_reply(row: AuditRow) -> Plain:
    """What was done by whom, and why."""
    return {**asdict(row), "at": rfc3339(row.at)}


def audit_verdict_reply(verdict: Verdict) -> Plain:
    """Whether the chain of hashes holds."""
    plain = asdict(verdict)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def search_reply(result: SearchResult) -> Plain:
    """Answers, and what became of the rest of the gallery."""
    return result.to_json()


def search_record(wanted: SearchFilter, how: SearchOptions, plain: Plain) -> tuple[Plain, list[str]]:
    """What the audit keeps of a search, from its reply: query, filters, answers; and the tracklets that it names."""
    answers = [{key: each[key] for key in ("tracklet_id", "person", "probability")} for each in plain["answers"]]
    asked = [each["description"] for each in (plain["query"], *plain["examples"])]
    negatives = [each["description"] for each in plain["negatives"]]
    details: Mapping[str, Any] = {
        "query": asked if len(asked) > 1 else asked[0],
        "negatives": negatives,
        "filters": wanted.to_json(),
        "false_match_rate": how.false_match_rate,
        "rerank": how.rerank,
        "answers": answers,
    }
    kept = {key: value for key, value in details.items() if value not in (None, [])}
    return kept, [*asked, *negatives, *(answer["tracklet_id"] for answer in answers)]


def sees(cameras: Collection[str] | None, camera_id: str) -> bool:
    """Whether somebody who may see these cameras (None: all) may see this one."""
    return cameras is None or camera_id in cameras
