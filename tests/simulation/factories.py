"""People of which all but one thing is the same."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simulation.camera import Camera
from simulation.materials import dress
from simulation.people import Bag, Bottom, Hair, Hat, Pattern, Person, Top
from simulation.renderer import Figure, Light, Sprite, draw

CAMERA = Camera((0.0, 0.0, 1.4), 0.0, 0.0, 500.0, 320, 360)
LIGHTS = {
    "rgb": Light("rgb", (0.5, 0.5, 0.5), (0.4, 0.4, 0.4), (-0.6, 0.3, 0.74)),
    "nir": Light("nir", (0.05,), lamp=6.0),
    "thermal": Light("thermal", (0.0,), cold=0.0, span=1.0),
}
FACING, AWAY, LEFTWARDS = np.pi, 0.0, np.pi / 2


def somebody(**changes: object) -> Person:
    """A plain person in a shirt and trousers, bare-headed, carrying nothing; but for ``changes``."""
    base = Person.sample("train", 1, seed=1)
    plain = replace(base.top_cloth, pattern=Pattern.PLAIN, clo=0.3, colour=(0.3, 0.05, 0.05), accent=(0.7, 0.7, 0.7))
    simple = replace(
        base, hair=Hair.SHORT, hat=Hat.NONE, top=Top.SHIRT, top_cloth=plain, top_length=0.08, sleeve=2.0,
        bottom=Bottom.TROUSERS, bag=Bag.NONE, belt=False, scarf=None, band=False, boots=False, zipped=False, collar=0.0,
    )  # fmt: skip
    return replace(simple, **changes)  # type: ignore[arg-type]


def portrait(person: Person, modality: str, *, heading: float = FACING, phase: float = 0.9) -> Sprite:
    """A person drawn six metres away, at walking speed."""
    body, wardrobe = dress(person, modality)
    figure = Figure(body.pieces, wardrobe.textures)
    sprite = draw(CAMERA, figure, body.pose((6.0, 0.0), heading, phase, 1.3), LIGHTS[modality])
    assert sprite is not None
    return sprite


def in_frame(sprite: Sprite) -> NDArray[np.float32]:
    """Signal and alpha (h, w, c + 1) in the whole frame."""
    both = np.dstack([sprite.signal, sprite.alpha])
    h, w = sprite.alpha.shape
    return np.pad(
        both,
        (
            (sprite.top, CAMERA.height - sprite.top - h),
            (sprite.left, CAMERA.width - sprite.left - w),
            (0, 0),
        ),
    )


def difference(a: Person, b: Person, modality: str, *, heading: float = FACING) -> float:
    """Share of the pixels of either that are clearly not the same."""
    one, two = (in_frame(portrait(each, modality, heading=heading)) for each in (a, b))
    covered = (one[..., -1] > 0.5) | (two[..., -1] > 0.5)
    return float((np.abs(one - two).max(axis=2) > 0.04)[covered].mean())
