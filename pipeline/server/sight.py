"""What somebody may see: what they may not is as if it did not exist."""

from pipeline.config import Config
from pipeline.errors import UsageError
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


def visible_camera(config: Config | None, store: Store, caller: Caller, camera_id: str) -> None:
    """Make sure that there is a camera, and that the caller may see it.

    Raises:
        ProblemError: 404, when there is none.
    """
    known = camera_id in store.cameras() or (config is not None and camera_id in config.cameras)
    if not known or not caller.sees(camera_id):
        raise not_found(f"camera {camera_id}")
