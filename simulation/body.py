"""A walking body: a skeleton driven by the phase of its gait, dressed in lathe-turned pieces.

A piece is an axis between two points with an elliptic cross-section that varies along it (half-width across the body,
half-depth along it), a material, and a ``front``: the azimuth its texture faces.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.people import Bag, Bottom, Hair, Hat, Person, Top

SAMPLES = 24  # of a profile along its axis
_PAD = {Top.TSHIRT: 0.010, Top.VEST: 0.005, Top.SHIRT: 0.014, Top.HOODIE: 0.026, Top.PUFFER: 0.050, Top.COAT: 0.032,
        Top.GILET: 0.038}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """One lathe-turned part: profile (SAMPLES, 2) of half-widths and half-depths in metres from start to end."""

    name: str
    material: str
    profile: NDArray[np.float64]
    rounded: tuple[bool, bool] = (True, True)
    bias: float = 0.0  # metres towards the camera, so that an outer layer wins


@dataclass(frozen=True)
class Pose:
    """World positions of the pieces' axes at one moment: start and end (n, 3) in metres, front azimuth (n,)."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    front: NDArray[np.float64]


Segment = tuple[NDArray[np.float64], NDArray[np.float64], float]


def turned(*knots: tuple[float, float, float]) -> NDArray[np.float64]:
    """A profile from knots (t, half-width, half-depth)."""
    rows = np.array(knots)
    t = np.linspace(0, 1, SAMPLES)
    return np.stack([np.interp(t, rows[:, 0], rows[:, 1]), np.interp(t, rows[:, 0], rows[:, 2])], axis=1)


def _limb(start: float, end: float, bulge: float = 0.0) -> NDArray[np.float64]:
    middle = 0.5 * (start + end) + bulge
    return turned((0, start, start), (0.35, 0.35 * start + 0.65 * middle, 0.35 * start + 0.65 * middle), (1, end, end))


class Body:
    """One person's pieces, fixed for life, and where they are at a phase of the gait."""

    def __init__(self, person: Person) -> None:
        """Cut the pieces to the person's measures."""
        self.person = person
        p = person.physique
        self.leg = p.leg_ratio * p.stature - 0.07
        self.thigh, self.shin = 0.51 * self.leg, 0.49 * self.leg
        self.upper_arm, self.forearm = 0.168 * p.stature * p.arm_ratio, 0.148 * p.stature * p.arm_ratio
        self.trunk = 0.845 * p.stature - p.leg_ratio * p.stature
        self.head = 0.134 * p.stature * p.head
        self.pad = _PAD[person.top]
        self.pieces: list[Piece] = [
            *self._legs(), *self._trunk(), *self._arms(), *self._head(), *self._accessories(), *self._bag(),
        ]  # fmt: skip

    # ---- pieces -------------------------------------------------------------------------------------------------

    def _legs(self) -> list[Piece]:
        person, p = self.person, self.person.physique
        fat = 1 + 0.35 * (p.build - 0.4)
        hip, knee, ankle = 0.047 * p.stature * fat, 0.033 * p.stature * fat, 0.022 * p.stature
        wide = person.bottom_width if person.bottom is Bottom.TROUSERS else 1.0
        cuff = max(ankle + 0.012, 0.045 * wide**2.0)
        upper = {Bottom.TROUSERS: "trouser-thigh", Bottom.SHORTS: "shorts"}.get(person.bottom, "bare-thigh")
        lower = {Bottom.TROUSERS: "trouser-shin"}.get(person.bottom, "bare-shin")
        dressed = person.bottom is Bottom.TROUSERS
        # A leg nearer to the camera than the skirt's axis is still inside the skirt.
        inside = -0.16 if person.bottom in {Bottom.KNEE_SKIRT, Bottom.LONG_SKIRT} else 0.0
        pieces = []
        for side in ("left", "right"):
            k = knee * (1.1 * wide if dressed else 1.0)
            thigh = _limb(hip * (1.0 + 0.06 * (wide - 1)), k, 0.004)
            if person.bottom is Bottom.SHORTS:
                hem = 0.72 + person.hem
                w = hip * 1.12
                thigh = turned((0, hip, hip), (hem - 0.02, w, w), (hem, knee * 1.05, knee * 1.05), (1, knee, knee))
            shin = (
                turned((0, k, k), (0.5, 0.5 * (k + cuff), 0.5 * (k + cuff)), (1, cuff, cuff))
                if dressed
                else turned(
                    (0, knee, knee), (0.3, knee * 1.08, knee * 1.08), (0.75, ankle * 1.1, ankle), (1, ankle, ankle)
                )
            )
            shoe = turned((0, 0.036, 0.036), (0.35, 0.042, 0.042), (1, 0.034, 0.03))
            pieces += [
                Piece(f"{side} foot", "shoe", shoe, bias=-0.02),
                Piece(f"{side} shin", lower, shin, (True, not dressed), bias=inside),
                Piece(f"{side} thigh", upper, thigh, bias=inside),
            ]
            if person.boots:
                over = 0.02 if not dressed else -0.01
                boot = turned((0, ankle + 0.026, ankle + 0.026), (1, ankle + 0.018, ankle + 0.018))
                pieces.append(Piece(f"{side} boot", "boot", boot, (False, True), bias=inside + over))
        return pieces

    def _trunk(self) -> list[Piece]:
        person, p = self.person, self.person.physique
        pad, build = self.pad, p.build
        s, h = p.shoulder + pad * 0.5, p.hip + 0.8 * pad
        chest_d = 0.064 * p.stature * (1 + 0.25 * build) + pad
        waist_w, waist_d = (0.80 + 0.2 * build) * h + 0.02 * build, chest_d * (0.86 + 0.42 * build)
        length = self.trunk + max(person.top_length, 0.0)

        def at(metres: float) -> float:
            return metres / length

        neck = 0.036 * p.stature
        knots = [
            (0.0, neck + 0.012, neck),
            (at(0.035), 0.62 * s, 0.60 * chest_d),
            (at(0.075), 0.88 * s, 0.85 * chest_d),
            (at(0.14), 0.90 * s, chest_d),
            (at(0.55 * self.trunk), 0.86 * s, 0.98 * chest_d),
            (at(0.74 * self.trunk), max(waist_w, 0.66 * s), waist_d),
        ]
        if person.top is Top.HOODIE or person.top is Top.PUFFER:
            knots += [(0.95, 1.10 * h, waist_d + 0.012), (1.0, 1.0 * h, waist_d - 0.008)]
        elif person.top is Top.COAT:
            knots += [(at(self.trunk), 1.08 * h, waist_d + 0.01), (1.0, 1.22 * h + 0.02, waist_d + 0.045)]
        else:
            knots += [(1.0, 1.06 * h, waist_d + 0.008)]
        hips = turned((0, max(waist_w - pad, 0.8 * p.hip), waist_d - pad), (0.55, 1.02 * p.hip, waist_d - pad * 0.7),
                      (1, 0.92 * p.hip, waist_d * 0.9 - pad))  # fmt: skip
        pieces = [
            Piece("hips", "hips", hips, (False, True), bias=0.03),
            Piece("trunk", "top", turned(*knots), (True, False), bias=0.06 if person.top is not Top.COAT else 0.10),
            Piece("neck", "neck", turned((0, neck, neck), (1, neck * 1.12, neck * 1.1))),
        ]
        if person.bottom in {Bottom.KNEE_SKIRT, Bottom.LONG_SKIRT}:
            flare = 0.06 + 0.09 * (person.bottom_width - 0.8)
            w, d = 1.04 * p.hip, waist_d - 0.6 * pad
            skirt = turned((0, 0.92 * w, 0.95 * d), (0.3, 1.06 * w, 1.1 * d), (1, w + flare, d + flare + 0.04))
            pieces.append(Piece("skirt", "skirt", skirt, (False, False), bias=0.045))
        return pieces

    def _arms(self) -> list[Piece]:
        person, p = self.person, self.person.physique
        fat = 1 + 0.3 * (p.build - 0.4)
        shoulder, elbow, wrist = 0.031 * p.stature * fat, 0.0235 * p.stature * fat, 0.017 * p.stature
        ease = self.pad if person.top is not Top.GILET else 0.012

        def sleeved(radius: float, at: float) -> float:
            return radius + (0.75 * ease if at < person.sleeve else 0.0)

        hem = min(person.sleeve, 1.0)
        knots = [(0.0, sleeved(shoulder, 0.0))]
        if 0.0 < hem < 0.97:
            wide = sleeved(elbow + (shoulder - elbow) * (1 - hem), 0.0) + 0.006
            knots += [(hem, wide), (hem + 0.03, wide - 0.75 * ease - 0.004)]
        knots.append((1.0, sleeved(elbow, 1.0 if hem < 0.97 else 0.9)))
        upper = turned(*((t, radius, radius) for t, radius in knots))
        lower = turned((0, sleeved(elbow, 1.0), sleeved(elbow, 1.0)), (1, sleeved(wrist, 1.95), sleeved(wrist, 1.95)))
        pieces = []
        for side in ("left", "right"):
            pieces += [
                Piece(f"{side} hand", "skin", turned((0, 0.030, 0.030), (0.4, 0.043, 0.043), (1, 0.026, 0.026))),
                Piece(f"{side} forearm", "forearm", lower),
                Piece(f"{side} arm", "sleeve", upper, bias=0.01),
            ]
        return pieces

    def _head(self) -> list[Piece]:
        person, size = self.person, self.head
        w, d = 0.36 * size, 0.43 * size
        skull = turned((0, 0.55 * w, 0.60 * d), (0.12, 0.86 * w, 0.88 * d), (0.35, w, d), (0.62, 0.94 * w, 0.96 * d),
                       (0.85, 0.72 * w, 0.80 * d), (1, 0.46 * w, 0.52 * d))  # fmt: skip
        pieces = [Piece("head", "head", skull, bias=0.02)]
        hair = person.hair
        if hair in {Hair.LONG, Hair.BOB}:
            mane = turned(
                (0, 0.7 * w, 0.5 * d), (0.2, 1.18 * w, 0.72 * d), (0.6, 1.22 * w, 0.66 * d), (1, 1.0 * w, 0.42 * d)
            )
            pieces.append(Piece("mane", "hair", mane, (True, True), bias=-0.01))
        elif hair is Hair.PONYTAIL:
            tail = turned((0, 0.022, 0.022), (0.3, 0.042, 0.042), (1, 0.014, 0.014))
            pieces.append(Piece("tail", "hair", tail))
        elif hair is Hair.BUN:
            pieces.append(Piece("bun", "hair", turned((0, 0.052, 0.052), (1, 0.052, 0.052))))
        elif hair is Hair.CURLY:
            puff = turned((0, 1.25 * w, 1.2 * d), (0.5, 1.42 * w, 1.32 * d), (1, 1.1 * w, 1.05 * d))
            pieces.append(Piece("curls", "hair", puff, bias=-0.005))
        return pieces + self._hat(w, d)

    def _hat(self, w: float, d: float) -> list[Piece]:
        hat = self.person.hat
        if hat is Hat.NONE:
            return []
        crown = turned((0, 0.72 * w, 0.72 * d), (0.5, 1.12 * w, 1.08 * d), (1, 1.16 * w, 1.12 * d))
        pieces = [Piece("crown", "hat", crown, (True, False), bias=0.06)]
        if hat is Hat.CAP:
            pieces.append(Piece("peak", "hat", turned((0, 0.075, 0.012), (1, 0.060, 0.010)), bias=0.08))
        elif hat is Hat.BRIM:
            wide = 2.15 * w
            pieces.append(Piece("brim", "hat", turned((0, wide, wide), (1, wide, wide)), (False, False), bias=0.055))
        return pieces

    def _accessories(self) -> list[Piece]:
        person, p = self.person, self.person.physique
        pieces = []
        if person.top is Top.HOODIE:
            hood = turned((0, 0.085, 0.05), (0.5, 0.125, 0.085), (1, 0.09, 0.05))
            pieces.append(Piece("hood", "hood", hood, bias=0.05))
        if person.scarf is not None:
            roll = 0.05 * p.stature
            pieces.append(
                Piece(
                    "scarf",
                    "scarf",
                    turned((0, roll, roll), (0.5, roll * 1.25, roll * 1.2), (1, roll, roll)),
                    bias=0.09,
                )
            )
        elif person.collar > 0:
            tall = 0.038 * p.stature * (1 + 0.25 * person.collar)
            pieces.append(
                Piece(
                    "collar", "collar", turned((0, tall, tall), (1, tall * 1.15, tall * 1.1)), (False, True), bias=0.03
                )
            )
        return pieces

    def _bag(self) -> list[Piece]:
        person, size = self.person, self.person.bag_size
        bag = person.bag
        if bag is Bag.NONE:
            return []
        if bag is Bag.BACKPACK:
            w, d = 0.15 * size, 0.085 * size
            pack = turned((0, 0.75 * w, 0.7 * d), (0.15, 0.95 * w, 0.85 * d), (0.6, w, d), (1, 0.95 * w, d))
            return [Piece("backpack", "bag", pack)]
        if bag in {Bag.SHOULDER_LEFT, Bag.SHOULDER_RIGHT}:
            satchel = turned((0, 0.055, 0.15 * size), (1, 0.065, 0.16 * size))
            return [
                Piece("satchel", "bag", satchel, (False, False), bias=0.05),
                Piece("strap", "strap", turned((0, 0.019, 0.019), (1, 0.019, 0.019)), bias=0.20),
            ]
        if bag is Bag.HANDBAG:
            tote = turned((0, 0.05, 0.12 * size), (0.2, 0.06, 0.17 * size), (1, 0.06, 0.16 * size))
            return [Piece("tote", "bag", tote, (False, False), bias=0.02)]
        case = turned((0, 0.16 * size, 0.11 * size), (1, 0.16 * size, 0.11 * size))
        rod = turned((0, 0.012, 0.012), (1, 0.012, 0.012))
        return [Piece("case", "bag", case, (False, False)), Piece("rod", "strap", rod)]

    # ---- motion -------------------------------------------------------------------------------------------------

    def cadence(self, speed: float) -> float:
        """Gait cycles a second at a speed in m/s."""
        stature = self.person.physique.stature
        return 0.86 * self.person.gait.cadence * math.sqrt(max(speed, 0.0) / 1.3) * math.sqrt(1.72 / stature)

    def pose(self, position: tuple[float, float], heading: float, phase: float, speed: float) -> Pose:
        """Where every piece is, for a phase of the gait in radians and a speed in m/s (0 stands)."""
        bones = self._skeleton(phase, speed)
        turn = np.array([[np.cos(heading), -np.sin(heading), 0], [np.sin(heading), np.cos(heading), 0], [0, 0, 1.0]])
        origin = np.array([position[0], position[1], 0.0])
        start = np.array([bones[piece.name][0] for piece in self.pieces])
        end = np.array([bones[piece.name][1] for piece in self.pieces])
        front = np.array([bones[piece.name][2] for piece in self.pieces])
        return Pose(start @ turn.T + origin, end @ turn.T + origin, front + heading)

    def _skeleton(self, phase: float, speed: float) -> dict[str, Segment]:
        """Pieces' axes in the walker's own axes: forward, left, up; the ground under the pelvis is the origin."""
        g = self.person.gait
        rate = self.cadence(speed)
        step = speed / (2 * rate) if rate > 1e-3 else 0.0
        widest = 0.30 if self.person.bottom is Bottom.LONG_SKIRT else 0.62  # a long skirt shortens the stride
        reach = float(np.arcsin(np.clip(0.5 * step / self.leg, 0, widest)))
        bones: dict[str, Segment] = {}
        pelvis = self._stride(bones, phase, reach)
        gentle = min(reach / 0.36, 1.2)
        hips = np.array([0.0, g.sway * np.sin(phase) * gentle, pelvis])
        twist = -0.16 * np.cos(phase) * gentle
        lean = g.lean + 0.02 * np.sin(2 * phase) * gentle
        up = np.array([np.sin(lean), -0.3 * g.sway * np.sin(phase), np.cos(lean)])
        neck = hips + self.trunk * up
        down = max(self.person.top_length, 0.0)
        bones["trunk"] = (neck, hips - np.array([0.0, 0, down]), twist)
        bones["hips"] = (hips + 0.13 * up, hips - np.array([0, 0, 0.075]), -0.5 * twist)
        skirt = {Bottom.KNEE_SKIRT: 0.52 + self.person.hem, Bottom.LONG_SKIRT: 0.84 + 0.6 * self.person.hem}
        drop = skirt.get(self.person.bottom, 0.5) * self.leg
        bones["skirt"] = (hips + 0.12 * up, hips - np.array([0.02 * gentle, 0, drop]), 0.0)
        self._swing_arms(bones, phase, (neck, up, twist, gentle))
        self._hold_head(bones, neck, up)
        self._carry(bones, hips, neck, up)
        return bones

    def _stride(self, bones: dict[str, Segment], phase: float, reach: float) -> float:
        """Legs and feet; returns the height of the pelvis that puts the lower foot on the ground."""
        p, g = self.person.physique, self.person.gait
        half = 0.052 * p.stature * g.stance
        legs = []
        for sign, offset in ((1.0, 0.0), (-1.0, np.pi)):
            angle = phase + offset
            thigh = reach * (1 + g.asymmetry * 0.5 * sign) * np.cos(angle) + 0.25 * reach
            bend = 0.06 + 2.3 * reach * max(0.0, -np.sin(angle + 0.25)) ** 1.4 + 0.35 * reach
            hip = np.array([0.0, sign * half, 0.0])
            knee = hip + self.thigh * np.array([np.sin(thigh), 0.0, -np.cos(thigh)])
            ankle = knee + self.shin * np.array([np.sin(thigh - bend), -0.006 * sign, -np.cos(thigh - bend)])
            pitch = float(np.clip((thigh - bend) * 0.75 + 0.05, -0.9, 0.3))
            legs.append((sign, hip, knee, ankle, pitch))
        lowest = max(-float(leg[3][2]) + 0.10 * max(0.0, -np.sin(leg[4])) for leg in legs)
        pelvis = lowest + 0.075
        lift = np.array([0.0, 0.0, pelvis])
        for sign, hip, knee, ankle, pitch in legs:
            side = "left" if sign > 0 else "right"
            toe_out = sign * g.toe_out
            forward = np.array([np.cos(pitch) * np.cos(toe_out), np.sin(toe_out), np.sin(pitch)])
            heel = ankle + lift - np.array([0.03, 0, 0.038])
            bones[f"{side} thigh"] = (hip + lift, knee + lift, 0.0)
            bones[f"{side} shin"] = (knee + lift, ankle + lift + np.array([0, 0, 0.01]), 0.0)
            bones[f"{side} foot"] = (heel, heel + (0.098 * p.stature) * forward, toe_out)
            bones[f"{side} boot"] = (knee + 0.45 * (ankle - knee) + lift, ankle + lift, 0.0)
        return float(pelvis)

    def _swing_arms(
        self,
        bones: dict[str, Segment],
        phase: float,
        trunk: tuple[NDArray[np.float64], NDArray[np.float64], float, float],
    ) -> None:
        neck, up, twist, gentle = trunk
        p, g = self.person.physique, self.person.gait
        root = neck - 0.052 * p.stature * up
        across = np.array([-np.sin(twist), np.cos(twist), 0.0])
        held = {Bag.HANDBAG: -1.0, Bag.TROLLEY: -1.0}.get(self.person.bag, 0.0)
        for sign, offset in ((1.0, np.pi), (-1.0, 0.0)):
            side = "left" if sign > 0 else "right"
            busy = held == sign
            swing = g.arm_swing * gentle * (0.15 if busy else 1.0) * np.cos(phase + offset) - 0.03
            if busy and self.person.bag is Bag.TROLLEY:
                swing -= 0.45
            elbow_bend = 0.06 if busy else g.elbow * (0.75 + 0.25 * np.cos(phase + offset)) + 0.1
            spread = 0.10 + 0.12 * p.build + 1.3 * self.pad
            shoulder = root + sign * (0.90 * p.shoulder + 0.3 * self.pad) * across
            outward = sign * np.sin(spread) * across
            elbow = shoulder + self.upper_arm * (
                np.array([np.sin(swing), 0, -np.cos(swing)]) * np.cos(spread) + outward
            )
            fore = swing + elbow_bend
            wrist = elbow + self.forearm * np.array([np.sin(fore), 0.0, -np.cos(fore)])
            along = np.array([np.sin(fore), 0.0, -np.cos(fore)])
            bones[f"{side} arm"] = (shoulder, elbow, twist)
            bones[f"{side} forearm"] = (elbow, wrist, 0.0)
            bones[f"{side} hand"] = (wrist + 0.02 * along, wrist + 0.10 * along, 0.0)

    def _hold_head(self, bones: dict[str, Segment], neck: NDArray[np.float64], up: NDArray[np.float64]) -> None:
        size = self.head
        stature = self.person.physique.stature
        base = neck + np.array([0.018, 0, 0.030 * stature])
        top = base + size * np.array([0.06, 0, 0.995])
        axis = top - base
        back = np.array([-1.0, 0.0, 0.0])
        rounding = 0.2 * size
        bones["neck"] = (base + 0.25 * axis, neck - 0.02 * up, 0.0)
        bones["head"] = (top - np.array([0, 0, rounding]), base + 0.10 * axis, 0.0)
        tail = {Hair.LONG: 0.19, Hair.BOB: 0.03}.get(self.person.hair, 0.1)
        bones["mane"] = (top - 0.22 * axis + 0.2 * size * back, base - np.array([0, 0, tail]) + 0.34 * size * back, 0.0)
        bones["tail"] = (
            base + 0.70 * axis + 0.5 * size * back,
            base - np.array([0, 0, 0.15]) + 0.62 * size * back,
            0.0,
        )
        bones["bun"] = (top - 0.14 * axis + 0.42 * size * back, top - 0.18 * axis + 0.46 * size * back, 0.0)
        bones["curls"] = (top - 0.30 * axis + 0.07 * size * back, base + 0.42 * axis + 0.12 * size * back, 0.0)
        bones["crown"] = (top - 0.10 * axis, top - 0.46 * axis, 0.0)
        bones["peak"] = (top - 0.42 * axis - 0.30 * size * back, top - 0.48 * axis - 0.80 * size * back, 0.0)
        bones["brim"] = (top - 0.42 * axis, top - 0.45 * axis, 0.0)
        bones["hood"] = (neck + np.array([-0.07, 0.0, 0.035]), neck - np.array([0.09, 0, 0.10]), 0.0)
        bones["scarf"] = (neck + np.array([0.01, 0, 0.045]), neck - np.array([-0.02, 0, 0.02]), 0.0)
        bones["collar"] = (
            neck + np.array([0.008, 0, 0.020 + 0.025 * self.person.collar]),
            neck - np.array([0, 0, 0.03]),
            0.0,
        )

    def _carry(
        self, bones: dict[str, Segment], hips: NDArray[np.float64], neck: NDArray[np.float64], up: NDArray[np.float64]
    ) -> None:
        person, size = self.person, self.person.bag_size
        p = person.physique
        behind = np.array([-1.0, 0.0, 0.0])
        depth = 0.064 * p.stature * (1 + 0.25 * p.build) + self.pad + 0.06 * size
        high = neck - 0.09 * up + depth * behind
        bones["backpack"] = (high, high - 0.42 * size * up, 0.0)
        sign = 1.0 if person.bag is Bag.SHOULDER_LEFT else -1.0
        side = hips + np.array([-0.03, sign * (p.hip + 0.075 + self.pad), 0.10])
        bones["satchel"] = (side, side - np.array([0, 0, 0.25 * size]), 0.0)
        bones["strap"] = (
            neck + np.array([0.03, -sign * 0.55 * p.shoulder, -0.035]),
            side + np.array([0.03, -0.02 * sign, 0.0]),
            0.0,
        )
        hand = bones["right hand"][1]
        bones["tote"] = (hand, hand - np.array([0, 0, 0.32 * size]), 0.0)
        floor = np.array([hand[0] - 0.22, hand[1], 0.03])
        bones["case"] = (floor + np.array([0.05, 0, 0.52 * size]), floor, 0.0)
        bones["rod"] = (hand, floor + np.array([0.05, 0, 0.5 * size]), 0.0)
