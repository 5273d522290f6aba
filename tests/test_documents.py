"""What README and the docs say is what the tree and the results say."""

import json
import math
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tracker_tables import not_reached, read
from pipeline.cli import _parser
from reid.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "reid", "trackers", "simulation")


def test_the_tree_on_the_architecture_page_names_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page[page.index("## The tree") : page.index("## Decisions")]
    named = set(re.findall(r"\w+", tree))
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    missing = [str(path.relative_to(ROOT)) for path in modules if path.stem not in named | {"__init__", "__main__"}]
    assert missing == []


def test_readme_has_the_figures_of_the_demo() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    demo = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text(encoding="utf-8"))
    for direction, row in demo["retrieval"].items():
        shares = " | ".join(f"{100 * row[name]:.1f} %" for name in ("rank1", "mAP", "chance"))
        cells = f"| {direction.replace('->', ' → ')} | {shares} | {row['queries']} | {row['gallery']} |"
        assert cells in readme
    for name, camera in demo["cameras"].items():
        shares = " | ".join(f"{100 * camera[key]:.1f} %" for key in ("precision", "recall", "idf1"))
        assert f"| {name} | {camera['modality']} | {shares} |" in readme
    assert f"{100 * demo['identification']['pair_precision']:.1f} % are right" in readme
    assert f"{demo['identification']['persons']} persons were given out for the 48 true ones" in readme
    assert f"a second, peak memory {demo['peak_rss_mb'] / 1000:.2f} GB" in readme
    assert f"{demo['frames']} frames in {demo['seconds']:.0f} s, {demo['frames_per_second']:.0f} a second" in readme


def test_the_program_knows_every_command_of_readme_and_help_its_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(readme.split("```")[1::2]).replace("\\\n", " ")
    commands = re.findall(r"\.venv/bin/python run_pipeline\.py ([^\n)]*)", blocks)
    commands += re.findall(r"`(?:run_pipeline\.py )?((?:validate|evaluate|case|export|serve|run) [^`]*)`", readme)
    assert len(commands) > 15
    for command in commands:
        assert _parser().parse_args(shlex.split(command, comments=True)).command
    with pytest.raises(SystemExit):
        _parser().parse_args(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for code in (1, 2, 3, 4, 5, 130, 143):
        assert re.search(rf"\b{code}\b", printed.partition("Exit codes: ")[2])


def test_readme_has_the_milliseconds_of_the_stages() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    stages = json.loads((ROOT / "benchmarks" / "results" / "stages.json").read_text(encoding="utf-8"))
    for name, milliseconds in stages["milliseconds_a_frame"].items():
        assert f"{name} {milliseconds:.1f}" in readme
    assert f"the bottleneck is {stages['bottleneck']}" in readme


def test_readme_says_what_the_trackers_do_not_reach() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missed = not_reached(read("trackers"), read("vtest_tracks"))
    assert f"with weights that never saw the scene in brackets): {missed} (" in readme


def test_the_page_on_cameras_has_the_figures_of_its_benchmarks() -> None:
    page = (ROOT / "docs" / "cameras.md").read_text(encoding="utf-8")
    reconnect, fuzz = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("reconnect", "fuzz")
    )
    assert f"{reconnect['attempts']} failed connections grow memory by {reconnect['growth_mb']:.1f} MB" in page
    cut = reconnect["never_answers"]
    assert f"cut off after {cut['seconds']:.2f} s of its {cut['timeout_seconds']:.0f} s" in page
    assert fuzz["findings"] == 0
    assert f"{fuzz['cases']} damaged MP4" in page


def test_the_page_on_operations_has_the_figures_of_pairs() -> None:
    page = " ".join((ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split())
    found = json.loads((ROOT / "benchmarks" / "results" / "pairs.json").read_text(encoding="utf-8"))
    pairing, others = found["pairing"], [each["paired_rightly"] for each in found["others"]]
    assert f"{abs(found['error_ms']):.1f} ms off" in page
    assert f"{100 * pairing['paired_rightly']:.1f} % of the frames were paired with the nearest" in page
    assert f"Of five films of other people {sum(each == 1 for each in others)} have 100.0 %" in page
    assert f"the least has {100 * min(others):.1f} %" in page
    errors = [found["error_ms"], *(each["error_ms"] for each in found["others"])]
    assert f"right within {max(map(abs, errors)):.1f} ms in all" in page
    assert (
        f"{100 * pairing['paired_rightly_were_the_shutters_any_time_apart']:.1f} % of the first film would be" in page
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(found["kept"].values())
    assert f"of six simulated films {100 * min(pairing['paired_rightly'], *others):.0f} % of the frames" in readme
    live = json.loads((ROOT / "benchmarks" / "results" / "pairs_live.json").read_text(encoding="utf-8"))
    assert all(live["kept"].values())
    share = f"{100 * live['paired_rightly']:.1f} %"
    assert f"the skew was {abs(live['error_ms']):.1f} ms off in the end, and {share} of the frames" in page
    assert f"over live RTSP {share}" in readme
    stale = sum(each["frames_dropped"].get("stale", 0) for each in live["cameras"].values())
    assert f"({live['frames']} of the first camera; {stale} of both were dropped as stale)" in page
    worst = min(each["paired_rightly_were_the_shutters_any_time_apart"] for each in found["others"])
    assert f"({100 * worst:.1f} in the worst)" in page


def test_the_gallery_page_has_the_figures_of_its_benchmarks() -> None:
    page = " ".join((ROOT / "docs" / "gallery.md").read_text(encoding="utf-8").split())
    results = ROOT / "benchmarks" / "results"
    recovery = json.loads((results / "recovery.json").read_text(encoding="utf-8"))
    kill, noise = recovery["kill"], recovery["noise"]
    assert f"{kill['kills']} times `kill -9`" in page
    assert f"{kill['differences']} differences, {kill['committed_tracklets_lost']} committed tracklets lost" in page
    assert f"{kill['orphans_removed']} orphaned folders removed" in page
    during = kill["killed_during"]
    told = (
        f"{during['insert']} while inserting, {during['delete']} while deleting, {during['reindex']} while reindexing"
    )
    assert told in page
    assert f"{noise['rebuilt']} rebuilt, {noise['tracklets_lost_or_changed']} tracklets lost or changed" in page
    log = recovery["noise_in_the_log"]
    assert f"{log['pages']} pages of the log of a killed process: {log['tracklets_lost']} tracklets lost" in page
    beside = json.loads((results / "concurrency.json").read_text(encoding="utf-8"))
    assert f"{beside['inserted']} insertions, {beside['searches']} searches, {len(beside['errors'])} errors" in page
    assert f"{len(beside['torn_reads'])} torn reads" in page
    assert f"{beside['insert_to_searchable']['p50_ms'] / 1000:.2f} s after it in the median" in page


def test_the_page_on_search_has_the_figures_of_its_benchmark() -> None:
    page = " ".join((ROOT / "docs" / "search.md").read_text(encoding="utf-8").split())
    found = json.loads((ROOT / "benchmarks" / "results" / "search_100000.json").read_text(encoding="utf-8"))
    assert (
        f"{len(found['exact']['differing'])} of {found['exact']['combinations']} combinations of filters differ" in page
    )
    cost = {name: each["cpu_times_plain_faiss"] for name, each in found["latency"].items()}
    assert f"takes {cost['search']:.2f} times plain FAISS without filters" in page
    assert f"{cost['search_95_per_cent']:.2f} times where a filter leaves 95 %" in page
    assert f"{cost['search_tenth']:.2f} times where it leaves a tenth" in page
    assert f"({found['exact']['combinations_of_a_tracklet']} where the query is a tracklet" in page
    alone, beside = found["stored"]["alone"], found["stored"]["while_searching"]
    assert f"takes {alone['found_p50_ms']:.1f} ms in the median and {alone['found_worst_ms']:.1f} ms at worst" in page
    assert (
        f"{beside['found_p50_ms']:.1f} ms and {beside['found_worst_ms']:.1f} ms, {beside['inserts_a_second']:.0f} a"
        in page
    )
    assert f"found {found['commit_to_searchable']['worst_ms']:.1f} ms later at worst" in page
    assert f"{found['while_searching']['inserts_a_second']} insertions a second" in page
    assert f"{found['start']['seconds']:.1f} s to start, and {found['start']['until_quick_seconds']:.1f} s more" in page
    assert f"{cost['search_half']:.2f} times where it leaves half" in page
    whole = {name: each["cpu_times_plain_faiss"] for name, each in found["whole_path"].items()}
    most = max(each for name, each in whole.items() if name.startswith("search"))
    assert f"{most:.2f} times with one on the time of day alone, the most" in page
    assert whole["search_time_of_day"] == most
    assert (
        f"takes {whole['search_no_filter']:.2f} times without and {whole['search_all_filters']:.2f} times with" in page
    )


def test_the_page_on_search_has_the_figures_of_a_million() -> None:
    page = " ".join((ROOT / "docs" / "search.md").read_text(encoding="utf-8").split())
    found = json.loads((ROOT / "benchmarks" / "results" / "search_1000000.json").read_text(encoding="utf-8"))
    assert (found["tracklets"], found["exact"]["differing"]) == (1_000_000, [])
    cost, whole = (
        {name: each["cpu_times_plain_faiss"] for name, each in found[part].items() if name.startswith("search")}
        for part in ("latency", "whole_path")
    )
    told = f"{cost['search']:.2f} times plain FAISS without filters and at most {max(cost.values()):.2f} times with one"
    assert told in page
    assert f"path {whole['search_no_filter']:.2f} times and at most {max(whole.values()):.2f} times" in page
    start = found["start"]
    assert f"{start['seconds']:.1f} s to start and {start['until_quick_seconds']:.1f} s until it is quick" in page


def test_the_page_on_search_says_what_probabilities_are_worth_and_how_many_strangers_pass() -> None:
    page = " ".join((ROOT / "docs" / "search.md").read_text(encoding="utf-8").split())
    found = json.loads((ROOT / "benchmarks" / "results" / "calibration.json").read_text(encoding="utf-8"))
    errors = [each["error"] for each in found["pairs"].values()]
    assert f"error is {min(errors):.4f} to {max(errors):.4f} over all pairs" in page
    told = sorted((round(each["error_of_likely"], 3), name) for name, each in found["pairs"].items())
    assert ", ".join(f"{error} ({name})" for error, name in told[:-1]) + f" and {told[-1][0]} ({told[-1][1]})" in page
    assert [error < 0.05 for error, _ in told] == [True] * 5 + [False]
    assert "kept by five of six" in page
    chance = [each["error_of_likely_by_chance"] for each in found["pairs"].values()]
    assert f"err by {min(chance):.3f} to {max(chance):.3f} there" in page
    passed = {name: each["0.01"]["passed"] for name, each in found["several_examples"].items()}
    assert f"{100 * passed['one']:.1f} % pass with one example where 1 % is asked" in page
    two, six = (passed[name] for name in ("two of one modality", "six of three modalities"))
    assert f"{100 * two:.1f} % with two of one modality and {100 * six:.1f} % with six of three" in page
    alone = found["several_examples"]["six of three modalities"]["0.01"]["nearest"]
    assert f"{100 * alone:.1f} % would pass with six" in page


def test_readme_has_the_gain_of_the_option_that_helps() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = json.loads((ROOT / "benchmarks" / "results" / "table_plus.json").read_text(encoding="utf-8"))["rows"]
    gain = next(row for row in rows if row["row"].startswith("+ grey"))["gain"]
    gains = [gain[direction][figure]["mean"] for direction in ("I2V", "V2I") for figure in ("rank1", "mAP")]
    assert f"by {min(gains):.1f} to {max(gains):.1f} points of Rank-1 and mAP over three seeds" in readme


def test_readme_says_what_the_last_measurements_of_streams_soak_and_server_say() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = {
        name: json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("streams", "soak", "server", "search_100000", "search_1000000")
    }
    starts = [found[name]["start"]["seconds"] for name in ("search_100000", "search_1000000")]
    assert f"started in {starts[0]:.1f} s; 1,000,000 in {starts[1]:.1f} s" in readme
    streams = found["streams"]
    assert streams["streams"]["streams_held"] == 3
    assert streams["streams"]["stopped_by"].startswith("the processor")
    assert (
        "holds three 1080p streams of 10 frames a second, servers included, and its processor is what stops it"
        in readme
    )
    cost, live = streams["cost"]["ratio"]["wall"], streams["live_cost"]["ratio"]["processor"]
    assert f"take {cost:.2f} times what bare decoding takes, of a live stream {live:.2f} times the processor" in readme
    soak = found["soak"]
    assert all(soak["kept"].values())
    slope, end = soak["rss_slope_mb_a_minute"], soak["stop_seconds"]
    assert f"memory {slope:.2f} MB a minute, where 1 is allowed, the end took {end:.1f} s of 5" in readme
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"memory rose by {slope:.2f} MB a minute" in operations
    assert "Every limit was kept." in operations
    decoded, processed = (
        sum(each[f"frames_{what}"] for each in soak["by_camera"].values()) for what in ("decoded", "processed")
    )
    assert f"{processed:,} of {decoded:,} frames processed" in operations
    dropped, skipped = (
        sum((Counter(each[f"frames_{what}"]) for each in soak["by_camera"].values()), Counter[str]())
        for what in ("dropped", "skipped")
    )
    assert dropped.total() == decoded - processed
    assert set(dropped) == {"stale", "shutdown"}
    assert f"{dropped['stale']} dropped as stale, the others left" in " ".join(operations.split())
    assert "the others left when it was told to stop;" in " ".join(operations.split())
    assert skipped["damaged"] > 0.95 * skipped.total()
    assert "frames that the faults damaged come on top, as skipped" in operations
    assert f"(standard error {soak['standard_error_of_the_slope']:.2f})" in operations
    assert f"grew by {soak['tracklets']['accepted']} tracklets" in operations
    costs = [soak["ms_a_processed_frame"][part]["processor"] for part in ("first_third", "last_third")]
    experiments = " ".join((ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").split())
    assert "took {:.1f} ms of the processor in the first third and {:.1f} in the last".format(*costs) in experiments
    oldest = max(each["age_seconds"]["most"] for each in soak["by_camera"].values())
    assert f"oldest processed frame was {oldest:.2f} s old" in operations
    overload = found["streams"]["overload"]["age_seconds"]["most"]
    assert f"`benchmarks/results/streams.json`: {overload:.2f} s at most" in operations
    restarts = json.loads((ROOT / "benchmarks" / "results" / "restarts.json").read_text(encoding="utf-8"))
    assert all(restarts["kept"].values())
    assert f"back after {restarts['back_after_seconds']['most']:.2f} s at most" in operations
    assert f"memory grows by {restarts['growth']['rss_mb']:.1f} MB" in operations
    view = json.loads((ROOT / "benchmarks" / "results" / "page.json").read_text(encoding="utf-8"))["first_view"]
    page = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
    assert f"{view['seconds']['median']:.2f} s and {view['bytes'] / 1000:.0f} kB" in page
    kills = json.loads((ROOT / "benchmarks" / "results" / "server_kills.json").read_text(encoding="utf-8"))
    assert not kills["findings"]
    assert f"at {kills['kills']} random moments" in page
    assert f"of {kills['answered_in_all']} requests" in page
    exports = kills["exports"]
    assert set(exports) <= {"done", "failed, for its case was emptied"}
    assert f"{exports['done']} of {sum(exports.values())} exports that it had accepted" in " ".join(page.split())
    assert f"and {sum(exports.values()) - exports['done']} failed because their case had been emptied" in page
    readers, eager = found["server"]["readers"], found["server"]["without_a_pause"]
    assert f"who look at an answer for {readers['think_seconds']:.0f} s wait" in readme
    assert f"random tracklets they wait {readers['p95_ms']:.0f} ms at p95" in readme
    assert f"without any pause {eager['p95_ms'] / 1000:.1f} s" in readme
    beside, slow = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("indexing", "indexing_slow_hour")
    )
    assert [beside["cameras"], beside["readers"][0]["readers"], beside["one_process"]] == [8, 50, False]
    assert all(beside["kept"].values())
    assert beside["indexing_slower_by"] < 0.005
    assert round(beside["frames_a_second"]["alone"]) == 80 >= beside["cameras"] * 10
    assert f"wait {beside['most_p95_ms']:.0f} ms at p95 (300 allowed) beside eight running cameras" in readme
    told = f"{slow['most_p95_ms'] / 1000:.1f} s and {100 * slow['indexing_slower_by']:.1f} %"
    assert f"with {slow['target_fps']:.0f} frames a second, {told}" in readme


def test_the_page_on_search_has_the_figures_of_identity() -> None:
    page = " ".join((ROOT / "docs" / "search.md").read_text(encoding="utf-8").split())
    found = json.loads((ROOT / "benchmarks" / "results" / "identity.json").read_text(encoding="utf-8"))
    idf1 = {name: f"{each['idf1']:.3f}" for name, each in found["idf1"].items()}
    assert f"IDF1 of the whole pipeline: {idf1['ours']}, beside {idf1['no_linking']} without linking" in page
    assert f"{idf1['nearest_neighbour']} for nearest neighbours with one threshold" in page
    assert f"{idf1['ours_without_constraints']} for the same without constraints of place and time" in page
    assert f"{idf1['ours_without_looking_back']} without looking back" in page
    assert f"naming every tracklet rightly would give {idf1['every_tracklet_named_rightly']}" in page
    assert len(found["site"]["cameras"]) == 8
    (other,) = found["others"]
    third = {name: f"{each['idf1']:.3f}" for name, each in other["idf1"].items()}
    told = f"{third['ours']}, beside {third['nearest_neighbour']} for nearest neighbours and"
    assert f"{told} {third['ours_without_constraints']} without constraints" in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    both = f"{idf1['ours_without_constraints']} without constraints, {idf1['nearest_neighbour']} for nearest neighbours"
    assert f"IDF1 is {idf1['ours']}, {both}" in readme


def test_the_page_on_search_has_the_figures_of_the_threshold() -> None:
    page = " ".join((ROOT / "docs" / "search.md").read_text(encoding="utf-8").split())
    found = json.loads((ROOT / "benchmarks" / "results" / "threshold.json").read_text(encoding="utf-8"))
    low, high = found["mean"]["0.1"], found["mean"]["0.15"]
    assert f"with {found['people']} people, {100 * high['pair_precision']:.1f} % of the pairs" in page
    assert f"where {found['default']} gives {100 * low['pair_precision']:.1f} %" in page
    assert {f"{100 * each['pair_recall']:.1f}" for each in (low, high)} == {"75.0"}
    assert "both find 75.0 %" in page


def test_the_page_on_experiments_has_the_figures_of_table_3() -> None:
    page = " ".join((ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").split())
    results = ROOT / "benchmarks" / "results"
    tables = [
        json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("table3", "table3_four_passes", "table3_held_out")
    ]

    def gains(table: dict[str, Any], row: int) -> str:
        found = table["rows"][row]["gain"]
        return ", ".join(f"{found[way][figure]['mean']:+.1f}" for way in ("I2V", "V2I") for figure in ("rank1", "mAP"))

    def beyond(table: dict[str, Any], row: int) -> list[bool]:
        found = table["rows"][row]["gain"]
        return [found[way][figure]["beyond"] for way in ("I2V", "V2I") for figure in ("rank1", "mAP")]

    twelve, four, held_out = tables
    assert f"above the baseline in all four figures ({gains(twelve, 1)} in Rank-1 and mAP of I2V" in page
    assert beyond(twelve, 1) == [False, True, False, False]
    assert f"**MII does not**: {gains(twelve, 2)} over CPC, each within the deviation" in page
    assert not any(beyond(twelve, 2))
    assert f"{gains(four, 1)} in four (`table3_four_passes.md`, three of them beyond the deviation)" in page
    assert sum(beyond(four, 1)) == 3
    assert f"(`table3_held_out.md`): CPC {gains(held_out, 1)}, MII {gains(held_out, 2)}." in page
    rows = json.loads((results / "table5.json").read_text(encoding="utf-8"))["rows"]
    above = {
        row["row"]: [
            row["ours"][way][figure]["mean"] - rows[0]["ours"][way][figure]["mean"]
            for way in ("I2V", "V2I")
            for figure in ("rank1", "mAP")
        ]
        for row in rows[1:]
    }
    assert [name for name, each in above.items() if min(each) > 0] == ["CII"]
    assert f"({', '.join(f'{each:+.1f}' for each in above['CII'])})" in page
    assert f"{max(above['SII'] + above['LII']):.2f}" == "0.03"
    losses = [(run["row"], run["log"][0]["loss"], run["log"][-1]["loss"]) for run in twelve["runs"]]
    first, last = ([each[at]["identity_projected"] for each in losses] for at in (1, 2))
    assert f"from {min(first):.3f}-{max(first):.3f} in the first epoch" in page
    assert f"to {min(last):.3f}-{max(last):.3f} in the last (ln 240 = {math.log(240):.3f})" in page
    cpc = [(begun["cpcl"], ended["cpcl"]) for row, begun, ended in losses if row == "+ CPC"]
    told = ["{:.2f}, {:.2f} and {:.2f}".format(*each) for each in zip(*cpc, strict=True)]
    assert f"CPCL from {told[0]} to {told[1]} in the three seeds of + CPC" in page
    ends = [ended["cmcl"] for row, _, ended in losses if row == "+ MII"]
    assert f"CMCL ends at {min(ends):.3f} to {max(ends):.3f} in every seed" in page
    for table in ("table3", "table5", "table_plus"):
        runs = json.loads((results / f"{table}.json").read_text(encoding="utf-8"))["runs"]
        assert all(each["mAP"] == each["mINP"] for run in runs for each in run["figures"].values())


def test_the_model_card_says_what_the_training_was_made_of() -> None:
    card = " ".join((ROOT / "docs" / "model_card.md").read_text(encoding="utf-8").split())
    record = json.loads((ROOT / "benchmarks" / "results" / "train_xreid_tiny.json").read_text(encoding="utf-8"))
    config, last = record["config"], record["epochs"][-1]["loss"]
    assert f"in {config['batch']['still_epochs']} of {config['epochs']} epochs a clip is one frame" in card
    loss = config["loss"]
    assert f"CMCL has the weight {loss['cmcl']}, CPCL {loss['cpcl']} and identity {loss['identity']}," in card
    assert f"attributes ({loss['attributes']:g}) and alignment ({loss['alignment']:g})" in card
    assert f"attributes are {last['attributes']:.2f} of a loss of {last['total']:.2f}" in card
    assert f"CPCL {last['cpcl']:.2f}, CMCL {last['cmcl']:.3f}" in card
    assert f"Its commit is `{record['environment']['commit']}`: the code had changes that no commit has" in card


def test_the_model_card_says_once_whom_the_calibration_is_fitted_to() -> None:
    card = " ".join((ROOT / "docs" / "model_card.md").read_text(encoding="utf-8").split())
    people = json.loads((ROOT / "benchmarks" / "results" / "calibration.json").read_text(encoding="utf-8"))["fitted_on"]
    assert f"fitted on {people.split()[0]} simulated people of `configs/simulation/calibration.yaml`" in card
    assert "the validation people chose no epoch and have no part in the calibration" in card
    assert "give the calibration" not in card


def test_readme_counts_the_protocols_of_published_figures() -> None:
    assert len(PROTOCOLS) - 1 == 7  # without that of the weights themselves
    assert "evaluation by seven published protocols" in (ROOT / "README.md").read_text(encoding="utf-8")
