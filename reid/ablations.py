"""The tables of the paper as rows to train, and the figures that were published for them.

A row is a preset of ``reid.presets`` and, in the sweeps, one more switch. The figures are in ``published.yaml``, with
their source and the known misprints. ``plus`` is not in the paper: the options beyond it, each alone and all together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

PUBLISHED = Path(__file__).resolve().with_name("published.yaml")
DIRECTIONS = {"I2V": "nir->rgb", "V2I": "rgb->nir"}
METRICS = {"rank1": "R1", "rank5": "R5", "rank10": "R10", "rank20": "R20", "mAP": "mAP", "mINP": "mINP"}
REAL_DATASETS = {"hitsz_vcm": "HITSZ-VCM", "bupt_campus": "BUPTCampus"}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: As in ``published.yaml``.
        preset: Of ``reid.presets``.
        changes: Further switches, by dotted key.
    """

    label: str
    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """The rows to train, and which published table stands beside them (by data set where there are two).

    Attributes:
        rows: In the published order.
        published: Numbers of the tables.
        metrics: To show.
        gains: Over which row a row's gain is told: each row adds to the one ``before``, or to the ``first``.
    """

    rows: tuple[Row, ...]
    published: tuple[str, ...]
    metrics: tuple[str, ...]
    gains: Literal["before", "first"] = "first"


def _sweep(key: str, values: Sequence[int]) -> tuple[Row, ...]:
    return tuple(Row(f"S = {value}", "paper", {key: value}) for value in values)


# Each with its reason in docs/experiments.md.
_PLUS: dict[str, dict[str, Any]] = {
    "grey, stretched input": {"preprocessing.grey": True, "preprocessing.nir_percentiles": [1.0, 99.0]},
    "centred modalities": {"model.centre_modalities": True},
    "alignment loss": {"loss.alignment": 1.0},
}

TABLES: dict[str, Table] = {
    "main": Table(
        (Row("PCL", "baseline_pcl"), Row("X-ReID", "paper")), ("1", "2"), ("rank1", "rank5", "rank20", "mAP")
    ),
    "3": Table(
        (Row("Baseline (PCL)", "baseline_pcl"), Row("+ CPC", "cpc"), Row("+ MII", "paper")),
        ("3",),
        ("rank1", "mAP"),
        "before",
    ),
    "4": Table(
        (
            Row("Vanilla", "vanilla"),
            Row("Visual memories", "baseline_pcl"),
            Row("Cross-modal update", "cross_modal_update"),
            Row("Cross-modal collaboration", "cross_modal_collaboration"),
            Row("CPC", "cpc"),
        ),
        ("4",),
        ("rank1", "mAP"),
    ),
    "5": Table(
        (
            Row("none", "cpc"),
            Row("SII", "cpc_sii"),
            Row("LII", "cpc_lii"),
            Row("CII", "cpc_cii"),
            Row("SII + CII", "cpc_sii_cii"),
            Row("LII + CII", "cpc_lii_cii"),
            Row("SII + LII", "cpc_sii_lii"),
            Row("SII + LII + CII", "paper"),
        ),
        ("5",),
        ("rank1", "mAP"),
    ),
    "fig4": Table(_sweep("model.short_stride", (1, 2, 3, 4)), ("fig4",), ("rank1", "mAP")),
    "fig5": Table(_sweep("model.long_step", (0, 1, 2, 3, 4)), ("fig5",), ("rank1", "mAP")),
    "plus": Table(
        (
            Row("paper", "paper"),
            *(Row(f"+ {name}", "paper", changes) for name, changes in _PLUS.items()),
            Row("+ all of them", "paper", {key: value for each in _PLUS.values() for key, value in each.items()}),
        ),
        (),
        ("rank1", "mAP"),
    ),
}


@cache
def published() -> dict[str, Any]:
    """``published.yaml``."""
    data: dict[str, Any] = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    return data


def published_rows(table: Table) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(number of the published table, label, row)."""
    tables = published()["tables"]
    return [(number, label, row or {}) for number in table.published for label, row in tables[number]["rows"].items()]


def published_figures(table: Table, label: str, dataset: str) -> dict[str, dict[str, float]]:
    """Published figures of a row on one real data set, by direction and metric; empty where there are none."""
    for number, name, row in published_rows(table):
        if name == label and dataset in row:
            metrics = published()["tables"][number]["metrics"]
            return {key: dict(zip(metrics, row[dataset][key], strict=True)) for key in DIRECTIONS}
    return {}
