"""Presets are what they say: the paper's settings, the rows of its tables, and where their gradients go."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reid import presets
from reid.losses.total import Labels, Loss, LossConfig, Objective
from reid.models.encoder import EncoderConfig
from reid.models.xreid import ClipFeatures, XReID, XReIDConfig
from reid.training_config import ConfigError, OptimiserConfig, TrainConfig, config_of, read_config
from reid.transforms import Preprocessing
from tests.reid.factories import encoder_config

FRAMES = 3
BOTH_BLOCKS = {"short_term", "long_term"}
# Which parts of the network and of the objective get a gradient from the whole loss, by preset.
REACHED = {
    "paper": {"encoder", *BOTH_BLOCKS, "interaction", "identity"},
    "plus": {"encoder", *BOTH_BLOCKS, "interaction", "identity"},
    "code": {"encoder", "short_term", "camera_embedding", "necks", "identity"},
    "baseline_pcl": {"encoder", "identity"},
    "vanilla": {"encoder", "identity"},
    "cross_modal_update": {"encoder", "identity"},
    "cross_modal_collaboration": {"encoder", "identity"},
    "cpc": {"encoder", "identity"},
    "cpc_sii": {"encoder", "short_term", "identity"},
    "cpc_lii": {"encoder", "long_term", "identity"},
    "cpc_cii": {"encoder", "interaction", "identity"},
    "cpc_sii_cii": {"encoder", "short_term", "interaction", "identity"},
    "cpc_lii_cii": {"encoder", "long_term", "interaction", "identity"},
    "cpc_sii_lii": {"encoder", *BOTH_BLOCKS, "identity"},
    **{f"sii_stride_{s}": {"encoder", *BOTH_BLOCKS, "interaction", "identity"} for s in (2, 3, 4)},
    **{f"lii_step_{s}": {"encoder", *BOTH_BLOCKS, "interaction", "identity"} for s in (0, 1, 3, 4)},
}


class Batch:
    """Two identities, two clips each in two modalities, through a small network of a preset."""

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(3)
        self.model = XReID(config.model).train()
        self.objective = Objective(config.model, config.loss, identities=4, modalities=2).train()
        self.labels = Labels(torch.tensor([0, 0, 3, 3]).repeat(2), torch.tensor([0, 1]).repeat_interleave(4))
        self.frames = torch.randn(8 * FRAMES, 3, 32, 16)
        features = self.forward()
        self.objective.memory.initialise(
            self.objective.remembered(self.model, features).detach(), *self.objective.memory_labels(self.labels)
        )

    def forward(self) -> ClipFeatures:
        cameras = torch.arange(8) if self.model.config.cameras else None
        return self.model(self.frames, torch.full((8,), FRAMES), self.labels.modalities, cameras)

    def loss(self) -> Loss:
        loss: Loss = self.objective(self.model, self.forward(), self.labels)
        return loss


def small(name: str) -> Batch:
    return Batch(presets.load(name, encoder=encoder_config(quick_gelu=True)))


@pytest.mark.parametrize("name", presets.PRESETS)
def test_gradients_reach_what_the_preset_trains_and_nothing_else(name: str) -> None:
    batch = small(name)
    batch.loss().total.backward()
    named = [*batch.model.named_parameters(), *batch.objective.named_parameters()]
    reached = {key.split(".")[0] for key, each in named if each.grad is not None and each.grad.abs().sum() > 0}
    assert reached == REACHED[name]
    frozen = {key for key, each in named if not each.requires_grad}
    silent = {key for key, each in named if each.requires_grad and (each.grad is None or not each.grad.abs().sum())}
    assert silent == set()
    assert frozen == (
        {"encoder.visual.conv1.weight", "necks.0.bias", "necks.1.bias", "necks.2.bias"} if name == "code" else set()
    )


@pytest.mark.parametrize(("name", "trains"), [("paper", True), ("code", False)])
def test_the_losses_of_the_interactions_train_the_backbone_in_the_paper_and_not_in_the_code(
    name: str, trains: bool
) -> None:
    """The released code hands SII detached tokens, so that only the losses of the plain features train the encoder."""
    batch = small(name)
    fused = batch.forward().fused
    assert isinstance(fused, Tensor)
    fused.square().sum().backward()
    reached = [key for key, each in batch.model.encoder.named_parameters() if each.grad is not None]
    assert bool(reached) is trains
    assert batch.model.short_term.block.query.weight.grad is not None


@pytest.mark.parametrize("name", presets.PRESETS)
def test_memories_receive_no_gradient_and_move_if_they_are_used(name: str) -> None:
    batch = small(name)
    before = batch.objective.memory.prototypes.clone()
    batch.loss().total.backward()
    assert not batch.objective.memory.prototypes.requires_grad
    assert "memory" not in {key.split(".")[0] for key, _ in batch.objective.named_parameters()}
    assert torch.equal(batch.objective.memory.prototypes, before) is (name == "vanilla")


def test_paper_is_what_the_paper_states() -> None:
    """Sections 3 and 4.1 of arXiv 2511.17964, and Figs. 4 and 5 for the strides."""
    config = presets.load("paper")
    encoder = config.model.encoder
    assert (config.pretrained, config.architecture, encoder.quick_gelu) == ("openai", "ViT-B-16-quickgelu", True)
    assert (encoder.image_size_hw, encoder.patch_size, encoder.width, encoder.layers) == ((288, 144), 16, 768, 12)
    assert (encoder.output_dim, encoder.freeze_patch_projection, encoder.shifted_blocks) == (512, False, 0)
    assert (config.batch.identities, config.batch.clips, config.batch.frames) == (4, 2, 10)
    optimiser = config.optimiser
    assert (optimiser.name, optimiser.lr, optimiser.warmup_epochs, optimiser.warmup_start) == ("adam", 5e-6, 10, 0.1)
    assert (optimiser.schedule, optimiser.milestones, config.epochs) == ("step", (30, 50), 60)
    assert (config.model.interactions, config.model.short_stride, config.model.long_step) == (("short", "long"), 1, 2)
    assert (config.loss.momentum, config.loss.update, config.loss.cpcl_against) == (0.2, "cross_modality", "both")
    assert (config.loss.cpcl, config.loss.triplet, config.loss.identity, config.loss.cmcl) == (1, 1, 1, 1)
    beyond = (config.loss.retrieval, config.loss.orthogonality, config.loss.centre, config.loss.alignment)
    assert beyond == (0, 0, 0, 0)
    assert (config.loss.shared_prototypes, config.model.pooling, config.model.neck) == (False, "mean", "none")
    assert config.model.camera_embedding == "none"
    drawn = {key for key, value in config.augmentation.model_dump().items() if value}
    assert drawn == {"flip", "shift", "erase", "erase_area"}
    assert (config.loss.triplet_on, config.loss.identity_on) == (("projected", "fused"), ("projected", "fused"))


def test_code_is_what_the_release_trains() -> None:
    """What is known of the released code beside the paper: its losses, memories, network and schedule."""
    config = presets.load("code")
    model, loss, optimiser = config.model, config.loss, config.optimiser
    assert (model.interactions, model.short_blocks, model.detach_tokens, model.neck) == (
        ("short",),
        2,
        True,
        "batch_norm",
    )
    assert (model.camera_embedding, model.cameras, model.encoder.freeze_patch_projection) == ("modality_mean", 12, True)
    assert (loss.update, loss.momentum, loss.temperature, loss.denominator) == ("pooled", 0.1, 0.05, "all")
    assert (loss.cpcl_on, loss.memories_behind_necks, loss.order) == ("joint", True, "loss_then_update")
    assert (loss.identity, loss.identity_on, loss.frame_identity, loss.cmcl) == (0.25, ("joint", "fused"), 0.1, 0)
    assert (loss.triplet, loss.triplet_on, loss.margin, loss.smoothing) == (1, ("cls", "projected", "fused"), 0.3, 0)
    assert (optimiser.lr, optimiser.head_factor, optimiser.bias_factor, optimiser.weight_decay) == (5e-6, 10, 2, 1e-4)
    assert (config.memories, config.epochs, config.iterations, optimiser.milestones) == ("every_epoch", 30, 300, ())
    assert (config.augmentation.shift, config.augmentation.flip, config.augmentation.erase) == (0, 0.5, 0.5)


def test_the_rows_of_the_papers_ablations_have_a_preset_each() -> None:
    rows = {row for preset in presets.PRESETS.values() for row in preset.rows} | set(presets.NOT_BUILT)
    sii_lii_cii = ("none", "SII", "LII", "CII", "SII CII", "LII CII", "SII LII", "SII LII CII")
    expected = {f"Tab. 5 {row}" for row in sii_lii_cii}
    expected |= {"Tab. 3 Baseline", "Tab. 3 + CPC", "Tab. 3 + MII", "Tab. 1", "Tab. 2"}
    visual = ("Visual memories", "Cross-modal update", "Cross-modal collaboration", "CPC")
    expected |= {f"Tab. 4 {row}" for row in ("Vanilla", "Textual prompts", *visual)}
    expected |= {f"Fig. 4 S = {s}" for s in (1, 2, 3, 4)} | {f"Fig. 5 S = {s}" for s in (0, 1, 2, 3, 4)}
    assert rows == expected


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if name != "paper"])
def test_a_preset_differs_from_the_paper_in_its_changes_only(name: str) -> None:
    paper, config = presets.load("paper"), presets.load(name)
    keys = set(presets.PRESETS[name].changes)

    def leaves(data: dict[str, object], prefix: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in data.items():
            found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        return found

    ours, theirs = leaves(config.model_dump()), leaves(paper.model_dump())
    differing = {key for key in ours if ours[key] != theirs[key]} - {"name"}
    assert differing == keys
    assert config.name == f"xreid-{name.replace('_', '-')}"


@pytest.mark.parametrize("option", presets.OPTIONS, ids=lambda option: option.key)
def test_every_option_of_the_table_exists_and_says_something(option: presets.Option) -> None:
    presets.value_of(presets.load("paper"), option.key)
    assert option.paper
    assert option.release
    assert option.why


def test_every_switch_a_preset_turns_is_in_the_table() -> None:
    explained = {option.key for option in presets.OPTIONS}
    turned = {key for preset in presets.PRESETS.values() for key in preset.changes}
    assert turned <= explained


def test_every_option_of_network_losses_optimiser_and_preprocessing_is_in_the_table() -> None:
    options = {f"model.{name}" for name in XReIDConfig.model_fields if name != "encoder"}
    options |= {f"model.encoder.{name}" for name in EncoderConfig.model_fields}
    options |= {f"loss.{name}" for name in LossConfig.model_fields}
    options |= {f"optimiser.{name}" for name in OptimiserConfig.model_fields}
    options |= {f"preprocessing.{name}" for name in Preprocessing.model_fields} | {"seed", "epochs", "iterations"}
    assert options <= {option.key for option in presets.OPTIONS}


@pytest.mark.parametrize(
    ("name", "width", "layers", "dimension"),
    [
        ("ViT-B-32-quickgelu", 768, 12, 2048),
        ("ViT-L-14-quickgelu", 1024, 24, 2816),
        ("xreid-tiny", 128, 2, 384),
    ],
)
def test_another_encoder_comes_by_the_same_door(name: str, width: int, layers: int, dimension: int) -> None:
    config = config_of(presets.as_data("paper"), [f"architecture={name}"], where="here")
    encoder = config.model.encoder
    assert (encoder.width, encoder.layers, config.model.dimension) == (width, layers, dimension)
    assert encoder.image_size_hw == (288, 144)
    with torch.device("meta"):
        assert XReID(config.model).embed_padded(
            torch.empty(1, 1, 3, 288, 144), torch.empty(1, dtype=torch.int64), torch.empty(1, dtype=torch.int64)
        ).shape == (1, dimension)


def test_an_architecture_that_nobody_knows_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match="here: architecture: open_clip knows no model 'ViT-Q'"):
        config_of(presets.as_data("paper"), ["architecture=ViT-Q"], where="here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training_data=...", "--set training_data=...: the value is not YAML, put it in quotes"),
        ("loss.cmcl=[", r"--set loss.cmcl=\[: the value is not YAML"),
        ("preprocessing.size_hw=[128,64]", "size_hw is 128 x 64, but model.encoder.image_size_hw is 288 x 144"),
        ("loss.behind_necks=true", "of no effect with model.neck 'none'"),
        ("loss.memories_behind_necks=true", "of no effect with model.neck 'none'"),
    ],
)
def test_a_setting_that_cannot_be_or_does_nothing_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(presets.as_data("paper"), [change], where="here")


def test_an_update_that_shared_prototypes_do_not_use_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.update is of no effect with loss\.shared_prototypes, got 'pooled'"):
        config_of(presets.as_data("paper"), ["loss.shared_prototypes=true", "loss.update=pooled"], where="here")


def test_the_embedded_weights_have_the_size_of_the_architecture_of_their_name() -> None:
    tiny = EncoderConfig.of_architecture("xreid-tiny", image_size_hw=(128, 64))
    assert read_config(Path(__file__).parents[2] / "configs/reid/xreid_tiny.yaml").model.encoder == tiny


def test_a_name_that_is_no_preset_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="no preset 'papre'; there are: paper, code"):
        presets.load("papre")
