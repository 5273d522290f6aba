from pathlib import Path

import pytest

from reid import describe, presets
from reid.models.xreid import XReID
from tests.reid.factories import model_config


def test_the_paper_is_described_with_modules_sizes_work_and_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe.main(["--preset", "paper"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "10 frames of 288 x 144, 162 patches", "D = 768", "[768 cls ; 512 projected ; 768 fused] = 2048",
        "SII (Eq. 5-6)", "LII (Eq. 7), S = 2", "CII, 2 blocks over short, long", "4 identities x 2 clips", "Tab. 1",
    ):  # fmt: skip
        assert expected in text
    table = text[text.index("\noption ") :].splitlines()
    for option in presets.OPTIONS:
        row = next(line for line in table if line.startswith(f"{option.key} "))
        for said in (option.paper, option.release, option.why):
            assert said in row


def test_the_code_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    describe.main(["--preset", "code"])
    text = capsys.readouterr().out
    assert text.count("left out: ") == len(presets.PRESETS["code"].left_out) > 5
    assert "CII" not in text.split("option ")[0].replace("left out", "")


def test_weights_are_described_by_their_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe.main(["--weights", "xreid-tiny"]) == 0
    text = capsys.readouterr().out
    assert "simulated people only" in text
    assert "licence: Apache-2.0" in text
    assert describe.main(["--weights", "no-such"]) == 2
    assert "no-such" in capsys.readouterr().err


def test_the_work_is_that_of_the_products_of_the_network() -> None:
    """Two operations a multiplication; attention, linear layers and the patch projection, counted by hand."""
    config = model_config()
    frames, tokens, width, d, hidden = 3, 9, 16, 12, 64
    patches = tokens - 1
    layer = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    encoder = patches * width * 3 * 8 * 8 + 2 * layer + width * d
    # The one query of a frame is folded into the keys' and values' weights: two products with D x D beside W_q and W_o.
    heads = width // 8
    interaction = 4 * width * width + 2 * heads * patches * width + 2 * width * hidden
    expected = 2 * frames * (encoder + 2 * interaction)
    assert describe.flops(config, frames=frames) == expected


def test_a_crop_costs_the_papers_encoder_29_gflop() -> None:
    """162 patches and CLS: 13.84 GMAC in linear layers, 0.49 in attention, 0.10 for the patches; and SII and LII."""
    config = presets.load("paper").model
    assert describe.flops(config, frames=10) / 10 == pytest.approx(29.0e9, rel=0.005)


def test_the_presets_are_all_described_and_may_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    for name in presets.PRESETS:
        assert describe.main(["--preset", name]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"{name}: ")
        assert "GFLOP a clip of 10 frames" in text
        assert "short tracklet   repeats its last frame up to 10" in text
    assert describe.main(["--preset", "paper", "--set", "architecture=ViT-L-14-quickgelu"]) == 0
    assert "[1024 cls ; 768 projected ; 1024 fused] = 2816" in capsys.readouterr().out
    assert describe.main(["--preset", "paper", "--set", "loss.temprature=1"]) == 2
    assert "loss.temprature" in capsys.readouterr().err


def test_parameters_are_all_counted() -> None:
    model = XReID(model_config())
    assert describe.parameters(model) == sum(value.numel() for value in model.state_dict().values())


def test_the_documents_table_is_the_one_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe.main(["--options"]) == 0
    document = (Path(__file__).parents[2] / "docs" / "xreid.md").read_text(encoding="utf-8")
    assert document.split("<!-- options -->\n")[1].split("<!-- /options -->")[0] == capsys.readouterr().out
