"""Ours beside what was published: mean and deviation over seeds, gains from row to row, as a record and as Markdown."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from reid.ablations import (
    DIRECTIONS,
    METRICS,
    REAL_DATASETS,
    TABLES,
    Table,
    published,
    published_figures,
    published_rows,
)


def summarise(table: Table, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row each: mean and sample deviation over its finished seeds, and the gain over the row before it, or the first.

    A gain is ``beyond`` when it is greater than the root of the sum of both rows' variances: the deviation of the
    difference of two independent trainings. With one seed nothing is.
    """
    rows: list[dict[str, Any]] = []
    for row in table.rows:
        own = [each for each in results if each["row"] == row.label]
        finished = [each for each in own if each["status"] == "finished"]
        ours = {name: _of_direction(finished, direction) for name, direction in DIRECTIONS.items()}
        over: dict[str, Any] = rows[-1 if table.gains == "before" else 0] if rows else {"row": None, "ours": {}}
        rows.append(
            {
                "row": row.label,
                "preset": row.preset,
                "switches": dict(row.changes),
                "seeds": len(finished),
                "failed": sum(each["status"] == "failed" for each in own),
                "ours": ours,
                "over": over["row"],
                "gain": {name: _gains(over["ours"].get(name, {}), figures) for name, figures in ours.items()},
            }
        )
    return rows


def _of_direction(finished: Sequence[Mapping[str, Any]], direction: str) -> dict[str, dict[str, Any]]:
    """By metric, in per cent."""
    figures: dict[str, dict[str, Any]] = {}
    for metric in METRICS if finished else ():
        values = [100 * each["figures"][direction][metric] for each in finished]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        figures[metric] = {"mean": statistics.fmean(values), "deviation": deviation, "values": values}
    return figures


def _gains(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    gains = {}
    for metric in now if before else ():
        a, b = before[metric], now[metric]
        gain = b["mean"] - a["mean"]
        spread = None
        if a["deviation"] is not None and b["deviation"] is not None:
            spread = math.hypot(a["deviation"], b["deviation"])
        gains[metric] = {"mean": gain, "deviation": spread, "beyond": spread is not None and abs(gain) > spread}
    return gains


def as_markdown(record: Mapping[str, Any]) -> str:
    """The table for people: published beside ours, a column a direction and metric."""
    table = TABLES[record["table"]]
    kind = "simulated people" if record["synthetic"] else record["dataset"]
    lines = [f"# {_title(record, table)}", "", _introduction(record, kind), ""]
    lines += _grid(record, table)
    lines += ["", *_gain_lines(record), *_status_lines(record), *_note_lines(record, table)]
    return "\n".join(lines).rstrip() + "\n"


def _title(record: Mapping[str, Any], table: Table) -> str:
    titles = [published()["tables"][number]["title"] for number in table.published]
    what = "; ".join(titles) or "Options beyond the paper"
    return f"{what}: on `{record['dataset']}`, size `{record['size']['name']}`"


def _introduction(record: Mapping[str, Any], kind: str) -> str:
    note = ""
    if record["synthetic"]:
        note = (
            " Ours are of **simulated people only** and a small network: compare the order of the rows with the"
            " paper's, not the figures."
        )
    return (
        f"Per cent; ours: {_averaged(record)} split {record['split']} of {kind}, last epoch."
        f"{note}\n"
        f"Written by `{record['command']}`; every training's configuration, commit, log and figures are in the JSON"
        " beside this file."
    )


def _averaged(record: Mapping[str, Any]) -> str:
    """Over what the figures are means; a single seed is none."""
    seeds = sorted({row["seeds"] for row in record["rows"]})
    if seeds[-1] < 2:
        return "of one seed, so without a deviation;" if seeds[-1] else "none finished;"
    counted = " to ".join(str(each) for each in dict.fromkeys((seeds[0], seeds[-1])))
    return f"mean ± sample deviation over {counted} seeds,"


def _grid(record: Mapping[str, Any], table: Table) -> list[str]:
    names = [name for name in REAL_DATASETS if any(name in row["published"] for row in record["rows"])]
    columns = [(direction, metric) for direction in DIRECTIONS for metric in table.metrics]
    head = ["row", *(f"{direction} {METRICS[metric]}" for direction, metric in columns)]
    head += [f"{REAL_DATASETS[name]} {direction} {METRICS[m]}, published" for name in names for direction, m in columns]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in record["rows"]:
        cells = [_ours(row, direction, metric) for direction, metric in columns]
        cells += [_theirs(row, name, direction, metric) for name in names for direction, metric in columns]
        lines.append("| " + " | ".join([row["row"], *cells]) + " |")
    return lines + _published_only(record, table, names, columns)


def _published_only(
    record: Mapping[str, Any], table: Table, names: Sequence[str], columns: Sequence[tuple[str, str]]
) -> list[str]:
    """Lines of the published rows that are not trained here: other methods."""
    trained = {row["row"] for row in record["rows"]}
    labels = dict.fromkeys(label for _, label, _ in published_rows(table) if label not in trained)
    lines = []
    for label in labels:
        row = {"published": {name: published_figures(table, label, name) for name in names}}
        cells = ["not ours"] * len(columns) + [_theirs(row, name, *column) for name in names for column in columns]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return lines


def _ours(row: Mapping[str, Any], direction: str, metric: str) -> str:
    figure = row["ours"][direction].get(metric)
    if figure is None:
        return "failed" if row["failed"] else "-"
    return f"{figure['mean']:.1f}" + ("" if figure["deviation"] is None else f" ± {figure['deviation']:.1f}")


def _theirs(row: Mapping[str, Any], name: str, direction: str, metric: str) -> str:
    value = row["published"].get(name, {}).get(direction, {}).get(metric)
    return "-" if value is None else f"{value:.1f}"


def _gain_lines(record: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in record["rows"]:
        parts = []
        for direction, gains in row["gain"].items():
            for metric in ("rank1", "mAP"):
                if metric in gains:
                    gain = gains[metric]
                    spread = "" if gain["deviation"] is None else f" (deviation {gain['deviation']:.1f})"
                    parts.append(f"{direction} {METRICS[metric]} {gain['mean']:+.1f}{spread}")
        if parts:
            lines.append(f"- {row['row']}, over {row['over']}: {', '.join(parts)}.")
    return [*lines, ""] if lines else []


def _status_lines(record: Mapping[str, Any]) -> list[str]:
    lines = []
    for run in record["runs"]:
        if run["status"] == "failed":
            failure = run["failure"]
            lines.append(
                f"- {run['row']}, seed {run['seed']}: {failure['step']} **failed** (exit code {failure['exit_code']}):"
                f" {failure['last_line']}"
            )
        elif run["status"] != "finished":
            lines.append(f"- {run['row']}, seed {run['seed']}: {run['status']}.")
    return [*lines, ""] if lines else []


def _note_lines(record: Mapping[str, Any], table: Table) -> list[str]:
    tables = published()["tables"]
    notes = [f"- Published: {record['source']}."] if table.published else []
    for number in table.published:
        if "figures" in tables[number]:
            notes.append(f"- {tables[number]['title']}: {tables[number]['figures']}.")
        if "note" in tables[number]:
            notes.append(f"- {tables[number]['title']}: {published()['misprints'][tables[number]['note']]}.")
    for _, label, row in published_rows(table):
        if "note" in row:
            notes.append(f"- {label}: {published()['misprints'][row['note']]}.")
    return [*notes, f"- Size: {record['size']['why']}", *_commit_lines(record)]


def _commit_lines(record: Mapping[str, Any]) -> list[str]:
    """The commits of the trainings, and which training has more than one or code that no commit has."""
    of_runs = {f"{run['row']}, seed {run['seed']}": _commits(run) for run in record["runs"]}
    every = list(dict.fromkeys(each for commits in of_runs.values() for each in commits))
    lines = [f"- Commits: {', '.join(every)}."] if every else []
    dirty = [name for name, commits in of_runs.items() if any(each.endswith("-dirty") for each in commits)]
    if dirty:
        lines.append(f"- **Made with uncommitted changes**, which no commit has: {'; '.join(dirty)}.")
    parted = [f"{name} ({', '.join(commits)})" for name, commits in of_runs.items() if len(commits) > 1]
    return lines + ([f"- Gone on with another commit than begun with: {'; '.join(parted)}."] if parted else [])


def _commits(run: Mapping[str, Any]) -> list[str]:
    """In order; records of before 2026-11-27 have the last one only."""
    return list(run.get("commits", [run["commit"]] if "commit" in run else []))
