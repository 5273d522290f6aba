"""Describe a model: ``python -m reid.describe --preset paper [--set key=value]`` (or ``--weights FILE_OR_NAME``).

Prints its modules with their parameters, the work a clip costs, the size of the feature, and each option with what the
paper and the released code say. Needs no weights and no data: the network is built without memory for them.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reid import checkpoint, presets
from reid.models.attention import SelfAttentionBlock
from reid.models.cross_modality import CrossModalities
from reid.models.xreid import XReID, XReIDConfig
from reid.training_config import ConfigError, TrainConfig, config_of
from reid.transforms import Preprocessing


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def flops(config: XReIDConfig, *, frames: int) -> int:
    """Floating point operations of embedding one clip, a multiplication and an addition counted as two."""
    height, width = config.encoder.image_size_hw
    with torch.device("meta"):
        model = XReID(config).eval()
        clip = torch.empty(1, frames, 3, height, width)
        lengths = torch.empty(1, dtype=torch.int64)
        modalities = torch.empty(1, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.embed_padded(clip, lengths, modalities)
    return int(counter.get_total_flops())


def model_lines(config: XReIDConfig, preprocessing: Preprocessing, *, frames: int) -> Iterator[str]:
    """Modules, parameters, work and feature, and what becomes of a short tracklet."""
    with torch.device("meta"):
        model = XReID(config)
    encoder = config.encoder
    height, width = encoder.image_size_hw
    rows, columns = encoder.grid_hw
    side = encoder.patch_size
    yield f"input            {frames} frames of {height} x {width}, {rows * columns} patches of {side} x {side} and CLS"
    names = {
        "encoder": f"CLIP vision transformer, {encoder.layers} layers, {encoder.heads} heads, D = {encoder.width}",
        "short_term": f"SII (Eq. 5-6), stride {config.short_stride}, blocks {config.short_blocks}",
        "long_term": f"LII (Eq. 7), S = {config.long_step}, {config.boundary}",
        "camera_embedding": f"{config.cameras} cameras, others: {config.camera_embedding}",
        "necks": f"necks: {config.neck}",
        "quality": "quality-weighted pooling",
    }
    for name, module in model.named_children():
        yield f"{name:<16} {parameters(module) / 1e6:9.3f} M  {names[name]}"
    yield f"{'total':<16} {parameters(model) / 1e6:9.3f} M"
    yield f"work             {flops(config, frames=frames) / 1e9:.2f} GFLOP a clip of {frames} frames"
    parts = " ; ".join(f"{config.width_of(part)} {part}" for part in config.retrieval)
    yield f"feature          [{parts}] = {config.dimension}"
    short = {
        "chunk_first": f"repeats its last frame up to {preprocessing.frames} (chunk_first)",
        "uniform": "has its own frames once, and is not filled up (uniform)",
    }[preprocessing.sampling]
    yield f"short tracklet   {short}; one frame is enough"


def training_lines(config: TrainConfig) -> Iterator[str]:
    """What only training has."""
    loss, model = config.loss, config.model
    branches = model.interactions or ("cls",)
    if loss.cmcl or loss.cii_identity:
        with torch.device("meta"):
            interaction = CrossModalities(
                branches,
                presets.BATCH_MODALITIES,
                partial(
                    SelfAttentionBlock, model.encoder.width, heads=model.encoder.heads, mlp_ratio=loss.cii_mlp_ratio
                ),
                sharing=loss.cii_sharing,
            )
        count, blocks = parameters(interaction) / 1e6, len(interaction.blocks)
        yield f"{'training only':<16} {count:9.3f} M  CII, {blocks} blocks over {', '.join(branches)}"
    width = model.encoder.output_dim + (model.encoder.width if loss.cpcl_on == "joint" else 0)
    if loss.cpcl:
        of_whom = "Y" if loss.shared_prototypes else "M x Y"
        update = "pooled (shared_prototypes)" if loss.shared_prototypes else loss.update
        yield f"memories         {of_whom} x {width} (buffers), update: {update}, compared with: {loss.cpcl_against}"
    batch, modalities = config.batch, presets.BATCH_MODALITIES
    yield (
        f"batch            {batch.identities} identities x {batch.clips} clips x {modalities} modalities "
        f"x {batch.frames} frames"
    )
    if batch.frames != config.preprocessing.frames:
        yield f"                 but {config.preprocessing.frames} frames at inference (preprocessing.frames)"


def markdown_table(config: TrainConfig) -> Iterator[str]:
    """The options as a table for ``docs/xreid.md``."""
    yield "| option | paper | release | our default | why |"
    yield "|---|---|---|---|---|"
    for option in presets.OPTIONS:
        text = _text(presets.value_of(config, option.key))
        yield f"| `{option.key}` | {option.paper} | {option.release} | `{text}` | {option.why} |"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def option_lines(config: TrainConfig) -> Iterator[str]:
    """Each option: its value, the paper, the release, and why our default."""
    yield f"{'option':<40} {'value':<28} {'paper':<34} {'release':<34} default because"
    for option in presets.OPTIONS:
        text = _text(presets.value_of(config, option.key))
        yield f"{option.key:<40} {text:<28} {option.paper:<34} {option.release:<34} {option.why}"


def weights_lines(path_or_name: str) -> Iterator[str]:
    """What a checkpoint says of itself."""
    card, _ = checkpoint.read(checkpoint.find(path_or_name))
    yield f"{card.name}: {card.training_data}"
    yield f"licence: {card.licence}"
    yield from model_lines(card.model, card.preprocessing, frames=card.preprocessing.frames)


def preset_lines(name: str, changes: list[str]) -> Iterator[str]:
    """All of a preset, with changes such as ``architecture=ViT-L-14-quickgelu``."""
    preset, config = presets.PRESETS[name], config_of(presets.as_data(name), changes, where=f"preset {name}")
    yield f"{name}: {preset.what}"
    yield from (f"row: {row}" for row in preset.rows)
    yield from model_lines(config.model, config.preprocessing, frames=config.batch.frames)
    yield from training_lines(config)
    yield from (f"left out: {sentence}" for sentence in preset.left_out)
    yield ""
    yield from option_lines(config)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reid.describe", description="Describe an X-ReID model.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--preset", choices=presets.PRESETS, help="a training by name")
    which.add_argument("--options", action="store_true", help="the options and their sources alone, as Markdown")
    which.add_argument("--weights", help="a checkpoint, or the name of embedded weights")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the preset")
    options = parser.parse_args(arguments)
    try:
        if options.options:
            lines = list(markdown_table(presets.load("paper")))
        elif options.weights:
            lines = list(weights_lines(options.weights))
        else:
            lines = list(preset_lines(options.preset, options.set))
    except (checkpoint.CheckpointError, ConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
