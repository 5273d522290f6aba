"""Which tracklets make a batch: P identities, K clips of each in every modality."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reid.datasets.split import TrackletSplit


class IdentityModalitySampler:
    """Batches of rows, one modality after another, identity-major, so that clips at equal index are partners.

    For P = 2, K = 2 and two modalities the identities are a a b b | a a b b. Each pass visits every identity that has
    all modalities once, in random order; identities left over for less than a batch are drawn in the next pass. The K
    tracklets of an identity differ where it has K of them.

    Args:
        split: Where to draw from.
        identities: P.
        clips: K.
        generator: The randomness; its state is the sampler's only state.

    Raises:
        ValueError: When fewer than P identities have a tracklet in every modality.
    """

    def __init__(self, split: TrackletSplit, *, identities: int, clips: int, generator: np.random.Generator) -> None:
        self._identities, self._clips, self._generator = identities, clips, generator
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

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield the batches of one pass: (M * P * K,) row numbers each."""
        order = self._generator.permutation(self.complete)
        for start in range(0, len(self) * self._identities, self._identities):
            chosen = order[start : start + self._identities].tolist()
            yield np.concatenate(
                [self._draw(self._rows_of[modality][pid]) for modality in self.modalities for pid in chosen]
            )

    def _draw(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        enough = len(rows) >= self._clips
        return np.asarray(self._generator.choice(rows, self._clips, replace=not enough))
