"""Trainings by name: the paper's, the released code's, and every row of the paper's ablation tables.

Each preset is the paper's training with some switches turned, so that two rows of a table differ in what the table says
and in nothing else. ``OPTIONS`` says of each switch what the paper states, what the released code does (HEAD 1ba3778),
and why our default is what it is; ``python -m reid.describe`` and ``docs/xreid.md`` print it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reid.models.encoder import EncoderConfig
from reid.training_config import ConfigError, TrainConfig, config_of

BATCH_MODALITIES = 2  # of the paper's data sets

_PAPER: dict[str, Any] = {
    "name": "xreid",
    "model": {"encoder": {}},
    "preprocessing": {"size_hw": [288, 144], "frames": 10, "sampling": "chunk_first"},
    # Random flip, random crop (here a shift of the view; the padding is not stated), random erasing.
    "augmentation": {
        "flip": 0.5, "zoom": 0.0, "shift": 0.05, "stretch": 0.0, "frame_jitter": 0.0, "gain": 0.0, "gamma": 0.0,
        "colour": 0.0, "grey": 0.0, "blur": 0.0, "coarse": 0.0, "noise": 0.0, "erase": 0.5, "erase_area": [0.02, 0.2],
        "occlude": 0.0, "synchronised": False,
    },
    "batch": {"identities": 4, "clips": 2, "frames": 10},
    "optimiser": {
        "name": "adam", "lr": 5e-6, "weight_decay": 1e-4, "warmup_epochs": 10, "warmup_start": 0.1,
        "schedule": "step", "milestones": [30, 50],
    },
    "epochs": 60,
    "iterations": 300,
    "seed": 1234,
    "precision": "bf16",
    "pretrained": "openai",
    "architecture": "ViT-B-16-quickgelu",
    "training_data": "not stated: name the data set and its terms with --set training_data=...",
    "licence": "not stated: name the terms of the weights with --set licence=...",
}  # fmt: skip

_NO_MII = {"model.interactions": [], "model.retrieval": ["cls", "projected"], "loss.cmcl": 0.0}


@dataclass(frozen=True)
class Preset:
    """A training by name.

    Attributes:
        what: In one line.
        rows: The rows of the paper's tables that it stands for.
        changes: Its switches, by dotted key, where they differ from ``paper``.
        left_out: What it does not copy, one sentence each.
    """

    what: str
    rows: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        "X-ReID as the paper describes it",
        ("Tab. 1", "Tab. 2", "Tab. 3 + MII", "Tab. 5 SII LII CII", "Fig. 4 S = 1", "Fig. 5 S = 2"),
    ),
    "code": Preset(
        "what the released code trains, its bugs left out",
        changes={
            "model.interactions": ["short"],
            "model.short_blocks": 2,
            "model.detach_tokens": True,
            "model.neck": "batch_norm",
            "model.encoder.freeze_patch_projection": True,
            "model.camera_embedding": "modality_mean",
            "model.cameras": 12,
            "loss.cpcl_on": "joint",
            "loss.memories_behind_necks": True,
            "loss.update": "pooled",
            "loss.momentum": 0.1,
            "loss.triplet_on": ["cls", "projected", "fused"],
            "loss.identity": 0.25,
            "loss.identity_on": ["joint", "fused"],
            "loss.frame_identity": 0.1,
            "loss.cmcl": 0.0,
            "memories": "every_epoch",
            "augmentation.shift": 0.0,
            "optimiser.head_factor": 10.0,
            "optimiser.bias_factor": 2.0,
            "optimiser.milestones": [],
            "epochs": 30,
            "precision": "float32",
        },
        left_out=(
            "the in-place channel shift, which gives every frame the first frame's quarter (Eq. 5 is computed instead)",
            "erasing that pastes at the wrong place (anywhere in the frame here)",
            "the filter of tracklets under 12 frames, or of one (the data set's reader decides here)",
            "clip pairings drawn once and repeated every pass (drawn anew each pass here)",
            "memories built with the encoder in training mode (evaluation mode here)",
            "weight decay of everything (of matrices only here: biases, norms and embeddings have none)",
            "the tenfold rate of classifiers and SII only (of all but the encoder here: necks and camera vectors too)",
            "classifiers and norms that are created and never used",
            "relabelling that depends on the hash seed (sorted here)",
            "tracklets drawn with replacement, so that a clip may be its own partner (drawn without here)",
            "running statistics of the necks (the memories' pass sets those of CLS and projection each epoch here)",
            "bilinear shrinking (area interpolation here, in all presets)",
            "a frame identity loss over T (its weight, 0.1, is 1 / T at T = 10 and does not follow batch.frames)",
            "the best epoch on the test set as the result (the last epoch here)",
            "imports that fail, absolute paths, the missing LMDB builder",
        ),
    ),
    "plus": Preset(
        "the paper's, with what was seen to help on simulated people: grey RGB, stretched near-infrared",
        changes={"preprocessing.grey": True, "preprocessing.nir_percentiles": [1.0, 99.0]},
    ),
    "baseline_pcl": Preset(
        "CLIP, TAP and a memory a modality (PCL)",
        ("Tab. 3 Baseline", "Tab. 4 Visual memories"),
        {**_NO_MII, "loss.update": "same_modality", "loss.cpcl_against": "own"},
    ),
    "vanilla": Preset("fine-tuning with L_tri and L_ce only", ("Tab. 4 Vanilla",), {**_NO_MII, "loss.cpcl": 0.0}),
    "cross_modal_update": Preset(
        "Eq. 1-2, but each clip against its own modality's memory",
        ("Tab. 4 Cross-modal update",),
        {**_NO_MII, "loss.cpcl_against": "own"},
    ),
    "cross_modal_collaboration": Preset(
        "Eq. 3-4, but memories updated by their own modality",
        ("Tab. 4 Cross-modal collaboration",),
        {**_NO_MII, "loss.update": "same_modality"},
    ),
    "cpc": Preset("CPC without MII", ("Tab. 3 + CPC", "Tab. 4 CPC", "Tab. 5 none"), _NO_MII),
    "cpc_sii": Preset("CPC and SII", ("Tab. 5 SII",), {"model.interactions": ["short"], "loss.cmcl": 0.0}),
    "cpc_lii": Preset("CPC and LII", ("Tab. 5 LII",), {"model.interactions": ["long"], "loss.cmcl": 0.0}),
    "cpc_cii": Preset(
        "CPC and CII, whose token 0 is then the CLS mean",
        ("Tab. 5 CII",),
        {key: value for key, value in _NO_MII.items() if key != "loss.cmcl"},
    ),
    "cpc_sii_cii": Preset("CPC, SII and CII", ("Tab. 5 SII CII",), {"model.interactions": ["short"]}),
    "cpc_lii_cii": Preset("CPC, LII and CII", ("Tab. 5 LII CII",), {"model.interactions": ["long"]}),
    "cpc_sii_lii": Preset("CPC, SII and LII", ("Tab. 5 SII LII",), {"loss.cmcl": 0.0}),
    **{
        f"sii_stride_{stride}": Preset(
            f"the stride of SII at {stride}", (f"Fig. 4 S = {stride}",), {"model.short_stride": stride}
        )
        for stride in (2, 3, 4)
    },
    **{
        f"lii_step_{step}": Preset(f"the step of LII at {step}", (f"Fig. 5 S = {step}",), {"model.long_step": step})
        for step in (0, 1, 3, 4)
    },
}

# Rows of the paper that are of another method, with the reason why they are no preset.
NOT_BUILT = {
    "Tab. 4 Textual prompts": "its figures are those of the CLIP-ReID row of Tab. 1: another method, which needs "
    "CLIP's text tower and a training in two stages",
}


def load(name: str, *, encoder: EncoderConfig | None = None) -> TrainConfig:
    """The whole configuration of a preset.

    Args:
        name: One of ``PRESETS``.
        encoder: Another encoder, for a small machine, without pretrained weights; input size follows it, and its patch
            projection is frozen where the preset's is.

    Raises:
        ValueError: When there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    data = as_data(name)
    if encoder is not None:
        frozen = data["model"]["encoder"].get("freeze_patch_projection", False)
        data["model"]["encoder"] = {**encoder.model_dump(mode="json"), "freeze_patch_projection": frozen}
        data["preprocessing"]["size_hw"] = list(encoder.image_size_hw)
        data["pretrained"] = data["architecture"] = None
    return config_of(data, where=f"preset {name}")


def as_data(name: str) -> dict[str, Any]:
    """A preset as the YAML of ``reid.train`` would have it."""
    data: dict[str, Any] = json.loads(json.dumps(_PAPER))
    for key, value in PRESETS[name].changes.items():
        assign(data, key, value)
    data["name"] = "xreid" if name == "paper" else f"xreid-{name.replace('_', '-')}"
    return data


def assign(data: dict[str, Any], key: str, value: object) -> None:
    """Set a value at a dotted key, in place.

    Raises:
        ConfigError: When a part of the key is no section.
    """
    *path, last = key.split(".")
    for part in path:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{key}: {part} is not a section")
    data[last] = value


@dataclass(frozen=True)
class Option:
    """What is known of a switch: its dotted key, the paper, the released code, and why our default."""

    key: str
    paper: str
    release: str
    why: str


OPTIONS: tuple[Option, ...] = (
    Option("model.encoder.cls_from_patches", "CLIP's", "CLIP's", "ours, for training from random weights"),
    Option("model.encoder.freeze_patch_projection", "not stated", "frozen", "nothing is frozen that the paper trains"),
    Option("architecture", "CLIP ViT-B/16", "ViT-B/16", "any plain ViT of open_clip, or xreid-tiny"),
    Option("pretrained", "CLIP", "OpenAI's ViT-B/16", "a file, or a tag that open_clip downloads"),
    Option("model.encoder.image_size_hw", "288 x 144", "288 x 144", "as stated"),
    Option("model.encoder.patch_size", "not stated", "16, stride 16", "ViT-B/16"),
    Option("model.encoder.width", "D = 768", "768", "ViT-B/16"),
    Option("model.encoder.layers", "CLIP's", "12", "ViT-B/16"),
    Option("model.encoder.head_width", "CLIP's", "64", "ViT-B/16"),
    Option("model.encoder.mlp_ratio", "CLIP's", "4", "ViT-B/16"),
    Option("model.encoder.output_dim", "d = 512", "512", "ViT-B/16"),
    Option("model.encoder.stem", "one patch projection", "the same", "ours, for training from random weights"),
    Option("model.encoder.checkpointing", "not stated", "none", "for small GPUs; changes no result"),
    Option("model.encoder.quick_gelu", "CLIP's weights", "QuickGELU", "OpenAI's weights were trained with it"),
    Option("model.encoder.shifted_blocks", "0", "0", "LSMRL's idea; beyond the paper"),
    Option("model.interactions", "SII and LII", "SII; LII commented out", "Eq. 5-8"),
    Option("model.short_stride", "1 (Fig. 4)", "1, in place on overlapping views", "the best of Fig. 4"),
    Option("model.short_blocks", "one MHCA and FFN", "two", "Eq. 6 has one"),
    Option("model.long_step", "2 (Fig. 5)", "-1, unused", "the best of Fig. 5"),
    Option("model.boundary", "not stated", "circular", "the tokens of the lineage (TOP-ReID) go round"),
    Option("model.block_mlp_ratio", "not stated", "4", "the block of the lineage"),
    Option("model.normalise_values", "not stated", "values not normalised", "the block of the lineage"),
    Option("model.detach_tokens", "not stated", "detached", "an end-to-end loss (Eq. 10) trains the encoder"),
    Option("model.centre_modalities", "none", "none", "ours; off in the paper"),
    Option("model.neck", "none", "batch norm", "the paper knows no necks"),
    Option(
        "model.retrieval",
        "sequence feature and O",
        "[768; 512; 768] behind norms",
        "the release's parts, without norms; to the letter it is projected, fused",
    ),
    Option("model.camera_embedding", "none", "learnt, for 12 or 6 cameras", "a site's cameras were never trained"),
    Option("model.cameras", "none", "12 (HITSZ-VCM) or 6 (BUPTCampus)", "none without camera embeddings"),
    Option("model.camera_scale", "none", "1", "of no effect without camera embeddings"),
    Option("model.pooling", "TAP, a plain mean", "plain mean", "as stated"),
    Option("loss.cpcl", "1", "1", "Eq. 10"),
    Option("loss.cpcl_on", "b, d = 512", "[768; 512] behind norms", "Eq. 1-4 are of b"),
    Option("loss.behind_necks", "no necks", "CPCL alone", "ours, for training from random weights"),
    Option("loss.memories_behind_necks", "no necks", "yes", "the paper knows no necks"),
    Option("loss.cpcl_against", "both memories", "both", "Eq. 3-4"),
    Option("loss.temperature", "none", "0.05", "without one the softmax over 500 identities is almost flat"),
    Option("loss.denominator", "P", "all identities", "as PCL; over the P of a batch there is little to tell apart"),
    Option("loss.order", "updated memories", "before the update", "a clip is not compared with itself"),
    Option("loss.momentum", "0.2", "0.1", "as stated"),
    Option("loss.update", "hardest of the other modality", "hardest of both", "Eq. 2"),
    Option("loss.memory_mean", "mean of b", "mean of features", "as stated; PCL brings each to unit length first"),
    Option("loss.shared_prototypes", "one memory a modality", "one a modality", "HHA's idea; beyond the paper"),
    Option("memories", "once, encoder as loaded", "every epoch", "as stated"),
    Option("loss.triplet", "1", "1", "Eq. 10"),
    Option("loss.triplet_on", "sequence feature and O", "CLS, projected and O", "Fig. 2; section 3.1 calls b that"),
    Option("loss.margin", "not stated", "0.3", "the release's"),
    Option("loss.metric", "not stated", "Euclidean", "the release's"),
    Option("loss.identity", "1", "0.25", "Eq. 10"),
    Option("loss.identity_on", "sequence feature and O", "[768; 512] and O", "Fig. 2; section 3.1 calls b that"),
    Option("loss.smoothing", "not stated", "0 (its 0.1 is never used)", "plain cross-entropy"),
    Option("loss.frame_identity", "none", "over T", "not in the paper"),
    Option("loss.cmcl", "1", "absent", "Eq. 9-10"),
    Option("loss.cmcl_terms", "not stated", "absent", "Eq. 10 has one weight, 1, for them all"),
    Option("loss.cmcl_stop_gradient", "not stated", "absent", "no stop is mentioned"),
    Option("loss.cii_detach_patches", "not stated", "absent", "no stop is mentioned"),
    Option("loss.cii_frames", "all T", "absent", "None is all, as stated"),
    Option("loss.cii_mlp_ratio", "not stated", "4, unused", "the block of the lineage"),
    Option("loss.cii_sharing", "not stated", "absent", "Fig. 3 draws one block a branch"),
    Option("loss.cii_identity", "none", "absent", "off; see the norm of CII in the log"),
    Option("loss.retrieval", "none", "none", "M3-ReID's; beyond the paper"),
    Option("loss.orthogonality", "none", "none", "M3-ReID's; beyond the paper"),
    Option("loss.centre", "none", "none", "HHA's; beyond the paper"),
    Option(
        "loss.attributes", "none", "none", "what a person wears, for training from random weights; beyond the paper"
    ),
    Option("loss.alignment", "none", "none", "ours, for training from random weights"),
    Option("loss.alignment_temperature", "none", "none", "of no effect without loss.alignment"),
    Option("preprocessing.mean", "not stated", "ImageNet's", "the release's"),
    Option("preprocessing.size_hw", "288 x 144", "288 x 144", "as stated"),
    Option("preprocessing.std", "not stated", "ImageNet's", "the release's"),
    Option("preprocessing.thermal_percentiles", "no thermal", "no thermal", "counts mean other degrees on each camera"),
    Option("preprocessing.nir_percentiles", "not stated", "none", "8-bit images stay as they are"),
    Option("preprocessing.grey", "none", "none", "for training from random weights; beyond the paper"),
    Option("preprocessing.frames", "10", "10", "as stated"),
    Option("preprocessing.sampling", "not stated", "first of each chunk", "the release's, in evaluation"),
    Option("augmentation.shift", "random crop", "none", "the padding is not stated: 5 % of a side"),
    Option("augmentation.flip", "random flip", "0.5, once a clip", "as stated"),
    Option("augmentation.erase", "random erasing", "0.5, at the wrong place", "as stated"),
    Option("augmentation.erase_area", "random erasing", "2-20 %, aspect 0.3-3.3", "the release's, and one colour"),
    Option("augmentation.synchronised", "not stated", "erasing: once a frame", "M3-ReID's idea; beyond the paper"),
    Option("augmentation.grey", "none", "none", "M3-ReID's random-channel grey; beyond the paper"),
    Option("batch.identities", "4", "4", "as stated"),
    Option("batch.clips", "2 a modality", "2", "as stated"),
    Option("batch.frames", "10", "10", "as stated"),
    Option("optimiser.name", "Adam", "Adam", "as stated"),
    Option("optimiser.eps", "not stated", "1e-8", "PyTorch's"),
    Option("optimiser.warmup_start", "a tenth", "a tenth", "5e-7 to 5e-6"),
    Option("optimiser.schedule", "x 0.1 at milestones", "x 0.1 at milestones", "as stated"),
    Option("optimiser.clip_norm", "not stated", "none", "the release's"),
    Option("seed", "not stated", "1234", "any: tables are of several"),
    Option("optimiser.lr", "5e-6", "5e-6", "as stated"),
    Option("optimiser.weight_decay", "not stated", "1e-4, of all", "the release's; of matrices only"),
    Option("optimiser.warmup_epochs", "10, from a tenth", "10, from a tenth", "as stated"),
    Option("optimiser.head_factor", "not stated", "10", "one rate is stated, for new parts too"),
    Option("optimiser.bias_factor", "not stated", "2", "one rate is stated"),
    Option("optimiser.milestones", "30, 50", "30, 50, 70, never reached", "as stated"),
    Option("epochs", "60", "30", "as stated"),
    Option("iterations", "not stated", "300", "the release's"),
    Option("precision", "not stated", "float32", "bf16 halves the memory; losses stay float32"),
)


def value_of(config: TrainConfig, key: str) -> object:
    """The value that a configuration has at a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value
