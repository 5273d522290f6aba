"""BUPTCampus in the layout of HITSZ-VCM, for methods that read only that.

HITSZ-VCM has one list of queries, all infrared, against all visible test tracklets, and turns it round for V2I.
BUPTCampus has queries and a gallery in each modality. So one converted root holds one official direction: I2V its
infrared queries and its visible gallery, V2I its visible queries and its infrared gallery.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from reid.datasets.bupt_campus import LISTS, MODALITY_OF, Listed, Lists
from reid.datasets.split import DatasetError
from reid.datasets.vcm_writer import VcmTracklet, write_vcm
from reid.modality import Modality

Way = Literal["i2v", "v2i"]
_QUERY_OF: dict[Way, Modality] = {"i2v": Modality.NIR, "v2i": Modality.RGB}
_README = """\
{title}, converted from {root} by `python -m reid.datasets convert` into the layout of HITSZ-VCM.
Test lists: {way} of BUPTCampus (query.txt against gallery.txt across modalities); the figures of the other direction
in this folder are not those of BUPTCampus. Cameras D1 to D{cameras} are {names}.
BUPTCampus may be used for academic research only, not commercially, and not be redistributed, in this form either.
"""


def convert(
    root: Path, output: Path, *, way: Way = "i2v", copy: bool = False, auxiliary: bool = False
) -> tuple[int, int]:
    """Convert; ``output`` appears when it is whole.

    Args:
        root: Folder with ``data_paths.json``.
        output: Must not exist.
        way: Direction of the test lists.
        copy: Copy images rather than hard-link them.
        auxiliary: Train on ``train_auxiliary.txt`` too.

    Returns:
        Numbers of training and of test tracklets.

    Raises:
        DatasetError: When lists or images are missing or malformed, or the output exists.
    """
    lists = Lists(root)
    train = [*lists.listed("train"), *(lists.listed("auxiliary") if auxiliary else [])]
    query, gallery = lists.listed("query"), lists.listed("gallery")
    test = [each for each in query if MODALITY_OF[each.modality] is _QUERY_OF[way]]
    test += [each for each in gallery if MODALITY_OF[each.modality] is not _QUERY_OF[way]]
    for name, listed in (("train", train), ("query", test)):
        if not listed:
            raise DatasetError(f"{root / LISTS[name]}: lists no tracklet")
    readme = _README.format(
        title="BUPTCampus", root=root.name, way=way.upper(), cameras=len(lists.cameras), names=", ".join(lists.cameras)
    )
    write_vcm(
        output, train=_tracklets(lists, train), test=_tracklets(lists, test), copy=copy, notes={"README.txt": readme}
    )
    return len(train), len(test)


def _tracklets(lists: Lists, listed: Sequence[Listed]) -> list[VcmTracklet]:
    zero = 0 if 0 not in lists.numbers.values() else 1  # the layout counts persons from 1
    return [
        VcmTracklet(
            lists.numbers[each.pid] + zero,
            MODALITY_OF[each.modality],
            lists.cameras.index(each.camera) + 1,
            lists.frames(each),
        )
        for each in listed
    ]
