"""The image encoder of X-ReID: a CLIP vision transformer that returns all its tokens (paper section 3.1)."""

import logging
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, cast

import open_clip
import torch
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from reid.models.attention import attend

_LOG = logging.getLogger(__name__)

State = dict[str, Tensor]
Shift = Callable[[Tensor], Tensor]


# Vision towers of our own, beside those that open_clip knows by name.
OWN_ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "xreid-tiny": {
        "patch_size": 16, "width": 128, "layers": 2, "head_width": 32, "output_dim": 128, "stem": "residual",
        "cls_from_patches": True,
    },
}  # fmt: skip


class EncoderWeightsError(ValueError):
    """Pretrained weights that cannot be read, found or fetched, or that do not fit the encoder."""


class EncoderConfig(BaseModel):
    """The size of a CLIP vision transformer.

    Attributes:
        image_size_hw: Height and width of the input in pixels.
        patch_size: Side of a square patch, which is also the stride.
        width: D, channels of a token.
        layers: L, transformer blocks.
        head_width: Channels of one attention head.
        mlp_ratio: Hidden width of a block's MLP over D.
        output_dim: d, width of the joint space that ``proj`` leads to.
        quick_gelu: x * sigmoid(1.702 x), which OpenAI's weights were trained with, in place of GELU.
        stem: How patches become tokens: ``patch`` is CLIP's one convolution as large as a patch; ``convolutional`` is a
            few small ones that halve the image each (Xiao et al., "Early Convolutions Help Transformers See Better",
            2021), for training from random weights, where ``patch`` needs far more steps than a CPU has; ``residual``
            puts a residual block (He et al. 2016) behind each but the first of them.
        cls_from_patches: Let the CLS token begin as its embedding plus the mean of the patch tokens: a stem then has a
            short way to the loss from the first step of a training from random weights. Not in CLIP.
        freeze_patch_projection: Keep ``conv1`` as it was loaded (the stability trick of MoCo v3, section 4.1).
        shifted_blocks: In front of so many of the last blocks the patch tokens of neighbouring frames are mixed as in
            Eq. 5 (temporal patch shift, LSMRL); 0 in the paper, where frames are encoded one by one.
        checkpointing: In training, compute each block again in the backward pass in place of keeping what is in it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size_hw: tuple[int, int] = (288, 144)
    patch_size: int = Field(default=16, ge=1)
    width: int = Field(default=768, ge=4)
    layers: int = Field(default=12, ge=1)
    head_width: int = Field(default=64, ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    output_dim: int = Field(default=512, ge=1)
    quick_gelu: bool = False
    stem: Literal["patch", "convolutional", "residual"] = "patch"
    cls_from_patches: bool = False
    freeze_patch_projection: bool = False
    shifted_blocks: int = Field(default=0, ge=0)
    checkpointing: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        height, width = self.image_size_hw
        if height < self.patch_size or width < self.patch_size:
            raise ValueError(f"image_size_hw {self.image_size_hw} is smaller than one patch of {self.patch_size}")
        if self.width % self.head_width:
            raise ValueError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        if self.stem != "patch" and self.patch_size.bit_count() != 1:
            raise ValueError(f"a {self.stem} stem needs a patch_size that is a power of 2, got {self.patch_size}")
        if self.shifted_blocks > self.layers:
            raise ValueError(f"shifted_blocks must be at most layers, {self.layers}, got {self.shifted_blocks}")
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4 for the channel quarters of Eq. 5, got {self.width}")
        return self

    @classmethod
    def of_architecture(cls, name: str, *, image_size_hw: tuple[int, int] = (288, 144)) -> Self:
        """The vision tower that open_clip knows as ``name``, such as ``ViT-B-16-quickgelu``, at another input size.

        ``xreid-tiny`` is our own small one. Where a side is not a multiple of the patch (ViT-L/14: 288 = 20 x 14 + 8),
        the last pixels are not looked at, as in CLIP.

        Raises:
            ValueError: When there is no such model, or it is not a plain vision transformer.
        """
        settings = OWN_ARCHITECTURES.get(name) or _open_clip_settings(name)
        return cls(**{**settings, "image_size_hw": image_size_hw})

    @property
    def heads(self) -> int:
        """Attention heads a block."""
        return self.width // self.head_width

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Patches down and across; their product is N."""
        height, width = self.image_size_hw
        return height // self.patch_size, width // self.patch_size


def _open_clip_settings(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    if config is None:
        raise ValueError(f"open_clip knows no model {name!r}; `open_clip.list_models()` lists them")
    vision = config["vision_cfg"]
    known = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"}
    if "timm_model_name" in vision or not isinstance(vision.get("layers"), int) or set(vision) - known:
        raise ValueError(f"{name!r} is not a plain CLIP vision transformer: {vision}")
    settings = {key: value for key, value in vision.items() if key != "image_size"}
    return {**settings, "output_dim": config["embed_dim"], "quick_gelu": bool(config.get("quick_gelu", False))}


class Encoder(nn.Module):
    """f_θ: one frame to its tokens; shared by all modalities (paper section 3.1).

    ``ln_post`` is applied to all tokens, so that the patch tokens live in the space of the CLS token.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(
            image_size=config.image_size_hw,
            patch_size=config.patch_size,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            output_dim=config.output_dim,
            act_layer=QuickGELU if config.quick_gelu else nn.GELU,
            pool_type="none",
            output_tokens=True,
        )
        if config.stem != "patch":
            # Channels last: oneDNN then spends less on the stem.
            stem = convolutional_stem(config)
            self.visual.conv1 = stem.to(memory_format=torch.channels_last)
        if config.freeze_patch_projection:
            self.visual.conv1.requires_grad_(False)

    def forward(
        self, frames: Tensor, *, shift: Shift | None = None, added_to_cls: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode frames.

        Args:
            frames: (n, 3, H, W), normalised.
            shift: Eq. 5 on all patch tokens (n, N, D), by a caller who knows the clips; needed by ``shifted_blocks``.
            added_to_cls: (n, D), added to the CLS token that goes in: camera embeddings.

        Returns:
            Z, the tokens after ``ln_post``, CLS first: (n, 1 + N, D); and v, the projected CLS: (n, d).

        Raises:
            ValueError: When there are ``shifted_blocks`` and no ``shift``.
        """
        first_shifted = self.config.layers - self.config.shifted_blocks
        if self.config.shifted_blocks and shift is None:
            raise ValueError("an encoder with shifted_blocks must be told how to shift: which frames are neighbours")
        tokens = self._tokens(frames, added_to_cls)
        for number, block in enumerate(self.visual.transformer.resblocks):
            if shift is not None and number >= first_shifted:
                tokens = torch.cat([tokens[:, :1], shift(tokens[:, 1:])], dim=1)
            if self.config.checkpointing and self.training and torch.is_grad_enabled():
                tokens = checkpoint(_through, block, tokens, use_reentrant=False)
            else:
                tokens = _through(block, tokens)
        tokens = self.visual.ln_post(tokens)
        return tokens, tokens[:, 0] @ self.visual.proj

    def _tokens(self, frames: Tensor, added_to_cls: Tensor | None) -> Tensor:
        """Z before the first block: (n, 1 + N, D)."""
        visual = self.visual
        if self.config.stem != "patch":
            frames = frames.contiguous(memory_format=torch.channels_last)
        patches = visual.conv1(frames).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(frames), 1, -1)
        if self.config.cls_from_patches:
            cls = cls + patches.mean(dim=1, keepdim=True)
        if added_to_cls is not None:
            cls = cls + added_to_cls[:, None].to(patches.dtype)
        tokens = torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
        return cast(Tensor, visual.ln_pre(tokens))

    def load_clip(self, source: str | Path, *, architecture: str | None = None) -> None:
        """Take the vision tower of pretrained CLIP weights.

        Args:
            source: A file (OpenAI's TorchScript ``ViT-B-16.pt``, an open_clip ``.pt``/``.bin``, ``.safetensors``, or an
                X-ReID checkpoint, of which only the encoder is taken); or, where no such file exists and
                ``architecture`` is given, a tag of open_clip such as ``openai``.
            architecture: open_clip's name of the model, for the download.

        Raises:
            EncoderWeightsError: With what was wrong, or which file to put where.
        """
        path = Path(source)
        if not path.is_file():
            path = _download(str(source), architecture, quick_gelu=self.config.quick_gelu)
        elif _is_script(path) and not self.config.quick_gelu:
            _LOG.warning("%s is in OpenAI's layout, whose weights expect quick_gelu; this encoder computes GELU", path)
        state = read_visual_state(path)
        if not _is_own(path):
            state = {**state, **_resized_grid(state, self.config, path)}
        _check_fit(state, {f"visual.{key}": value for key, value in self.visual.state_dict().items()}, path)
        self.visual.load_state_dict(state)
        activation = "QuickGELU" if self.config.quick_gelu else "GELU"
        _LOG.info(
            "%s: %d tensors of the vision tower loaded; they are computed with %s, for the file does not say which its "
            "weights were trained with (OpenAI's: QuickGELU)",
            path,
            len(state),
            activation,
        )


def _through(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """One transformer block, (n, 1 + N, D) to the same, with its attention through ``attend``."""
    attention = block.attn
    qkv = functional.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    x = x + attention.out_proj(attend(*qkv.chunk(3, dim=2), heads=attention.num_heads))
    return cast(Tensor, x + block.mlp(block.ln_2(x)))


def packed_neighbours(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the frame before and of the frame after, in its own clip; the frame's own row where there is none.

    Args:
        lengths: (B,) int64; frames of clip 0, then those of clip 1, ...

    Returns:
        (n,) int64 each, n the sum of lengths.
    """
    end = torch.cumsum(lengths, 0)
    clip = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    row = torch.arange(len(clip), device=lengths.device)
    before, after = row - 1, row + 1
    return torch.where(before >= (end - lengths)[clip], before, row), torch.where(after < end[clip], after, row)


def shift_packed(patches: Tensor, lengths: Tensor) -> Tensor:
    """Eq. 5 on packed frames: the first quarter of the channels from the frame before, the second from the one after.

    Args:
        patches: (n, N, D), the frames of clip 0, then those of clip 1, ...
        lengths: (B,) int64, whose sum is n.

    Returns:
        (n, N, D).
    """
    before, after = packed_neighbours(lengths)
    quarter = patches.shape[2] // 4
    parts = [
        patches[..., :quarter].index_select(0, before),
        patches[..., quarter : 2 * quarter].index_select(0, after),
        patches[..., 2 * quarter :],
    ]
    return torch.cat(parts, dim=-1)


def convolutional_stem(config: EncoderConfig) -> nn.Sequential:
    """3 x 3 convolutions of stride 2 until a patch is one pixel, then one of 1 x 1; width doubles up to D.

    The ``residual`` stem has a ``ResidualBlock`` behind each but the first, which works at half the image's size. Takes
    the place of ``conv1``: (n, 3, H, W) to (n, D, H / patch_size, W / patch_size).
    """
    halvings = config.patch_size.bit_length() - 1
    widths = [3, *(max(8, config.width >> (halvings - step)) for step in range(1, halvings + 1))]
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths)):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
        if config.stem == "residual" and number:
            layers.append(ResidualBlock(after))
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], config.width, 1))


class ResidualBlock(nn.Module):
    """ReLU(x + BN(W₂ * ReLU(BN(W₁ * x)))), 3 x 3 convolutions of one width (He et al. 2016, Fig. 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branch finds: (n, width, h, w), shape kept."""
        return functional.relu(x + self.branch(x))


def read_visual_state(path: Path) -> State:
    """Read the vision tower's tensors, float32, (...) as they are in the file, without their ``visual.`` prefix.

    Raises:
        EncoderWeightsError: When the file is no checkpoint, or holds no vision tower.
    """
    try:
        state = _read_state(path)
    except Exception as error:
        raise EncoderWeightsError(
            f"{path}: not a checkpoint that can be read (expected OpenAI's TorchScript .pt, an open_clip .pt/.bin, or "
            f".safetensors): {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    state = {key.removeprefix("module.").removeprefix("encoder."): value for key, value in state.items()}
    visual = {key.removeprefix("visual."): value.float() for key, value in state.items() if key.startswith("visual.")}
    if not visual:
        some = ", ".join(sorted(state)[:3]) or "nothing"
        raise EncoderWeightsError(f"{path}: no CLIP vision tower: expected keys that start with 'visual.', got {some}")
    return visual


def _read_state(path: Path) -> State:
    if path.suffix == ".safetensors":
        return load_file(path)
    if _is_script(path):
        with warnings.catch_warnings():
            # OpenAI's files are TorchScript, and only its loader reads them, though PyTorch would retire it.
            warnings.filterwarnings("ignore", message=".*torch.jit.load.*is deprecated", category=FutureWarning)
            script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        return dict(script.state_dict())
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TypeError("holds no mapping of names to tensors")
    return dict(state)


def _is_script(path: Path) -> bool:
    """Whether a file is TorchScript, OpenAI's layout."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _is_own(path: Path) -> bool:
    """Whether a file is an X-ReID checkpoint, whose grid need not be square and is never resized."""
    if path.suffix != ".safetensors":
        return False
    with safe_open(path, framework="pt") as file:
        return "xreid" in (file.metadata() or {})


def interpolate_grid(embedding: Tensor, *, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """Resize a positional embedding bilinearly, the CLS position kept.

    Args:
        embedding: (1 + from_h * from_w, D).
        from_hw: The grid it was trained on.
        to_hw: The grid wanted.

    Returns:
        (1 + to_h * to_w, D).
    """
    cls, grid = embedding[:1], embedding[1:]
    image = grid.reshape(1, *from_hw, -1).permute(0, 3, 1, 2)
    image = functional.interpolate(image, size=to_hw, mode="bilinear", align_corners=False)
    return torch.cat([cls, image.permute(0, 2, 3, 1).reshape(to_hw[0] * to_hw[1], -1)])


def _resized_grid(state: State, config: EncoderConfig, path: Path) -> State:
    embedding = state.get("positional_embedding")
    if embedding is None or embedding.ndim != 2:
        return {}
    patches = len(embedding) - 1
    side = math.isqrt(patches)
    if config.grid_hw == (side, side):
        return {}
    if side * side != patches:
        raise EncoderWeightsError(
            f"{path}: positional_embedding has {patches} patches, which is no square grid "
            f"that could be resized to {config.grid_hw[0]} x {config.grid_hw[1]}"
        )
    return {"positional_embedding": interpolate_grid(embedding, from_hw=(side, side), to_hw=config.grid_hw)}


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    problems = mismatches({f"visual.{key}": value for key, value in state.items()}, expected)
    if problems:
        raise EncoderWeightsError(f"{path}: does not fit the encoder: " + "; ".join(problems))


def mismatches(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Name each key that is missing, not expected, or of the wrong shape: "key is (3, 3), expected (4, 3)"."""
    missing = [f"missing {key}" for key in expected if key not in state]
    extra = [f"unexpected {key}" for key in state if key not in expected]
    wrong = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    return wrong + missing + extra


def _download(tag: str, architecture: str | None, *, quick_gelu: bool) -> Path:
    """Fetch a checkpoint by open_clip's own means, into its own cache."""
    if architecture is None:
        raise EncoderWeightsError(f"{tag}: no such file; put a CLIP checkpoint there (OpenAI, open_clip, safetensors)")
    config = get_pretrained_cfg(architecture, tag)
    if not config:
        tags = ", ".join(list_pretrained_tags_by_model(architecture)) or "none, so begin with pretrained=null or a file"
        raise EncoderWeightsError(f"{tag}: neither a file nor a tag of {architecture} in open_clip; its tags: {tags}")
    if bool(config.get("quick_gelu", False)) != quick_gelu:
        trained, here = ("QuickGELU", "GELU") if not quick_gelu else ("GELU", "QuickGELU")
        raise EncoderWeightsError(
            f"{architecture} ({tag}) was trained with {trained}, and this encoder computes {here}: set "
            f"model.encoder.quick_gelu to {str(not quick_gelu).lower()}, or take the architecture of that name"
        )
    try:
        return Path(download_pretrained(config))
    except Exception as error:
        origin = config.get("url") or config.get("hf_hub")
        raise EncoderWeightsError(
            f"{architecture} ({tag}) could not be fetched: {type(error).__name__}. Fetch {origin} on a machine with a "
            f"network, copy it here, and give the path of that file in place of {tag!r}"
        ) from error
