import warnings
from collections import OrderedDict
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from reid.checkpoint import find, load
from reid.models.encoder import (
    Encoder,
    EncoderConfig,
    EncoderWeightsError,
    ResidualBlock,
    interpolate_grid,
    read_visual_state,
)
from tests.reid.factories import SIZE_HW, encoder_config

SQUARE = {"image_size_hw": (40, 40)}


def clip_state(**changes: object) -> dict[str, Tensor]:
    """A whole CLIP's state: the vision tower under ``visual.``, and some of the text tower."""
    torch.manual_seed(3)
    tower = Encoder(encoder_config(**{**SQUARE, **changes})).visual
    state = {f"visual.{name}": value.clone() for name, value in tower.state_dict().items()}
    return {**state, "text_projection": torch.zeros(4, 4), "logit_scale": torch.ones(())}


def nested(state: dict[str, Tensor]) -> nn.Module:
    """A module tree with exactly these state keys."""
    root = nn.Module()
    for name, value in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.register_buffer(leaf, value)
    return root


def save_script(module: nn.Module, path: Path) -> None:
    """Save as TorchScript, which OpenAI's files are and which PyTorch would like to be rid of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))


def test_a_vit_b_16_at_288_by_144_has_163_tokens_of_768_and_projects_to_512() -> None:
    encoder = Encoder(EncoderConfig(layers=1))
    tokens, projected = encoder(torch.zeros(1, 3, 288, 144))
    assert tokens.shape == (1, 163, 768)
    assert projected.shape == (1, 512)


def test_all_tokens_went_through_ln_post_and_the_cls_token_through_the_projection() -> None:
    encoder = Encoder(encoder_config()).eval()
    tower = encoder.visual
    with torch.no_grad():
        tower.ln_post.weight.uniform_(0.5, 2)
        tower.ln_post.bias.uniform_(-1, 1)
    frames = torch.randn(2, 3, 32, 16)
    patches = functional.conv2d(frames, tower.conv1.weight, stride=8).flatten(2).transpose(1, 2)
    x = torch.cat([tower.class_embedding.expand(2, 1, -1), patches], dim=1) + tower.positional_embedding
    expected = tower.ln_post(tower.transformer(tower.ln_pre(x)))
    tokens, projected = encoder(frames)
    torch.testing.assert_close(tokens, expected)
    torch.testing.assert_close(projected, expected[:, 0] @ tower.proj)


def test_a_tower_of_open_clip_is_described_by_its_name() -> None:
    config = EncoderConfig.of_architecture("ViT-B-16-quickgelu", image_size_hw=(288, 144))
    assert config == EncoderConfig(quick_gelu=True)
    assert EncoderConfig.of_architecture("ViT-L-14").layers == 24
    with pytest.raises(ValueError, match="no model 'ViT-Q'"):
        EncoderConfig.of_architecture("ViT-Q")
    with pytest.raises(ValueError, match="not a plain CLIP vision transformer"):
        EncoderConfig.of_architecture("RN50")


def test_quick_gelu_changes_the_result_and_freezing_stops_the_patch_projection() -> None:
    torch.manual_seed(0)
    plain = Encoder(encoder_config())
    quick = Encoder(encoder_config(quick_gelu=True, freeze_patch_projection=True))
    quick.load_state_dict(plain.state_dict())
    frames = torch.randn(1, 3, 32, 16)
    assert not torch.allclose(plain(frames)[0], quick(frames)[0])
    assert [name for name, p in quick.named_parameters() if not p.requires_grad] == ["visual.conv1.weight"]


def test_the_grid_is_resized_bilinearly_and_the_cls_position_is_kept() -> None:
    row, column = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    embedding = torch.cat([torch.tensor([[9.0, -9.0]]), torch.stack([row.flatten(), column.flatten()], dim=1)])
    resized = interpolate_grid(embedding, from_hw=(4, 4), to_hw=(8, 2))
    assert resized[0].tolist() == [9.0, -9.0]
    grid = resized[1:].reshape(8, 2, 2)
    # Centres of the new cells in the old grid: (i + 0.5) / 2 - 0.5 down, (j + 0.5) * 2 - 0.5 across, borders clamped.
    assert grid[:, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
    assert grid[0, :, 1].tolist() == [0.5, 2.5]


@pytest.mark.parametrize("layout", ["openai_script", "openai_state", "open_clip", "distributed", "safetensors"])
def test_checkpoints_of_each_layout_load_and_their_grid_is_fitted(layout: str, tmp_path: Path) -> None:
    state = clip_state()
    path = tmp_path / ("clip.safetensors" if layout == "safetensors" else "clip.pt")
    if layout == "openai_script":
        half = {name: value.half() for name, value in state.items()}
        save_script(nested({**half, "input_resolution": torch.tensor(40)}), path)
    elif layout == "openai_state":
        torch.save(OrderedDict(state), path)
    elif layout == "open_clip":
        torch.save({"epoch": 1, "state_dict": state}, path)
    elif layout == "distributed":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        save_file(state, path)
    encoder = Encoder(encoder_config())
    encoder.load_clip(path)
    tolerance = {"atol": 1e-3, "rtol": 1e-3} if layout == "openai_script" else {"atol": 0.0, "rtol": 0.0}
    torch.testing.assert_close(encoder.visual.proj.detach(), state["visual.proj"], **tolerance)
    embedding = interpolate_grid(state["visual.positional_embedding"], from_hw=(5, 5), to_hw=(4, 2))
    torch.testing.assert_close(encoder.visual.positional_embedding.detach(), embedding, **tolerance)
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())


def test_a_tower_that_open_clip_itself_saves_loads(tmp_path: Path) -> None:
    tower = open_clip.transformer.VisionTransformer(32, 8, 16, 2, 2, 4.0, output_dim=12)
    torch.save({f"visual.{name}": value for name, value in tower.state_dict().items()}, tmp_path / "tower.bin")
    encoder = Encoder(encoder_config(image_size_hw=(32, 32)))
    encoder.load_clip(tmp_path / "tower.bin")
    frames = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder.eval()(frames)[1], tower.eval()(frames))


def test_training_can_begin_with_the_encoder_of_the_embedded_weights() -> None:
    embedded = load("xreid-tiny").model
    encoder = Encoder(embedded.config.encoder)
    encoder.load_clip(find("xreid-tiny"))
    for name, value in embedded.encoder.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[name], value, msg=name)


def test_a_grid_of_as_many_patches_but_another_shape_is_resized(tmp_path: Path) -> None:
    square = Encoder(encoder_config(image_size_hw=(32, 32))).visual.state_dict()  # 4 x 4
    torch.save({f"visual.{name}": value for name, value in square.items()}, tmp_path / "tower.pt")
    encoder = Encoder(encoder_config(image_size_hw=(64, 16)))  # 8 x 2
    encoder.load_clip(tmp_path / "tower.pt")
    expected = interpolate_grid(square["positional_embedding"], from_hw=(4, 4), to_hw=(8, 2))
    torch.testing.assert_close(encoder.visual.positional_embedding.detach(), expected)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = clip_state()
    state["visual.proj"] = torch.zeros(16, 99)
    state["visual.extra"] = torch.zeros(1)
    del state["visual.ln_pre.bias"]
    torch.save(state, tmp_path / "clip.pt")
    with pytest.raises(EncoderWeightsError) as caught:
        Encoder(encoder_config()).load_clip(tmp_path / "clip.pt")
    message = str(caught.value)
    assert "proj is (16, 99), expected (16, 12)" in message
    assert "missing visual.ln_pre.bias" in message
    assert "unexpected visual.extra" in message
    assert str(tmp_path / "clip.pt") in message


@pytest.mark.parametrize("layout", ["openai_script", "open_clip"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("shape", r"proj is \(16, 99\), expected \(16, 12\)$"),
        ("missing", r"missing visual\.ln_pre\.bias$"),
        ("extra", r"unexpected visual\.transformer\.resblocks\.0\.extra$"),
    ],
)
def test_one_fault_of_either_layout_is_named_and_nothing_is_loaded(
    layout: str, fault: str, message: str, tmp_path: Path
) -> None:
    state = clip_state()
    if fault == "shape":
        state["visual.proj"] = torch.zeros(16, 99)
    elif fault == "missing":
        del state["visual.ln_pre.bias"]
    else:
        state["visual.transformer.resblocks.0.extra"] = torch.zeros(1)
    path = tmp_path / "clip.pt"
    if layout == "openai_script":
        save_script(nested({name: value.half() for name, value in state.items()}), path)
    else:
        torch.save({"epoch": 1, "state_dict": state}, path)
    encoder = Encoder(encoder_config())
    before = encoder.visual.class_embedding.clone()
    with pytest.raises(EncoderWeightsError, match=message):
        encoder.load_clip(path)
    assert torch.equal(encoder.visual.class_embedding, before)


def test_a_grid_that_is_neither_ours_nor_square_is_refused(tmp_path: Path) -> None:
    state = clip_state()
    state["visual.positional_embedding"] = torch.zeros(1 + 6, 16)
    torch.save(state, tmp_path / "clip.pt")
    with pytest.raises(EncoderWeightsError, match=r"6 patches, which is no square grid"):
        Encoder(encoder_config()).load_clip(tmp_path / "clip.pt")


def test_files_that_are_no_checkpoint_are_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "note.pt").write_text("not weights")
    with pytest.raises(EncoderWeightsError, match=r"note\.pt: not a checkpoint that can be read"):
        read_visual_state(tmp_path / "note.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EncoderWeightsError, match="no mapping of names to tensors"):
        read_visual_state(tmp_path / "list.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(EncoderWeightsError, match=r"start with 'visual\.', got weight"):
        read_visual_state(tmp_path / "other.pt")


def test_a_file_that_is_not_there_says_what_to_put_there() -> None:
    encoder = Encoder(encoder_config())
    with pytest.raises(EncoderWeightsError, match=r"gone\.pt: no such file; put a CLIP checkpoint there"):
        encoder.load_clip("gone.pt")
    with pytest.raises(EncoderWeightsError, match=r"neither a file nor a tag of ViT-B-16.*openai"):
        encoder.load_clip("nonsense", architecture="ViT-B-16")


def test_a_download_that_fails_says_which_file_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(config: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("reid.models.encoder.download_pretrained", offline)
    with pytest.raises(EncoderWeightsError, match=r"could not be fetched: OSError\. Fetch .* give the path"):
        Encoder(encoder_config(quick_gelu=True)).load_clip("openai", architecture="ViT-B-16")


def test_weights_of_another_activation_are_refused_by_tag_and_warned_of_in_openai_s_layout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EncoderWeightsError, match=r"trained with QuickGELU, .* computes GELU: set .* to true"):
        Encoder(encoder_config()).load_clip("openai", architecture="ViT-B-16")
    with pytest.raises(EncoderWeightsError, match=r"trained with GELU, .* computes QuickGELU: set .* to false"):
        Encoder(encoder_config(quick_gelu=True)).load_clip("laion2b_s34b_b88k", architecture="ViT-B-16")
    save_script(nested(clip_state()), tmp_path / "clip.pt")
    Encoder(encoder_config(quick_gelu=True)).load_clip(tmp_path / "clip.pt")
    assert "quick_gelu" not in caplog.text
    Encoder(encoder_config()).load_clip(tmp_path / "clip.pt")
    assert "expect quick_gelu; this encoder computes GELU" in caplog.text


def test_a_download_that_succeeds_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = clip_state()
    save_file(state, tmp_path / "fetched.safetensors")
    monkeypatch.setattr("reid.models.encoder.download_pretrained", lambda config: str(tmp_path / "fetched.safetensors"))
    encoder = Encoder(encoder_config(quick_gelu=True))
    encoder.load_clip("openai", architecture="ViT-B-16")
    assert torch.equal(encoder.visual.proj.detach(), state["visual.proj"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size_hw": (4, 16)}, "smaller than one patch"),
        ({"head_width": 5}, "not a multiple of head_width"),
        ({"width": 18, "head_width": 9}, "multiple of 4"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder_config(**changes)


@pytest.mark.parametrize("stem", ["convolutional", "residual"])
def test_a_stem_of_convolutions_gives_the_tokens_of_the_grid_and_learns(stem: str) -> None:
    encoder = Encoder(encoder_config(stem=stem))
    tokens, projected = encoder(torch.rand(3, 3, *SIZE_HW))
    assert (tokens.shape, projected.shape) == ((3, 1 + 4 * 2, 16), (3, 12))
    projected.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.visual.conv1.parameters())


def test_a_residual_block_without_its_branch_is_a_rectifier() -> None:
    block = ResidualBlock(4)
    torch.nn.init.zeros_(block.branch[-1].weight)
    image = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(block(image), image.relu())


def test_the_cls_token_can_begin_with_the_mean_of_the_patches() -> None:
    encoder = Encoder(encoder_config(cls_from_patches=True)).eval()
    without = Encoder(encoder_config()).eval()
    without.load_state_dict(encoder.state_dict())
    frames = torch.rand(2, 3, *SIZE_HW)
    patches = encoder.visual.conv1(frames).flatten(2).mean(dim=2)
    torch.testing.assert_close(encoder(frames)[0], without(frames, added_to_cls=patches)[0])
