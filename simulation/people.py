"""Who walks by: bodies, hair, garments and gaits, sampled from a seed.

A garment carries what each modality sees of it: linear RGB albedo, near-infrared reflectance (of the fabric and its
dye, only loosely tied to colour) and insulation, from which its surface temperature follows. So what ties a person's
pictures together across modalities is shape, cut, lengths, layers, what is carried, and motion.
"""

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeVar

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

Rgb = tuple[float, float, float]

# Namespaces of identities: disjoint by construction, whatever the seeds (SeedSequence spawn keys never meet).
NAMESPACES = {"train": 1, "val": 2, "site": 3, "passers-by": 4, "vvi": 5}


class Hair(StrEnum):
    """How the hair is worn."""

    BALD = "bald"
    SHORT = "short"
    BOB = "bob"
    LONG = "long"
    BUN = "bun"
    PONYTAIL = "ponytail"
    CURLY = "curly"


class Hat(StrEnum):
    """What is worn on the head."""

    NONE = "none"
    CAP = "cap"
    BEANIE = "beanie"
    BRIM = "brim"


class Top(StrEnum):
    """The outermost garment of the upper body."""

    TSHIRT = "t-shirt"
    SHIRT = "shirt"
    HOODIE = "hoodie"
    PUFFER = "puffer"
    COAT = "coat"
    GILET = "gilet"
    VEST = "tank top"


class Bottom(StrEnum):
    """The garment of the lower body."""

    TROUSERS = "trousers"
    SHORTS = "shorts"
    KNEE_SKIRT = "knee skirt"
    LONG_SKIRT = "long skirt"


class Bag(StrEnum):
    """What is carried."""

    NONE = "none"
    BACKPACK = "backpack"
    SHOULDER_LEFT = "shoulder bag, left"
    SHOULDER_RIGHT = "shoulder bag, right"
    HANDBAG = "hand-held bag"
    TROLLEY = "trolley"


class Pattern(StrEnum):
    """What is woven into or printed on a garment."""

    PLAIN = "plain"
    HOOPS = "horizontal stripes"
    STRIPES = "vertical stripes"
    CHECKS = "checks"
    BLOCK = "two-tone block"
    PRINT_FRONT = "print on the chest"
    PRINT_BACK = "print on the back"
    SLEEVES = "contrast sleeves"


@dataclass(frozen=True)
class Cloth:
    """A garment's material: two albedos (the second for the pattern), two NIR reflectances, insulation in clo."""

    colour: Rgb
    accent: Rgb
    nir: float
    accent_nir: float
    clo: float
    pattern: Pattern
    scale: float
    wrinkle_seed: int
    gloss: float

    @property
    def warmth(self) -> float:
        """Where its surface lies between ambient (0) and skin (1): heat through layers in series."""
        return 1.0 / (1.0 + 2.1 * self.clo)


@dataclass(frozen=True)
class Physique:
    """Lengths in metres; ``build`` is 0 for slim, 1 for heavy."""

    stature: float
    leg_ratio: float
    shoulder: float
    hip: float
    build: float
    head: float
    arm_ratio: float


@dataclass(frozen=True)
class Gait:
    """How a person walks: preferred speed (m/s), cadence factor, swings and lean (radians), bounce and sway (m)."""

    speed: float
    cadence: float
    arm_swing: float
    elbow: float
    lean: float
    sway: float
    stance: float
    toe_out: float
    asymmetry: float


@dataclass(frozen=True)
class Person:
    """Everything about one identity that a camera may see."""

    physique: Physique
    gait: Gait
    skin: Rgb
    skin_nir: float
    hair: Hair
    hair_colour: Rgb
    hair_nir: float
    hat: Hat
    hat_cloth: Cloth
    top: Top
    top_cloth: Cloth
    top_length: float
    collar: float
    inner: Cloth
    sleeve: float
    bottom: Bottom
    bottom_cloth: Cloth
    bottom_width: float
    hem: float
    shoes: Cloth
    boots: bool
    socks: Cloth
    bag: Bag
    bag_cloth: Cloth
    bag_size: float
    belt: bool
    scarf: Cloth | None
    band: bool
    zipped: bool

    @classmethod
    def sample(cls, namespace: str, index: int, *, seed: int) -> Self:
        """The ``index``-th person of a namespace; equal arguments give equal people."""
        if namespace not in NAMESPACES:
            raise ValueError(f"namespace must be one of {', '.join(NAMESPACES)}, got {namespace!r}")
        rng = np.random.default_rng(SeedSequence(seed, spawn_key=(NAMESPACES[namespace], index)))
        return cls(**_head(rng), **_upper(rng), **_lower(rng), **_carried(rng))  # type: ignore[arg-type]

    def attributes(self) -> dict[str, str]:
        """What a camera of any modality can see of this person, in words: for attribute supervision and for reports.

        Colours and patterns are not among them: dyes that differ by day may be one in near-infrared and in thermal.
        """
        body = self.physique
        return {
            "hair": self.hair,
            "hat": self.hat,
            "top": self.top,
            "sleeve": "none" if self.sleeve < 0.1 else "short" if self.sleeve < 1 else "long",
            "top_length": _class_of(self.top_length, (0.03, 0.09, 0.2), ("cropped", "waist", "hip", "thigh")),
            "bottom": self.bottom,
            "bottom_width": _class_of(self.bottom_width, (0.9, 1.15), ("narrow", "straight", "wide")),
            "hem": _class_of(self.hem, (-0.025, 0.025), ("high", "middle", "low")),
            "boots": "yes" if self.boots else "no",
            "bag": self.bag,
            "scarf": "yes" if self.scarf else "no",
            "zipped": "yes" if self.zipped else "no",
            "build": _class_of(body.build, (0.33, 0.57), ("slim", "medium", "heavy")),
            "shoulders": _class_of(body.shoulder / body.stature, (0.126, 0.137), ("narrow", "medium", "broad")),
            "hips": _class_of(body.hip / body.stature, (0.104, 0.117), ("narrow", "medium", "broad")),
            "legs": _class_of(body.leg_ratio, (0.495, 0.515), ("short", "medium", "long")),
            "arm_swing": _class_of(self.gait.arm_swing, (0.32, 0.48), ("small", "medium", "large")),
            "elbow": _class_of(self.gait.elbow, (0.32, 0.53), ("straight", "medium", "bent")),
            "lean": _class_of(self.gait.lean, (0.03, 0.07), ("upright", "medium", "forward")),
        }

    def vector(self) -> NDArray[np.float64]:
        """The continuous attributes as one row, to compare people by."""
        p, g, t, b = self.physique, self.gait, self.top_cloth, self.bottom_cloth
        return np.array(
            [
                p.stature,
                p.leg_ratio,
                p.shoulder,
                p.hip,
                p.build,
                p.head,
                g.speed,
                g.cadence,
                g.arm_swing,
                g.lean,
                *t.colour,
                t.nir,
                t.clo,
                *b.colour,
                b.nir,
                b.clo,
                *self.hair_colour,
                *self.skin,
                self.bag_size,
            ]
        )


_PALETTE = {  # sRGB of clothes one sees in a street, with how often
    (22, 22, 25): 9, (52, 54, 58): 6, (110, 112, 116): 5, (176, 178, 180): 4, (232, 232, 228): 6, (24, 32, 66): 7,
    (38, 74, 150): 5, (128, 170, 214): 4, (190, 30, 38): 5, (104, 22, 40): 3, (222, 104, 32): 3, (232, 194, 52): 3,
    (92, 98, 52): 4, (34, 112, 62): 3, (28, 128, 132): 2, (104, 70, 44): 4, (200, 176, 138): 5, (224, 138, 164): 3,
    (104, 58, 132): 2, (150, 206, 168): 1,
}  # fmt: skip
_SHADES = np.array(list(_PALETTE), dtype=np.float64)
_ODDS = np.array(list(_PALETTE.values()), dtype=np.float64) / sum(_PALETTE.values())
_SKINS = np.array([(244, 208, 182), (232, 184, 150), (206, 150, 110), (160, 108, 74), (112, 72, 50), (78, 50, 38)])
_HAIRS = np.array([(18, 15, 14), (46, 30, 22), (92, 60, 36), (178, 138, 80), (142, 62, 30), (150, 148, 146)])
# mean reflectance in near-infrared of the undyed fibre, and how far a dye can pull it down
_FIBRES = {"cotton": (0.72, 0.45), "wool": (0.55, 0.40), "polyester": (0.66, 0.75), "denim": (0.50, 0.35),
           "leather": (0.34, 0.60), "nylon": (0.58, 0.80)}  # fmt: skip


def linear(srgb: NDArray[np.float64]) -> Rgb:
    """An sRGB triple (0..255) as linear light (0..1)."""
    red, green, blue = np.power(np.clip(srgb, 0, 255) / 255.0, 2.2).tolist()
    return red, green, blue


_Name = TypeVar("_Name", bound=str)


def _class_of(value: float, limits: tuple[float, ...], names: tuple[str, ...]) -> str:
    """The name of the interval that holds a value; there is one name more than limits."""
    return names[bisect(limits, value)]


def _pick(rng: Generator, odds: Mapping[_Name, float]) -> _Name:
    names = list(odds)
    weights = np.array(list(odds.values()), dtype=np.float64)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _shade(rng: Generator) -> Rgb:
    base = _SHADES[rng.choice(len(_SHADES), p=_ODDS)]
    return linear(base * rng.uniform(0.88, 1.12) + rng.normal(0, 6, 3))


def _reflectance(rng: Generator, colour: Rgb, fibre: str) -> float:
    """NIR reflectance: most dyes are clear beyond 750 nm, so dark clothes often glow; carbon blacks stay dark."""
    level, pull = _FIBRES[fibre]
    absorbing = float(rng.beta(0.8, 1.3)) * pull
    luminance = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
    return float(np.clip(level * (1 - absorbing) + 0.18 * (luminance - 0.3) + rng.normal(0, 0.03), 0.05, 0.92))


def _cloth(rng: Generator, fibre: str, clo: float, patterns: Mapping[Pattern, float] | None = None) -> Cloth:
    colour, accent = _shade(rng), _shade(rng)
    while float(np.abs(np.subtract(np.sqrt(colour), np.sqrt(accent))).max()) < 0.2:
        accent = _shade(rng)
    nir = _reflectance(rng, colour, fibre)
    survives = rng.random() < 0.6  # otherwise the pattern vanishes in NIR: same fibre, transparent dyes
    accent_nir = _reflectance(rng, accent, fibre) if survives else nir + float(rng.normal(0, 0.02))
    return Cloth(
        colour=colour,
        accent=accent,
        nir=nir,
        accent_nir=float(np.clip(accent_nir, 0.05, 0.92)),
        clo=float(clo * rng.uniform(0.75, 1.3)),
        pattern=Pattern(_pick(rng, patterns or {Pattern.PLAIN: 1.0})),
        scale=float(rng.uniform(0.75, 1.5)),
        wrinkle_seed=int(rng.integers(2**31)),
        gloss=0.35 if fibre in {"nylon", "leather"} else 0.0,
    )


def _head(rng: Generator) -> dict[str, object]:
    stature = float(np.clip(rng.normal(1.73, 0.10), 1.50, 1.96))
    build = float(np.clip(rng.beta(2, 2.4), 0, 1))
    physique = Physique(
        stature=stature,
        leg_ratio=float(rng.uniform(0.475, 0.535)),
        shoulder=float(stature * rng.uniform(0.113, 0.138) * (1 + 0.10 * build)),
        hip=float(stature * rng.uniform(0.086, 0.108) * (1 + 0.32 * build)),
        build=build,
        head=float(rng.uniform(0.92, 1.09)),
        arm_ratio=float(rng.uniform(0.94, 1.06)),
    )
    gait = Gait(
        speed=float(np.clip(rng.normal(1.32, 0.17), 0.9, 1.75)),
        cadence=float(rng.uniform(0.86, 1.14)),
        arm_swing=float(rng.uniform(0.15, 0.65)),
        elbow=float(rng.uniform(0.1, 0.75)),
        lean=float(rng.normal(0.05, 0.045)),
        sway=float(rng.uniform(0.0, 0.045)),
        stance=float(rng.uniform(0.8, 1.25)),
        toe_out=float(rng.uniform(-0.05, 0.35)),
        asymmetry=float(rng.normal(0, 0.1)),
    )
    tone = rng.integers(len(_SKINS))
    colour = rng.choice(len(_HAIRS), p=[0.3, 0.25, 0.18, 0.12, 0.05, 0.10])
    hat = Hat(_pick(rng, {Hat.NONE: 0.66, Hat.CAP: 0.15, Hat.BEANIE: 0.12, Hat.BRIM: 0.07}))
    return {
        "physique": physique,
        "gait": gait,
        "skin": linear(_SKINS[tone] + rng.normal(0, 6, 3)),
        "skin_nir": float(np.clip(0.58 - 0.02 * tone + rng.normal(0, 0.02), 0.35, 0.7)),
        "hair": Hair(
            _pick(rng, {Hair.BALD: 0.10, Hair.SHORT: 0.32, Hair.BOB: 0.13, Hair.LONG: 0.16, Hair.BUN: 0.1}
                  | {Hair.PONYTAIL: 0.11, Hair.CURLY: 0.08})
        ),
        "hair_colour": linear(_HAIRS[colour] + rng.normal(0, 7, 3)),
        "hair_nir": float((0.18, 0.24, 0.33, 0.5, 0.4, 0.55)[colour] + rng.normal(0, 0.03)),
        "hat": hat,
        "hat_cloth": _cloth(rng, _pick(rng, {"cotton": 1, "wool": 1}), 1.6),
    }  # fmt: skip


_TOPS: dict[str, tuple[float, str, float, float, float]] = {  # odds, fibre, clo, hem below the hips (m), collar
    Top.TSHIRT: (0.20, "cotton", 0.12, 0.06, 0.0),
    Top.VEST: (0.06, "cotton", 0.10, 0.04, 0.0),
    Top.SHIRT: (0.17, "cotton", 0.22, 0.08, 0.3),
    Top.HOODIE: (0.18, "cotton", 0.42, 0.05, 0.5),
    Top.PUFFER: (0.14, "nylon", 1.15, 0.05, 1.0),
    Top.COAT: (0.15, "wool", 0.75, 0.30, 0.6),
    Top.GILET: (0.10, "polyester", 0.85, 0.02, 0.5),
}
_PATTERNS: Mapping[Pattern, float] = {
    Pattern.PLAIN: 0.36,
    Pattern.HOOPS: 0.13,
    Pattern.STRIPES: 0.07,
    Pattern.CHECKS: 0.09,
    Pattern.BLOCK: 0.13,
    Pattern.PRINT_FRONT: 0.07,
    Pattern.PRINT_BACK: 0.05,
    Pattern.SLEEVES: 0.10,
}


def _upper(rng: Generator) -> dict[str, object]:
    top = Top(_pick(rng, {name: row[0] for name, row in _TOPS.items()}))
    _, fibre, clo, below, collar = _TOPS[top]
    if top in {Top.PUFFER, Top.GILET}:
        patterns: dict[Pattern, float] = {Pattern.PLAIN: 0.6, Pattern.BLOCK: 0.4}
    elif top is Top.COAT:
        patterns = {Pattern.PLAIN: 0.75, Pattern.CHECKS: 0.25}
    else:
        patterns = dict(_PATTERNS)
    sleeve = {Top.TSHIRT: rng.uniform(0.35, 0.62), Top.VEST: 0.0, Top.GILET: float(rng.choice([0.0, 0.45, 2.0]))}
    length = below + (rng.uniform(0, 0.34) if top is Top.COAT else rng.uniform(-0.03, 0.10))
    return {
        "top": top,
        "top_cloth": _cloth(rng, fibre, clo, patterns),
        "top_length": float(length),
        "collar": collar,
        "inner": _cloth(rng, "cotton", 0.2),
        "sleeve": float(sleeve.get(top, 2.0 if rng.random() < 0.85 else 1.3)),
        "scarf": _cloth(rng, "wool", 1.3) if top in {Top.COAT, Top.PUFFER} and rng.random() < 0.35 else None,
        "band": bool(rng.random() < 0.07),
        "zipped": bool(rng.random() < 0.5),
    }


def _lower(rng: Generator) -> dict[str, object]:
    bottom = Bottom(
        _pick(rng, {Bottom.TROUSERS: 0.62, Bottom.SHORTS: 0.15, Bottom.KNEE_SKIRT: 0.13, Bottom.LONG_SKIRT: 0.10})
    )
    fibre = _pick(rng, {"denim": 0.45, "cotton": 0.3, "polyester": 0.15, "wool": 0.1})
    skirted = bottom in {Bottom.KNEE_SKIRT, Bottom.LONG_SKIRT}
    patterns: dict[Pattern, float] = {Pattern.PLAIN: 0.84, Pattern.CHECKS: 0.07, Pattern.STRIPES: 0.09}
    return {
        "bottom": bottom,
        "bottom_cloth": _cloth(rng, fibre, 0.22 if not skirted else 0.18, patterns),
        "bottom_width": float(rng.choice([0.82, 1.0, 1.3], p=[0.35, 0.4, 0.25]) * rng.uniform(0.95, 1.05)),
        "hem": float(rng.uniform(-0.08, 0.08)),
        "shoes": _cloth(rng, _pick(rng, {"leather": 0.5, "polyester": 0.5}), 0.9),
        "boots": bool(rng.random() < 0.22),
        "socks": _cloth(rng, "cotton", 0.1),
        "belt": bool(rng.random() < 0.3),
    }


def _carried(rng: Generator) -> dict[str, object]:
    odds = {Bag.NONE: 0.38, Bag.BACKPACK: 0.24, Bag.SHOULDER_LEFT: 0.1, Bag.SHOULDER_RIGHT: 0.1}
    return {
        "bag": Bag(_pick(rng, odds | {Bag.HANDBAG: 0.11, Bag.TROLLEY: 0.07})),
        "bag_cloth": _cloth(
            rng, _pick(rng, {"nylon": 0.6, "leather": 0.4}), 4.0, {Pattern.PLAIN: 0.7, Pattern.BLOCK: 0.3}
        ),
        "bag_size": float(rng.uniform(0.75, 1.3)),
    }
