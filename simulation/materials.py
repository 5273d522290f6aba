"""What each piece of a person looks like to each modality, baked once into small textures.

A texture is (V, U, C): rows run along the piece's axis, columns around it (azimuth -pi..pi, 0 in front). RGB holds
linear albedo, NIR reflectance, THERMAL the warmth between ambient (0) and skin (1).
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulation.body import Body
from simulation.people import Cloth, Hair, Pattern, Person, Top

Texture = NDArray[np.float32]
V, U = 64, 96
_AROUND = ((np.arange(U) + 0.5) / U * 2 - 1).astype(np.float32)[None, :] * np.float32(np.pi)
_ALONG = ((np.arange(V) + 0.5) / V).astype(np.float32)[:, None]
CHANNELS = {"rgb": 3, "nir": 1, "thermal": 1}


def smooth_noise(rng: Generator, grid: tuple[int, int], shape: tuple[int, int] = (V, U)) -> NDArray[np.float32]:
    """Band-limited noise of unit scale: a coarse grid (rows, columns), interpolated."""
    coarse = rng.standard_normal(grid).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


class Wardrobe:
    """Bakes and keeps the textures of one person in one modality."""

    def __init__(self, body: Body, modality: str) -> None:
        """``modality`` is rgb, nir or thermal."""
        if modality not in CHANNELS:
            raise ValueError(f"modality must be one of {', '.join(CHANNELS)}, got {modality!r}")
        self.body, self.person, self.modality = body, body.person, modality
        self._lengths = {"top": body.trunk + max(body.person.top_length, 0.0)}
        makers: dict[str, Callable[[], Texture]] = {
            "top": self._top, "sleeve": self._sleeve, "forearm": self._forearm, "hood": self._hood,
            "collar": self._collar, "hips": self._hips, "trouser-thigh": lambda: self._trouser(0.0),
            "trouser-shin": lambda: self._trouser(1.0), "shorts": self._shorts, "bare-thigh": lambda: self.skin(0.86),
            "bare-shin": self._bare_shin, "skirt": self._skirt, "shoe": self._shoe,
            "boot": lambda: self.plain(self.person.shoes), "skin": lambda: self.skin(0.93),
            "neck": lambda: self.skin(1.0), "head": self._face, "hair": self._hair, "hat": self._hat, "bag": self._bag,
            "strap": lambda: self.plain(self.person.bag_cloth), "scarf": self._scarf,
        }  # fmt: skip
        baked = {name: makers[name]() for name in {piece.material for piece in body.pieces}}
        self.textures = [np.ascontiguousarray(baked[piece.material], dtype=np.float32) for piece in body.pieces]

    # ---- values --------------------------------------------------------------------------------------------------

    def value(self, cloth: Cloth, *, accent: bool = False) -> NDArray[np.float32]:
        """The modality's value (C,) of a cloth or of its accent."""
        if self.modality == "rgb":
            return np.array(cloth.accent if accent else cloth.colour, dtype=np.float32)
        if self.modality == "nir":
            return np.array([cloth.accent_nir if accent else cloth.nir], dtype=np.float32)
        return np.array([cloth.warmth], dtype=np.float32)

    def _flat(self, value: NDArray[np.float32]) -> Texture:
        return np.broadcast_to(value, (V, U, len(value))).astype(np.float32)

    def plain(self, cloth: Cloth, folds: float = 1.0) -> Texture:
        """A cloth without its pattern, with its wrinkles."""
        return self._wrinkle(self._flat(self.value(cloth)), cloth, folds)

    def _wrinkle(self, texture: Texture, cloth: Cloth, folds: float) -> Texture:
        rng = np.random.default_rng(cloth.wrinkle_seed)
        field = 0.6 * smooth_noise(rng, (9, 7)) + 0.4 * smooth_noise(rng, (22, 16))
        if self.modality == "thermal":
            return np.clip(texture + 0.030 * folds * field[..., None], 0, 1.05)
        return np.clip(texture * (1 + 0.11 * folds * field[..., None]), 0, 1)

    def skin(self, warmth: float) -> Texture:
        """Bare skin; ``warmth`` falls towards the extremities."""
        person = self.person
        if self.modality == "rgb":
            return self._flat(np.array(person.skin, dtype=np.float32))
        if self.modality == "nir":
            return self._flat(np.array([person.skin_nir], dtype=np.float32))
        return self._flat(np.array([warmth], dtype=np.float32))

    def _tint(self, texture: Texture, mask: NDArray[np.float32], value: NDArray[np.float32] | float) -> Texture:
        return texture + mask[..., None] * (np.asarray(value, dtype=np.float32) - texture)

    # ---- cloth ---------------------------------------------------------------------------------------------------

    def _patterned(
        self, cloth: Cloth, along: NDArray[np.float32], around: NDArray[np.float32], *, whole: bool = True
    ) -> Texture:
        """A cloth with its pattern in metric coordinates (metres along and around)."""
        base = self._flat(self.value(cloth))
        mask = _pattern_mask(cloth, along, around, whole=whole)
        if self.modality == "thermal":  # dyes do not show; a print is a film with its own emissivity
            printed = cloth.pattern in {Pattern.PRINT_FRONT, Pattern.PRINT_BACK}
            base = base - (0.10 if printed else 0.015) * mask[..., None]
        else:
            base = self._tint(base, mask, self.value(cloth, accent=True))
        return self._wrinkle(base, cloth, 1.0)

    def _top(self) -> Texture:
        person = self.person
        cloth, length = person.top_cloth, self._lengths["top"]
        metres = _ALONG * length
        texture = self._patterned(cloth, metres + 0 * _AROUND, _AROUND * person.physique.shoulder * 0.8 + 0 * _ALONG)
        if self.modality == "thermal":  # warmer over the chest and neck, cooler where cloth hangs free
            hang = np.clip((metres - 0.55 * self.body.trunk) / 0.5, 0, 1)
            texture = texture + (0.07 - 0.20 * hang * (0.4 + cloth.clo))[..., None] * cloth.warmth
        texture = self._construction(texture, metres + 0 * _AROUND)
        if person.top is Top.VEST:
            bare = ((metres < 0.085) & (np.abs(np.abs(_AROUND) - np.pi / 2) > 0.62)) * 0.0 + (
                (metres < 0.05) + 0 * _AROUND
            )
            texture = self._tint(texture, np.clip(bare, 0, 1).astype(np.float32), self.skin(0.97)[0, 0])
        return texture

    def _construction(self, texture: Texture, metres: NDArray[np.float32]) -> Texture:
        person, cloth = self.person, self.person.top_cloth
        if person.top in {Top.PUFFER, Top.GILET}:
            spacing = 0.085 * cloth.scale
            seam = np.exp(-((((metres / spacing) % 1.0) - 0.5) ** 2) / 0.016).astype(np.float32)
            texture = (
                texture + 0.16 * seam[..., None]
                if self.modality == "thermal"
                else texture * (1 - 0.45 * seam[..., None])
            )
        opened = person.top in {Top.COAT, Top.GILET} and not person.zipped
        if opened:  # an open front shows the layer below
            gap = (np.abs(_AROUND) < 0.28) & (metres < self.body.trunk + 0.2)
            texture = self._tint(texture, gap.astype(np.float32), self._inner_value())
        elif person.top in {Top.PUFFER, Top.COAT, Top.GILET, Top.SHIRT, Top.HOODIE} and person.zipped:
            line = np.exp(-((_AROUND / 0.055) ** 2)) + 0 * metres
            texture = (
                texture + 0.09 * line[..., None]
                if self.modality == "thermal"
                else texture * (1 - 0.5 * line[..., None])
            )
        if person.band:
            strip = (np.abs(metres - 0.36 * self.body.trunk - 0.1) < 0.035).astype(np.float32)
            value = {"rgb": np.array([0.72, 0.78, 0.30]), "nir": np.array([0.95]), "thermal": np.array([0.12])}[
                self.modality
            ]
            texture = self._tint(texture, strip, value)
        return self._straps(texture, metres)

    def _straps(self, texture: Texture, metres: NDArray[np.float32]) -> Texture:
        from_front = np.abs(np.abs(_AROUND) - 0.62)
        if self.person.bag == "backpack":
            strap = ((from_front < 0.17) & (metres < 0.62 * self.body.trunk)).astype(np.float32)
            texture = self._tint(
                texture, strap, self.value(self.person.bag_cloth) * (0.8 if self.modality != "thermal" else 1.0)
            )
        hem = (metres > self._lengths["top"] - 0.03).astype(np.float32) * 0.6
        if self.person.top in {Top.HOODIE, Top.PUFFER}:
            texture = (
                texture * (1 - 0.25 * hem[..., None]) if self.modality != "thermal" else texture + 0.05 * hem[..., None]
            )
        return texture

    def _inner_value(self) -> NDArray[np.float32]:
        inner = self.value(self.person.inner)
        return inner if self.modality != "thermal" else np.array([min(float(inner[0]) + 0.08, 1.0)], dtype=np.float32)

    def _sleeve_cloth(self) -> Texture:
        person = self.person
        if person.top is Top.GILET:
            return self.plain(person.inner)
        along = _ALONG * self.body.upper_arm + 0.06 + 0 * _AROUND
        texture = self._patterned(person.top_cloth, along, _AROUND * 0.06 + 0 * _ALONG, whole=False)
        if person.top_cloth.pattern is Pattern.SLEEVES and self.modality != "thermal":
            texture = self._wrinkle(self._flat(self.value(person.top_cloth, accent=True)), person.top_cloth, 1.0)
        if person.top is Top.PUFFER:
            seam = np.exp(-((((along / (0.085 * person.top_cloth.scale)) % 1.0) - 0.5) ** 2) / 0.016).astype(np.float32)
            texture = (
                texture + 0.14 * seam[..., None]
                if self.modality == "thermal"
                else texture * (1 - 0.42 * seam[..., None])
            )
        return texture

    def _sleeve(self) -> Texture:
        covered = (self.person.sleeve > _ALONG).astype(np.float32) + 0 * _AROUND
        return np.asarray(
            self._tint(self.skin(0.90), covered, 0) + covered[..., None] * self._sleeve_cloth(), dtype=np.float64
        )

    def _forearm(self) -> Texture:
        covered = (self.person.sleeve - 1.0 > _ALONG * 0.95).astype(np.float32) + 0 * _AROUND
        return np.asarray(
            self._tint(self.skin(0.90), covered, 0) + covered[..., None] * self._sleeve_cloth(), dtype=np.float64
        )

    def _hood(self) -> Texture:
        texture = self.plain(self.person.top_cloth, 1.5)
        rim = np.exp(-(((_ALONG - 0.25) / 0.12) ** 2)) + 0 * _AROUND
        return np.asarray(
            texture * (1 - 0.3 * rim[..., None]) if self.modality != "thermal" else texture + 0.05 * rim[..., None],
            dtype=np.float32,
        )

    def _collar(self) -> Texture:
        texture = self.plain(self.person.top_cloth)
        throat = (np.abs(_AROUND) < 0.5).astype(np.float32) + 0 * _ALONG
        return self._tint(texture, throat, self.skin(1.0)[0, 0]) if self.person.collar < 0.9 else texture

    def _scarf(self) -> Texture:
        scarf = self.person.scarf or self.person.top_cloth
        stripes = (np.sin(_ALONG * 18 + 1.5 * np.cos(_AROUND)) > 0.2).astype(np.float32)
        texture = self.plain(scarf, 1.6)
        return (
            texture
            if self.modality == "thermal"
            else self._tint(texture, 0.5 * stripes, self.value(scarf, accent=True))
        )

    def _hips(self) -> Texture:
        person = self.person
        texture = self._patterned(person.bottom_cloth, _ALONG * 0.2 + 0 * _AROUND, _AROUND * 0.16 + 0 * _ALONG)
        if person.belt:
            belt = (np.abs(_ALONG - 0.2) < 0.11).astype(np.float32) + 0 * _AROUND
            texture = self._tint(texture, belt, self.value(person.shoes) if self.modality != "thermal" else 0.2)
        if self.modality == "thermal":
            texture = texture - 0.06 * person.bottom_cloth.warmth
        return texture

    def _trouser(self, start: float) -> Texture:
        cloth = self.person.bottom_cloth
        along = (_ALONG + start) * self.body.thigh + 0.1 + 0 * _AROUND
        texture = self._patterned(cloth, along, _AROUND * 0.08 + 0 * _ALONG, whole=False)
        seam = np.exp(-(((np.abs(_AROUND) - np.pi / 2) / 0.10) ** 2)) + 0 * _ALONG
        if self.modality == "thermal":  # loose cloth at the shins is cooler, thighs rub and are warm
            return np.asarray(
                texture + ((0.06 - 0.13 * (_ALONG + start)) * cloth.warmth + 0.02 * seam)[..., None], dtype=np.float32
            )
        return np.asarray(texture * (1 - 0.16 * seam[..., None]), dtype=np.float32)

    def _shorts(self) -> Texture:
        covered = ((0.72 + self.person.hem) > _ALONG).astype(np.float32) + 0 * _AROUND
        return np.asarray(
            self._tint(self.skin(0.86), covered, 0) + covered[..., None] * self._trouser(0.0), dtype=np.float64
        )

    def _bare_shin(self) -> Texture:
        socked = (_ALONG > 0.86).astype(np.float32) + 0 * _AROUND
        return self._tint(self.skin(0.82), socked, self.value(self.person.socks))

    def _skirt(self) -> Texture:
        cloth = self.person.bottom_cloth
        texture = self._patterned(cloth, _ALONG * 0.7 + 0 * _AROUND, _AROUND * 0.2 + 0 * _ALONG)
        pleats = np.cos(_AROUND * 11) * _ALONG
        if self.modality == "thermal":
            return np.asarray(texture + (0.05 * pleats - 0.16 * cloth.warmth * _ALONG)[..., None], dtype=np.float32)
        return np.asarray(texture * (1 + 0.14 * pleats[..., None]), dtype=np.float32)

    def _shoe(self) -> Texture:
        shoes = self.person.shoes
        texture = self.plain(shoes, 0.5)
        toe = (_ALONG > 0.72).astype(np.float32) * 0.6 + 0 * _AROUND
        return (
            texture
            if self.modality == "thermal"
            else self._tint(texture, toe, self.value(shoes, accent=shoes.scale > 1.1))
        )

    # ---- head and things carried -----------------------------------------------------------------------------------

    def _hair_value(self) -> NDArray[np.float32]:
        person = self.person
        if self.modality == "rgb":
            return np.array(person.hair_colour, dtype=np.float32)
        return np.array([person.hair_nir if self.modality == "nir" else 0.52], dtype=np.float32)

    def _hair(self) -> Texture:
        rng = np.random.default_rng(self.person.hat_cloth.wrinkle_seed)
        strands = smooth_noise(rng, (4, 40))[..., None]
        texture = self._flat(self._hair_value())
        return texture + 0.03 * strands if self.modality == "thermal" else np.clip(texture * (1 + 0.25 * strands), 0, 1)

    def _face(self) -> Texture:
        texture = self._features(self.skin(1.0))
        if self.person.hair is Hair.BALD:
            return texture
        line = 0.30 if self.person.hair is not Hair.SHORT else 0.25  # of the head's length, at the brow
        nape = 0.62 if self.person.hair in {Hair.SHORT, Hair.BUN, Hair.PONYTAIL} else 0.95
        border = line + (nape - line) * np.clip((np.abs(_AROUND) - 0.95) / 0.55, 0, 1)
        cover = np.clip((border - _ALONG) / 0.05 + 0.5, 0, 1).astype(np.float32)
        return np.asarray(texture + cover[..., None] * (self._hair() - texture), dtype=np.float32)

    def _features(self, texture: Texture) -> Texture:
        """Eye sockets, nose and mouth: dark in reflected light; in thermal a cool nose and hot eye corners."""

        def blob(azimuth: float, along: float, width: float, height: float) -> NDArray[np.float32]:
            return np.exp(-(((_AROUND - azimuth) / width) ** 2) - ((_ALONG - along) / height) ** 2).astype(np.float32)

        eyes = blob(-0.42, 0.46, 0.16, 0.05) + blob(0.42, 0.46, 0.16, 0.05)
        nose, mouth = blob(0.0, 0.62, 0.13, 0.08), blob(0.0, 0.80, 0.28, 0.035)
        if self.modality == "thermal":
            return np.asarray(texture + (0.04 * eyes - 0.16 * nose - 0.01 * mouth)[..., None], dtype=np.float32)
        return np.asarray(texture * (1 - 0.55 * eyes - 0.40 * mouth + 0.05 * nose)[..., None], dtype=np.float32)

    def _hat(self) -> Texture:
        cloth = self.person.hat_cloth
        texture = self.plain(cloth, 0.8)
        fold = np.broadcast_to(_ALONG > 0.62, (V, U)).astype(np.float32)
        if self.modality == "thermal":
            return np.asarray(texture + 0.06 * fold[..., None] - 0.05, dtype=np.float32)
        return self._tint(
            texture, fold * np.float32(0.85 if cloth.scale > 1.0 else 0.25), self.value(cloth, accent=True)
        )

    def _bag(self) -> Texture:
        cloth = self.person.bag_cloth
        texture = self.plain(cloth, 0.7)
        pocket = ((_ALONG > 0.52) & (_ALONG < 0.92) & (np.abs(np.abs(_AROUND) - np.pi) < 1.0)).astype(np.float32)
        edge = np.exp(-(((_ALONG - 0.5) / 0.03) ** 2)) + 0 * _AROUND
        if self.modality == "thermal":
            return np.asarray(texture + 0.03 * edge[..., None], dtype=np.float32)
        blocked = 0.9 if cloth.pattern is Pattern.BLOCK else 0.0
        texture = self._tint(texture, pocket * blocked, self.value(cloth, accent=True))
        return np.asarray(texture * (1 - 0.35 * edge[..., None]), dtype=np.float32)


def _pattern_mask(
    cloth: Cloth, along: NDArray[np.float32], around: NDArray[np.float32], *, whole: bool
) -> NDArray[np.float32]:
    """Where the accent shows, 0..1; coordinates in metres. ``whole`` is False on limbs, which carry no prints."""
    size = cloth.scale
    hoops = (np.mod(along, 0.11 * size) < 0.05 * size).astype(np.float32)
    stripes = (np.mod(around + 2, 0.07 * size) < 0.028 * size).astype(np.float32)
    if cloth.pattern is Pattern.HOOPS:
        return hoops
    if cloth.pattern is Pattern.STRIPES:
        return stripes
    if cloth.pattern is Pattern.CHECKS:
        return 0.5 * (np.mod(along, 0.13 * size) < 0.06 * size) + 0.5 * (np.mod(around + 2, 0.13 * size) < 0.06 * size)
    if cloth.pattern is Pattern.BLOCK:
        return (along < 0.24 * size).astype(np.float32)
    if not whole or cloth.pattern in {Pattern.PLAIN, Pattern.SLEEVES}:
        return np.zeros_like(along)
    span = np.abs(around).max()
    centre = np.abs(around) if cloth.pattern is Pattern.PRINT_FRONT else span - np.abs(around)
    return np.asarray(
        ((centre < 0.105 * size) & (np.abs(along - 0.25) < 0.10 * size)).astype(np.float32), dtype=np.float32
    )


def dress(person: Person, modality: str) -> tuple[Body, Wardrobe]:
    """A person's body and its textures in one modality."""
    body = Body(person)
    return body, Wardrobe(body, modality)
