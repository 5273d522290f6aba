"""The tables of docs/trackers.md, from the JSON of the benchmarks: ``python benchmarks/tracker_tables.py``.

A test holds the guide to them, so that no figure in it is typed by hand.
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = ("HOTA", "IDF1", "Pur", "MixTrk")
FASTER = {"roboflow ByteTrackTracker": 2.0, "ultralytics BOTSORT": 3.0}
GROUND_PEER = "ucmctrack"  # the peer that is given a floor
MOST_TRACKS = 1.35  # a person
OF_TRACKLETS = {"Pur": (True, 98.8), "MixTrk": (False, 7.0), "Trk/Id": (False, 2.0)}
OF_GATE = {"Pur": (True, 99.0), "kept_percent": (True, 60.0)}
OF_OTHERS = ", weights of other scenes"
AS_FILMED, VTEST_PEER = "as filmed", "ultralytics ByteTrack"
Limits = dict[str, tuple[bool, float]]


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


def wanted(report: dict[str, Any]) -> dict[str, Limits]:
    """Of the default's tracks by set and column: whether the value must be at least the limit, and the limit.

    One point above the best peer without a floor (HOTA, IDF1), the best peer's (Pur), three quarters of it (MixTrk).
    """
    limits = {}
    for name, of_set in report["sets"].items():
        peers = {peer: row["ALL"] for peer, row in of_set["peers"].items()}
        blind = [row for peer, row in peers.items() if peer != GROUND_PEER]
        limits[name] = {
            "HOTA": (True, round(max(row["HOTA"] for row in blind) + 1, 2)),
            "IDF1": (True, round(max(row["IDF1"] for row in blind) + 1, 2)),
            "Pur": (True, max(row["Pur"] for row in peers.values())),
            "MixTrk": (False, round(0.75 * min(row["MixTrk"] for row in peers.values()), 2)),
            "Trk/Id": (False, MOST_TRACKS),
        }
    return limits


def not_reached(report: dict[str, Any], vtest: dict[str, Any]) -> str:
    """What was wanted of the default and is not so, with its own weights or with those of other scenes."""
    missed = []
    for name, limits in wanted(report).items():
        missed += _missed(name, limits, *_rows(report["sets"][name]["ours"]))
    missed += _missed("tracklets of MOT17val", OF_TRACKLETS, *_rows(report["sets"]["MOT17val"]["ours"], " tracklets"))
    crops = [report["sets"]["MOT17val"][f"gate{kind}"] for kind in ("", OF_OTHERS)]
    missed += _missed("crops of MOT17val", OF_GATE, *crops)
    for name, fixed in report["fixed_camera"].items():
        above: Limits = {column: (True, fixed[GROUND_PEER][column]) for column in ("HOTA", "IDF1")}
        rows = [fixed[f"cautious, estimate_ground{kind}"] for kind in ("", OF_OTHERS)]
        missed += _missed(f"{name} with a floor", above, *rows)
    ours, peer = (vtest["ways"][AS_FILMED][name] for name in ("cautious", VTEST_PEER))
    better: Limits = {"ids": (False, peer["ids"] - 1)} | {
        column: (True, round(peer[column] + 0.01, 2)) for column in ("median_seconds", "mean_seconds", "Pur")
    }
    missed += _missed("vtest", better, ours)
    for pixels, shaken in vtest["shaken"].items():
        missed += [
            f"vtest shaken by {pixels} {line} in {shaken[line]} of {shaken['draws']} draws"
            for line in ("fewer", "longer by the median", "longer on the mean", "purer")
            if 2 * shaken[line] < shaken["draws"]
        ]
    for peer_name, least in FASTER.items():
        speed = report["speed"]["times_as_long_as_default"][peer_name]["MOT17val"]
        if speed < least:
            missed.append(f"{speed:.2f} times as fast as {peer_name} on MOT17val ({least:.2f} wanted)")
    return ", ".join(missed)


def _rows(ours: dict[str, Any], kind: str = "") -> list[dict[str, float]]:
    """With the default's own weights, and with those of other scenes."""
    return [ours[f"cautious{weights}{kind}"]["ALL"] for weights in ("", OF_OTHERS)]


def _missed(name: str, limits: Limits, own: dict[str, float], *others: dict[str, float]) -> list[str]:
    return [
        f"{name} {column} {own[column]:.2f} ({''.join(f'{row[column]:.2f}; ' for row in others)}{limit:.2f} wanted)"
        for column, (least, limit) in limits.items()
        if any(row[column] < limit if least else row[column] > limit for row in (own, *others))
    ]


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
    """Tracks of the sample clip, as filmed and on the mean of all ways."""
    filmed, mean = report["ways"][AS_FILMED], report["mean_of_ways"]
    lasts = ("ids", "median_seconds", "mean_seconds")
    scores = (*COLUMNS, "FPbox")
    rows = [
        [
            name,
            *(str(row[key]) for key in lasts),
            " / ".join(f"{row[column]:.1f}" for column in scores),
            *(f"{mean[name][key]:.1f}" for key in lasts),
            " / ".join(f"{mean[name][column]:.1f}" for column in scores),
        ]
        for name, row in filmed.items()
    ]
    head, seconds = " / ".join(scores), ["ids", "median s", "mean s"]
    ways = f"mean of {len(report['ways'])} ways: "
    return _table([report["video"], *seconds, head, f"{ways}{seconds[0]}", *seconds[1:], head], rows)


def tables() -> list[str]:
    """All of them."""
    trackers = read("trackers")
    accuracy = [accuracy_table(trackers), gate_table(trackers), floor_table(trackers)]
    return [*accuracy, speed_table(trackers), vtest_table(read("vtest_tracks"))]


if __name__ == "__main__":
    print("\n\n".join(tables()))
