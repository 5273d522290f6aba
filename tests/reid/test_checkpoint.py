import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reid import checkpoint
from reid.calibration import Calibration, Curve
from reid.checkpoint import CheckpointError
from reid.modality import Modality
from reid.models.xreid import XReID
from tests.reid.factories import card, model_config


def saved(path: Path, *, half: bool = False, **changes: object) -> XReID:
    torch.manual_seed(0)
    model = XReID(model_config(neck="batch_norm"))
    checkpoint.save(path, model, card(model.config, **changes), half=half)
    return model


def rewrite(path: Path, *, metadata: dict[str, str] | None = None, **tensors: torch.Tensor | None) -> None:
    """Change some tensors (None removes one) or the metadata of a checkpoint."""
    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    state = {**load_file(path), **tensors}
    save_file({k: v for k, v in state.items() if v is not None}, path, metadata=old if metadata is None else metadata)


def test_weights_come_back_with_their_preprocessing_and_calibration(tmp_path: Path) -> None:
    calibration = Calibration({(Modality.RGB, Modality.NIR): Curve(slope=3.0, intercept=-1.0)})
    path = tmp_path / "mini.safetensors"
    model = saved(path, calibration=calibration.to_dict())
    extractor = checkpoint.load(path)
    assert extractor.preprocessing == card(model.config).preprocessing
    assert extractor.calibration is not None
    assert extractor.calibration.to_dict() == calibration.to_dict()
    assert extractor.model_id.startswith("mini@sha256:")
    assert len(extractor.model_id) == len("mini@sha256:") + 16
    frames, lengths, kinds = torch.randn(3, 3, 32, 16), torch.tensor([3]), torch.tensor([1])
    loaded = extractor.model
    assert torch.equal(loaded.embed(frames, lengths, kinds), model.eval().embed(frames, lengths, kinds))


def test_half_on_disk_is_half_the_size_and_float32_in_memory(tmp_path: Path) -> None:
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    model = saved(full)
    saved(half, half=True)
    assert half.stat().st_size < 0.6 * full.stat().st_size + 4000
    loaded = checkpoint.load(half).model
    for name, value in loaded.state_dict().items():
        assert value.dtype == model.state_dict()[name].dtype
        torch.testing.assert_close(value, model.state_dict()[name], atol=1e-3, rtol=1e-3)
    assert checkpoint.load(half).model_id != checkpoint.load(full).model_id


def test_every_tensor_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mini.safetensors"
    saved(path)
    rewrite(
        path,
        **{
            "short_term.block.query.weight": torch.zeros(3, 3),
            "long_term.block.ffn.expand.bias": None,
            "cross_modality.weight": torch.zeros(1),
        },
    )
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert "short_term.block.query.weight is (3, 3), expected (16, 16)" in message
    assert "missing long_term.block.ffn.expand.bias" in message
    assert "unexpected cross_modality.weight" in message


@pytest.mark.parametrize("content", [b"just some text, long enough to look like a header", b"", b"\x00" * 4])
def test_a_file_that_is_no_checkpoint_says_what_was_expected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "note.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"note\.safetensors: not an X-ReID checkpoint: expected a complete"):
        checkpoint.load(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mini.safetensors"
    saved(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="expected a complete safetensors file"):
        checkpoint.load(path)


def test_weights_without_a_description_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mini.safetensors"
    saved(path)
    rewrite(path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="carries no model description"):
        checkpoint.load(path)


def test_a_description_that_is_wrong_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mini.safetensors"
    model = saved(path)
    good = json.loads(card(model.config).model_dump_json())
    cases = {
        "format must be 'xreid/1', got 'xreid/9'": {**good, "format": "xreid/9"},
        "model.encoder.width": {**good, "model": {"encoder": {"width": "wide"}}},
        "surprise": {**good, "surprise": 1},
        "calibration: format must be": {**good, "calibration": {"format": 0}},
    }
    for message, description in cases.items():
        rewrite(path, metadata={"xreid": json.dumps(description)})
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(path)
    rewrite(path, metadata={"xreid": "{"})
    with pytest.raises(CheckpointError, match="not JSON"):
        checkpoint.load(path)


def test_no_weights_is_an_error_and_never_a_random_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights given"):
        checkpoint.load("")
    with pytest.raises(CheckpointError, match="nowhere: no such file, and no embedded weights of that name"):
        checkpoint.load("nowhere")
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.load(tmp_path)


def test_a_bare_name_is_sought_among_the_embedded_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    saved(tmp_path / "mini.safetensors")
    assert checkpoint.embedded() == ["mini"]
    assert checkpoint.load("mini").dimension == 44
    with pytest.raises(CheckpointError, match=r"other: no such file.*there are: mini"):
        checkpoint.load("other")


def test_a_card_of_another_model_is_not_written_and_a_failed_save_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mini.safetensors"
    model = saved(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not the configuration of the model"):
        checkpoint.save(path, model, card(model_config()))

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, model, card(model.config))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
