"""Crops to network input, identically in training and inference, and the augmentation of training.

An image is RGB uint8 (h, w, 3), or mono uint8 or uint16 (h, w), of any size. ``prepare_clip`` is the door: behind it a
clip is uint8 (T, H, W, 3), whatever the camera. Mono images are replicated to three channels; thermal ones, and others
of 16 bits, are first stretched by percentiles of the whole clip, because their counts mean different temperatures on
different cameras and at different hours.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from reid.modality import Modality

Positions: TypeAlias = NDArray[np.int64]
Share = Annotated[float, Field(gt=0, le=1)]
Image: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

MIN_SIDE = 4
IMAGENET_MEAN = (0.485, 0.456, 0.406)
_ASPECT = (0.3, 3.3)  # of an erased rectangle, height over width
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """How crops become network input; travels with the weights.

    Attributes:
        size_hw: Height and width that crops are resized to, aspect ratio not kept.
        mean: Of the channels, in [0, 1].
        std: Of the channels.
        thermal_percentiles: Of a clip's counts, mapped to 0 and 255.
        nir_percentiles: The same for near-infrared, whose brightness falls with the square of the distance to the lamp;
            None leaves 8-bit images as they are.
        grey: Look at RGB as grey too. Colour tells people apart in RGB only, and a network that sees the colours of a
            thousand people learns them by heart in place of what the modalities share; the price is paid between RGB
            cameras.
        frames: T, views taken of a tracklet at inference.
        sampling: Which they are, see ``sample_frames``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_hw: tuple[int, int] = (288, 144)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    thermal_percentiles: tuple[float, float] = (1.0, 99.0)
    nir_percentiles: tuple[float, float] | None = None
    grey: bool = False
    frames: int = Field(default=10, ge=1)
    sampling: Literal["uniform", "chunk_first"] = "uniform"


def sample_frames(count: int, frames: int, *, sampling: Literal["uniform", "chunk_first"] = "uniform") -> Positions:
    """Positions of the frames that stand for a tracklet.

    Args:
        count: n, frames of the tracklet, at least 1.
        frames: T.
        sampling: ``uniform`` takes floor(i n / T), and all n when there are fewer than T; ``chunk_first`` the first of
            each of T chunks of ceil(n / T), the last frame standing in beyond the end (MITML, M3-ReID and the released
            code). For n = 24 and T = 10 that gives 23 twice; a tracklet shorter than T repeats its last frame.

    Returns:
        (min(n, T),) int64, or (T,) for ``chunk_first``.
    """
    if sampling == "chunk_first":
        return np.minimum(np.arange(frames, dtype=np.int64) * -(-count // frames), count - 1)
    wanted = min(count, frames)
    return np.arange(wanted, dtype=np.int64) * count // wanted


def prepare_clip(crops: Sequence[Image], modality: Modality, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Bring the crops of one tracklet to one size and to three 8-bit channels.

    Args:
        crops: At least one image; all of one kind.
        modality: What the camera measures.
        preprocessing: Size and percentiles.

    Returns:
        (T, H, W, 3).

    Raises:
        ValueError: When a crop is not an image as described above, or a side is shorter than 4 pixels.
    """
    if not crops:
        raise ValueError("a clip must have at least one crop, got none")
    for position, crop in enumerate(crops):
        _check_crop(crop, position, modality)
    if modality is not Modality.RGB:
        crops = [crop if crop.ndim == 2 else crop.mean(axis=2).round().astype(np.uint8) for crop in crops]
    percentiles = preprocessing.nir_percentiles if modality is Modality.NIR else preprocessing.thermal_percentiles
    if modality is not Modality.RGB and (percentiles or any(crop.dtype == np.uint16 for crop in crops)):
        crops = _stretch(crops, percentiles or preprocessing.thermal_percentiles)
    return np.stack([_resize(crop, preprocessing.size_hw) for crop in crops])


def _check_crop(crop: Image, position: int, modality: Modality) -> None:
    is_rgb = crop.ndim == 3 and crop.shape[2] == 3 and crop.dtype == np.uint8
    is_mono = crop.ndim == 2 and crop.dtype in (np.uint8, np.uint16)
    if modality.is_visible and not is_rgb:
        raise ValueError(f"crop {position}: an rgb crop must be uint8 (h, w, 3), got {crop.dtype} {crop.shape}")
    if not (is_rgb or is_mono):
        raise ValueError(
            f"crop {position}: a {modality.value} crop must be uint8 or uint16 (h, w), or uint8 (h, w, 3), "
            f"got {crop.dtype} {crop.shape}"
        )
    if min(crop.shape[:2]) < MIN_SIDE:
        height, width = crop.shape[:2]
        raise ValueError(f"crop {position}: must be at least {MIN_SIDE} x {MIN_SIDE} pixels, got {width} x {height}")


def _stretch(crops: Sequence[Image], percentiles: tuple[float, float]) -> list[NDArray[np.uint8]]:
    """Map the percentiles of all the clip's pixels together to 0 and 255."""
    values = np.concatenate([crop.reshape(-1)[:: max(1, crop.size // 4096)] for crop in crops])
    low, high = np.percentile(values, percentiles)
    scale = 255.0 / max(float(high - low), 1.0)
    return [np.clip((crop.astype(np.float32) - low) * scale + 0.5, 0, 255).astype(np.uint8) for crop in crops]


def _resize(crop: Image, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size_hw
    shrinks = crop.shape[0] > height and crop.shape[1] > width
    resized = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized if resized.ndim == 3 else np.repeat(resized[..., None], 3, axis=2), np.uint8)


def to_input(clips: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalise.

    Args:
        clips: (n, H, W, 3) uint8, or (n, 3, H, W) float in [0, 1].
        preprocessing: Mean and standard deviation.

    Returns:
        (n, 3, H, W) float32.
    """
    if clips.dtype == torch.uint8:
        clips = clips.permute(0, 3, 1, 2).float() / 255
    if preprocessing.grey:
        weights = torch.tensor(LUMINANCE, device=clips.device)[:, None, None]
        clips = (clips * weights).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    mean = torch.tensor(preprocessing.mean, device=clips.device)[:, None, None]
    std = torch.tensor(preprocessing.std, device=clips.device)[:, None, None]
    return (clips - mean) / std


class Augmentation(BaseModel):
    """How training clips are varied; a change is drawn once a clip, so that its frames stay consistent.

    Attributes:
        flip: Probability of a mirror image.
        zoom: Scale of the view is drawn from 1 ± this, log-uniform; above 1 the box is looser.
        shift: The view moves by up to this share of its size, each way.
        stretch: The aspect ratio changes by a factor of up to 1 + this, either way.
        frame_jitter: Share of a size by which single frames move on top, as boxes of a detector do.
        gain: Contrast and brightness change by a factor of up to 1 + this, either way, all modalities.
        gamma: Mid-tones are lifted or lowered as by an exponent of 1 / (1 + this) to 1 + this, all modalities.
        colour: Each channel of RGB changes by a factor of up to 1 + this, either way.
        grey: Probability that an RGB clip becomes grey, by random weights of its channels.
        blur: Probability of a blur of a random width.
        coarse: Probability of a loss of resolution, as of a distant person or a low bit rate.
        noise: Greatest standard deviation of added noise, in [0, 1].
        erase: Probability that a rectangle of the clip is filled.
        erase_area: Least and greatest share of the image that the rectangle covers; its height over its width is drawn
            from 0.3 to 3.3, as far as it fits, and it is filled with one colour (random erasing, Zhong et al., with the
            ranges of the released code). None: sides of 15 to 50 % of the image's, filled with a level and noise.
        occlude: Probability that a rectangle is filled from another clip of the same modality: a neighbour who stands
            in the way.
        synchronised: Erasing too is drawn once a clip (M3-ReID). If not, each frame has its own rectangle or none, as
            in the released code of X-ReID, which draws the mirror image once a clip.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: float = Field(default=0.5, ge=0, le=1)
    zoom: float = Field(default=0.12, ge=0)
    shift: float = Field(default=0.06, ge=0)
    stretch: float = Field(default=0.1, ge=0)
    frame_jitter: float = Field(default=0.02, ge=0)
    gain: float = Field(default=0.3, ge=0)
    gamma: float = Field(default=0.3, ge=0)
    colour: float = Field(default=0.15, ge=0)
    grey: float = Field(default=0.1, ge=0, le=1)
    blur: float = Field(default=0.3, ge=0, le=1)
    coarse: float = Field(default=0.3, ge=0, le=1)
    noise: float = Field(default=0.04, ge=0)
    erase: float = Field(default=0.3, ge=0, le=1)
    erase_area: tuple[Share, Share] | None = None
    occlude: float = Field(default=0.15, ge=0, le=1)
    synchronised: bool = True

    def weakened(self, strength: float) -> "Augmentation":
        """Every amount and probability but that of the mirror image times ``strength``, in [0, 1]."""
        amounts = self.model_dump(exclude={"flip", "synchronised", "erase_area"})
        return self.model_copy(update={name: strength * amount for name, amount in amounts.items()})


class _Dice:
    """Random numbers drawn once a clip and given to each of its frames; a clip's are its own, whoever shares its batch.

    Args:
        seeds: Of each clip.
        lengths: (n,) int64, on the CPU.
        device: Of the frames.
    """

    def __init__(self, seeds: Sequence[tuple[int, ...]], lengths: Tensor, device: torch.device) -> None:
        self._seeds = seeds
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._lengths = lengths.tolist()
        self.clips, self.device = len(seeds), device
        self.clip = torch.repeat_interleave(torch.arange(len(lengths)), lengths)

    def of_each_frame(self) -> "_Dice":
        """Other numbers, drawn once a frame."""
        seeds = [
            (*seed, frame) for seed, length in zip(self._seeds, self._lengths, strict=True) for frame in range(length)
        ]
        return _Dice(seeds, torch.ones(len(seeds), dtype=torch.int64), self.device)

    def uniform(self, low: float, high: float) -> Tensor:
        """(n,), equal within a clip."""
        return self.of_clips(low, high)[self.clip].to(self.device)

    def of_clips(self, low: float, high: float) -> Tensor:
        """(clips,), on the CPU."""
        drawn = np.array([generator.random() for generator in self._generators])
        return torch.from_numpy(low + (high - low) * drawn).float()

    def factor(self, amount: float) -> Tensor:
        """(n,), log-uniform from 1 / (1 + amount) to 1 + amount."""
        limit = float(np.log1p(amount))
        return self.uniform(-limit, limit).exp()

    def happens(self, probability: float) -> Tensor:
        """(n,) bool."""
        return self.uniform(0, 1) < probability

    def clips_where(self, probability: float) -> list[int]:
        """The clips to which it happens."""
        return torch.nonzero(self.of_clips(0, 1) < probability)[:, 0].tolist()

    def rows_of(self, clips: Sequence[int]) -> Tensor:
        """The frames of these clips, which must be in order."""
        return torch.nonzero(torch.isin(self.clip, torch.tensor(clips, dtype=torch.int64)))[:, 0].to(self.device)

    def of_frames(self, count: int) -> Tensor:
        """(count, n) in [0, 1), each frame its own."""
        drawn = [
            generator.random((count, length)) for generator, length in zip(self._generators, self._lengths, strict=True)
        ]
        return torch.from_numpy(np.concatenate(drawn, axis=1)).float().to(self.device)

    def texture(self, clips: Sequence[int], size_hw: Sequence[int]) -> Tensor:
        """(n, 1, H, W) in [0, 1), each pixel of the frames of these clips its own, drawn where the frames are."""
        each = [self._grain(self._generators[clip], (self._lengths[clip], 1, *size_hw)) for clip in clips]
        return torch.cat([torch.empty(0, 1, *size_hw, device=self.device), *each])

    def _grain(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
        if self.device.type == "cpu":
            return torch.from_numpy(generator.random(shape, dtype=np.float32))
        there = torch.Generator(self.device).manual_seed(int(generator.integers(2**62)))
        return torch.rand(shape, generator=there, device=self.device)


def augment(
    frames: Tensor,
    lengths: Tensor,
    modalities: Sequence[Modality],
    augmentation: Augmentation,
    seed: int,
    *,
    numbers: Sequence[int] | None = None,
) -> Tensor:
    """Vary a batch of clips.

    How a clip is varied depends on the seed and its number in the batch only; so the processes of a distributed run,
    or parts of an accumulated batch, vary their clips as one process would. Only what covers a clip by ``occlude``
    comes from the clips at hand.

    Args:
        frames: (sum of lengths, 3, H, W) float in [0, 1]; the channels of all but RGB clips are equal.
        lengths: (B,) int64.
        modalities: (B,).
        augmentation: How strongly.
        seed: The same seed gives the same result; not negative.
        numbers: Of the clips, where these are a part of a batch; None: 0 to B - 1.

    Returns:
        As ``frames``, in [0, 1]; the input is not written to.
    """
    lengths = lengths.cpu()
    of_batch = list(range(len(lengths))) if numbers is None else list(numbers)
    clip = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    visible = torch.tensor([modality.is_visible for modality in modalities])
    varied = torch.empty_like(frames)
    # One channel is enough for the clips that have but one, and a third of the work.
    for chosen, channels in ((visible, 3), (~visible, 1)):
        rows = torch.nonzero(chosen[clip])[:, 0].to(frames.device)
        if len(rows):
            clips = torch.nonzero(chosen)[:, 0].tolist()
            dice = _Dice([(seed, of_batch[c]) for c in clips], lengths[chosen], frames.device)
            varied[rows] = _vary(frames[rows, :channels], [modalities[c] for c in clips], augmentation, dice)
    return varied


def _vary(frames: Tensor, modalities: Sequence[Modality], augmentation: Augmentation, dice: _Dice) -> Tensor:
    """All changes, one after another; later ones write into the result of the first."""
    frames = _move(frames, augmentation, dice)
    frames = _relight(frames, augmentation, dice)
    _degrade(frames, augmentation, dice)
    _cover(frames, modalities, augmentation, dice)
    return frames.clamp_(0, 1)


def _move(frames: Tensor, augmentation: Augmentation, dice: _Dice) -> Tensor:
    """Flip, zoom, stretch and shift, in one resampling; what comes in from outside repeats the border."""
    stretch = dice.factor(augmentation.stretch)
    zoom = dice.factor(augmentation.zoom)
    mirror = torch.where(dice.happens(augmentation.flip), -1.0, 1.0)
    jitter = (dice.of_frames(2) * 2 - 1) * augmentation.frame_jitter * 2
    theta = torch.zeros(len(frames), 2, 3, device=frames.device)
    theta[:, 0, 0] = mirror * zoom * stretch
    theta[:, 1, 1] = zoom / stretch
    theta[:, 0, 2] = dice.uniform(-2 * augmentation.shift, 2 * augmentation.shift) + jitter[0]
    theta[:, 1, 2] = dice.uniform(-2 * augmentation.shift, 2 * augmentation.shift) + jitter[1]
    grid = functional.affine_grid(theta, list(frames.shape), align_corners=False)
    return functional.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def _relight(frames: Tensor, augmentation: Augmentation, dice: _Dice) -> Tensor:
    """Mid-tones, contrast and brightness for all; colour and grey for RGB."""
    # x + b x (1 - x) meets x ** gamma at 0, 1/2 and 1, and costs a fraction of it.
    bend = 4 * (0.5 ** dice.factor(augmentation.gamma) - 0.5)
    frames = frames + _per_frame(bend) * frames * (1 - frames)
    gain = dice.factor(augmentation.gain)
    offset = 0.5 - 0.5 * gain + dice.uniform(-augmentation.gain / 3, augmentation.gain / 3)
    if frames.shape[1] == 1:
        return frames.mul_(_per_frame(gain)).add_(_per_frame(offset))
    tint = torch.stack([dice.factor(augmentation.colour) for _ in range(3)], dim=1)[..., None, None]
    frames = (frames * _per_frame(gain) + _per_frame(offset)) * tint
    weights = torch.stack([dice.uniform(0.05, 1) for _ in range(3)], dim=1)
    weights = weights / weights.sum(dim=1, keepdim=True)
    rows = torch.nonzero(dice.happens(augmentation.grey))[:, 0]
    frames[rows] = (frames[rows] * weights[rows][..., None, None]).sum(dim=1, keepdim=True)
    return frames


def _degrade(frames: Tensor, augmentation: Augmentation, dice: _Dice) -> None:
    """Blur, loss of resolution and noise."""
    share = dice.uniform(0.3, 1)
    rows = torch.nonzero(dice.happens(augmentation.blur))[:, 0]
    if len(rows):
        blurred = functional.avg_pool2d(functional.pad(frames[rows], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        frames[rows] = torch.lerp(frames[rows], blurred, _per_frame(share[rows]))
    rows = torch.nonzero(dice.happens(augmentation.coarse))[:, 0]
    if len(rows):
        small = functional.avg_pool2d(frames[rows], 2)
        frames[rows] = functional.interpolate(small, size=frames.shape[2:], mode="bilinear")
    if augmentation.noise:
        noise = dice.texture(range(dice.clips), frames.shape[2:]) - 0.5
        # A uniform deviate has a standard deviation of 1 / √12.
        frames += noise * _per_frame(dice.uniform(0, augmentation.noise) * 12**0.5)


def _cover(frames: Tensor, modalities: Sequence[Modality], augmentation: Augmentation, dice: _Dice) -> None:
    """Fill a rectangle with noise, or with what another clip of the same modality shows there."""
    own = dice if augmentation.synchronised else dice.of_each_frame()
    erased = own.clips_where(augmentation.erase)
    rows = own.rows_of(erased)
    inside = _erased(frames, own, augmentation.erase_area)[rows]
    level = torch.stack([own.uniform(0, 1) for _ in range(frames.shape[1])], dim=1)[rows]
    filling = level[..., None, None]
    if augmentation.erase_area is None:
        filling = filling + 0.3 * own.texture(erased, frames.shape[2:]) - 0.15
    frames[rows] = torch.where(inside, filling, frames[rows])
    other = _another_clip(modalities, dice)
    sizes = torch.bincount(dice.clip, minlength=dice.clips)
    first = torch.cumsum(sizes, 0) - sizes
    rows = torch.nonzero(dice.happens(augmentation.occlude))[:, 0]
    neighbour = frames[first[other[dice.clip]].to(frames.device)[rows]]
    frames[rows] = torch.where(_side(frames, dice)[rows], neighbour, frames[rows])


def _erased(frames: Tensor, dice: _Dice, area: tuple[float, float] | None) -> Tensor:
    """(n, 1, H, W) bool: the rectangles of ``Augmentation.erase_area``, anywhere in the image."""
    if area is None:
        return _rectangle(frames, dice, (dice.uniform(0.15, 0.5), dice.uniform(0.15, 0.5)))
    height, width = frames.shape[2:]
    pixels = dice.uniform(*area) * height * width
    low, high = (pixels / width**2).clamp(min=_ASPECT[0]), (height**2 / pixels).clamp(max=_ASPECT[1])
    aspect = low + dice.uniform(0, 1) * (high - low)
    return _rectangle(frames, dice, ((pixels * aspect).sqrt() / height, (pixels / aspect).sqrt() / width))


def _rectangle(frames: Tensor, dice: _Dice, lengths: tuple[Tensor, Tensor]) -> Tensor:
    """(n, 1, H, W) bool: sides of these shares of the image's, (n,) each, anywhere in it."""
    inside = []
    for size, length in zip(frames.shape[2:], lengths, strict=True):
        start = dice.uniform(0, 1) * (1 - length)
        position = (torch.arange(size, device=frames.device) + 0.5) / size
        inside.append((position >= start[:, None]) & (position < (start + length)[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def _side(frames: Tensor, dice: _Dice) -> Tensor:
    """(n, 1, H, W) bool: a stretch at the left or right border, from some height down to the feet."""
    height, width = frames.shape[2:]
    column = (torch.arange(width, device=frames.device) + 0.5) / width
    column = torch.where(dice.happens(0.5)[:, None], column, 1 - column)
    row = (torch.arange(height, device=frames.device) + 0.5) / height
    inside_x = column < dice.uniform(0.15, 0.45)[:, None]
    inside_y = row > dice.uniform(0, 0.4)[:, None]
    return (inside_y[:, :, None] & inside_x[:, None, :])[:, None]


def _another_clip(modalities: Sequence[Modality], dice: _Dice) -> Tensor:
    """(B,) int64: for each clip another of its modality, itself when it is the only one."""
    drawn = dice.of_clips(0, 1).tolist()
    other = torch.arange(dice.clips)
    for modality in set(modalities):
        own = [position for position, kind in enumerate(modalities) if kind is modality]
        for place, position in enumerate(own):
            further = 1 + int(drawn[position] * (len(own) - 1)) if len(own) > 1 else 0
            other[position] = own[(place + further) % len(own)]
    return other


def _per_frame(values: Tensor) -> Tensor:
    """(n,) to (n, 1, 1, 1)."""
    return values[:, None, None, None]
