"""The configuration of a training: one YAML, strictly read."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reid.datasets.split import DatasetError
from reid.datasets.text import read_text
from reid.losses.total import LossConfig
from reid.models.encoder import EncoderConfig
from reid.models.xreid import XReIDConfig, check_size
from reid.transforms import Augmentation, Preprocessing


class ConfigError(ValueError):
    """A training configuration that cannot be used."""


class BatchConfig(BaseModel):
    """P identities times K clips in each modality, times T frames: of all processes and all accumulated parts together.

    Attributes:
        identities: P.
        clips: K.
        frames: T.
        still_epochs: In the first epochs each clip is one frame, and there are T times as many identities: the same
            work, but more persons to tell apart while the encoder learns to see. 0 in the paper.
        accumulate: Compute the batch in this many parts of P / accumulate identities, one after another, for memory's
            sake. Losses that compare clips, necks and memories still see the whole batch: its clip features are
            computed first without gradient, the losses give each feature its gradient, and a second pass sends that
            into the network part by part (GradCache, Gao et al. 2021). The gradient is that of the whole batch, for
            one more forward pass; only the batch normalisations of a convolutional stem see one part at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    identities: int = Field(default=4, ge=2)
    clips: int = Field(default=2, ge=1)
    frames: int = Field(default=10, ge=1)
    still_epochs: int = Field(default=0, ge=0)
    accumulate: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.identities % self.accumulate:
            raise ValueError(f"identities, {self.identities}, must be a multiple of accumulate, {self.accumulate}")
        return self


class OptimiserConfig(BaseModel):
    """The optimiser and the course of its learning rate.

    Attributes:
        name: Adam or AdamW.
        lr: Greatest learning rate of the encoder.
        head_factor: All but the encoder learns at this multiple of it, necks and camera vectors too.
        bias_factor: And biases at this multiple of that.
        eps: Added to the root of the second moment; a gradient far below it moves nothing.
        weight_decay: Of matrices; biases, norms and embeddings have none.
        warmup_epochs: The rate rises linearly over these, from ``warmup_start`` of it.
        warmup_start: Share of the rate to begin with.
        schedule: ``step`` multiplies by 0.1 at each milestone, and its rate, in the warm-up too, is constant within an
            epoch, as the paper's and the released code's is; ``cosine`` falls to 1 % at the end, a little every step.
        milestones: Epochs, for ``step``.
        clip_norm: Greatest norm of the gradient; None does not limit it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(default=5e-6, gt=0)
    head_factor: float = Field(default=1.0, gt=0)
    bias_factor: float = Field(default=1.0, gt=0)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_epochs: float = Field(default=10, ge=0)
    warmup_start: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (30, 50)
    clip_norm: float | None = Field(default=None, gt=0)


class DataConfig(BaseModel):
    """Which data set to train on; its folder is named on the command line.

    Attributes:
        name: One of ``reid.datasets.known.DATASETS``; hyphens may stand for underscores.
        options: Of that data set.
        split: The split to train on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "folder"
    options: dict[str, Any] = Field(default_factory=dict)
    split: str = "train"


class ValidationConfig(BaseModel):
    """Whom to look at during training; they give the calibration, and never choose an epoch.

    Attributes:
        source: ``split``: a split of the data set, which must share no person with the training split. ``held_out``:
            persons of the training split, who are then not trained on. ``none``. ``auto``: the split where the data
            set has one of that name, else none.
        split: Its name.
        share: Of the training split's persons that are held out, always the same ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["auto", "split", "held_out", "none"] = "auto"
    split: str = "val"
    share: float = Field(default=0.1, gt=0, lt=1)


class LoaderConfig(BaseModel):
    """How crops come from the disk to the network.

    Attributes:
        source: ``packed``: prepared once into one memory-mapped NumPy file, uint8 at the network's input size, which
            the system keeps in memory as far as it fits; neither small files nor decoding limit a training then.
            ``memory``: prepared into memory at every start, nothing written. ``files``: the chosen frames are decoded
            when their batch is made, nothing prepared; give it workers. Percentiles of thermal clips are then those of
            the chosen frames in place of the tracklet's.
        workers: Processes that make batches ahead of the network; 0 makes them in the training process.
        prefetch: Batches that each of them is ahead.
        cache: Folder of the packed file; None: ``cache`` in the data set's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["packed", "memory", "files"] = "packed"
    workers: int = Field(default=0, ge=0)
    prefetch: int = Field(default=2, ge=1)
    cache: str | None = None


class StateConfig(BaseModel):
    """When to write the training state, from which a training goes on as if it had never been interrupted.

    It is written at the end of every epoch, when the process is told to stop, and

    Attributes:
        every_steps: after this many steps; None: not by steps.
        every_seconds: after this much time; None: not by time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    every_steps: int | None = Field(default=None, ge=1)
    every_seconds: float | None = Field(default=600.0, gt=0)


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
        data: Which data set.
        validation: On whom.
        loader: From the disk to the network.
        state: When to write it.
        device: ``auto`` is a GPU where there is one. Under ``torchrun`` each process takes its own.
        compile: A backend of ``torch.compile`` for the encoder, such as ``inductor``; None does not compile.
        tensorboard: Write ``tensorboard/``, where the package is installed.
        log_every: Steps between two points there.
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
    seed: int = Field(default=1, ge=0, le=2**63 - 1)
    precision: Literal["float32", "bf16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    pretrained: str | None = None
    architecture: str | None = None
    initial: str | None = None
    training_data: str
    licence: str
    half_on_disk: bool = False
    validate_every: int = Field(default=5, ge=1)
    data: DataConfig = DataConfig()
    validation: ValidationConfig = ValidationConfig()
    loader: LoaderConfig = LoaderConfig()
    state: StateConfig = StateConfig()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: str | None = None
    tensorboard: bool = True
    log_every: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        check_size(self.model, self.preprocessing.size_hw)
        if self.model.neck == "none" and (self.loss.behind_necks or self.loss.memories_behind_necks):
            raise ValueError("loss.behind_necks and loss.memories_behind_necks are of no effect with model.neck 'none'")
        if self.loss.shared_prototypes and self.loss.update != "cross_modality":
            raise ValueError(f"loss.update is of no effect with loss.shared_prototypes, got {self.loss.update!r}")
        return self

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.epochs * self.iterations

    def digest(self) -> str:
        """A fingerprint of everything in it, 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


# What may differ between the configuration of a training and that which it goes on with: none of it moves a weight.
FREE = frozenset({
    "name", "training_data", "licence", "half_on_disk", "validate_every", "loader.workers", "loader.prefetch",
    "loader.cache", "state.every_steps", "state.every_seconds", "device", "compile", "tensorboard", "log_every",
    "threads",
})  # fmt: skip


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings in which a training may not go on, as ``key: before, now``; both as JSON would hold them."""
    old, new = _flat(before), _flat(now)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and key not in FREE]
    return [f"{key}: {old.get(key)}, now {new.get(key)}" for key in changed]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def read_config(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML configuration and apply changes such as ``optimiser.lr=1e-4``.

    Raises:
        ConfigError: When the file or a change cannot be read, or a value is not allowed, with its place.
    """
    return config_of(read_data(path), changes, where=str(path))


def read_data(path: str | Path) -> dict[str, Any]:
    """What a YAML file says, before it is checked.

    Raises:
        ConfigError: When it cannot be read.
    """
    try:
        data = _yaml(read_text(Path(path)))
    except DatasetError as error:
        raise ConfigError(str(error)) from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping, got {type(data).__name__}")
    return data


def config_of(data: dict[str, Any], changes: Sequence[str] = (), *, where: str) -> TrainConfig:
    """Check plain data, with changes such as ``optimiser.lr=1e-4`` applied to it.

    Raises:
        ConfigError: When a value is not allowed, with its place.
    """
    for change in changes:
        key, found, value = change.partition("=")
        if not found:
            raise ConfigError(f"--set {change}: must be key=value")
        try:
            read = _yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {change}: the value is not YAML, put it in quotes: {_first_line(error)}"
            ) from error
        _assign(data, key.split("."), read, change)
    data = _with_sizes(data, where)
    try:
        # Through JSON, so that YAML's lists may stand for tuples and nothing else is bent; its dates are their text.
        return TrainConfig.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{where}: {problems}") from error


def _first_line(error: yaml.YAMLError) -> str:
    return str(error).splitlines()[0]


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


class _Loader(yaml.SafeLoader):
    """YAML 1.1, in which 1e-4 is a text; here it is a number, as everybody means it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader


def _assign(data: dict[str, Any], keys: list[str], value: object, change: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {change}: {key} is not a section")
    data[keys[-1]] = value
