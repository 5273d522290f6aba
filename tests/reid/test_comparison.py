"""Means, deviations and gains counted by hand, and what the Markdown says of them."""

import json
import math
from pathlib import Path

import pytest

from reid.ablations import TABLES
from reid.comparison import as_markdown, summarise

RESULTS_FOLDER = Path(__file__).parents[2] / "benchmarks" / "results"


def result(row: str, seed: int, i2v: float, *, status: str = "finished") -> dict[str, object]:
    """One training whose I2V figures are all `i2v`, in [0, 1], and V2I half of it."""
    if status != "finished":
        failure = {"step": "training", "exit_code": -9, "last_line": "it was killed"}
        return {"row": row, "seed": seed, "status": status, "failure": failure}
    names = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
    figures = {"nir->rgb": dict.fromkeys(names, i2v), "rgb->nir": dict.fromkeys(names, i2v / 2)}
    return {"row": row, "seed": seed, "status": "finished", "figures": figures}


RESULTS = [
    result("Baseline (PCL)", 1, 0.40),
    result("Baseline (PCL)", 2, 0.44),
    result("+ CPC", 1, 0.45),
    result("+ CPC", 2, 0.45),
    result("+ MII", 1, 0.46),
    result("+ MII", 2, 0, status="failed"),
]


def test_a_row_has_the_mean_and_the_sample_deviation_of_its_seeds() -> None:
    baseline, cpc, mii = summarise(TABLES["3"], RESULTS)
    figure = baseline["ours"]["I2V"]["rank1"]
    assert figure["mean"] == pytest.approx(42)
    assert figure["deviation"] == pytest.approx(math.sqrt(8))
    assert baseline["ours"]["V2I"]["mAP"]["mean"] == pytest.approx(21)
    assert (cpc["seeds"], cpc["failed"], mii["seeds"], mii["failed"]) == (2, 0, 1, 1)
    assert mii["ours"]["I2V"]["rank1"]["deviation"] is None


def test_a_gain_is_beyond_when_it_exceeds_the_deviation_of_a_difference() -> None:
    _, cpc, mii = summarise(TABLES["3"], RESULTS)
    gain = cpc["gain"]["I2V"]["rank1"]
    assert gain["mean"] == pytest.approx(3)
    assert gain["deviation"] == pytest.approx(math.sqrt(8))
    assert gain["beyond"]
    assert not mii["gain"]["I2V"]["rank1"]["beyond"]  # one seed has no deviation
    better = [each if each["row"] != "Baseline (PCL)" else result("Baseline (PCL)", 2, 0.443) for each in RESULTS]
    assert summarise(TABLES["3"], [RESULTS[0], *better[1:]])[1]["gain"]["I2V"]["rank1"]["beyond"] is False


def test_gains_of_the_options_are_over_the_paper_and_not_over_the_option_before() -> None:
    rows = [result("paper", 1, 0.40), result("paper", 2, 0.44)]
    names = [row.label for row in TABLES["plus"].rows[1:3]]
    rows += [result(name, seed, 0.5) for name in names for seed in (1, 2)]
    paper, one, other, *_ = summarise(TABLES["plus"], rows)
    assert (paper["over"], one["over"], other["over"]) == (None, "paper", "paper")
    assert one["gain"] == other["gain"]
    assert other["gain"]["I2V"]["rank1"]["mean"] == pytest.approx(8)


@pytest.mark.parametrize("path", sorted(RESULTS_FOLDER.glob("table*.md")), ids=lambda path: path.stem)
def test_the_committed_tables_are_those_of_their_json(path: Path) -> None:
    kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert path.read_text(encoding="utf-8") == as_markdown(kept)
    for row, again in zip(kept["rows"], summarise(TABLES[kept["table"]], kept["runs"]), strict=True):
        assert {**again, "published": row["published"]} == row


def record(results: list[dict[str, object]], *, synthetic: bool = True) -> dict[str, object]:
    rows = summarise(TABLES["3"], results)
    for row in rows:
        row["published"] = {"hitsz_vcm": {"I2V": {"rank1": 64.4, "mAP": 51.3}, "V2I": {"rank1": 67.0, "mAP": 53.7}}}
    return {
        "table": "3", "command": "python -m reid.reproduce --table 3", "dataset": "synthetic-vvi", "split": "test",
        "synthetic": synthetic, "source": "X-ReID", "size": {"name": "mini", "why": "small."},
        "rows": rows, "runs": results,
    }  # fmt: skip


def test_the_markdown_sets_ours_beside_the_published_and_tells_failures() -> None:
    text = as_markdown(record(RESULTS))
    lines = text.splitlines()
    assert "| Baseline (PCL) | 42.0 ± 2.8 | 42.0 ± 2.8 | 21.0 ± 1.4 | 21.0 ± 1.4 | 64.4 | 51.3 | 67.0 | 53.7 |" in lines
    assert any("HITSZ-VCM I2V R1, published" in line for line in lines)
    assert "- + MII, seed 2: training **failed** (exit code -9): it was killed" in lines
    assert "**simulated people only**" in text
    assert "over 1 to 2 seeds" in text


def test_one_seed_is_said_to_be_one_and_to_have_no_deviation() -> None:
    one = [result(row, 1, 0.4) for row in ("Baseline (PCL)", "+ CPC", "+ MII")]
    assert "Per cent; ours: of one seed, so without a deviation; split test of" in as_markdown(record(one))
    assert "Per cent; ours: of one seed, so without a deviation; split test of" in as_markdown(record(one[:2]))
    assert "Per cent; ours: none finished; split test of" in as_markdown(record([]))


def test_a_row_without_a_finished_training_is_said_to_have_failed_and_not_dropped() -> None:
    only_failed = [*RESULTS[:4], result("+ MII", 1, 0, status="failed")]
    text = as_markdown(record(only_failed))
    assert "| + MII | failed | failed | failed | failed | 64.4 | 51.3 | 67.0 | 53.7 |" in text.splitlines()
    waiting = as_markdown(record(RESULTS[:4]))
    assert "| + MII | - | - | - | - | 64.4 | 51.3 | 67.0 | 53.7 |" in waiting.splitlines()


def test_methods_that_are_not_trained_here_keep_their_place_and_their_misprints() -> None:
    plain = record([])
    plain["table"] = "4"
    plain["rows"] = [{**row, "published": {"hitsz_vcm": {}}} for row in summarise(TABLES["4"], [])]
    text = as_markdown(plain)
    assert "| Textual prompts | not ours | not ours | not ours | not ours | 54.5 | 40.0 | 56.9 | 41.4 |" in text
    assert "- Textual prompts: the figures of the CLIP-ReID row of Tab. 1, another method; not built here." in text
    assert "- Cross-modal collaboration: identical in all four figures to the TF-CLIP row of Tab. 1" in text


def test_a_real_data_set_is_not_called_simulated() -> None:
    assert "simulated" not in as_markdown(record(RESULTS, synthetic=False))
