"""``synthetic-vvi``: simulated people written by ``python -m simulation vvi`` in the layouts of both real data sets.

Every image shows a simulated person. Two folders hold the same tracklets, ``hitsz_vcm`` and ``bupt_campus``, each read
by the loader of that data set; nothing of the layout is known here.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reid.datasets.bupt_campus import BuptCampus, BuptCampusOptions
from reid.datasets.hitsz_vcm import HitszVcm, HitszVcmOptions

LAYOUTS = ("hitsz_vcm", "bupt_campus")
MANIFEST = "synthetic_vvi.json"


class SyntheticVviOptions(BaseModel):
    """How the benchmark is read.

    Attributes:
        layout: Which of the two folders.
        val_identities: Persons of the training split that are held out as the split ``val``.
        min_frames: Shorter tracklets are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: Literal["hitsz_vcm", "bupt_campus"] = "hitsz_vcm"
    val_identities: int = Field(default=0, ge=0)
    min_frames: int = Field(default=1, ge=1)


def open_vvi(root: Path, options: SyntheticVviOptions) -> HitszVcm | BuptCampus:
    """The benchmark in one layout; ``name`` is ``synthetic_vvi`` in both."""
    shared = {"val_identities": options.val_identities, "min_frames": options.min_frames}
    opened: HitszVcm | BuptCampus
    if options.layout == "hitsz_vcm":
        opened = HitszVcm(root / "hitsz_vcm", HitszVcmOptions.model_validate(shared))
    else:
        opened = BuptCampus(root / "bupt_campus", BuptCampusOptions.model_validate(shared))
    opened.name = "synthetic_vvi"
    return opened
