"""Which tracklets make a batch: P identities, K clips of each in every modality."""

import numpy as np
from numpy.typing import NDArray

from reid.datasets.split import TrackletSplit


class IdentityModalitySampler:
    """Batches of rows, one modality after another, identity-major, so that clips at equal index are partners.

    For P = 2, K = 2 and two modalities the identities are a a b b | a a b b. Each pass visits every identity that has
    all modalities once, in random order; identities left over for less than a batch are drawn in the next pass. The K
    tracklets of an identity differ where it has K of them.

    A batch is a function of the seed and its number alone. So there is no position to keep for a resumed training,
    loading processes may make batches in any order, and each process of a distributed run knows what the others have.

    Args:
        split: Where to draw from.
        identities: P.
        clips: K.
        seed: Of the randomness; not negative.

    Raises:
        ValueError: When fewer than P identities have a tracklet in every modality.
    """

    def __init__(self, split: TrackletSplit, *, identities: int, clips: int, seed: int) -> None:
        self._identities, self._clips, self._seed = identities, clips, seed
        self.modalities = split.modality_set
        rows_of = {
            modality: {pid: rows[split.pids[rows] == pid] for pid in np.unique(split.pids[rows]).tolist()}
            for modality, rows in ((modality, split.rows_of(modality)) for modality in self.modalities)
        }
        complete = set.intersection(*(set(by_pid) for by_pid in rows_of.values())) if rows_of else set()
        if len(complete) < identities:
            names = ", ".join(modality.value for modality in self.modalities)
            raise ValueError(
                f"{identities} identities a batch, but only {len(complete)} have tracklets in all of {names}"
            )
        self._rows_of = rows_of
        self.complete = np.array(sorted(complete), np.int64)

    def __len__(self) -> int:
        """Batches a pass."""
        return len(self.complete) // self._identities

    def batch(self, number: int) -> NDArray[np.int64]:
        """Row numbers of a batch, (M * P * K,), counted from 0 without end."""
        turn, position = divmod(number, len(self))
        order = np.random.default_rng([self._seed, turn]).permutation(self.complete)
        chosen = order[position * self._identities :][: self._identities].tolist()
        generator = np.random.default_rng([self._seed, turn, position + 1])
        return np.concatenate(
            [self._draw(self._rows_of[modality][pid], generator) for modality in self.modalities for pid in chosen]
        )

    def _draw(self, rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        return np.asarray(generator.choice(rows, self._clips, replace=len(rows) < self._clips))
