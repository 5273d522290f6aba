import math

import numpy as np
import pytest
import torch

from reid.losses.alignment import cross_modal_alignment


def test_alignment_equals_a_loop_over_clips_and_modalities() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(11, 5, generator=generator)
    pids = torch.tensor([0, 0, 1, 1, 2, 0, 1, 1, 0, 2, 3])
    mods = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    x = features.numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    terms = []
    for a in range(len(x)):
        for modality in range(3):
            gallery = [b for b in range(len(x)) if mods[b] == modality and b != a]
            score = {b: math.exp(float(x[a] @ x[b]) / 0.1) for b in gallery}
            right = sum(score[b] for b in gallery if pids[b] == pids[a])
            if right:
                terms.append(-math.log(right / sum(score.values())))
    assert cross_modal_alignment(features, pids, mods).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_alignment_without_any_pair_is_zero_with_a_finite_gradient() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    loss = cross_modal_alignment(features, torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(features.grad).all()
