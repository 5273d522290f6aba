"""What, beside the weights, decides a figure: who is left in the gallery, which frames are looked at, which list."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reid.datasets.known import Dataset, open_dataset
from reid.metrics import CameraRule
from reid.transforms import sample_frames

Clips = Literal["weights", "chunk_first", "chunk_random", "uniform", "uniform_repeated", "dense"]


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """What, beside the weights, decides a figure.

    Attributes:
        camera_rule: See ``reid.metrics``; None takes that of the data set.
        clips: How a tracklet becomes clips, see ``clip_positions``.
        frames: T; None takes that of the weights.
        legacy_drop_last: Open BUPTCampus as its own test loader does, which loses the visible tracklets beyond a
            multiple of 64: 512 and 522 valid queries, where there are 540 and 536.
        min_frames: Leave shorter tracklets out, unless an option of the data set says otherwise; None takes the data
            set's own.
    """

    camera_rule: CameraRule | None = None
    clips: Clips = "weights"
    frames: int | None = None
    legacy_drop_last: bool = False
    min_frames: int | None = None


# Whose figures each of them makes; sources in ``reid/published.yaml``.
PROTOCOLS: dict[str, EvaluationProtocol] = {
    "weights": EvaluationProtocol(),
    "vcm": EvaluationProtocol(CameraRule.SAME_ID_SAME_CAM, "chunk_first"),
    "vcm_6_frames": EvaluationProtocol(CameraRule.SAME_ID_SAME_CAM, "chunk_first", 6),
    "vcm_dense": EvaluationProtocol(CameraRule.SAME_ID_SAME_CAM, "dense"),
    "bupt": EvaluationProtocol(CameraRule.NONE, "uniform_repeated"),
    "bupt_legacy": EvaluationProtocol(CameraRule.NONE, "uniform_repeated", legacy_drop_last=True),
    "bupt_m3_reid": EvaluationProtocol(CameraRule.SAME_ID_SAME_CAM, "chunk_first", 6),
    "bupt_xreid": EvaluationProtocol(CameraRule.SAME_ID_SAME_CAM, "dense", min_frames=2),
}


def clip_positions(count: int, frames: int, clips: Clips, *, seed: int = 0) -> list[NDArray[np.int64]]:
    """The clips that stand for a tracklet of n frames.

    Args:
        count: n.
        frames: T.
        clips: ``uniform`` and ``chunk_first`` are one clip, see ``reid.transforms.sample_frames``; ``uniform_repeated``
            is floor(i n / T) for n < T too, which weighs frames unevenly in the mean (BUPTCampus's own loader);
            ``chunk_random`` is one with a random frame of each chunk; ``dense`` are consecutive clips of T frames that
            do not overlap, the last filled up by going round its own frames (the released ``eval_all.py``).
        seed: Of ``chunk_random``.

    Returns:
        Positions of each clip, (T,) int64, or fewer for ``uniform`` and n < T.
    """
    if clips == "dense":
        starts = range(0, count, frames)
        return [start + np.arange(frames, dtype=np.int64) % min(frames, count - start) for start in starts]
    if clips == "chunk_random":
        size = -(-count // frames)
        offset = np.random.default_rng(seed).integers(size, size=frames)
        return [np.minimum(np.arange(frames, dtype=np.int64) * size + offset, count - 1)]
    if clips == "uniform_repeated":
        return [np.arange(frames, dtype=np.int64) * count // frames]
    if clips == "weights":
        raise ValueError("'weights' stands for what the weights say; ask for that by its name")
    return [sample_frames(count, frames, sampling=clips)]


def open_under(protocol: EvaluationProtocol, name: str, root: Path, options: Mapping[str, Any]) -> Dataset:
    """Open a data set as a protocol asks for it.

    Raises:
        DatasetError: As ``open_dataset``; also where the protocol asks for what the data set cannot do.
    """
    least = {} if protocol.min_frames is None else {"min_frames": protocol.min_frames}
    last = {"legacy_drop_last": True} if protocol.legacy_drop_last else {}
    return open_dataset(name, root, {**least, **options, **last})
