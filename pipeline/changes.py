"""What a new config asks of a run that goes on: which cameras come, go, or are read anew."""

from dataclasses import dataclass

from pipeline.config import Config
from pipeline.errors import UsageError

_LIVE = ("cameras", "pairs")  # sections that a run takes over while it goes on


@dataclass(frozen=True, slots=True)
class Changes:
    """Cameras by what happens to them; those that are not named go on as they are.

    Attributes:
        added: New ones.
        removed: Gone ones.
        changed: Those whose settings differ; they are closed and opened anew.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def closed(self) -> tuple[str, ...]:
        """Cameras whose present source ends."""
        return self.removed + self.changed

    @property
    def opened(self) -> tuple[str, ...]:
        """Cameras that get a new source."""
        return self.added + self.changed

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {word} ({', '.join(names)})"
            for word, names in (("added", self.added), ("removed", self.removed), ("changed", self.changed))
            if names
        ]
        return ", ".join(parts) or "no camera changed"


def changes(old: Config, new: Config) -> Changes:
    """Compare two configs.

    Raises:
        UsageError: When they differ in more than a run can take over: anything but cameras and pairs, or what a known
            camera measures.
    """
    fixed = [name for name in type(old).model_fields if name not in _LIVE and getattr(old, name) != getattr(new, name)]
    if fixed:
        raise UsageError(f"{', '.join(fixed)}: changed, which takes a restart; a reload takes cameras and pairs only")
    for name, camera in new.cameras.items():
        before = old.cameras.get(name)
        if before is not None and before.modality is not camera.modality:
            raise UsageError(
                f"cameras.{name}.modality: {camera.modality.value}, but it is running as {before.modality.value}; "
                "give the camera another name"
            )
        if before is not None and before != camera and not (before.live and camera.live):
            raise UsageError(f"cameras.{name}: a recording that is being read cannot be changed; add another camera")
    return Changes(
        added=tuple(name for name in new.cameras if name not in old.cameras),
        removed=tuple(name for name in old.cameras if name not in new.cameras),
        changed=tuple(
            name for name, camera in new.cameras.items() if name in old.cameras and old.cameras[name] != camera
        ),
    )
