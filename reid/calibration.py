"""From cosine to probability: what a similarity of 0.6 is worth between these two kinds of camera.

Cosines between an RGB and a thermal embedding of one person are lower and more spread than between two RGB ones, so one
threshold cannot serve all pairs. Each unordered pair of modalities has a logistic curve of its own; a pair without a
curve is an error, and never borrows that of another pair.

A curve also knows how alike strangers are: the cosine that a stated share of pairs of two people reaches. So a
threshold can be set by the false matches that it lets through, whatever the share of true ones in use.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, ndtri

from reid.modality import Modality

FORMAT = 2
_READABLE = (1, 2)  # 1 had no cosines of strangers
_RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0001)
LIKELY = 0.05  # from here on a user is shown a pair, or may be
_LEAST_BEYOND = 20  # pairs of strangers above the smallest rate that is told


class FalseMatchRateError(ValueError):
    """A rate that cannot be told from the pairs that a curve was fitted to."""


class MissingPairError(KeyError):
    """No curve was fitted for this pair of modalities."""

    def __str__(self) -> str:
        """The message as it is; KeyError would show it quoted."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Curve:
    """P(same person | cosine) = 1 / (1 + exp(-(slope cosine + intercept))).

    Attributes:
        slope: Above 0: more alike is never less likely.
        intercept: Log odds at cosine 0.
        strangers: Rate and cosine, from the greatest rate: that share of the pairs of two people is at least so alike.
            Empty where nobody counted them.
    """

    slope: float
    intercept: float
    strangers: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept)):
            raise ValueError(f"slope and intercept must be finite, got {self.slope} and {self.intercept}")
        if self.slope <= 0:
            raise ValueError(
                f"slope must be above 0, got {self.slope:.6g}: pairs of one person are not more alike than others"
            )
        rates, cosines = [rate for rate, _ in self.strangers], [cosine for _, cosine in self.strangers]
        if any(not 0 < rate < 1 for rate in rates) or rates != sorted(set(rates), reverse=True):
            raise ValueError(f"rates of strangers must fall and be in (0, 1), got {rates}")
        if not all(map(math.isfinite, cosines)) or cosines != sorted(cosines):
            raise ValueError(f"cosines of strangers must not fall and be finite, got {cosines}")

    def probability(self, cosine: ArrayLike) -> NDArray[np.float64]:
        """P(same person), in the shape of `cosine`."""
        return np.asarray(expit(self.log_odds(cosine)))

    def log_odds(self, cosine: ArrayLike) -> NDArray[np.float64]:
        """The same as log odds, in the shape of `cosine`."""
        return np.asarray(self.slope * np.asarray(cosine, dtype=np.float64) + self.intercept)

    def threshold(self, false_match_rate: float) -> float:
        """The cosine that this share of the pairs of two people reaches; between counted rates, by their logarithms.

        Raises:
            FalseMatchRateError: When the rate is not within those that were counted.
        """
        if not self.strangers:
            raise FalseMatchRateError("this calibration does not know how alike strangers are; fit it anew (calibrate)")
        rates = np.array([rate for rate, _ in self.strangers])
        if not rates[-1] <= false_match_rate <= rates[0]:
            raise FalseMatchRateError(
                f"a false-match rate of {false_match_rate:g} cannot be told from the pairs that were seen; they tell"
                f" rates from {rates[-1]:g} to {rates[0]:g}"
            )
        cosines = [cosine for _, cosine in self.strangers]
        return float(np.interp(-math.log(false_match_rate), -np.log(rates), cosines))

    def false_match_rate(self, cosine: float) -> float | None:
        """Share of pairs of two people that are at least so alike, within the rates counted; None where none was."""
        if not self.strangers:
            return None
        rates, cosines = np.array(self.strangers).T
        return float(np.exp(-np.interp(cosine, cosines, -np.log(rates))))

    @property
    def centre(self) -> float:
        """The cosine around which strangers lie, were theirs spread normally; at least 0 where their counts allow it.

        That many embeddings have something in common makes it greater than 0.
        """
        if len(self.strangers) < 2:
            return min([0.0, *(cosine for _, cosine in self.strangers)])
        rates, cosines = np.array(self.strangers).T
        _, at_half = np.polyfit(-ndtri(rates), cosines, 1)
        return min(max(float(at_half), 0.0), float(cosines[0]))


def fit_curve(cosine: ArrayLike, same: ArrayLike, *, prior: float | None = None) -> Curve:
    """Fit a curve by maximum likelihood (Platt 1999, sections 2.1 and 2.2).

    The targets are Platt's, (N+ + 1) / (N+ + 2) and 1 / (N- + 2) in place of 1 and 0, so that cosines which separate
    the two kinds perfectly still give a finite slope.

    Args:
        cosine: (n,), finite.
        same: Whether each is of one person, (n,) bool; both kinds must occur.
        prior: Share of same-person pairs to expect in use, in (0, 1). The intercept is moved by its log odds less those
            of the sample (Saerens et al. 2002, eq. 2.4). None keeps the sample's share.

    Raises:
        ValueError: When the input does not fit together, one kind is missing, or the slope is not above 0.
    """
    x, y = _sample(cosine, same)
    if prior is not None and not 0 < prior < 1:
        raise ValueError(f"prior must be in (0, 1), got {prior}")
    positives = int(y.sum())
    negatives = len(y) - positives
    if not (positives and negatives):
        raise ValueError(f"both kinds of pairs are needed, got {positives} of one person and {negatives} of two")
    target = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    mean, scale = float(x.mean()), float(x.std())
    if scale == 0:
        raise ValueError(f"cosines must differ, got {x[0]} only")
    slope, intercept = _maximum_likelihood((x - mean) / scale, target)
    slope, intercept = slope / scale, intercept - slope * mean / scale
    if prior is not None:
        intercept += _log_odds(prior) - math.log(positives / negatives)
    return Curve(slope=slope, intercept=intercept, strangers=_strangers(x[~y]))


def _strangers(cosine: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Rates down to the smallest that enough pairs tell."""
    told = [rate for rate in _RATES if rate * len(cosine) >= _LEAST_BEYOND]
    return tuple((rate, float(np.quantile(cosine, 1 - rate))) for rate in told)


def _sample(cosine: ArrayLike, same: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    x, y = np.asarray(cosine, dtype=np.float64), np.asarray(same)
    if x.ndim != 1 or y.shape != x.shape:
        raise ValueError(f"cosine and same must be (n,) each, got {x.shape} and {y.shape}")
    if y.dtype != np.bool_:
        raise ValueError(f"same must be bool, got {y.dtype}")
    if not np.isfinite(x).all():
        raise ValueError("cosine must be finite, got NaN or infinity")
    return x, y


def _maximum_likelihood(x: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept; convex, so Newton's method ends at the one optimum."""
    design = np.stack([x, np.ones_like(x)], axis=1)

    def loss(theta: NDArray[np.float64]) -> float:
        z = design @ theta
        return -float(np.mean(target * log_expit(z) + (1 - target) * log_expit(-z)))

    def gradient(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(design.T @ (expit(design @ theta) - target) / len(x))

    def hessian(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        p = expit(design @ theta)
        return np.asarray((design * (p * (1 - p))[:, None]).T @ design / len(x))

    result = minimize(loss, np.zeros(2), jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-10})
    return float(result.x[0]), float(result.x[1])


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


class Calibration:
    """The curves of a model, one an unordered pair of modalities; carried in its checkpoint."""

    def __init__(self, curves: Mapping[tuple[Modality, Modality], Curve]) -> None:
        self._curves: dict[tuple[Modality, Modality], Curve] = {}
        for (a, b), curve in curves.items():
            key = _key(a, b)
            if key in self._curves:
                raise ValueError(f"the pair {_name(key)} has two curves")
            self._curves[key] = curve

    def __iter__(self) -> Iterator[tuple[Modality, Modality]]:
        """The pairs that have a curve."""
        return iter(sorted(self._curves))

    def missing(self, modalities: Iterable[Modality]) -> list[str]:
        """Names of the pairs of these, each with itself among them, that have no curve."""
        pairs = combinations_with_replacement(sorted(set(modalities)), 2)
        return [_name(pair) for pair in pairs if pair not in self._curves]

    def curve(self, a: Modality, b: Modality) -> Curve:
        """The curve of this pair, in either order.

        Raises:
            MissingPairError: When none was fitted.
        """
        key = _key(a, b)
        if key not in self._curves:
            known = ", ".join(map(_name, self)) or "none"
            raise MissingPairError(f"no calibration for the pair {_name(key)}; this model has: {known}")
        return self._curves[key]

    def probability(self, cosine: ArrayLike, a: Modality, b: Modality) -> NDArray[np.float64]:
        """P(same person) of embeddings from modalities a and b, in the shape of `cosine`.

        Raises:
            MissingPairError: When the pair has no curve.
        """
        return self.curve(a, b).probability(cosine)

    def log_odds(self, cosine: ArrayLike, a: Modality, b: Modality) -> NDArray[np.float64]:
        """The same as log odds: without a limit at both ends, so that they can be added and compared.

        Raises:
            MissingPairError: When the pair has no curve.
        """
        return self.curve(a, b).log_odds(cosine)

    def threshold(self, false_match_rate: float, a: Modality, b: Modality) -> float:
        """The cosine from which on this share of the pairs of two people is taken for one.

        Raises:
            MissingPairError: When the pair has no curve.
            FalseMatchRateError: When that curve cannot tell so small, or so large, a rate.
        """
        try:
            return self.curve(a, b).threshold(false_match_rate)
        except FalseMatchRateError as error:
            raise FalseMatchRateError(f"{_name(_key(a, b))}: {error}") from None

    def mean_threshold(
        self, false_match_rate: float, examples: NDArray[np.float64], kinds: Sequence[Modality], modality: Modality
    ) -> float:
        """The mean log odds over several examples of one person that this share of strangers reaches.

        A mean of n is less spread than one, the less the examples are alike; were each compared with the threshold of
        one, nearly n times as many strangers would pass. Cosines of a stranger are taken to be normal around the centre
        of their curve, and correlated as the examples are in what they do not have in common with everybody.

        Args:
            false_match_rate: As for `threshold`.
            examples: (n, n) cosines of the examples with each other.
            kinds: (n,) their modalities.
            modality: Of whom they are compared with.

        Raises:
            MissingPairError: When a pair has no curve.
            FalseMatchRateError: When a curve cannot tell so small, or so large, a rate.
        """
        curves = [self.curve(kind, modality) for kind in kinds]
        cosines = np.array([self.threshold(false_match_rate, kind, modality) for kind in kinds])
        if len(curves) == 1:
            return float(curves[0].log_odds(cosines[0]))
        slopes, centres = np.array([[curve.slope, curve.centre] for curve in curves]).T
        root = np.sqrt(np.maximum(centres, 0))
        common = np.outer(root, root)
        alike = np.minimum((examples - common) / np.maximum(1 - common, 1e-9), 1)
        np.fill_diagonal(alike, 1)
        spread = slopes * (cosines - centres)
        middle = np.mean([curve.log_odds(centre) for curve, centre in zip(curves, centres, strict=True)])
        return float(middle + np.sqrt(max(spread @ alike @ spread, 0)) / len(curves))

    def replaced(self, other: "Calibration") -> "Calibration":
        """This one, with the curves of the other in place of its own where it has them."""
        return Calibration(self._curves | other._curves)

    def to_dict(self) -> dict[str, Any]:
        """Plain strings and numbers, as JSON can hold them."""
        pairs = {
            _name(key): {
                "slope": self._curves[key].slope,
                "intercept": self._curves[key].intercept,
                "strangers": [list(each) for each in self._curves[key].strangers],
            }
            for key in self
        }
        return {"format": FORMAT, "pairs": pairs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            ValueError: When it is not that, with the place that is wrong.
        """
        if data.get("format") not in _READABLE:
            raise ValueError(f"calibration: format must be {FORMAT}, got {data.get('format')!r}")
        pairs = data.get("pairs")
        if not isinstance(pairs, Mapping):
            raise ValueError(f"calibration: pairs must be a mapping, got {type(pairs).__name__}")
        curves: dict[tuple[Modality, Modality], Curve] = {}
        for name, entry in pairs.items():
            try:
                first, second = name.split("-")
                if not {"slope", "intercept"} <= set(entry) <= {"slope", "intercept", "strangers"}:
                    raise ValueError(f"expected slope and intercept, got {sorted(entry)}")
                strangers = tuple((float(rate), float(cosine)) for rate, cosine in entry.get("strangers", ()))
                curve = Curve(float(entry["slope"]), float(entry["intercept"]), strangers)
                curves[Modality(first), Modality(second)] = curve
            except (AttributeError, TypeError, ValueError) as error:
                raise ValueError(f"calibration: pairs.{name}: {error}") from error
        return cls(curves)


def _key(a: Modality, b: Modality) -> tuple[Modality, Modality]:
    first, second = sorted((Modality(a), Modality(b)))
    return first, second


def _name(key: tuple[Modality, Modality]) -> str:
    return f"{key[0].value}-{key[1].value}"


def expected_calibration_error(
    probability: ArrayLike, same: ArrayLike, *, bins: int = 15, prior: float | None = None
) -> float:
    """Mean distance between what was claimed and what was true, over bins of equal width (Guo et al. 2017, eq. 3).

    Args:
        probability: Claimed P(same person), (n,) in [0, 1], not empty.
        same: Whether it was, (n,) bool.
        bins: At least 1.
        prior: Weigh the pairs so that this share of them, in (0, 1), is of one person; both kinds must occur. None
            takes them as they are.

    Raises:
        ValueError: When the input does not fit together or is empty, or bins is below 1.
    """
    p, y = _sample(probability, same)
    if not len(p):
        raise ValueError("probability must not be empty")
    if ((p < 0) | (p > 1)).any():
        raise ValueError("probability must be in [0, 1]")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    weight = np.full(len(y), 1 / len(y)) if prior is None else np.where(y, prior / y.sum(), (1 - prior) / (~y).sum())
    claimed = np.bincount(place, weights=weight * p, minlength=bins)
    true = np.bincount(place, weights=weight * y, minlength=bins)
    return float(np.abs(claimed - true).sum())


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far claimed probabilities are from what was true.

    Attributes:
        error: ``expected_calibration_error`` of all pairs. Nearly all pairs are of two persons and claimed to be so,
            which makes it small for anybody.
        error_of_likely: The same over the pairs that are claimed at 5 % or more, those that a user is shown; NaN
            where there is none.
        log_loss: Mean of -log of what was claimed for the truth, in nats; less is better.
        log_loss_of_rate: That of claiming the share of same-person pairs for each of them: what `log_loss` must beat.
        pairs: How many.
        same: Of one person.
    """

    error: float
    error_of_likely: float
    log_loss: float
    log_loss_of_rate: float
    pairs: int
    same: int


def reliability(probability: ArrayLike, same: ArrayLike) -> Reliability:
    """Judge claimed probabilities.

    Args:
        probability: Claimed P(same person), (n,) in [0, 1], not empty.
        same: Whether it was, (n,) bool.

    Raises:
        ValueError: When the input does not fit together or is empty.
    """
    p, y = _sample(probability, same)
    error = expected_calibration_error(p, y)
    likely = p >= LIKELY
    return Reliability(
        error=error,
        error_of_likely=expected_calibration_error(p[likely], y[likely]) if likely.any() else math.nan,
        log_loss=_log_loss(p, y),
        log_loss_of_rate=_log_loss(np.full_like(p, y.mean()), y),
        pairs=len(y),
        same=int(y.sum()),
    )


def _log_loss(p: NDArray[np.float64], y: NDArray[np.bool_]) -> float:
    claimed = np.where(y, p, 1 - p)
    return float(-np.log(np.maximum(claimed, 1e-12)).mean())
