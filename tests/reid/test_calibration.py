"""From cosine to probability."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from reid.calibration import (
    Calibration,
    Curve,
    FalseMatchRateError,
    MissingPairError,
    expected_calibration_error,
    fit_curve,
)
from reid.modality import Modality

RGB, NIR, THERMAL = Modality.RGB, Modality.NIR, Modality.THERMAL


def pairs(rng: np.random.Generator, n: int, slope: float = 12.0, intercept: float = -5.0) -> tuple:
    cosine = rng.uniform(-0.2, 1, n)
    return cosine, rng.random(n) < expit(slope * cosine + intercept)


def test_the_curve_that_made_the_pairs_is_found_again() -> None:
    cosine, same = pairs(np.random.default_rng(0), 40_000)
    curve = fit_curve(cosine, same)
    assert curve.slope == pytest.approx(12, rel=0.03)  # three standard errors of this sample
    assert curve.intercept == pytest.approx(-5, rel=0.03)
    assert expected_calibration_error(curve.probability(cosine), same) < 0.01


def test_no_other_curve_is_more_likely() -> None:
    cosine, same = pairs(np.random.default_rng(1), 300)
    curve = fit_curve(cosine, same)
    n, positives = len(same), int(same.sum())
    target = np.where(same, (positives + 1) / (positives + 2), 1 / (n - positives + 2))

    def likelihood(slope: float, intercept: float) -> float:
        p = expit(slope * cosine + intercept)
        return float(np.sum(target * np.log(p) + (1 - target) * np.log(1 - p)))

    best = likelihood(curve.slope, curve.intercept)
    for a, b in [(1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3), (0.5, -0.2), (-0.5, 0.2)]:
        assert likelihood(curve.slope + a, curve.intercept + b) < best


def test_perfectly_separated_pairs_give_a_finite_curve_and_no_certainty() -> None:
    curve = fit_curve([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    assert 0.5 < curve.probability(0.9) < 0.99


def test_the_prior_moves_the_odds_and_not_the_slope() -> None:
    cosine, same = pairs(np.random.default_rng(2), 5000)
    plain, rare = fit_curve(cosine, same), fit_curve(cosine, same, prior=0.01)
    assert rare.slope == plain.slope

    def odds(p: np.ndarray) -> np.ndarray:
        return p / (1 - p)

    share = same.mean()
    expected = odds(plain.probability(cosine)) * (0.01 / 0.99) / (share / (1 - share))
    np.testing.assert_allclose(odds(rare.probability(cosine)), expected, rtol=1e-9)


def test_a_prior_makes_a_balanced_sample_right_where_matches_are_rare() -> None:
    rng = np.random.default_rng(3)
    positive, negative = rng.normal(0.7, 0.12, 20_000), rng.normal(0.3, 0.12, 20_000)
    curve = fit_curve(np.r_[positive, negative], np.r_[np.ones(20_000, bool), np.zeros(20_000, bool)], prior=0.05)
    use = np.r_[rng.normal(0.7, 0.12, 2_000), rng.normal(0.3, 0.12, 38_000)]
    same = np.r_[np.ones(2_000, bool), np.zeros(38_000, bool)]
    assert expected_calibration_error(curve.probability(use), same) < 0.01


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 200))
def test_more_alike_is_never_less_likely(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    same = np.arange(n) % 2 == 0
    curve = fit_curve(rng.normal(0, 0.1, n) + same, same)
    p = curve.probability(np.linspace(-1, 1, 101))
    assert (np.diff(p) >= 0).all()
    assert ((p >= 0) & (p <= 1)).all()


@pytest.mark.parametrize(
    ("cosine", "same", "prior", "message"),
    [
        ([0.1, 0.9], [True, False], None, "slope must be above 0, got -.*not more alike"),
        ([0.1, 0.9], [True, True], None, "both kinds of pairs are needed, got 2 of one person and 0 of two"),
        ([0.5, 0.5], [True, False], None, "cosines must differ, got 0.5 only"),
        ([0.1, np.nan], [True, False], None, "finite"),
        ([0.1, 0.9], [0, 1], None, "same must be bool, got int64"),
        ([0.1], [True, False], None, r"\(n,\) each, got \(1,\) and \(2,\)"),
        ([0.1, 0.9], [False, True], 1.0, r"prior must be in \(0, 1\), got 1.0"),
    ],
)
def test_what_gives_no_curve_is_named(cosine, same, prior, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_curve(cosine, same, prior=prior)


def test_pairs_of_modalities_have_no_order_and_shapes_are_kept() -> None:
    calibration = Calibration({(RGB, NIR): Curve(10, -5), (RGB, RGB): Curve(20, -8)})
    cosine = np.array([[0.1, 0.5], [0.7, 0.9]], np.float32)
    p = calibration.probability(cosine, NIR, RGB)
    np.testing.assert_array_equal(p, calibration.probability(cosine, RGB, NIR))
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-(10 * cosine.astype(float) - 5))))
    assert calibration.probability(0.5, RGB, NIR).shape == ()
    assert calibration.probability(0.4, RGB, RGB) == pytest.approx(0.5)


def test_a_pair_without_a_curve_is_an_error_and_borrows_none() -> None:
    calibration = Calibration({(RGB, NIR): Curve(10, -5)})
    with pytest.raises(MissingPairError) as error:
        calibration.probability(0.5, THERMAL, RGB)
    assert str(error.value) == "no calibration for the pair rgb-thermal; this model has: nir-rgb"
    assert isinstance(error.value, KeyError)
    with pytest.raises(MissingPairError, match="this model has: none"):
        Calibration({}).curve(RGB, RGB)


def test_two_curves_for_one_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="the pair nir-rgb has two curves"):
        Calibration({(RGB, NIR): Curve(1, 0), (NIR, RGB): Curve(2, 0)})


def test_it_goes_through_json_unchanged() -> None:
    calibration = Calibration({(RGB, NIR): Curve(10.1, -5.3), (THERMAL, THERMAL): Curve(1 / 3, 2.0)})
    restored = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert list(restored) == list(calibration) == [(NIR, RGB), (THERMAL, THERMAL)]
    assert restored.to_dict() == calibration.to_dict()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "format must be 2, got None"),
        ({"format": 1, "pairs": []}, "pairs must be a mapping, got list"),
        ({"format": 1, "pairs": {"rgb-termal": {"slope": 1, "intercept": 0}}}, "pairs.rgb-termal: 'termal' is not"),
        ({"format": 1, "pairs": {"rgb": {"slope": 1, "intercept": 0}}}, "pairs.rgb: not enough values"),
        ({"format": 1, "pairs": {"rgb-nir": {"slope": 1}}}, r"pairs.rgb-nir: expected slope and intercept"),
        ({"format": 1, "pairs": {"rgb-nir": {"slope": -1, "intercept": 0}}}, "pairs.rgb-nir: slope must be above 0"),
        ({"format": 1, "pairs": {"rgb-nir": {"slope": "x", "intercept": 0}}}, "pairs.rgb-nir: could not convert"),
        ({"format": 1, "pairs": {"rgb-nir": {"slope": 1, "intercept": float("nan")}}}, "must be finite"),
    ],
)
def test_a_damaged_record_is_named_by_its_place(data, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict(data)


def test_calibration_error_of_cases_counted_by_hand() -> None:
    assert expected_calibration_error([0.0, 1.0, 1.0], [False, True, True]) == 0
    assert expected_calibration_error([1.0, 1.0], [False, True]) == 0.5
    # Bin [0, .5): claims .2 and .4, one true: |.6 - 1| ; bin [.5, 1]: claims .9, true: |.9 - 1|.
    assert expected_calibration_error([0.2, 0.4, 0.9], [False, True, True], bins=2) == pytest.approx((0.4 + 0.1) / 3)


@pytest.mark.parametrize(
    ("probability", "same", "bins", "message"),
    [
        ([], np.empty(0, bool), 15, "must not be empty"),
        ([1.2], [True], 15, r"must be in \[0, 1\]"),
        ([0.5], [True], 0, "bins must be at least 1, got 0"),
    ],
)
def test_calibration_error_refuses_what_is_no_probability(probability, same, bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(probability, same, bins=bins)


def test_the_threshold_of_a_false_match_rate_lets_that_share_of_strangers_through() -> None:
    rng = np.random.default_rng(5)
    strangers, same = rng.normal(0.2, 0.1, 400_000), rng.normal(0.7, 0.1, 1_000)
    curve = fit_curve(np.r_[strangers, same], np.r_[np.zeros(400_000, bool), np.ones(1_000, bool)])
    others = rng.normal(0.2, 0.1, 200_000)
    for rate in (0.05, 0.013, 0.001):
        cosine = curve.threshold(rate)
        assert (others >= cosine).mean() == pytest.approx(rate, rel=0.2)
        assert curve.false_match_rate(cosine) == pytest.approx(rate, rel=1e-6)
    assert curve.false_match_rate(5.0) == pytest.approx(curve.strangers[-1][0], rel=1e-9)


def test_a_rate_that_too_few_strangers_tell_is_refused_and_says_which_can_be_told() -> None:
    rng = np.random.default_rng(6)
    cosine, same = np.r_[rng.normal(0.2, 0.1, 2_000), rng.normal(0.7, 0.1, 50)], np.arange(2_050) >= 2_000
    calibration = Calibration({(RGB, NIR): fit_curve(cosine, same)})
    assert calibration.threshold(0.01, NIR, RGB) > calibration.threshold(0.1, RGB, NIR)
    with pytest.raises(FalseMatchRateError, match=r"nir-rgb: .*0\.001 cannot be told.* from 0\.01 to 0\.2"):
        calibration.threshold(0.001, RGB, NIR)
    old = Calibration({(RGB, NIR): Curve(1.0, 0.0)})
    with pytest.raises(FalseMatchRateError, match="does not know how alike strangers are"):
        old.threshold(0.01, RGB, NIR)
    assert old.curve(RGB, NIR).false_match_rate(0.5) is None


@pytest.mark.parametrize("common", [0.0, 0.6])
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_the_mean_over_several_examples_lets_the_same_share_of_strangers_through(
    rate: float, count: int, common: float
) -> None:
    """People of one kind of clothes each, whose views differ; all views have something in common."""
    rng = np.random.default_rng(11)

    def views(person: np.ndarray) -> np.ndarray:
        rows = 0.8 * person + 0.6 * units(rng.normal(size=person.shape))
        rows[:, 0] = 0
        return common * np.eye(64)[0] + (1 - common**2) ** 0.5 * units(rows)

    one, other = (views(units(rng.normal(size=(40_000, 64)))) for _ in range(2))
    cosine = np.sum(one * other, axis=1)
    told = tuple((each, float(np.quantile(cosine, 1 - each))) for each in (0.2, 0.1, 0.05, 0.02, 0.01))
    model = Calibration({(RGB, RGB): Curve(20.0, -10.0, told)})
    passed, best = [], []
    for _ in range(60):
        examples = views(np.repeat(units(rng.normal(size=(1, 64))), count, axis=0))
        cosines = examples @ other.T
        least = model.mean_threshold(rate, examples @ examples.T, [RGB] * count, RGB)
        passed.append((model.log_odds(cosines, RGB, RGB).mean(axis=0) >= least).mean())
        best.append((cosines.max(axis=0) >= model.threshold(rate, RGB, RGB)).mean())
    assert np.mean(passed) == pytest.approx(rate, rel=0.15)
    if count == 8:
        assert np.mean(best) > 2 * rate


def units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_one_example_and_copies_of_it_have_the_threshold_of_one() -> None:
    told = ((0.2, 0.1), (0.1, 0.2), (0.01, 0.5))
    model = Calibration({(RGB, RGB): Curve(20.0, -10.0, told), (NIR, RGB): Curve(10.0, -4.0, ((0.1, 0.3),))})
    alone = float(model.log_odds(model.threshold(0.03, RGB, RGB), RGB, RGB))
    assert model.mean_threshold(0.03, np.ones((1, 1)), [RGB], RGB) == alone
    assert model.mean_threshold(0.03, np.ones((3, 3)), [RGB] * 3, RGB) == pytest.approx(alone)
    with pytest.raises(FalseMatchRateError, match=r"nir-rgb.*cannot be told"):
        model.mean_threshold(0.03, np.ones((2, 2)), [RGB, NIR], RGB)


@pytest.mark.parametrize(
    "strangers", [((0.1, 0.2), (0.2, 0.3)), ((0.1, 0.4), (0.05, 0.3)), ((1.5, 0.4),), ((0.1, float("nan")),)]
)
def test_strangers_that_make_no_sense_are_refused(strangers: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="strangers must"):
        Curve(1.0, 0.0, strangers)


def test_strangers_survive_json_and_a_calibration_without_them_can_still_be_read() -> None:
    whole = Calibration({(RGB, RGB): Curve(3.0, -1.0, ((0.1, 0.2), (0.01, 0.4))), (RGB, NIR): Curve(2.0, -1.0)})
    again = Calibration.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert all(again.curve(*pair) == whole.curve(*pair) for pair in whole)
    old = {"format": 1, "pairs": {"nir-rgb": {"slope": 2.0, "intercept": -1.0}}}
    assert Calibration.from_dict(old).curve(RGB, NIR) == Curve(2.0, -1.0)


def test_curves_of_a_site_take_the_place_of_the_models() -> None:
    model = Calibration({(RGB, RGB): Curve(3.0, -1.0), (RGB, NIR): Curve(2.0, -1.0)})
    both = model.replaced(Calibration({(NIR, RGB): Curve(9.0, -4.0)}))
    assert (both.curve(RGB, NIR), both.curve(RGB, RGB)) == (Curve(9.0, -4.0), Curve(3.0, -1.0))
