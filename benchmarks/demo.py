"""The demo's figures as README shows them: rerun the demo's three commands, keep its report, print the tables.

    python benchmarks/demo.py [--existing] [--json benchmarks/results/demo.json]

The people are synthetic and were never trained, calibrated or tuned on; the figures say nothing about real ones.
"""

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "runs" / "demo"
COMMANDS = (
    ["-m", "simulation", "site", "--config", "configs/simulation/demo.yaml", "--output", "runs/demo/site"],
    ["run_pipeline.py", "run", "--config", "configs/demo.yaml", "--output", "runs/demo", "--overwrite"],
    ["run_pipeline.py", "evaluate", "--run", "runs/demo", "--truth", "runs/demo/site", "--videos"],
)
KEPT = ("synthetic", "retrieval", "cameras", "identification", "tracklets", "frames", "seconds", "frames_per_second",
        "peak_rss_mb", "detector", "model")  # fmt: skip


def tables(report: dict[str, Any]) -> str:
    """Markdown: retrieval by direction, then detection and tracking by camera."""
    lines = [
        "| direction (synthetic people) | Rank-1 | mAP | chance | queries | gallery |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for direction, score in report["retrieval"].items():
        shares = " | ".join(f"{100 * score[key]:.1f} %" for key in ("rank1", "mAP", "chance"))
        lines.append(f"| {direction.replace('->', ' → ')} | {shares} | {score['queries']} | {score['gallery']} |")
    lines += ["", "| camera (synthetic people) | modality | precision | recall | IDF1 |", "|---|---|---:|---:|---:|"]
    for name, camera in report["cameras"].items():
        if "idf1" not in camera:
            lines.append(f"| {name} | {camera['modality']} | nobody found | | |")
            continue
        shares = " | ".join(f"{100 * camera[key]:.1f} %" for key in ("precision", "recall", "idf1"))
        lines.append(f"| {name} | {camera['modality']} | {shares} |")
    return "\n".join(lines)


def main() -> int:
    """Run, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--existing", action="store_true", help="keep the report of the last `make demo`")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "demo.json")
    options = parser.parse_args()
    for command in () if options.existing else COMMANDS:
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    report = json.loads((RUN / "report.json").read_text())
    kept = {key: report[key] for key in KEPT}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    result = {"benchmark": "demo", "command": "make demo", **kept, "date": date, "machine": machine.describe()}
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(tables(report))
    print(f"\n{report['frames']} frames in {report['seconds']:.0f} s, {report['frames_per_second']:.0f} a second,")
    print(f"peak memory {report['peak_rss_mb'] / 1000:.2f} GB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
