"""The published figures are whole, and every row that is trained has its place among them."""

import pytest

from reid import presets
from reid.ablations import DIRECTIONS, METRICS, REAL_DATASETS, TABLES, published, published_figures, published_rows


def figure_rows() -> list[tuple[str, str, list[str], list[float | None]]]:
    """(table, row and direction, metrics, figures) of everything in the file."""
    found = []
    for number, table in published()["tables"].items():
        for label, row in table["rows"].items():
            for dataset in REAL_DATASETS:
                for direction, figures in row.get(dataset, {}).items():
                    found.append((number, f"{label} {dataset} {direction}", table["metrics"], figures))
    for dataset, table in published()["elsewhere"].items():
        for label, row in table["rows"].items():
            found += [(f"elsewhere {dataset}", f"{label} {d}", table["metrics"], row[d]) for d in DIRECTIONS]
    return found


def test_every_figure_is_a_share_and_ranks_rise() -> None:
    rows = figure_rows()
    assert len(rows) == 2 * (15 + 17 + 3 + 3 + 6 + 8 + 19 + 17)
    for table, where, metrics, figures in rows:
        assert len(figures) == len(metrics), (table, where)
        assert all(figure is None or 0 < figure < 100 for figure in figures), (table, where)
        ranks = [f for m, f in zip(metrics, figures, strict=True) if m.startswith("rank") and f is not None]
        assert ranks == sorted(ranks), (table, where)


def test_misprints_are_explained_and_are_what_they_say() -> None:
    tables, misprints = published()["tables"], published()["misprints"]
    notes = [row["note"] for table in tables.values() for row in table["rows"].values() if "note" in row]
    assert set(notes) | {"bupt_two_test_sets"} == set(misprints)
    pasted = tables["4"]["rows"]["Cross-modal collaboration"]["hitsz_vcm"]
    original = tables["1"]["rows"]["TF-CLIP"]["hitsz_vcm"]
    assert pasted == {direction: [original[direction][0], original[direction][3]] for direction in DIRECTIONS}


def test_rows_that_two_tables_share_have_the_same_figures() -> None:
    tables = published()["tables"]
    for one, other in (
        (("3", "+ CPC"), ("4", "CPC")),
        (("3", "+ CPC"), ("5", "none")),
        (("3", "+ MII"), ("5", "SII + LII + CII")),
        (("3", "Baseline (PCL)"), ("4", "Visual memories")),
    ):
        figures = [tables[number]["rows"][label]["hitsz_vcm"] for number, label in (one, other)]
        assert figures[0] == figures[1], (one, other)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_preset_and_stands_in_the_published_table(name: str) -> None:
    table = TABLES[name]
    labels = [row.label for row in table.rows]
    assert len(set(labels)) == len(labels)
    assert {row.preset for row in table.rows} <= set(presets.PRESETS)
    assert set(table.metrics) <= set(METRICS)
    if table.published:
        assert set(labels) <= {label for _, label, _ in published_rows(table)}


def test_rows_of_the_ablations_are_complete() -> None:
    """Nothing of Tab. 3 to 5 and the sweeps is left untrained but the row of another method."""
    for name in ("3", "4", "5", "fig4", "fig5"):
        missing = {label for _, label, _ in published_rows(TABLES[name])} - {row.label for row in TABLES[name].rows}
        assert missing == ({"Textual prompts"} if name == "4" else set())


def test_figures_of_a_row_come_by_direction_and_metric() -> None:
    assert published_figures(TABLES["3"], "+ MII", "hitsz_vcm") == {
        "I2V": {"rank1": 73.4, "mAP": 60.5},
        "V2I": {"rank1": 76.1, "mAP": 59.6},
    }
    assert published_figures(TABLES["main"], "X-ReID", "bupt_campus")["V2I"]["rank20"] == 92.7
    assert published_figures(TABLES["4"], "Vanilla", "bupt_campus") == {}


def test_presets_name_the_rows_that_the_tables_train() -> None:
    rows = {each for preset in presets.PRESETS.values() for each in preset.rows}
    assert {"Tab. 3 Baseline", "Tab. 3 + CPC", "Tab. 3 + MII"} <= rows
    by_label = {row.label.replace(" + ", " "): row.preset for row in TABLES["5"].rows}
    for label, preset in by_label.items():
        assert f"Tab. 5 {label}" in presets.PRESETS[preset].rows, label
