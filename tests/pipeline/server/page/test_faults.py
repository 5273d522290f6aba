"""The page where answers are late, partial or refused, and where the server was started anew meanwhile."""

import json
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Page, Route, expect

from pipeline.audit import Actor
from pipeline.cases import Cases
from pipeline.persons import Persons
from pipeline.server.roles import Role
from pipeline.server.users import USERS, Users
from pipeline.sinks import rfc3339
from pipeline.store import PersonState, Store
from reid.modality import Modality
from tests.pipeline.factories import NOON, sighting_of, tracklet_of
from tests.pipeline.server.page.conftest import PATIENCE_MS, Recorded, Served, serving

expect.set_options(timeout=PATIENCE_MS)

SEARCH = "**/api/v1/search"
TRACKLETS = "**/api/v1/tracklets?*"
PAGE = 500


def held(page: Page, address: str) -> list[Route]:
    """Requests that are not answered until the test does so."""
    waiting: list[Route] = []
    page.route(address, lambda route: waiting.append(route))
    return waiting


def until(page: Page, holds: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_MS // 20):
        if holds():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it never came true")


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
        expect(page.locator(".live")).to_have_text("connected")


def show_tab(page: Page, *, shown: bool) -> None:
    """As the browser tells a page that its tab was left, or come back to."""
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        not shown,
    )


def test_a_tab_that_nobody_sees_holds_no_connection_and_is_told_later_what_it_missed(
    site: Served, page: Page, recorded: Recorded, person: int
) -> None:
    page.goto(f"{site.address}#/search?like=tracklet.{recorded.of(person, Modality.RGB)[0]}&asked=1")
    expect(page.locator(".answer").first).to_be_visible()
    expect(page.locator(".live")).to_have_text("connected")
    show_tab(page, shown=False)
    expect(page.locator(".live")).to_have_text("not connected")
    with Store.read(site.root) as store:
        known = store.tracklets()[0]
        model, vector, calibration = store.model_id, store.embeddings([known.row])[0], store.calibration
    with Store.open(site.root, model_id=model, dimension=len(vector), calibration=calibration) as store:
        store.add(sighting_of(tracklet_of("gate-01NEW", at=100.0), person=1, vector=vector))
    show_tab(page, shown=True)
    expect(page.locator(".live")).to_have_text("connected")
    expect(page.get_by_text("New people were seen since this search.")).to_be_visible()


def test_a_page_that_nobody_touches_logs_out_and_shows_nothing(
    page: Page, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.server.live._ALIVE_SECONDS", 0.5)
    later = [0.0]
    monkeypatch.setattr("pipeline.server.sessions.time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))
    root = Path(shutil.copytree(recorded.root, tmp_path / "run"))
    Users(root / USERS).add("vera", Role.VIEWER, None, "correct horse battery")
    page.clock.install()
    asked: list[tuple[str, bool]] = []
    page.on("request", lambda each: asked.append((each.url, "x-background" in each.headers)))
    with serving(root) as site:
        page.goto(f"{site.address}#/site")
        page.get_by_label("Name").fill("vera")
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        expect(page.get_by_role("article").first).to_be_visible()
        page.clock.run_for(5_000)
        asked.clear()
        page.clock.run_for(150_000)  # the disk is looked at every 15 s
        until(page, lambda: len([url for url, _ in asked if url.endswith("/site")]) >= 5)
        polled = [by_itself for url, by_itself in asked if url.endswith("/site")]
        assert (polled[0], polled[-1]) == (False, True)
        asked.clear()
        page.mouse.click(2, 2)
        until(page, lambda: any(url.endswith("/session") and not by_itself for url, by_itself in asked))
        later[0] = 2 * 3600.0
        until(page, lambda: page.clock.run_for(1_000) or page.get_by_label("Password").is_visible())
        expect(page.get_by_role("article")).to_have_count(0)


def test_a_late_answer_is_not_shown_for_another_question(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    day, night = recorded.of(person, Modality.RGB)[0], recorded.of(person, Modality.NIR)[0]
    page.goto(f"{looked_at.address}#/search?like=tracklet.{day}")
    waiting = held(page, SEARCH)
    page.get_by_role("button", name="Search", exact=True).click()
    until(page, lambda: len(waiting) == 1)
    page.get_by_label("Tracklet or person").fill(night)
    page.keyboard.press("Enter")
    expect(page.locator(".example")).to_have_count(2)
    waiting[0].continue_()
    page.unroute(SEARCH)
    expect(page.locator(".found")).to_contain_text("Not searched yet with these settings")
    expect(page.locator(".answer")).to_have_count(0)
    page.get_by_role("button", name="Search again").click()
    expect(page.locator(".answer").first).to_be_visible()


def test_who_was_seen_last_is_of_the_filters_of_now_and_says_which_do_not_count(looked_at: Served, page: Page) -> None:
    page.goto(looked_at.address)
    expect(page.locator(".pick .badge.rgb").first).to_be_visible()
    waiting = held(page, TRACKLETS)
    page.get_by_role("button", name="Modality").click()
    page.get_by_role("button", name="Infrared", exact=True).click()
    page.get_by_role("button", name="Remove filter Modality").click()
    until(page, lambda: len(waiting) == 2)
    for each in reversed(waiting):  # the first, of infrared alone, comes last
        with page.expect_response(each.request.url):
            each.continue_()
    page.unroute(TRACKLETS)
    page.wait_for_timeout(100)
    expect(page.locator(".pick .badge.rgb").first).to_be_visible()

    page.get_by_role("button", name="Time of day").click()
    page.get_by_role("button", name="Night").click()
    expect(page.locator(".found")).to_contain_text("Not counted here, only in a search: time of day.")
    page.goto(f"{looked_at.address}#/search?person=P0999&person=P0998")
    expect(page.locator(".found")).to_contain_text("Nobody was seen who passes the filters")
    expect(page.locator(".found")).to_contain_text("person other than P0999")


def test_every_open_case_is_offered_and_no_closed_one(
    site: Served, page: Page, recorded: Recorded, person: int
) -> None:
    with Store.edit(site.root) as store:
        for number in range(60):
            Cases(store).open(f"case-{number:02d}", "", Actor("anna"))
        Cases(store).close("case-07", Actor("anna"))
    page.goto(f"{site.address}#/tracklet/{recorded.of(person)[0]}")
    page.get_by_role("button", name="Add to case").click()
    choice = page.get_by_role("dialog").get_by_role("combobox")
    choice.select_option("case-59")
    assert choice.locator("option").count() == 60  # with "A new case"
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("1 tracklet in case case-59.")).to_be_visible()


def test_what_was_decided_at_once_is_taken_back_as_one(
    site: Served, page: Page, recorded: Recorded, person: int
) -> None:
    people = partial(site.persons_of, recorded.people)
    before = people()
    chosen = sorted({f"P{number:04d}" for number in before.values() if number})[:3]
    assert len(chosen) == 3
    page.goto(f"{site.address}#/persons")
    for each in chosen:
        page.get_by_role("button", name=f"Choose {each}", exact=True).click()
    page.get_by_role("button", name="Merge").click()
    page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    told = page.get_by_role("status").filter(has_text="merged into")
    expect(told).to_contain_text(f"{chosen[1]}, {chosen[2]} merged into {chosen[0]}.")
    told.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Taken back.")).to_be_visible()
    assert people() == before

    best = {number: name for name, number in before.items() if number}
    first, second = (best[int(each[1:])] for each in chosen[:2])
    page.goto(f"{site.address}#/search?like=tracklet.{first}&like=tracklet.{second}&asked=1")
    page.get_by_role("button", name="Confirm").click()
    dialog = page.get_by_role("dialog")
    page.route("**/persons/confirm", refuse)
    dialog.get_by_role("button", name="Confirm").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not now")
    page.unroute("**/persons/confirm")
    dialog.get_by_role("button", name="Confirm").click()  # what was merged before is not merged again
    told = page.get_by_role("status").filter(has_text="2 tracklets confirmed as")
    expect(told).to_be_visible()
    assert people() != before
    told.get_by_role("button", name="Undo").click()
    until(page, lambda: people() == before)
    with Store.read(site.root) as store:
        assert all(each.state is PersonState.PROBABLE for each in Persons(store).all())


def test_the_timeline_does_not_fold_what_was_not_fetched_and_shows_the_path_all_the_same(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    with Store.read(looked_at.root) as store:
        number = store.tracklet(recorded.of(person)[0]).person_id
        stays = {each.tracklet_id for each in store.tracklets() if each.person_id == number}
    page.goto(f"{looked_at.address}#/timeline")
    expect(page.locator(".fold").first).to_be_visible()

    def crowd(route: Route) -> None:
        """There are always more: two crowds of others, with a long pause between them."""
        item = {"camera_id": "gate", "modality": "rgb", "person": "P0999", "best_crop": None, "seconds": 1.0}
        items = []
        for at in range(PAGE):
            start = NOON.replace(month=6, day=1, hour=14) + timedelta(hours=7 * (at % 2), milliseconds=100 * at)
            times = {"start": rfc3339(start), "end": rfc3339(start + timedelta(seconds=1))}
            items.append(item | times | {"tracklet_id": f"crowd-{at}"})
        route.fulfill(json={"items": items, "next": "more"})

    page.route(TRACKLETS, crowd)
    page.goto(f"{looked_at.address}#/timeline?person=P{number:04d}")
    expect(page.locator(".lanes + .told")).to_contain_text("and more: zoom in to see all")
    expect(page.locator(".fold")).to_have_count(0)
    for each in stays:
        expect(page.locator(f'a[data-tracklet="{each}"]')).to_have_count(1)

    page.unroute(TRACKLETS)
    page.route(TRACKLETS, refuse)
    page.get_by_title("Zoom in (+)").click()
    expect(page.get_by_role("alert")).to_contain_text("not now")
    expect(page.locator(".lanes + .told")).to_contain_text("could not be fetched")


def test_a_box_is_drawn_only_on_the_picture_of_its_moment(looked_at: Served, page: Page) -> None:
    page.goto(looked_at.address)
    page.get_by_role("button", name="Draw on a frame").click()
    place = page.get_by_role("button", name="Place a box")
    expect(place).to_be_enabled()
    waiting = held(page, "**/frame?*")
    page.get_by_role("button", name="+ 5 s").click()
    until(page, lambda: len(waiting) == 1)
    area = page.locator(".frame").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + 40, area["y"] + 40)
    page.mouse.down()
    page.mouse.move(area["x"] + 120, area["y"] + 200, steps=3)
    page.mouse.up()
    expect(page.locator(".drawn")).to_have_count(0)
    expect(place).to_be_disabled()
    waiting[0].continue_()
    expect(place).to_be_enabled()
    place.click()
    expect(page.get_by_role("button", name="Search for this person")).to_be_enabled()


def test_an_address_that_nobody_could_have_made_is_told_and_does_not_stop_the_page(
    looked_at: Served, page: Page
) -> None:
    page.goto(f"{looked_at.address}#/tracklet/100%")
    expect(page.get_by_role("alert")).to_be_visible()
    page.keyboard.type("gt")
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()


def test_an_offer_to_search_again_goes_with_its_view(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    day = recorded.of(person, Modality.RGB)[0]
    told = {"tracklet_id": "gate-01NEW", "camera_id": "gate", "rejected": None}
    stream = f"event: tracklet\ndata: {json.dumps(told)}\n\n"
    page.goto(f"{looked_at.address}#/search?like=tracklet.{day}&asked=1")
    expect(page.locator(".answer").first).to_be_visible()
    page.route(
        "**/api/v1/events",
        lambda route: route.fulfill(headers={"Content-Type": "text/event-stream"}, body=f"retry: 100\n\n{stream}"),
    )
    page.reload()
    expect(page.get_by_role("button", name="Search again").last).to_be_visible()
    expect(page.get_by_text("New people were seen since this search.")).to_be_visible()
    page.keyboard.type("gs")
    page.keyboard.type("gt")
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(page.get_by_text("New people were seen since this search.")).to_have_count(0)


def test_links_beyond_a_screen_of_them_are_counted_and_can_be_shown(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    name, *others = sorted(recorded.people, key=lambda each: each not in recorded.of(person))[:15]

    def many(route: Route) -> None:
        found = route.fetch().json()
        link = {"cosine": 0.5, "state": "probable", "tracklet_id": name}
        found["links"] = [
            link | {"to_tracklet_id": each, "probability": 0.9 - at / 100}
            for at, each in enumerate([*others, "gate-01GONE"])
        ]
        route.fulfill(json=found)

    page.route(f"**/api/v1/tracklets/{name}", many)
    page.goto(f"{looked_at.address}#/tracklet/{name}")
    expect(page.locator(".links > li")).to_have_count(12)
    page.get_by_role("button", name="Show more of 3 other links").click()
    expect(page.locator(".links > li")).to_have_count(14)
    expect(page.locator("main")).to_contain_text("1 link to what is gone")


def test_an_error_while_a_view_is_shown_anew_is_told(site: Served, page: Page, recorded: Recorded, person: int) -> None:
    with Store.read(site.root) as store:
        number = store.tracklet(recorded.of(person)[0]).person_id
    page.goto(f"{site.address}#/persons/P{number:04d}")
    reject = page.locator(".pairs").get_by_role("button", name="Reject this link").first
    expect(reject).to_be_visible()
    page.route("**/api/v1/persons/P*", refuse)
    reject.click()
    expect(page.locator("main").get_by_role("alert")).to_contain_text("not now")


def test_an_export_goes_on_where_the_network_does_not_for_a_moment(
    site: Served, page: Page, recorded: Recorded, person: int
) -> None:
    with Store.edit(site.root) as store:
        Cases(store).open("c1", "", Actor("anna"))
        Cases(store).hold("c1", recorded.of(person)[:1], Actor("anna"))
    page.goto(f"{site.address}#/cases/c1")
    waiting = held(page, "**/api/v1/exports/*")
    page.get_by_role("button", name="Export").click()
    page.get_by_label("with clips").uncheck()
    page.get_by_role("dialog").get_by_role("button", name="Export").click()
    for count in (1, 2):
        until(page, lambda count=count: len(waiting) == count)  # type: ignore[misc]
        waiting[-1].abort()
    expect(page.locator(".exported")).to_contain_text("being written")
    page.unroute("**/api/v1/exports/*")
    expect(page.locator(".exported").get_by_role("link", name="Download")).to_be_visible()


def test_what_needs_all_cameras_is_offered_only_to_who_sees_them_all(
    page: Page, recorded: Recorded, person: int, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(recorded.root, tmp_path / "run"))
    names = recorded.of(person, Modality.RGB)
    with Store.edit(root) as store:
        number = store.tracklet(names[0]).person_id
        for name in ("c1", "c2"):
            Cases(store).open(name, "", Actor("anna"))
            Cases(store).hold(name, names[:1], Actor("anna"))
        Cases(store).close("c2", Actor("anna"))
    Users(root / USERS).add("olga", Role.OPERATOR, ["gate"], "correct horse battery")
    with serving(root) as site:
        page.goto(f"{site.address}#/cases/c1")
        page.get_by_label("Name").fill("olga")
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Export")).to_be_enabled()
        expect(page.get_by_role("button", name="Close case")).to_have_count(0)
        page.goto(f"{site.address}#/cases/c2")
        expect(page.get_by_role("heading", name="c2")).to_be_visible()
        expect(page.get_by_role("button", name="Open again")).to_have_count(0)
        page.goto(f"{site.address}#/persons")
        expect(page.locator(".person").first).to_be_visible()
        expect(page.locator(".choosing")).to_have_count(0)
        page.goto(f"{site.address}#/persons/P{number:04d}")
        page.locator(".pick").first.click()
        expect(page.get_by_role("button", name="Add to case")).to_be_visible()
        expect(page.get_by_role("button", name="Split off")).to_have_count(0)
