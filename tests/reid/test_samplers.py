import numpy as np
import pytest

from reid.datasets.folder import read_folder
from reid.datasets.split import TrackletSplit
from reid.modality import Modality
from reid.samplers import IdentityModalitySampler
from tests.reid.factories import write_folder


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> TrackletSplit:
    return read_folder(write_folder(tmp_path_factory.mktemp("folder"), frames=1), "train")


@pytest.mark.parametrize("clips", [1, 2])
def test_batches_are_identity_major_with_partners_at_equal_index(split: TrackletSplit, clips: int) -> None:
    sampler = IdentityModalitySampler(split, identities=3, clips=clips, seed=0)
    assert len(sampler) == 2
    batches = [sampler.batch(number) for number in range(2)]
    for rows in batches:
        by_modality = rows.reshape(3, 3 * clips)
        for modality, block in zip(split.modality_set, by_modality, strict=True):
            assert {split.modalities[row] for row in block} == {modality}
            assert np.array_equal(split.pids[block], split.pids[by_modality[0]])
        assert np.array_equal(split.pids[rows[: 3 * clips : clips]].repeat(clips), split.pids[rows[: 3 * clips]])
    seen = np.concatenate([split.pids[rows[: 3 * clips]] for rows in batches])
    assert len(set(seen.tolist())) == 6  # nobody twice in a pass


def test_an_identity_s_clips_differ_where_it_has_enough(split: TrackletSplit) -> None:
    sampler = IdentityModalitySampler(split, identities=4, clips=2, seed=0)
    for number in range(4):
        visible = sampler.batch(number).reshape(3, 4, 2)[0]
        assert (visible[:, 0] != visible[:, 1]).all()


def test_every_pass_draws_anew_and_a_batch_depends_on_seed_and_number_alone(split: TrackletSplit) -> None:
    sampler = IdentityModalitySampler(split, identities=4, clips=2, seed=7)
    first = [sampler.batch(number).tolist() for number in range(40)]
    assert len({tuple(rows) for rows in first}) == 40
    again = IdentityModalitySampler(split, identities=4, clips=2, seed=7)
    assert [again.batch(number).tolist() for number in reversed(range(40))] == first[::-1]
    other = IdentityModalitySampler(split, identities=4, clips=2, seed=8)
    assert [other.batch(number).tolist() for number in range(40)] != first
    drawn = np.bincount(split.pids[np.concatenate(first)])
    assert drawn.min() == drawn.max()  # 20 passes visit everybody equally often


def test_identities_without_all_modalities_are_left_out_and_too_few_are_an_error(split: TrackletSplit) -> None:
    rows = [r for r in range(len(split)) if not (split.pids[r] == 5 and split.modalities[r] is Modality.THERMAL)]
    sampler = IdentityModalitySampler(split.select(rows), identities=7, clips=1, seed=0)
    assert sampler.complete.tolist() == [0, 1, 2, 3, 4, 6, 7]
    with pytest.raises(ValueError, match="8 identities a batch, but only 7 have tracklets in all of rgb, nir, thermal"):
        IdentityModalitySampler(split.select(rows), identities=8, clips=1, seed=0)
