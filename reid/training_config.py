"""The configuration of a training: one YAML, strictly read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reid.losses.total import LossConfig
from reid.models.encoder import EncoderConfig
from reid.models.xreid import XReIDConfig
from reid.transforms import Augmentation, Preprocessing


class ConfigError(ValueError):
    """A training configuration that cannot be used."""


class BatchConfig(BaseModel):
    """P identities times K clips in each modality, times T frames.

    Attributes:
        identities: P.
        clips: K.
        frames: T.
        still_epochs: In the first epochs each clip is one frame, and there are T times as many identities: the same
            work, but more persons to tell apart while the encoder learns to see. 0 in the paper.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    identities: int = Field(default=4, ge=2)
    clips: int = Field(default=2, ge=1)
    frames: int = Field(default=10, ge=1)
    still_epochs: int = Field(default=0, ge=0)


class OptimiserConfig(BaseModel):
    """The optimiser and the course of its learning rate.

    Attributes:
        name: Adam or AdamW.
        lr: Greatest learning rate of the encoder.
        head_factor: SII, LII, CII and the classifiers learn at this multiple of it.
        bias_factor: And biases at this multiple of that.
        weight_decay: Of matrices; biases, norms and embeddings have none.
        warmup_epochs: The rate rises linearly over these, from ``warmup_start`` of it.
        warmup_start: Share of the rate to begin with.
        schedule: ``step`` multiplies by 0.1 at each milestone; ``cosine`` falls to 1 % at the end.
        milestones: Epochs, for ``step``.
        clip_norm: Greatest norm of the gradient; None does not limit it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(default=5e-6, gt=0)
    head_factor: float = Field(default=1.0, gt=0)
    bias_factor: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_epochs: float = Field(default=10, ge=0)
    warmup_start: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (30, 50)
    clip_norm: float | None = Field(default=None, gt=0)


class TrainConfig(BaseModel):
    """One training, complete.

    Attributes:
        name: Of the model.
        model: Its shape.
        preprocessing: Of crops.
        augmentation: Of training clips.
        augmentation_ramp_epochs: Its strength grows linearly over these; 0 gives all of it from the first step. From
            random weights the plain images are learnt in a fraction of the steps that varied ones take.
        loss: The objective.
        memories: Fill them ``once``, with the encoder as it was loaded (the paper), or before ``every_epoch``, with
            the encoder as it is (the released code).
        batch: Its composition.
        optimiser: And its schedule.
        epochs: Of ``iterations`` steps each.
        iterations: Steps an epoch.
        seed: Of weights, sampling and augmentation.
        precision: ``bf16`` computes the network under autocast; losses and weights stay float32.
        threads: For PyTorch on a CPU; None leaves its own choice.
        pretrained: CLIP weights to begin with: a file, or a tag of open_clip for ``architecture``; None: from nothing.
        initial: A checkpoint of X-ReID of the same shape, or the name of embedded weights, to go on from (to fine-tune
            on a site's own cameras, say); classifiers and memories begin anew.
        architecture: open_clip's name of the vision tower, or ``xreid-tiny``: gives ``model.encoder`` each size that it
            does not name itself, and is what ``pretrained`` is downloaded for.
        training_data: Note for the checkpoint.
        licence: Note for the checkpoint.
        half_on_disk: Keep the weights as float16 in the file.
        validate_every: Epochs between two looks at the validation split; the last epoch always gets one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    model: XReIDConfig
    preprocessing: Preprocessing = Preprocessing()
    augmentation: Augmentation = Augmentation()
    augmentation_ramp_epochs: int = Field(default=0, ge=0)
    loss: LossConfig = LossConfig()
    memories: Literal["once", "every_epoch"] = "once"
    batch: BatchConfig = BatchConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    epochs: int = Field(default=60, ge=1)
    iterations: int = Field(default=300, ge=1)
    seed: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    pretrained: str | None = None
    architecture: str | None = None
    initial: str | None = None
    training_data: str
    licence: str
    half_on_disk: bool = False
    validate_every: int = Field(default=5, ge=1)


def read_config(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML configuration and apply changes such as ``optimiser.lr=1e-4``.

    Raises:
        ConfigError: When the file or a change cannot be read, or a value is not allowed, with its place.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping, got {type(data).__name__}")
    return config_of(data, changes, where=str(path))


def config_of(data: dict[str, Any], changes: Sequence[str] = (), *, where: str) -> TrainConfig:
    """Check plain data, with changes such as ``optimiser.lr=1e-4`` applied to it.

    Raises:
        ConfigError: When a value is not allowed, with its place.
    """
    for change in changes:
        key, found, value = change.partition("=")
        if not found:
            raise ConfigError(f"--set {change}: must be key=value")
        _assign(data, key.split("."), yaml.safe_load(value), change)
    data = _with_sizes(data, where)
    try:
        # Through JSON, so that YAML's lists may stand for tuples and nothing else is bent.
        return TrainConfig.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{where}: {problems}") from error


def _with_sizes(data: dict[str, Any], where: str) -> dict[str, Any]:
    """The sizes of the named architecture under those that the encoder names itself."""
    name, model = data.get("architecture"), data.get("model")
    if not isinstance(name, str) or not isinstance(model, dict) or not isinstance(model.get("encoder", {}), dict):
        return data
    try:
        sizes = EncoderConfig.of_architecture(name).model_dump(mode="json")
    except ValueError as error:
        raise ConfigError(f"{where}: architecture: {error}") from error
    return {**data, "model": {**model, "encoder": {**sizes, **model.get("encoder", {})}}}


def _assign(data: dict[str, Any], keys: list[str], value: object, change: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {change}: {key} is not a section")
    data[keys[-1]] = value
