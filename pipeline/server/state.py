"""The state of a site: its cameras as gallery and pipeline know them, and what is kept of them."""

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline.bundle import software_version
from pipeline.cases import Cases
from pipeline.config import Config
from pipeline.monitoring import CameraStatus
from pipeline.record import from_us
from pipeline.replies import sees
from pipeline.server.access import Caller
from pipeline.server.counting import Seen
from pipeline.server.desk import Desk
from pipeline.server.recordings import has_recording
from pipeline.server.roles import Permission
from pipeline.sinks import rfc3339
from pipeline.store import Store, is_being_filled

REPORT = "report.json"
_FRESH_SECONDS = 150.0  # a run that goes on writes its report every 60 s


def cameras_of(desk: Desk, store: Store, visible: frozenset[str] | None) -> list[dict[str, Any]]:
    """All cameras of gallery and config that may be seen, by name."""
    config = desk.config
    known = desk.counting.cameras(store)
    names = sorted({*known, *(config.cameras if config else ())})
    live = {} if desk.pipeline is None else {each.camera_id: each for each in desk.pipeline.cameras()}
    told = _reported(desk, _report(desk)) if desk.pipeline is None else {}
    return [
        _camera(name, known.get(name), config) | _state(live.get(name), told.get(name))
        for name in names
        if sees(visible, name)
    ]


def _camera(name: str, seen: Seen | None, config: Config | None) -> dict[str, Any]:
    configured = config.cameras.get(name) if config else None
    first, last = (seen.first_us, seen.last_us) if seen else (None, None)
    return {
        "camera_id": name,
        "modality": seen.modality if seen else configured.modality.value if configured else None,
        "live": None if configured is None else configured.live,
        "pair_id": None if configured is None else configured.pair_id,
        "zones": [] if configured is None else sorted(configured.zones),
        "tracklets": seen.accepted if seen else 0,
        "rejected": seen.rejected if seen else 0,
        "first": None if first is None else rfc3339(from_us(first)),
        "last": None if last is None else rfc3339(from_us(last)),
        "recording": has_recording(config, name),
    }


def _state(status: CameraStatus | None, told: Mapping[str, Any] | None) -> dict[str, Any]:
    if status is not None:
        return live_state(status)
    if told is None:
        return {"state": None, "error": None, "error_code": None, "frames": None}
    return {
        "state": told.get("state"),
        "error": told.get("error"),
        "error_code": told.get("error_code"),
        "frames": {
            "decoded": told.get("frames_decoded", 0),
            "processed": told.get("frames_processed", 0),
            "dropped": told.get("frames_dropped", {}),
            "skipped": told.get("frames_skipped", {}),
            "reconnects": told.get("reconnects", 0),
            "queued": 0,
        },
    }


def live_state(status: CameraStatus) -> dict[str, Any]:
    """Of a camera that the pipeline in this process reads."""
    account, ledger = status.account, status.ledger
    return {
        "state": status.state.value,
        "error": account.error if account else None,
        "error_code": account.error_code.value if account and account.error_code else None,
        "frames": {
            "decoded": ledger.decoded,
            "processed": ledger.processed,
            "dropped": dict(ledger.dropped),
            "skipped": dict(ledger.skipped),
            "reconnects": ledger.reconnects,
            "queued": status.queued,
        },
    }


def _report(desk: Desk) -> dict[str, Any]:
    """What the last run said of itself; empty when there is nothing that can be read."""
    try:
        found = json.loads((desk.root / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _reported(desk: Desk, report: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Each camera, as it is or was at the end; without its state where the report does not tell that any more."""
    cameras = report.get("cameras")
    if not isinstance(cameras, dict):
        return {}
    cameras = {name: each for name, each in cameras.items() if isinstance(each, dict)}
    if report.get("ended") != "running" or (_is_fresh(report) and is_being_filled(desk.root)):
        return cameras
    return {name: {**each, "state": None} for name, each in cameras.items()}


def _is_fresh(report: Mapping[str, Any]) -> bool:
    """Whether what goes on was told of late."""
    try:
        written = datetime.fromisoformat(report["written"])
        return abs((datetime.now(UTC) - written).total_seconds()) <= _FRESH_SECONDS
    except (KeyError, TypeError, ValueError):
        return False


def site_of(desk: Desk, store: Store, caller: Caller) -> dict[str, Any]:
    """Everything about the site at one moment, as far as the caller may see it."""
    config = desk.config
    cameras = cameras_of(desk, store, caller.cameras)
    disk = shutil.disk_usage(desk.root)
    return {
        "site": None if config is None else config.site.name,
        "timezone": desk.zone.key,
        "version": software_version(),
        "model": store.model_id,
        "dimension": store.dimension,
        "tracklets": sum(each["tracklets"] for each in cameras),
        "rejected": sum(each["rejected"] for each in cameras),
        **_counts(store, caller),
        "open_cases": sum(each.closed is None for each in Cases(store).all()) if caller.may(Permission.CASES) else 0,
        "disk": {"free_bytes": disk.free, "total_bytes": disk.total},
        "pipeline": _pipeline(desk),
        "cameras": cameras,
    }


def _counts(store: Store, caller: Caller) -> dict[str, Any]:
    among = "" if caller.cameras is None else " WHERE t.camera_id IN (SELECT value FROM json_each(?))"
    values = [] if caller.cameras is None else [json.dumps(sorted(caller.cameras))]
    with store.reading() as db:
        (persons,) = db.execute(f"SELECT COUNT(DISTINCT person_id) FROM tracklets t{among}", values).fetchone()  # noqa: S608
        join = f" JOIN tracklets t ON t.row = tracklet_row{among}" if among else ""
        (crops,) = db.execute(f"SELECT COUNT(*) FROM crops{join}", values).fetchone()  # noqa: S608
        (rows,) = db.execute("SELECT COUNT(*) FROM audit").fetchone()
    shown = rows if caller.may(Permission.AUDIT) else None
    return {"persons": persons, "crops": crops, "audit_rows": shown}


def _pipeline(desk: Desk) -> dict[str, Any]:
    if desk.pipeline is None:
        return _pipeline_elsewhere(desk)
    healthy, said = desk.pipeline.health()
    return {
        "running": True,
        "here": True,
        "healthy": healthy,
        "seconds_since_last_step": said.get("seconds_since_last_step"),
        "started": rfc3339(desk.pipeline.started),
        "reported": None,
    }


def _pipeline_elsewhere(desk: Desk) -> dict[str, Any]:
    """A run that was killed says for ever that it goes on: but the system let go of its lock."""
    report = _report(desk)
    running = report.get("ended") == "running" and is_being_filled(desk.root)
    return {
        "running": running,
        "here": False,
        "healthy": _is_fresh(report) if running else None,
        "seconds_since_last_step": None,
        "started": _text(report, "started"),
        "reported": _text(report, "written"),
    }


def _text(report: Mapping[str, Any], name: str) -> str | None:
    found = report.get(name)
    return found if isinstance(found, str) else None
