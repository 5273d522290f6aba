"""People are who their namespace and number say, for ever, and nobody is in two namespaces."""

import numpy as np
import pytest

from simulation.people import Person


def test_the_same_number_is_the_same_person() -> None:
    assert Person.sample("site", 3, seed=5) == Person.sample("site", 3, seed=5)


@pytest.mark.parametrize("other", ["train", "val", "passers-by", "vvi"])
def test_people_of_the_site_are_in_no_other_namespace(other: str) -> None:
    site = np.stack([Person.sample("site", number, seed=5).vector() for number in range(1, 49)])
    others = np.stack([Person.sample(other, number, seed=5).vector() for number in range(1, 200)])
    distance = np.abs(site[:, None] - others[None]).max(axis=2)
    assert distance.min() > 1e-3


def test_people_differ_from_each_other() -> None:
    vectors = np.stack([Person.sample("train", number, seed=1).vector() for number in range(100)])
    assert len(np.unique(vectors.round(6), axis=0)) == 100


def test_an_unknown_namespace_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="namespace must be one of train, val, site"):
        Person.sample("demo", 1, seed=1)
