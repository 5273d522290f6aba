"""The exported and the compiled tracklet embedder against eager PyTorch."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from reid import checkpoint, export
from reid.checkpoint import save
from reid.models.xreid import MODALITIES, XReID
from tests.reid.factories import card, encoder_config, model_config

CHANGES = {"neck": "batch_norm", "centre_modalities": True, "camera_embedding": "modality_mean", "cameras": 3}


def write_weights(path: Path, **changes: object) -> Path:
    torch.manual_seed(4)
    model = XReID(model_config(**changes))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and "var" not in name:
                value.add_(0.05 * torch.randn(value.shape))
    save(path, model, card(model.config))
    return path


def zeros_for_all() -> onnx.ModelProto:
    """What an exporter with a fault might make: of the same inputs, and with an answer that is always 0."""
    inputs = [
        onnx.helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("crops", onnx.TensorProto.UINT8, ["clips", "frames", 32, 16, 3]),
            ("lengths", onnx.TensorProto.INT64, ["clips"]),
            ("modalities", onnx.TensorProto.INT64, ["clips"]),
        )
    ]
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT, [1, 1], [0.0])
    output = onnx.helper.make_tensor_value_info("embeddings", onnx.TensorProto.FLOAT, [1, 1])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["embeddings"], value=zero)], "zeros", inputs, [output]
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


def test_the_exported_embedder_equals_the_extractor_for_any_lengths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every module there is, the shift inside the encoder included."""
    encoder = encoder_config(shifted_blocks=1).model_dump()
    weights = write_weights(tmp_path / "mini.safetensors", encoder=encoder, **CHANGES)
    output = tmp_path / "made" / "mini.onnx"
    assert export.main(["--weights", str(weights), "--output", str(output)]) == 0
    assert "greatest difference from PyTorch" in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == ["mini.onnx"]
    extractor = checkpoint.load(weights)
    crops, lengths, kinds = export.example(extractor.preprocessing, 5, 1, 3, 2, frames=7, seed=9)
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"crops": crops.numpy(), "lengths": lengths.numpy(), "modalities": kinds.numpy()})
    clips = [crop[:length].numpy() for crop, length in zip(crops, lengths.tolist(), strict=True)]
    modalities = [MODALITIES[kind] for kind in kinds.tolist()]
    np.testing.assert_allclose(got, extractor.embed_prepared(clips, modalities), atol=1e-4)
    notes = {each.key: each.value for each in onnx.load(output).metadata_props}
    assert notes["model_id"] == extractor.model_id
    assert json.loads(notes["preprocessing"])["size_hw"] == [32, 16]
    assert notes["modalities"] == "rgb,nir,thermal"


def test_an_export_that_differs_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_weights(tmp_path / "mini.safetensors")
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: SimpleNamespace(model_proto=zeros_for_all()))
    (tmp_path / "mini.onnx").write_text("an earlier one")
    assert export.main(["--weights", str(weights), "--output", str(tmp_path / "mini.onnx")]) == 2
    assert "ONNX Runtime differs from PyTorch" in capsys.readouterr().err
    assert (tmp_path / "mini.onnx").read_text() == "an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mini.onnx", "mini.safetensors"]


def test_the_compiled_embedder_equals_the_eager_one(tmp_path: Path) -> None:
    """One graph for all lengths; as far as it goes where there is no C++ compiler."""
    backend = "inductor" if shutil.which("g++") else "aot_eager"
    encoder = encoder_config(layers=1).model_dump()  # compiling takes time, layer by layer
    extractor = checkpoint.load(write_weights(tmp_path / "mini.safetensors", encoder=encoder, **CHANGES))
    embedder = export.TrackletEmbedder(extractor.model, extractor.preprocessing)
    compiled = torch.compile(embedder, dynamic=True, fullgraph=True, backend=backend)
    for lengths in ((3, 2), (1, 5, 4)):
        inputs = export.example(extractor.preprocessing, *lengths, frames=max(lengths))
        with torch.inference_mode():
            torch.testing.assert_close(compiled(*inputs), embedder(*inputs), atol=1e-4, rtol=0)
