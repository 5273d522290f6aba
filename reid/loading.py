"""From the disk to the network: clips of a split, and the batches of a training, each a function of its number."""

import hashlib
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Generic, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid.datasets.crops import Crops
from reid.datasets.split import DatasetError, TrackletSplit
from reid.evaluate import Clipped, CropFiles
from reid.losses.total import Labels
from reid.models.xreid import MODALITIES
from reid.samplers import IdentityModalitySampler
from reid.training_config import ConfigError, LoaderConfig, TrainConfig
from reid.transforms import Preprocessing

K = TypeVar("K")
T = TypeVar("T")


def open_clips(split: TrackletSplit, preprocessing: Preprocessing, loader: LoaderConfig, *, cache: Path) -> Clipped:
    """The clips of a split, from where the configuration says.

    Args:
        split: Which tracklets.
        preprocessing: Of their crops.
        loader: Where from.
        cache: The folder for packed files where ``loader`` names none.
    """
    if loader.source == "files":
        return CropFiles(split, preprocessing)
    packed = Path(loader.cache) if loader.cache else cache
    return Crops.load(split, preprocessing, cache=packed if loader.source == "packed" else None)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Clips as they lie in memory, with what the network and the objective must know of them.

    Attributes:
        pixels: (sum of lengths, H, W, 3) uint8.
        lengths: (B,) int64.
        identities: (B,) int64, 0 to Y - 1.
        modalities: (B,) int64, 0 to M - 1, counted among those of the data.
        kinds: (B,) int64, positions in the model's ``MODALITIES``.
        cameras: (B,) int64.
        numbers: (B,) int64, of the clips in the batch of all processes.
    """

    pixels: Tensor
    lengths: Tensor
    identities: Tensor
    modalities: Tensor
    kinds: Tensor
    cameras: Tensor
    numbers: Tensor

    @property
    def labels(self) -> Labels:
        """For the objective."""
        return Labels(self.identities, self.modalities)

    def to(self, device: torch.device) -> Self:
        """On a device."""
        return type(self)(*(getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)))

    def pin_memory(self) -> Self:
        """In memory that a GPU can fetch from while the CPU goes on."""
        return type(self)(*(getattr(self, each.name).pin_memory() for each in fields(self)))


class TrainingData:
    """The training split, and its batches by the number of the step.

    Args:
        split: Who is who.
        clips: Their crops.
        config: Of the training.
        attributes: (Y, A) int64, see ``reid.datasets.attributes``, or None where no loss needs them.
        rank: Of this process, which takes its share of each batch's identities.
        world: Of all processes.

    Raises:
        ConfigError: When the identities of a batch do not divide among the processes.
        DatasetError: When there are not as many in the split.
    """

    def __init__(
        self,
        split: TrackletSplit,
        clips: Clipped,
        config: TrainConfig,
        *,
        attributes: NDArray[np.int64] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.split, self.clips, self.config, self.attributes = split, clips, config, attributes
        self._rank, self._world = rank, world
        self.pids = np.unique(split.pids)
        self._identity_of = np.searchsorted(self.pids, split.pids).astype(np.int64)
        index = {modality: number for number, modality in enumerate(split.modality_set)}
        self._modality_of = np.array([index[modality] for modality in split.modalities], np.int64)
        self._kind_of = np.array([MODALITIES.index(modality) for modality in split.modalities], np.int64)
        batch = config.batch
        if batch.identities % (world * batch.accumulate):
            raise ConfigError(
                f"batch.identities, {batch.identities}, must be a multiple of the {world} processes "
                f"times batch.accumulate, {batch.accumulate}"
            )
        self._sampler = self._draw(batch.identities, "clips")
        self._still = self._draw(batch.identities * batch.frames, "still") if batch.still_epochs else self._sampler

    def _draw(self, identities: int, purpose: str) -> IdentityModalitySampler:
        clips, seed = self.config.batch.clips, self._seed(purpose)
        try:
            return IdentityModalitySampler(self.split, identities=identities, clips=clips, seed=seed)
        except ValueError as error:
            raise DatasetError(f"the training split cannot be drawn from: {error}") from error

    def _seed(self, purpose: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.config.seed} {purpose}".encode()).digest()[:8], "big")

    def parts(self, step: int) -> list[Batch]:
        """This process's share of a step's batch, in as many parts as are accumulated."""
        config = self.config.batch
        still_steps = config.still_epochs * self.config.iterations
        is_still = step < still_steps
        rows = self._still.batch(step) if is_still else self._sampler.batch(step - still_steps)
        frames = 1 if is_still else config.frames
        modalities = len(self.split.modality_set)
        blocks = self._world * config.accumulate
        numbers = np.arange(len(rows)).reshape(modalities, blocks, -1)
        mine = range(self._rank * config.accumulate, (self._rank + 1) * config.accumulate)
        return [self._batch(rows, numbers[:, block].ravel(), frames, ("frames", step)) for block in mine]

    def tracklets(self, rows: NDArray[np.int64], *, frames: int, purpose: tuple[str, int]) -> Batch:
        """One clip of each of these tracklets; the same purpose draws the same frames."""
        every = np.arange(len(self.split), dtype=np.int64)
        return self._batch(every, rows, frames, purpose)

    def labels(self) -> Labels:
        """Of all tracklets."""
        return Labels(torch.from_numpy(self._identity_of), torch.from_numpy(self._modality_of))

    def cameras(self) -> tuple[Tensor, Tensor]:
        """Camera and kind of each tracklet."""
        return torch.from_numpy(self.split.camids), torch.from_numpy(self._kind_of)

    def _batch(
        self, rows: NDArray[np.int64], numbers: NDArray[np.int64], frames: int, purpose: tuple[str, int]
    ) -> Batch:
        chosen = rows[numbers]
        seed = self._seed(purpose[0])
        clips = [
            self.clips.clip(
                row, _one_of_each_stretch(self.clips.length(row), frames, np.random.default_rng([seed, purpose[1], n]))
            )
            for row, n in zip(chosen.tolist(), numbers.tolist(), strict=True)
        ]
        return Batch(
            pixels=torch.from_numpy(np.concatenate(clips)),
            lengths=torch.tensor([len(clip) for clip in clips]),
            identities=torch.from_numpy(self._identity_of[chosen]),
            modalities=torch.from_numpy(self._modality_of[chosen]),
            kinds=torch.from_numpy(self._kind_of[chosen]),
            cameras=torch.from_numpy(self.split.camids[chosen]),
            numbers=torch.from_numpy(numbers),
        )


def _one_of_each_stretch(count: int, frames: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """One random crop of each of T equal stretches of the tracklet, repeated where it has fewer than T crops."""
    edges = np.arange(frames + 1) * count / frames
    return np.minimum(generator.uniform(edges[:-1], edges[1:]).astype(np.int64), count - 1)


class _Made(Dataset[T], Generic[K, T]):
    """What a function makes of each of the things it is given."""

    def __init__(self, make: Callable[[K], T]) -> None:
        self._make = make

    def __getitem__(self, given: K) -> T:
        return self._make(given)


def ahead(make: Callable[[K], T], given: Iterable[K], loader: LoaderConfig, *, pin: bool = False) -> Iterator[T]:
    """``make`` of each of the things given, in their order, made ahead of time by the loader's processes.

    Args:
        make: Makes one. With processes it must be picklable, and so must what it is given: they are spawned.
        given: What to make them of, such as numbers of steps.
        loader: How many processes, and how far ahead.
        pin: Put the tensors where a GPU can fetch them.
    """
    return iter(
        DataLoader(
            _Made(make),
            sampler=given,
            batch_size=None,
            num_workers=loader.workers,
            # Forked workers can wait for ever for a lock that a thread of OpenCV or OpenMP held.
            multiprocessing_context="spawn" if loader.workers else None,
            prefetch_factor=loader.prefetch if loader.workers else None,
            worker_init_fn=_as_worker,
            pin_memory=pin,
        )
    )


def _as_worker(_: int) -> None:
    """Ctrl-C goes to all processes of a terminal; the training process decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
