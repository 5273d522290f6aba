"""The first view of the page: bytes on the wire and seconds until it can be used, in Chromium without anything cached.

    python benchmarks/page.py [--gallery runs/demo] [--times 9] [--json benchmarks/results/page.json]

The server is a process of its own, `run_pipeline.py serve`, on the loopback interface. Each view has a browser context
of its own, that is a window without anything cached. The window stands open for some seconds before: opening it keeps
the processor busy with Chromium's own bars. Counted is, by the page's clock, from the
start of the navigation until the pictures of whoever was seen last that are in view have come. The default gallery is
that of `make demo`; its people are synthetic.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.store import Store

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1280, 800
SETTLE_MS = 2000
WATCH = """
  const inView = each => each.getBoundingClientRect().top < innerHeight;
  const look = () => {
    const pictures = [...document.querySelectorAll('.pick img')].filter(inView);
    if (pictures.length > 0 && pictures.every(each => each.complete && each.naturalWidth > 0))
      window.drawnMs = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
"""


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
    with started(options.gallery) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        views = [first_view(browser, address) for _ in range(options.times + 1)][1:]  # the first warms the disk
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


@contextmanager
def started(gallery: Path) -> Iterator[str]:
    """A server over a gallery; gives its address."""
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "serve", "-g", str(gallery), "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            said = next((line for line in server.stdout or () if "http://" in line), None)
            if said is None:
                raise SystemExit(f"the server over {gallery} did not come up")
            yield "http://" + said.partition("http://")[2].split("/")[0] + "/"
        finally:
            server.terminate()


def first_view(browser: Browser, address: str) -> dict[str, Any]:
    """Seconds and bytes of one view by a browser that knows nothing yet."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    context.add_init_script(WATCH)
    page = context.new_page()
    received = _count_bytes(page)
    page.wait_for_timeout(SETTLE_MS)
    page.goto(address, wait_until="commit")
    while (drawn_ms := page.evaluate("window.drawnMs")) is None:
        page.wait_for_timeout(50)
    page.wait_for_timeout(300)  # what comes later is counted too
    context.close()
    return {"seconds": round(drawn_ms / 1000, 3), "bytes": round(sum(received)), "requests": len(received)}


def _count_bytes(page: Page) -> list[float]:
    received: list[float] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda told: received.append(told["encodedDataLength"]))
    return received


if __name__ == "__main__":
    sys.exit(main())
