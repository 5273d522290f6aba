import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.sources.pictures import bits_of, image_of, is_false_colour, is_semi_planar
from reid.modality import Modality

SIZE_WH = 100, 64  # FFmpeg pads the rows
LUMA = np.random.default_rng(0).integers(16, 236, SIZE_WH[::-1])
GREY = 128, 128


def picture_of(name: str, luma: NDArray[np.int64], chroma: tuple[int, int]) -> av.VideoFrame:
    """One with these counts of luma, and of chroma everywhere, as a decoder gives it; semi-planar or planar."""
    picture = av.VideoFrame(*SIZE_WH, name)
    high = name.startswith("p")
    kind = np.dtype(np.uint8 if bits_of(picture) == 8 else ">u2" if name.endswith("be") else "<u2")
    shift = 16 - bits_of(picture) if high else 0
    for number, plane in enumerate(picture.planes):
        rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
        if number == 0:
            rows[:, : SIZE_WH[0]] = luma << shift
        elif len(picture.planes) == 2:
            rows[:, 0::2], rows[:, 1::2] = (each << shift for each in chroma)
        else:
            rows[:] = chroma[number - 1]
        plane.update(rows.tobytes())
    return picture


@pytest.mark.parametrize("name", ["nv12", "nv21", "nv16"])
def test_a_grey_picture_of_a_gpu_is_the_image_that_the_cpu_gives(name: str) -> None:
    picture = picture_of(name, LUMA, GREY)
    planar = picture_of("yuv422p" if name == "nv16" else "yuv420p", LUMA, GREY)
    assert not is_false_colour(picture)
    for modality in (Modality.NIR, Modality.THERMAL):
        np.testing.assert_array_equal(image_of(picture, modality), image_of(planar, modality))
    colours, expected = (image_of(each, Modality.RGB).astype(int) for each in (picture, planar))
    np.testing.assert_allclose(colours, expected, atol=2)  # FFmpeg rounds differently on its way from each


@pytest.mark.parametrize("name", ["nv12", "yuv420p", "p010le", "yuv420p10le", "p016le"])
def test_a_palette_is_known_in_either_chroma_component(name: str) -> None:
    scale = 2 ** (bits_of(av.VideoFrame(*SIZE_WH, name)) - 8)
    assert not is_false_colour(picture_of(name, LUMA * scale, (128 * scale, 128 * scale)))
    for chroma in ((220, 128), (128, 220), (40, 128), (128, 40)):
        assert is_false_colour(picture_of(name, LUMA * scale, (chroma[0] * scale, chroma[1] * scale)))


@pytest.mark.parametrize(
    ("name", "bits"),
    [("p010le", 10), ("p010be", 10), ("p012le", 12), ("p016le", 16), ("p210le", 10), ("p410le", 10),
     ("yuv420p10le", 10), ("yuv420p12le", 12)],
)  # fmt: skip
def test_counts_are_native_wherever_their_bits_lie(name: str, bits: int) -> None:
    counts = np.random.default_rng(0).integers(0, 2**bits, SIZE_WH[::-1])
    image = image_of(picture_of(name, counts, (2 ** (bits - 1), 2 ** (bits - 1))), Modality.THERMAL)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, counts)


@pytest.mark.parametrize(
    ("name", "semi_planar"),
    [("nv12", True), ("p010le", True), ("yuv420p", False), ("yuvj420p", False), ("gray", False), ("rgb24", False),
     ("yuyv422", False), ("ya8", False)],
)  # fmt: skip
def test_what_only_gpus_give_is_known(name: str, semi_planar: bool) -> None:
    assert is_semi_planar(av.VideoFrame(*SIZE_WH, name)) is semi_planar


@pytest.mark.parametrize("matrix", [3, 10, 15])  # reserved, BT.2020 of constant luminance, IPT-C2
@pytest.mark.parametrize("modality", [Modality.RGB, Modality.NIR])
def test_a_matrix_that_nobody_converts_is_taken_for_none(matrix: int, modality: Modality) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (96, 64), np.uint8)
    named, plain = (av.VideoFrame.from_ndarray(levels, format="yuv420p") for _ in range(2))
    named.colorspace = matrix
    np.testing.assert_array_equal(image_of(named, modality), image_of(plain, modality))
