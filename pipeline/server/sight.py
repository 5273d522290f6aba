"""What somebody may see: what they may not is as if it did not exist."""

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.persons import Persons
from pipeline.server.access import Caller
from pipeline.server.problems import not_found
from pipeline.store import Store, StoredTracklet


def visible_tracklet(store: Store, caller: Caller, tracklet_id: str) -> StoredTracklet:
    """A tracklet that the caller may see.

    Raises:
        ProblemError: 404, when there is none.
    """
    try:
        found = store.tracklet(tracklet_id)
    except UsageError:
        raise not_found(f"tracklet {tracklet_id}") from None
    if not caller.sees(found.camera_id):
        raise not_found(f"tracklet {tracklet_id}")
    return found


def require_own_decision(store: Store, caller: Caller, decision_id: int) -> None:
    """Make sure that the caller may take a decision back.

    Who may see all cameras may take back any; else it must be a confirmation or rejection of their own (or an undo of
    one), about tracklets all of which they may see still.

    Raises:
        ProblemError: 404, when there is none.
    """
    found = Persons(store).scope(decision_id)
    if found is not None and caller.cameras is None:
        return
    seen = [] if found is None else [caller.sees(each.camera_id) for each in store.by_rows(found.rows)]
    if (
        found is None
        or found.actor != caller.user
        or found.kind not in ("confirm", "reject")
        or not (seen and all(seen))
    ):
        raise not_found(f"decision {decision_id}")


def visible_camera(config: Config | None, store: Store, caller: Caller, camera_id: str) -> None:
    """Make sure that there is a camera, and that the caller may see it.

    Raises:
        ProblemError: 404, when there is none.
    """
    known = camera_id in store.cameras() or (config is not None and camera_id in config.cameras)
    if not known or not caller.sees(camera_id):
        raise not_found(f"camera {camera_id}")
