"""Text, colours and thumbnails on RGB images: what the annotated video and the contact sheet draw with."""

import colorsys
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from pipeline.frame import Image
from reid.modality import Modality

Rgb8: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
GREY: Colour = (150, 150, 150)
CORRECT: Colour = (46, 204, 113)  # judged by ground truth, on the contact sheet and in videos
WRONG: Colour = (231, 76, 60)
MODALITY_COLOUR: dict[Modality, Colour] = {
    Modality.RGB: (64, 150, 255),
    Modality.NIR: (190, 120, 255),
    Modality.THERMAL: (255, 140, 50),
}
_LEAST_SPAN = 24.0  # levels of 8 bits, counts of 16
_GOLDEN_RATIO = 0.618033988749895


def person_colour(person_id: int) -> Colour:
    """A bright colour that stays with a person in all cameras; neighbouring numbers are far apart in hue."""
    hue = person_id * _GOLDEN_RATIO % 1
    saturation = (0.8, 0.45, 0.95)[person_id // 17 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour_on(background: Colour) -> Colour:
    """Black or white, whichever is easier to read (relative luminance, ITU-R BT.601)."""
    red, green, blue = background
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else WHITE


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError("Pillow was built without FreeType and has no scalable font")
    return font


@lru_cache(maxsize=512)
def _mask(text: str, size: int) -> NDArray[np.uint16]:
    """Coverage of anti-aliased text, (h, w) in 0..256; the height depends on the size only."""
    font = _font(size)
    if font.getlength(" ") < 3:  # of two pixels, between which words run together
        text = text.replace(" ", "  ")
    ascent, descent = font.getmetrics()
    width = max(1, round(font.getlength(text)) + 1)
    image = PilImage.new("L", (width, ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    coverage = np.asarray(image, dtype=np.uint16)
    return coverage + (coverage >> 7)


def text_wh(text: str, size: int) -> tuple[int, int]:
    """Width and height of text in pixels."""
    height, width = _mask(text, size).shape
    return width, height


def shortened(text: str, size: int, width: int) -> str:
    """The text, or as much of its beginning as fits beside two dots."""
    if text_wh(text, size)[0] <= width:
        return text
    kept = next((n for n in range(len(text) - 1, 0, -1) if text_wh(text[:n] + "..", size)[0] <= width), 0)
    return text[:kept] + ".."


def put_text(canvas: Rgb8, text: str, xy: tuple[int, int], *, size: int, colour: Colour) -> None:
    """Draw anti-aliased text in place, its top left corner at ``xy``; what lies outside the canvas is cut off."""
    mask = _mask(text, size)
    x, y = xy
    top, left = max(0, -y), max(0, -x)
    mask = mask[top : max(0, canvas.shape[0] - y), left : max(0, canvas.shape[1] - x)]
    if not mask.size:
        return
    area = canvas[y + top : y + top + mask.shape[0], x + left : x + left + mask.shape[1]]
    alpha = mask[..., None]
    area[...] = (area * (256 - alpha) + np.array(colour, np.uint16) * alpha) >> 8


def put_label(
    canvas: Rgb8, text: str, xy: tuple[int, int], *, size: int, background: Colour, colour: Colour | None = None
) -> tuple[int, int]:
    """Draw text on a filled box, moved so that it stays on the canvas; its width and height."""
    width, height = text_wh(text, size)
    pad = max(2, size // 4)
    width, height = width + 2 * pad, height + 2
    x = int(np.clip(xy[0], 0, max(0, canvas.shape[1] - width)))
    y = int(np.clip(xy[1], 0, max(0, canvas.shape[0] - height)))
    canvas[y : y + height, x : x + width] = background
    put_text(canvas, text, (x + pad, y + 1), size=size, colour=colour or text_colour_on(background))
    return width, height


def to_rgb8(image: Image) -> Rgb8:
    """Any crop as RGB for the eye: colour as it is, grey stretched from its 1st to its 99.5th percentile and repeated.

    At night people in infrared are a few grey levels away from one another; fewer than ``_LEAST_SPAN`` are noise.
    """
    if image.ndim == 2:
        low, high = np.percentile(image, (1, 99.5))
        image = np.clip((image - low) * (255 / max(high - low, _LEAST_SPAN)), 0, 255).astype(np.uint8)
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return np.asarray(rgb, dtype=np.uint8)


def fit(image: Rgb8, wh: tuple[int, int], *, background: Colour = BLACK) -> Rgb8:
    """Scale to fit into ``wh``, keeping the shape, centred on a background."""
    width, height = wh
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, inner, interpolation=method)
    canvas = np.full((height, width, 3), background, np.uint8)
    x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[y : y + inner[1], x : x + inner[0]] = resized
    return canvas
