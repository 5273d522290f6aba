"""The page where answers are late, partial or refused, and where the server was started anew meanwhile."""

import shutil
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from reid.modality import Modality
from tests.pipeline.server.page.conftest import Recorded, serving


def refuse(route: Route) -> None:
    route.fulfill(status=503, json={"type": "about:blank", "title": "Service Unavailable", "detail": "not now"})


def test_a_page_that_stands_open_outlives_a_restart_of_the_server(
    page: Page, recorded: Recorded, person: int, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(recorded.root, tmp_path / "run"))
    page.route("**/api/v1/events", refuse)  # a stream that is refused is not tried again by the browser itself
    with serving(root) as site:
        page.goto(f"{site.address}#/search?like=tracklet.{recorded.of(person, Modality.RGB)[0]}")
        expect(page.locator(".live")).to_have_text("connection lost")
        expect(page.get_by_role("button", name="Search", exact=True)).to_be_visible()
    page.unroute("**/api/v1/events")
    with serving(root, port=int(site.address.rstrip("/").rpartition(":")[2])):
        page.get_by_role("button", name="Search", exact=True).click()
        expect(page.locator(".answer").first).to_be_visible()
        expect(page.locator(".live")).to_have_text("live")
