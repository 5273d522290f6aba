"""The first view of the page: bytes on the wire and seconds until it can be used, in Chromium without anything cached.

    python benchmarks/page.py [--gallery runs/demo] [--times 9] [--json benchmarks/results/page.json]

The page is served by this process, as `run_pipeline.py serve` does, on the loopback interface. Each time is a browser
context of its own. Counted is from the start of the navigation until the pictures of whoever was seen last that are in
view have been drawn. The default gallery is that of `make demo`; its people are synthetic.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.config import ServerConfig
from pipeline.server.serving import open_door, served
from pipeline.store import Store

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1280, 800
DRAWN = """() => {
  const inView = each => each.getBoundingClientRect().top < innerHeight;
  const pictures = [...document.querySelectorAll('.pick img')].filter(inView);
  return pictures.length > 0 && pictures.every(each => each.complete && each.naturalWidth > 0);
}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gallery", type=Path, default=Path("runs/demo"))
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/page.json"))
    options = parser.parse_args(arguments)
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        parser.error(f"no browser: none of {', '.join(NAMES)} is on the path")
    with Store.read(options.gallery) as store:
        tracklets = store.counts().accepted
    door = open_door(options.gallery, ServerConfig(port=0))
    with served(options.gallery, door, device="cpu"), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        views = [first_view(browser, door.address) for _ in range(options.times + 1)][1:]  # the first warms the disk
        version = browser.version
        browser.close()
    seconds = sorted(each["seconds"] for each in views)
    found = {
        "first_view": {
            "seconds": {"median": statistics.median(seconds), "worst": seconds[-1]},
            "bytes": max(each["bytes"] for each in views),
            "requests": max(each["requests"] for each in views),
        },
        "times": options.times,
        "tracklets": tracklets,
        "browser": f"Chromium {version}, headless, {WIDTH}x{HEIGHT}",
        "machine": machine.describe(),
    }
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["first_view"], indent=1))
    return 0


def first_view(browser: Browser, address: str) -> dict[str, Any]:
    """Seconds and bytes of one view by a browser that knows nothing yet."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    received = _count_bytes(page)
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    while not page.evaluate(DRAWN):
        time.sleep(0.005)
    seconds = time.perf_counter() - started
    page.wait_for_timeout(300)  # what comes later is counted too
    context.close()
    return {"seconds": round(seconds, 3), "bytes": round(sum(received)), "requests": len(received)}


def _count_bytes(page: Page) -> list[float]:
    received: list[float] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda told: received.append(told["encodedDataLength"]))
    return received


if __name__ == "__main__":
    sys.exit(main())
