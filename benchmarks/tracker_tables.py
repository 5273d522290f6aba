"""The tables of docs/trackers.md, from the JSON of the benchmarks: ``python benchmarks/tracker_tables.py``.

A test holds the guide to them, so that no figure in it is typed by hand.
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = ("HOTA", "IDF1", "Pur", "MixTrk")
FASTER = 2.0
# By column whether the value must be at least the limit, and the limit: one point above the best peer without a floor
# (HOTA, IDF1), the best peer's (Pur), three quarters of the best peer's (MixTrk); see peers.json.
WANTED = {
    "MOT17val": {
        "HOTA": (True, 56.07),
        "IDF1": (True, 67.68),
        "Pur": (True, 93.41),
        "MixTrk": (False, 16.43),
        "Trk/Id": (False, 1.35),
    },
    "MOT17val_fps10": {
        "HOTA": (True, 53.13),
        "IDF1": (True, 63.4),
        "Pur": (True, 89.39),
        "MixTrk": (False, 24.0),
        "Trk/Id": (False, 1.35),
    },
    "MOT17val_weak": {
        "HOTA": (True, 39.45),
        "IDF1": (True, 52.23),
        "Pur": (True, 92.42),
        "MixTrk": (False, 19.67),
        "Trk/Id": (False, 1.35),
    },
    "DanceTrack-val": {
        "HOTA": (True, 49.93),
        "IDF1": (True, 48.78),
        "Pur": (True, 82.3),
        "MixTrk": (False, 34.09),
        "Trk/Id": (False, 1.35),
    },
}


def read(name: str) -> dict[str, Any]:
    """A benchmark's JSON."""
    report: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return report


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracy_table(report: dict[str, Any]) -> str:
    """Trackers and peers by set."""
    sets: dict[str, Any] = report["sets"]
    rows = []
    for group, style in (("ours", "**{}**"), ("peers", "{}")):
        for name in dict.fromkeys(name for each in sets.values() for name in each[group]):
            if name.endswith("scenes tracklets"):  # the guide has room for one row of them
                continue
            cells = [each[group].get(name, {}).get("ALL") for each in sets.values()]
            rows.append(
                [style.format(name), *(" / ".join(f"{row[c]:.1f}" for c in COLUMNS) if row else "" for row in cells)]
            )
    return _table([" / ".join(COLUMNS), *sets], rows)


def not_reached(report: dict[str, Any]) -> str:
    """What was wanted of the default's tracks and is not so, with its own weights or with those of other scenes."""
    missed = []
    for name, limits in WANTED.items():
        rows = [report["sets"][name]["ours"][row]["ALL"] for row in ("cautious", "cautious, weights of other scenes")]
        for column, (least, limit) in limits.items():
            values = [row[column] for row in rows]
            if any(value < limit if least else value > limit for value in values):
                missed.append(f"{name} {column} {values[0]:.2f} ({values[1]:.2f}; {limit:.2f} wanted)")
    speed = report["speed"]["times_as_long_as_default"]["roboflow ByteTrackTracker"]["MOT17val"]
    if speed < FASTER:
        missed.append(f"{speed:.2f} times as fast as Roboflow's ByteTrack on MOT17val ({FASTER:.2f} wanted)")
    return ", ".join(missed)


def gate_table(report: dict[str, Any]) -> str:
    """What the crop gate leaves of the default's tracklets."""
    keys = ("kept_percent", "Pur", "MixTrk", "Trk/Id", "FPbox")
    rows = [
        [name, *(f"{each['gate'][key]:.{1 if key == 'kept_percent' else 2}f}" for key in keys)]
        for name, each in report["sets"].items()
    ]
    return _table(["boxes that pass the gate", "% of the boxes", *keys[1:]], rows)


def floor_table(report: dict[str, Any]) -> str:
    """The fixed camera with and without a floor."""
    by_sequence: dict[str, Any] = report["fixed_camera"]
    rows = [
        [
            f"`{label}`" if "," in label else label,
            *(" / ".join(f"{each[label][c]:.1f}" for c in COLUMNS) for each in by_sequence.values()),
        ]
        for label in next(iter(by_sequence.values()))
    ]
    return _table([" / ".join(COLUMNS), *by_sequence], rows)


def speed_table(report: dict[str, Any]) -> str:
    """Milliseconds a frame, and how many times as long as the default."""
    speed = report["speed"]
    scenes = list(speed["frames"])
    rows = [
        [
            label.replace("ours ", "**").replace("_", " ") + ("**" if label.startswith("ours ") else ""),
            *(f"{of_scene[scene]:.3f}" for scene in scenes),
            f"{speed['times_as_long_as_default'][label][scenes[0]]:.2f}",
            f"{speed['growth_100_to_200_people'][label]:.2f}",
        ]
        for label, of_scene in speed["milliseconds_per_frame"].items()
    ]
    return _table(["milliseconds a frame", *scenes, "times the default", "100 to 200 people"], rows)


def vtest_table(report: dict[str, Any]) -> str:
    """Tracks of the sample clip."""
    keys = ("ids", "boxes", "median_seconds", "mean_seconds", "implausible_steps")
    named = report["tracks"] | {
        f"{name} tracklets": row for name, row in report["tracklets"].items() if row != report["tracks"][name]
    }
    rows = [[name, *(str(row[key]) for key in keys)] for name, row in named.items()]
    return _table([report["video"], *(key.replace("_", " ") for key in keys)], rows)


def tables() -> list[str]:
    """All of them."""
    trackers = read("trackers")
    accuracy = [accuracy_table(trackers), gate_table(trackers), floor_table(trackers)]
    return [*accuracy, speed_table(trackers), vtest_table(read("vtest_tracks"))]


if __name__ == "__main__":
    print("\n\n".join(tables()))
