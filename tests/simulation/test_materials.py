"""What people wear shows in each modality, as far as physics lets it."""

from dataclasses import replace

import numpy as np
import pytest

from simulation.body import Body
from simulation.materials import Wardrobe, dress
from simulation.people import Bag, Bottom, Hair, Hat, Pattern, Person, Top
from tests.simulation.factories import AWAY, FACING, LEFTWARDS, difference, portrait, somebody

MODALITIES = ("rgb", "nir", "thermal")
GARMENTS = [
    *({"top": top, "sleeve": 0.5 if top in {Top.TSHIRT, Top.GILET} else 2.0} for top in Top if top is not Top.SHIRT),
    *({"bottom": bottom} for bottom in Bottom if bottom is not Bottom.TROUSERS),
    *({"hat": hat} for hat in Hat if hat is not Hat.NONE),
    {"bag": Bag.SHOULDER_LEFT},
    {"bag": Bag.SHOULDER_RIGHT},
    {"bag": Bag.HANDBAG},
    {"bag": Bag.TROLLEY},
    {"sleeve": 0.0},
]


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("changes", GARMENTS, ids=str)
def test_every_garment_and_bag_shows_in_every_modality(changes: dict[str, object], modality: str) -> None:
    assert difference(somebody(), somebody(**changes), modality) > 0.015


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("hair", [hair for hair in Hair if hair is not Hair.SHORT])
def test_every_kind_of_hair_shows_from_the_side(hair: Hair, modality: str) -> None:
    assert difference(somebody(), somebody(hair=hair), modality, heading=LEFTWARDS) > 0.004


def test_a_backpack_shows_from_behind_and_its_straps_from_the_front() -> None:
    plain, laden = somebody(), somebody(bag=Bag.BACKPACK)
    assert difference(plain, laden, "thermal", heading=AWAY) > 0.1
    assert 0.005 < difference(plain, laden, "thermal", heading=FACING) < 0.1


def patterned(pattern: Pattern) -> Person:
    cloth = replace(somebody().top_cloth, pattern=pattern, nir=0.6, accent_nir=0.6)
    return somebody(top_cloth=cloth)


@pytest.mark.parametrize("pattern", [p for p in Pattern if p not in {Pattern.PLAIN, Pattern.PRINT_BACK}])
def test_a_pattern_shows_in_colour_and_vanishes_in_infrared_when_its_dyes_are_clear_there(pattern: Pattern) -> None:
    assert difference(patterned(Pattern.PLAIN), patterned(pattern), "rgb") > 0.01
    assert difference(patterned(Pattern.PLAIN), patterned(pattern), "nir") == pytest.approx(0.0, abs=0.005)


def test_a_pattern_survives_in_infrared_when_its_dyes_absorb_there() -> None:
    cloth = replace(somebody().top_cloth, pattern=Pattern.HOOPS, nir=0.7, accent_nir=0.15)
    assert difference(patterned(Pattern.PLAIN), somebody(top_cloth=cloth), "nir") > 0.05


def test_a_print_on_the_back_shows_from_behind_only() -> None:
    plain, printed = patterned(Pattern.PLAIN), patterned(Pattern.PRINT_BACK)
    assert difference(plain, printed, "rgb", heading=AWAY) > 0.03
    assert difference(plain, printed, "rgb", heading=FACING) < 0.001


def test_colour_alone_does_not_show_in_thermal() -> None:
    red = somebody()
    blue = somebody(top_cloth=replace(red.top_cloth, colour=(0.02, 0.05, 0.4)))
    assert difference(red, blue, "rgb") > 0.2
    assert difference(red, blue, "thermal") == 0.0


def test_the_better_a_garment_insulates_the_colder_it_looks() -> None:
    warmths = []
    for clo in (0.1, 0.4, 1.2):
        person = somebody(top_cloth=replace(somebody().top_cloth, clo=clo))
        sprite = portrait(person, "thermal", heading=AWAY)
        h, w = sprite.alpha.shape
        warmths.append(float(sprite.signal[int(0.3 * h) : int(0.4 * h), w // 2 - 4 : w // 2 + 4].mean()))
    assert warmths[0] > warmths[1] + 0.1 > warmths[2] + 0.2


@pytest.mark.parametrize("modality", MODALITIES)
def test_textures_of_many_people_stay_within_the_physical_range(modality: str) -> None:
    for number in range(40):
        _, wardrobe = dress(Person.sample("train", number, seed=3), modality)
        for texture in wardrobe.textures:
            assert texture.dtype == np.float32
            assert texture.shape == (64, 96, 3 if modality == "rgb" else 1)
            assert np.isfinite(texture).all()
            assert texture.min() >= -0.25
            assert texture.max() <= 1.3


def test_an_unknown_modality_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="modality must be one of rgb, nir, thermal, got 'lidar'"):
        Wardrobe(Body(somebody()), "lidar")
