"""From the crops of tracklets to unit-length embeddings."""

import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.calibration import Calibration
from reid.modality import Modality
from reid.models.cameras import UNKNOWN
from reid.models.xreid import MODALITIES, XReID
from reid.transforms import Image, Preprocessing, prepare_clip, sample_frames, to_input

_LOG = logging.getLogger(__name__)
_BATCH_SIZES = (*range(2, 13, 2), *range(16, 33, 4), *range(40, 65, 8))  # crops that a processor computes at once


@runtime_checkable
class Extractor(Protocol):
    """What the pipeline needs of a re-identification model.

    Attributes:
        dimension: d.
        model_id: ``<name>@sha256:<16 hex digits>``; embeddings of different ids must not be compared.
    """

    dimension: int
    model_id: str

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        """Embed tracklets.

        Args:
            clips: The crops of each tracklet in time order, at least one; native pixels, any sizes.
            modalities: What the camera of each tracklet measures.

        Returns:
            (n, d), rows of unit length; (0, d) for no clips.
        """
        ...


class XReIDExtractor:
    """X-ReID with the preprocessing of its weights.

    A tracklet is represented by ``preprocessing.frames`` of its crops, chosen by ``sample_frames``; a shorter one by
    all its crops (``uniform``), or filled up with its last one (``chunk_first``). Its embedding does not depend on what
    else is in the call, but for rounding.

    Args:
        model: With its weights; moved to the device, and to half precision on a GPU.
        preprocessing: Of those weights.
        model_id: Of those weights.
        calibration: Of those weights; None when none was fitted.
        cameras: Names of the trained cameras, where the model has a vector for each, in the order of the vectors.
        device: Where to compute.

    Attributes:
        batch_frames: Crops computed at once, which bounds memory; may be set.
    """

    def __init__(
        self,
        model: XReID,
        preprocessing: Preprocessing,
        *,
        model_id: str,
        calibration: Calibration | None,
        cameras: Sequence[str] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = torch.device(device)
        self._dtype = torch.float16 if self._device.type == "cuda" else torch.float32
        self.model = model.to(self._device, self._dtype).eval()
        self.batch_frames = 64
        self.preprocessing = preprocessing
        self.calibration = calibration
        self.model_id = model_id
        self._cameras = {name: index for index, name in enumerate(cameras)}
        self.dimension = model.config.dimension

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        """Embed tracklets; see ``Extractor``.

        Raises:
            ValueError: When the arguments are not equally many, or a clip cannot be used; it names the clip.
        """
        if len(clips) != len(modalities):
            raise ValueError(f"clips and modalities must be equally many, got {len(clips)} and {len(modalities)}")
        prepared = [
            self._prepare(number, clip, modality)
            for number, (clip, modality) in enumerate(zip(clips, modalities, strict=True))
        ]
        self._say_short(clips)
        return self.embed_prepared(prepared, modalities)

    def embed_prepared(
        self,
        clips: Sequence[NDArray[np.uint8]],
        modalities: Sequence[Modality],
        *,
        cameras: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """Embed clips that ``prepare_clip`` made, all their frames: (T, H, W, 3) each, T at least 1; returns (n, d).

        Args:
            clips: Prepared.
            modalities: One a clip.
            cameras: Their names, one a clip; a model with camera vectors gives a trained camera its own, as the
                released code does in its tests. None, and names that were not trained, are strangers.
        """
        return self._all(clips, modalities, cameras, unit_length=True)

    def features_prepared(
        self,
        clips: Sequence[NDArray[np.uint8]],
        modalities: Sequence[Modality],
        *,
        cameras: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """As ``embed_prepared``, before the length is made 1: what is averaged over several clips of a tracklet."""
        return self._all(clips, modalities, cameras, unit_length=False)

    def _all(
        self,
        clips: Sequence[NDArray[np.uint8]],
        modalities: Sequence[Modality],
        cameras: Sequence[str] | None,
        *,
        unit_length: bool,
    ) -> NDArray[np.float32]:
        empty = [number for number, clip in enumerate(clips) if not len(clip)]
        if empty:
            raise ValueError(f"clip {empty[0]}: a clip must have at least one crop, got none")
        indices = [self._cameras.get(name, UNKNOWN) for name in cameras or [""] * len(clips)]
        rows = [
            self._run(
                [clips[number] for number in batch],
                [modalities[number] for number in batch],
                [indices[number] for number in batch],
                unit_length,
            )
            for batch in self._batches(clips)
        ]
        return np.concatenate([np.zeros((0, self.dimension), np.float32), *rows])

    def _say_short(self, clips: Sequence[Sequence[Image]]) -> None:
        wanted = self.preprocessing.frames
        short = sum(len(clip) < wanted for clip in clips)
        if short:
            rule = "last crop repeated" if self.preprocessing.sampling == "chunk_first" else "not filled up"
            _LOG.debug("%d of %d tracklets have fewer than %d crops: %s", short, len(clips), wanted, rule)

    def _prepare(self, number: int, clip: Sequence[Image], modality: Modality) -> NDArray[np.uint8]:
        frames, sampling = self.preprocessing.frames, self.preprocessing.sampling
        positions = sample_frames(len(clip), frames, sampling=sampling).tolist() if clip else []
        try:
            return prepare_clip([clip[position] for position in positions], modality, self.preprocessing)
        except ValueError as error:
            raise ValueError(f"clip {number}: {error}") from error

    def _batches(self, clips: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
        """Numbers of the clips to compute together, in order."""
        batches: list[list[int]] = []
        frames = self.batch_frames
        for number, clip in enumerate(clips):
            if not batches or frames + len(clip) > self.batch_frames:
                batches.append([])
                frames = 0
            batches[-1].append(number)
            frames += len(clip)
        return batches

    def _filling(self, frames: int) -> int:
        """Frames that a batch is filled up with, as one more clip whose embedding nobody reads.

        oneDNN keeps, for every number of images that it has met, convolutions made for it; a program takes more memory
        for as long as it meets new ones. A few numbers are enough (docs/experiments.md, "pairs and soak").
        """
        if self._device.type != "cpu":
            return 0
        return next((size - frames for size in _BATCH_SIZES if size >= frames), 0)

    @torch.inference_mode()
    def _run(
        self,
        clips: Sequence[NDArray[np.uint8]],
        modalities: Sequence[Modality],
        cameras: Sequence[int],
        unit_length: bool,
    ) -> NDArray[np.float32]:
        count = len(clips)
        if more := self._filling(sum(map(len, clips))):
            clips = [*clips, np.zeros((more, *clips[0].shape[1:]), np.uint8)]
            modalities, cameras = [*modalities, modalities[0]], [*cameras, UNKNOWN]
        return self._rows(clips, modalities, cameras, unit_length)[:count]

    def _rows(
        self,
        clips: Sequence[NDArray[np.uint8]],
        modalities: Sequence[Modality],
        cameras: Sequence[int],
        unit_length: bool,
    ) -> NDArray[np.float32]:
        frames = torch.from_numpy(np.concatenate(clips)).to(self._device)
        lengths = torch.tensor([len(clip) for clip in clips], device=self._device)
        kinds = torch.tensor([MODALITIES.index(modality) for modality in modalities], device=self._device)
        known = torch.tensor(cameras, device=self._device) if self._cameras else None
        images = to_input(frames, self.preprocessing).to(self._dtype)
        if unit_length:
            return self.model.embed(images, lengths, kinds, known).cpu().numpy()
        features: Tensor = self.model.concatenated(images, lengths, kinds, known)
        if self.model.config.centre_modalities:
            features = features - self.model.centres[kinds]
        return features.cpu().numpy()
