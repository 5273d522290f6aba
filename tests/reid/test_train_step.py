"""The naive step of the benchmark is the step of ``reid``: losses, gradients and memories."""

import pytest
import torch
from torch import Tensor

from benchmarks import naive, train_step
from reid import presets
from tests.reid.factories import encoder_config


def step(stem: str) -> train_step.Step:
    config = presets.load("paper", encoder=encoder_config(quick_gelu=True, stem=stem))
    small = config.model_copy(update={"batch": config.batch.model_copy(update={"frames": 3}), "precision": "float32"})
    made = train_step.Step(small, torch.device("cpu"))
    with torch.no_grad():  # what begins at zero or one would hide mistakes
        for parameter in made.weights.values():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return made


def outcome(stem: str, variant: str) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Losses of the first step, gradients, and memories after it."""
    made = step(stem)
    losses = getattr(made, variant)()
    gradients = {name: parameter.grad for name, parameter in made.weights.items()}
    return losses, gradients, made.objective.memory.prototypes


@pytest.mark.parametrize("stem", ["patch", "convolutional"])
def test_the_naive_step_gives_the_losses_the_gradients_and_the_memories_of_ours(stem: str) -> None:
    losses, gradients, memories = outcome(stem, "ours")
    expected, slow_gradients, slow_memories = outcome(stem, "naive")
    assert losses.keys() - {"cii_norm"} == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-5), name
    for name, gradient in slow_gradients.items():
        assert gradient is not None, name
        torch.testing.assert_close(gradients[name], gradient, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(memories, slow_memories, atol=1e-5, rtol=1e-5)


def test_the_naive_shift_takes_the_quarters_of_eq_5() -> None:
    patches = torch.arange(1.0, 5)[None, :, None, None].expand(1, 4, 1, 4)
    assert naive.shifted(patches)[0, :, 0].tolist() == [[1, 2, 1, 1], [1, 3, 2, 2], [2, 4, 3, 3], [3, 4, 4, 4]]


def test_time_is_the_median_of_the_turns_and_memory_the_ratio_of_the_peaks() -> None:
    def turn(cpu: float, peak: float) -> dict[str, object]:
        return {"cpu_s": cpu, "wall_s": 2 * cpu, "peak_mb": peak, "before_mb": 1, "losses": {"total": 5.0}}

    ours = [turn(9, 100), turn(1, 200), turn(2, 300), turn(3, 300)]
    slow = [turn(9, 100), turn(4, 600), turn(4, 600), turn(4, 600)]
    found = train_step.summary({"ours": ours, "naive": slow})
    assert found["ratio"] == {"time": 0.5, "wall": 0.5, "memory": 0.5}
    assert found["variants"]["ours"]["peak_rss_mb"] == 300


def test_a_share_of_the_peak_counts_29_gflop_a_crop_and_three_times_that_in_training() -> None:
    found = train_step.speed(0.1, 160, 3 * train_step.CROP_FLOP, 400e12, 0.45)
    assert found["images_per_second"] == 1600
    assert found["share_of_bf16_peak"] == pytest.approx(3 * 29e9 * 160 / 0.1 / 400e12, abs=1e-3)
    assert found["reached"] is False
