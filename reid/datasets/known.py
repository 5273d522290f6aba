"""The one door to all data sets: a name and a folder in, tracklets with their roles out.

>>> dataset = open_dataset("hitsz_vcm", "data/HITSZ-VCM", {"min_frames": 12})
>>> dataset.split("train"), dataset.split("test"), dataset.directions("test")["nir->rgb"]  # I2V
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from reid.datasets import bupt_campus, folder, hitsz_vcm, synthetic_vvi
from reid.datasets.split import DatasetError, Direction, TrackletSplit
from reid.metrics import CameraRule


class Dataset(Protocol):
    """What every data set gives.

    Attributes:
        name: Of the data set.
        root: Its folder.
        camera_rule: What its published figures take out of the gallery.
    """

    name: str
    root: Path
    camera_rule: CameraRule

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are."""
        ...

    def split(self, name: str) -> TrackletSplit:
        """The tracklets of one split.

        Raises:
            DatasetError: When there is no such split, or its lists cannot be used.
        """
        ...

    def directions(self, name: str) -> dict[str, Direction]:
        """Queries and galleries of one split, as rows of it, by ``<query>-><gallery>`` such as ``nir->rgb``."""
        ...


DATASETS: dict[str, tuple[Callable[[Path, Any], Dataset], type[BaseModel]]] = {
    "folder": (folder.Folder, folder.FolderOptions),
    "hitsz_vcm": (hitsz_vcm.HitszVcm, hitsz_vcm.HitszVcmOptions),
    "bupt_campus": (bupt_campus.BuptCampus, bupt_campus.BuptCampusOptions),
    "synthetic_vvi": (synthetic_vvi.open_vvi, synthetic_vvi.SyntheticVviOptions),
}


def open_dataset(name: str, root: str | Path, options: Mapping[str, object] | None = None) -> Dataset:
    """Open a data set; its lists are read when a split is asked for.

    Args:
        name: A key of ``DATASETS``; hyphens may stand for underscores.
        root: Its folder.
        options: Of that data set, such as ``min_frames``.

    Raises:
        DatasetError: When the name or an option is unknown, or an option's value is not allowed; ``true`` is no number.
    """
    key = name.replace("-", "_")
    if key not in DATASETS:
        raise DatasetError(f"data set must be one of {', '.join(DATASETS)}, got {name!r}")
    make, kind = DATASETS[key]
    try:
        checked = kind.model_validate(dict(options or {}), strict=True)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise DatasetError(f"options of {key}: {problems}; known: {', '.join(kind.model_fields) or 'none'}") from error
    return make(Path(root), checked)
