"""Weights with all that is needed to use them rightly, in one safetensors file, loaded strictly."""

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from reid.calibration import Calibration
from reid.extractor import XReIDExtractor
from reid.models.encoder import mismatches
from reid.models.xreid import XReID, XReIDConfig, check_size
from reid.transforms import Preprocessing

logger = logging.getLogger(__name__)

FORMAT = "xreid/1"
WEIGHTS = Path(__file__).resolve().parent / "weights"
CALIBRATION_SUFFIX = ".calibration.json"  # in place of .safetensors
_KEY = "xreid"


class CheckpointError(ValueError):
    """Weights that are not there, cannot be read, or do not fit the model they name."""


class Card(BaseModel):
    """What travels with the weights.

    Attributes:
        format: Of the file.
        name: Of the model, for people.
        model: Its shape.
        preprocessing: What its input must have gone through.
        training_data: What it was trained on, in one sentence.
        licence: Under which terms the weights may be used.
        cameras: Names of the trained cameras, where the model has a vector for each, in the order of the vectors.
        calibration: ``Calibration.to_dict()``, or None when none was fitted.
        training: How it was trained: plain settings and figures, for the record.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = FORMAT
    name: str = Field(min_length=1)
    model: XReIDConfig
    preprocessing: Preprocessing
    training_data: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    cameras: tuple[str, ...] = ()
    calibration: dict[str, Any] | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        check_size(self.model, self.preprocessing.size_hw)
        if self.cameras and len(self.cameras) != self.model.cameras:
            raise ValueError(f"cameras must be the {self.model.cameras} of the model, got {len(self.cameras)}")
        return self


def save(path: str | Path, model: XReID, card: Card, *, half: bool = False) -> None:
    """Write a checkpoint; a file of that name is replaced only once the new one is complete.

    Args:
        path: Ends in ``.safetensors``.
        model: Its weights.
        card: Its description; ``card.model`` must be the model's own configuration.
        half: Keep floating point weights as float16, half the size; they are read as float32.

    Raises:
        ValueError: When the card describes another model.
    """
    if card.model != model.config:
        raise ValueError("card.model is not the configuration of the model to save")
    path = Path(path)
    tensors = {name: _for_disk(tensor, half=half) for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={_KEY: card.model_dump_json()})
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _for_disk(tensor: Tensor, *, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if half and tensor.is_floating_point() else tensor


def load(path_or_name: str | Path, *, device: torch.device | str = "cpu") -> XReIDExtractor:
    """Load weights, ready to embed tracklets.

    Args:
        path_or_name: A file, or the bare name of weights that come with this package, such as ``xreid-tiny``.
        device: Where to compute.

    Raises:
        CheckpointError: With what was expected, what came, and where.

    A file ``<weights>.calibration.json`` beside the weights, as ``run_pipeline.py calibrate`` writes one, takes the
    place of the calibration that they carry.
    """
    path = find(path_or_name)
    card, state = read(path)
    model = XReID(card.model)
    _fill(model, state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    model_id = f"{card.name}@sha256:{digest}"
    calibration = _calibration(card, path, model_id)
    return XReIDExtractor(
        model,
        card.preprocessing,
        model_id=model_id,
        calibration=calibration,
        cameras=card.cameras,
        device=device,
    )


def load_into(model: XReID, path_or_name: str | Path) -> None:
    """Give a model the weights of a checkpoint.

    Raises:
        CheckpointError: When it is none, or any tensor does not fit.
    """
    path = find(path_or_name)
    _fill(model, read(path)[1], path)


def _fill(model: XReID, state: dict[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    problems = mismatches(state, expected)
    if problems:
        raise CheckpointError(f"{path}: the weights do not fit the model: " + "; ".join(problems))
    model.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in state.items()})


def find(path_or_name: str | Path) -> Path:
    """The file of a path, or of the name of embedded weights.

    Raises:
        CheckpointError: When there is neither.
    """
    given = str(path_or_name)
    if not given:
        known = ", ".join(embedded())
        raise CheckpointError(f"no weights given: expected a .safetensors file or one of the embedded names: {known}")
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected a .safetensors file")
    inside = WEIGHTS / f"{given}.safetensors"
    if path.name == given and inside.is_file():
        return inside
    known = ", ".join(embedded()) or "none"
    raise CheckpointError(f"{given}: no such file, and no embedded weights of that name (there are: {known})")


def embedded() -> list[str]:
    """Names of the weights that come with this package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def read(path: str | Path) -> tuple[Card, dict[str, Tensor]]:
    """Read a checkpoint without building its model; tensors are as on disk.

    Raises:
        CheckpointError: When the file is not one.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not an X-ReID checkpoint: expected a complete safetensors file of format {FORMAT}, "
            f"got {_glimpse(path)} ({error})"
        ) from error
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file without the {_KEY!r} entry: it carries no model description and cannot be "
            f"loaded as an X-ReID checkpoint; pretrained CLIP weights are the start of training, not its result"
        )
    return _card(metadata[_KEY], path), state


def _card(text: str, path: Path) -> Card:
    try:
        data = json.loads(text)
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format must be {FORMAT!r}, got {data.get('format')!r}")
        return Card.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path}: description of the model: {place}: {first['msg']}") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: description of the model is not JSON: {error}") from error


def _calibration(card: Card, path: Path, model_id: str) -> Calibration | None:
    beside = path.with_suffix(CALIBRATION_SUFFIX)
    if beside.is_file():
        return read_calibration(beside, model_id)
    if card.calibration is None:
        return None
    try:
        return Calibration.from_dict(card.calibration)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_calibration(path: Path, model_id: str) -> Calibration:
    """A calibration from a JSON file.

    Args:
        path: Of the file.
        model_id: Of the model that it is to be used with.

    Raises:
        CheckpointError: When it cannot be read, is none, or says that it is of another model.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"expected a mapping, got {type(data).__name__}")
        unknown = sorted(set(data) - {"format", "pairs", "model"})
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of format, model, pairs")
        found = Calibration.from_dict(data)
        if not list(found):
            raise ValueError("it has no pair of modalities")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not a calibration that can be read: {error}") from error
    if "model" not in data:
        logger.warning("%s: says of no model that it was fitted with it; taken for one of %s", path, model_id)
    if data.get("model", model_id) != model_id:
        raise CheckpointError(
            f"{path}: fitted to the likenesses of model {data['model']}, which are other numbers than those of model"
            f" {model_id}: name a calibration of this model, or none"
        )
    return found


def _glimpse(path: Path) -> str:
    """The size and first bytes of a file that is not what it should be."""
    try:
        with path.open("rb") as file:
            return f"{path.stat().st_size} bytes that begin with {file.read(12)!r}"
    except OSError as error:
        return str(error)
