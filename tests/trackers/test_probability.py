"""How likely a track and a box are one person, beside the plain formulas."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.association import Network
from trackers.probability import CLAIMS, CUES, Candidates, LearntProbability, Measured, learnt, table_of


def measured(count: int, seed: int = 0, **known: float | list[float]) -> Measured:
    """Pairs at random, but for what is known."""
    rng = np.random.default_rng(seed)
    values = {
        "overlap": rng.uniform(0, 1, count),
        "tall": rng.uniform(0, 1, count),
        "surprise": rng.uniform(0, 40, count),
        "apart": rng.uniform(-60, 60, (4, count)),
        "confidence": rng.uniform(0.1, 1, count),
        "height": rng.uniform(50, 150, count),
        "missed": rng.uniform(0, 3, count),
        "lost": rng.integers(0, 2, count).astype(float),
        "tentative": rng.integers(0, 2, count).astype(float),
        "uncertainty": rng.uniform(0.05, 0.3, count),
    }
    for name, value in known.items():
        values[name] = np.broadcast_to(np.asarray(value, float), np.shape(values[name])).copy()
    names = ("height", "missed", "lost", "tentative", "uncertainty")
    return Measured(of_track=np.stack([values.pop(name) for name in names]), **values)


def certain(count: int, **known: float | list[float]) -> Measured:
    """Boxes where living tracks were expected, but for what is known."""
    usual = {"overlap": 0.9, "tall": 0.95, "surprise": 1.0, "apart": 0.0, "height": 100.0, "confidence": 0.9}
    return measured(
        count,
        **(usual | {"missed": 0.04, "lost": 0.0, "tentative": 0.0, "uncertainty": 0.1} | known),  # type: ignore[arg-type]
    )


def candidates(of: Measured, track: list[int], box: list[int], step: float = 0.04) -> Candidates:
    return Candidates(
        table_of(of, step_seconds=step, lift=1.0),
        np.array(track, np.int64),
        np.array(box, np.int64),
        max(track, default=-1) + 1,
        max(box, default=-1) + 1,
    )


def some(seed: int = 0) -> LearntProbability:
    rng = np.random.default_rng(seed)
    rows = CLAIMS + len(CUES) + 1
    sizes = {"evidence": len(CUES) + 1, "hidden": (7, rows), "output": 8}
    return LearntProbability(*(rng.normal(0, 0.4, size).astype(np.float32) for size in sizes.values()))


TRACK, BOX = [0, 0, 1, 1, 1, 2, 3], [0, 1, 0, 1, 2, 2, 3]


def slowly(model: LearntProbability, of: Candidates) -> np.ndarray:
    """Pair by pair, as the module says."""
    cues = of.table[CLAIMS:-1].T.astype(np.float64)
    own = np.exp(np.clip(cues @ model.evidence[:-1] + model.evidence[-1], -10, 10))
    pairs = range(len(own))
    others_of_track = [sum(own[q] for q in pairs if of.track[q] == of.track[p] and q != p) for p in pairs]
    others_of_box = [sum(own[q] for q in pairs if of.box[q] == of.box[p] and q != p) for p in pairs]
    as_track = [own[p] / (1 + others_of_track[p]) for p in pairs]
    as_box = [own[p] / (1 + others_of_box[p]) for p in pairs]
    result = []
    for p in pairs:
        claims = [
            own[p],
            others_of_box[p],
            others_of_track[p],
            sum(as_track[q] for q in pairs if of.box[q] == of.box[p] and q != p),
            sum(as_box[q] for q in pairs if of.track[q] == of.track[p] and q != p),
        ]
        seen = [*(np.log(each + 1e-3) for each in claims), *cues[p], 1.0]
        hidden = np.maximum(model.hidden @ np.array(seen), 0)
        result.append(1 / (1 + np.exp(-(model.output[:-1] @ hidden + model.output[-1]))))
    return np.array(result)


@pytest.mark.parametrize("seed", range(4))
def test_the_network_is_what_the_module_says(seed: int) -> None:
    of = candidates(measured(len(TRACK), seed), TRACK, BOX)
    np.testing.assert_allclose(some(seed)(of), slowly(some(seed), of), atol=1e-5)  # single beside double precision


def test_what_pytorch_learns_is_what_numpy_asks() -> None:
    torch.manual_seed(0)
    network = Network(torch.randn(len(CUES)), torch.rand(len(CUES)) + 0.5)
    of = candidates(measured(len(TRACK), 5), TRACK, BOX)
    cues = torch.from_numpy(of.table[CLAIMS:-1].T.astype(np.float32))
    logit = network(cues, torch.tensor(TRACK), torch.tensor(BOX)).detach().numpy()
    np.testing.assert_allclose(network.learnt()(of), 1 / (1 + np.exp(-logit)), atol=1e-5)  # float32 beside float64


def test_the_order_of_the_pairs_does_not_matter() -> None:
    whole, order = measured(len(TRACK)), np.random.default_rng(1).permutation(len(TRACK))
    mixed = Measured(*(each[..., order] for each in whole))
    names = {old: new for new, old in enumerate((2, 0, 3, 1))}
    expected = learnt()(candidates(whole, TRACK, BOX))[order]
    found = learnt()(candidates(mixed, [names[TRACK[p]] for p in order], [BOX[p] for p in order]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_there_may_be_no_pair() -> None:
    assert learnt()(candidates(measured(0), [], [])).shape == (0,)


def test_who_was_expected_is_sure_and_a_rival_of_equal_right_makes_it_a_coin_toss() -> None:
    [alone] = learnt()(candidates(certain(1), [0], [0]))
    one, other = learnt()(candidates(certain(2), [0, 1], [0, 0]))
    assert alone > 0.95
    assert one == pytest.approx(other)
    assert 0.2 < one < 0.8


def test_a_rival_who_has_a_box_of_its_own_counts_less() -> None:
    shared = certain(2, overlap=[0.9, 0.6], surprise=[1.0, 6.0])
    taken = certain(3, overlap=[0.9, 0.6, 0.95], surprise=[1.0, 6.0, 0.5])
    contested = learnt()(candidates(shared, [0, 1], [0, 0]))[0]
    settled = learnt()(candidates(taken, [0, 1, 1], [0, 0, 1]))[0]
    assert settled > contested


def test_surprise_and_absence_make_less_likely() -> None:
    def likely(**known: float) -> float:
        return float(learnt()(candidates(certain(1, **known), [0], [0]))[0])

    near = likely()
    assert near > likely(overlap=0.3, apart=25.0, surprise=30.0, tall=0.6) + 0.1
    assert near > likely(lost=1.0, missed=0.8, overlap=0.3, apart=25.0, surprise=6.0, uncertainty=0.3)


def test_weights_that_do_not_fit_are_refused() -> None:
    good = some().as_json()
    assert LearntProbability.of(json.loads(json.dumps(good))).as_json() == good
    with pytest.raises(ValueError, match="weights must be of the cues"):
        LearntProbability.of(good | {"cues": ["x"]})
    with pytest.raises(ValueError, match=r"evidence must be finite and \(17,\), got \(16,\)"):
        LearntProbability.of(good | {"evidence": good["evidence"][1:]})
    with pytest.raises(ValueError, match="output must be finite"):
        replace(some(), output=np.full(8, np.nan))
