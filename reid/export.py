"""Export the whole tracklet embedder to ONNX: ``python -m reid.export --weights xreid-tiny --output xreid-tiny.onnx``.

The graph takes crops as ``prepare_clip`` makes them and gives unit-length embeddings: normalisation, encoder, SII, LII,
fusion, pooling, necks and centres are inside. A file is written only after ONNX Runtime gave the embeddings of PyTorch
within ``TOLERANCE``, for clips of several lengths. Needs the packages of the extra ``export``.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from reid import checkpoint
from reid.extractor import XReIDExtractor
from reid.models.xreid import MODALITIES, XReID
from reid.transforms import Preprocessing, to_input

TOLERANCE = 1e-4


class ExportError(RuntimeError):
    """A model that cannot be exported, or whose export does not do what the model does."""


class TrackletEmbedder(nn.Module):
    """Prepared crops to embeddings, as one module whose shapes depend on no value.

    Args:
        model: In evaluation mode. Cameras are those that were never trained.
        preprocessing: Of its weights.
    """

    def __init__(self, model: XReID, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing

    def forward(self, crops: Tensor, lengths: Tensor, modalities: Tensor) -> Tensor:
        """Embed clips.

        Args:
            crops: (B, T, H, W, 3) uint8; what lies behind the end of a clip is not used.
            lengths: (B,) int64, 1 to T.
            modalities: (B,) int64, positions in ``MODALITIES``.

        Returns:
            (B, dimension) float32, rows of unit length.
        """
        images = to_input(crops.flatten(0, 1), self.preprocessing)
        return self.model.embed_padded(images.view(*crops.shape[:2], *images.shape[1:]), lengths, modalities)


def example(preprocessing: Preprocessing, *lengths: int, frames: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random clips of these lengths, padded to ``frames``, one modality after another."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), frames, *preprocessing.size_hw, 3)
    crops = torch.randint(0, 256, shape, generator=generator, dtype=torch.int32).to(torch.uint8)
    return crops, torch.tensor(lengths), torch.arange(len(lengths)) % len(MODALITIES)


def export(extractor: XReIDExtractor, path: Path) -> float:
    """Write ``path``, once it was checked.

    Returns:
        The greatest difference from PyTorch over the clips it was checked with.

    Raises:
        ExportError: When packages are missing, or results differ.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx needs it, and would say so in a traceback)
    except ImportError as error:
        raise ExportError(f"{error}; install the packages of the extra: pip install '.[export]'") from error
    embedder = TrackletEmbedder(extractor.model, extractor.preprocessing).eval()
    clips, frames = Dim("clips", min=1), Dim("frames", min=2)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            embedder,
            example(extractor.preprocessing, 2, 3, frames=3),
            dynamo=True,
            verbose=False,
            input_names=["crops", "lengths", "modalities"],
            output_names=["embeddings"],
            dynamic_shapes={"crops": {0: clips, 1: frames}, "lengths": {0: clips}, "modalities": {0: clips}},
        )
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    made = program.model_proto
    notes = {
        "model_id": extractor.model_id,
        "preprocessing": extractor.preprocessing.model_dump_json(),
        "modalities": ",".join(MODALITIES),
    }
    onnx.helper.set_model_props(made, notes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part = Path(folder) / path.name
        onnx.save(made, part)
        difference = greatest_difference(embedder, part)
        if not difference <= TOLERANCE:
            raise ExportError(f"ONNX Runtime differs from PyTorch by {difference:.1e}, more than {TOLERANCE:.0e}")
        part.replace(path)
    return difference


def greatest_difference(embedder: TrackletEmbedder, path: Path) -> float:
    """Between PyTorch and ONNX Runtime, over batches of one clip and of several, of one frame and of more than T."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    longest = embedder.preprocessing.frames
    worst = 0.0
    for number, lengths in enumerate([(1,), (2, 1, longest), (longest + 3, 1, 4, 2)]):
        inputs = example(embedder.preprocessing, *lengths, frames=max(2, *lengths), seed=number)
        with torch.no_grad():
            expected = embedder(*inputs).numpy()
        names = ("crops", "lengths", "modalities")
        (got,) = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
        worst = max(worst, float(np.abs(got - expected).max()))
    return worst


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reid.export", description="Export an X-ReID model to ONNX.")
    parser.add_argument("--weights", required=True, help="a checkpoint, or the name of embedded weights")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.onnx")
    options = parser.parse_args(arguments)
    try:
        difference = export(checkpoint.load(options.weights), options.output)
    except (checkpoint.CheckpointError, ExportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{options.output}: greatest difference from PyTorch {difference:.1e}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
