"""The page as an investigator uses it, in a real browser, on a simulated site."""

import base64
import hashlib
import json
import re
import shutil
import time
import zipfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image as PilImage
from playwright.sync_api import Browser, Page, expect

from pipeline.audit import Actor
from pipeline.build import build_sources
from pipeline.cases import Cases
from pipeline.frame import Frame
from pipeline.persons import Persons
from pipeline.query import CONFIG, read_config
from pipeline.server.roles import Role
from pipeline.server.users import USERS, Users
from pipeline.store import LinkState, PersonState, Store
from pipeline.tracklets import Counterpart
from reid.modality import Modality
from tests.pipeline.factories import NOON, crop_image, sighting_of, tracklet_of
from tests.pipeline.server.conftest import beside
from tests.pipeline.server.page.conftest import PATIENCE_MS, Recorded, Served, looking, serving

expect.set_options(timeout=PATIENCE_MS)

CASE = "2026-0417"
FIRST_VIEW_BYTES = 150_000  # a half of what the first view may be
FIRST_VIEW_REQUESTS = 24  # besides the pictures of people
HAND_OVER = """(place, [way, picture]) => {
  const given = new DataTransfer();
  const bytes = Uint8Array.from(atob(picture), (each) => each.charCodeAt(0));
  given.items.add(new File([bytes], "somebody.jpg", { type: "image/jpeg" }));
  const about = { bubbles: true, cancelable: true };
  if (way === "drop") {
    for (const name of ["dragover", "drop"])
      place.dispatchEvent(new DragEvent(name, { ...about, dataTransfer: given }));
  } else place.dispatchEvent(new ClipboardEvent("paste", { ...about, clipboardData: given }));
}"""
SEEK = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"


def searches(page: Page) -> list[dict[str, object]]:
    """Every question that the page asks from now on."""
    asked: list[dict[str, object]] = []

    def note(request: object) -> None:
        if request.method == "POST" and request.url.endswith("/search"):  # type: ignore[attr-defined]
            asked.append(json.loads(request.post_data))  # type: ignore[attr-defined]

    page.on("request", note)
    return asked


def answers_of(page: Page) -> list[str]:
    """Those of the last search that was asked for."""
    expect(page.locator(".found")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".answer").first).to_be_visible()
    found = page.locator(".answer").evaluate_all("cards => cards.map(card => card.dataset.tracklet)")
    return list(map(str, found))


def until(page: Page, condition: str) -> None:
    """Wait for a condition; Playwright's own way would need ``eval``, which the content policy forbids."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never came true: {condition}"
        page.wait_for_timeout(30)


def plays(page: Page) -> None:
    """The clip runs."""
    expect(page.locator("video")).to_be_visible()
    page.locator("video").evaluate("video => video.play()")
    until(page, "document.querySelector('video').currentTime > 0.2")


def the(names: list[str], name: str) -> str:
    """The one file of that name in a zip."""
    (found,) = (each for each in names if each.endswith(name))
    return found


def check_outcome(site: Served, recorded: Recorded, person: int, starred: list[str], archive: Path) -> None:
    """What was decided stands in the gallery, and the evidence is whole."""
    with Store.read(site.root) as store:
        assert set(starred) <= set(Cases(store).items(CASE))
        number = store.tracklet(starred[0]).person_id
        assert {store.tracklet(each).person_id for each in starred} == {number}
        assert {each.person_id: each.state for each in Persons(store).all()}[number or 0] is PersonState.CONFIRMED
        assert any(each.state is LinkState.CONFIRMED for each in store.links(starred[0]))
    assert {recorded.people[each] for each in starred} == {person}
    with zipfile.ZipFile(archive) as bundle:
        assert bundle.testzip() is None
        names = bundle.namelist()
        assert all(any(each in name for name in names) for each in starred)
        rows = [json.loads(line) for line in bundle.read(the(names, "audit.jsonl")).splitlines()]
        assert {"search", "confirm", "hold"} <= {row["action"] for row in rows if row["case_id"] == CASE}
        manifest = the(names, "manifest.json")
        listed = json.dumps(json.loads(bundle.read(manifest)))
        for name in names:
            if name != manifest and not name.endswith("/"):
                assert hashlib.sha256(bundle.read(name)).hexdigest() in listed


def test_from_an_empty_page_to_verified_evidence(
    site: Served, page: Page, recorded: Recorded, person: int, tmp_path: Path
) -> None:
    asked = searches(page)
    by_day = recorded.of(person, Modality.RGB)[0]
    page.goto(site.address)
    expect(page.get_by_role("heading", name="Who are you looking for?")).to_be_visible()

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a picture").click()
    chooser.value.set_files(recorded.crop_of(by_day))
    example = page.locator(".example")
    expect(example.locator(".badge.rgb")).to_be_visible()
    expect(example).to_contain_text(re.compile("(good|fair|poor) quality"))
    assert asked == []  # modality and quality are told before anything is searched for

    page.get_by_role("button", name="Open a new case").click()
    page.get_by_role("dialog").get_by_label("Number").fill(CASE)
    page.get_by_role("dialog").get_by_label("Title").fill("Theft at the quay")
    page.get_by_role("dialog").get_by_role("button", name="Open case").click()
    expect(page.get_by_label("Case", exact=True)).to_have_value(CASE)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".answer").first).to_be_visible()
    page.get_by_role("button", name="Modality").click()
    page.get_by_role("button", name="Infrared").click()
    page.get_by_role("button", name="Time of day").click()
    page.get_by_role("button", name=re.compile("^Night")).click()
    expect(page.get_by_role("button", name="Remove filter Time of day")).to_be_visible()
    found = answers_of(page)
    assert recorded.people[found[0]] == person
    expect(page.locator(".answer .badge.rgb")).to_have_count(0)
    expect(page.locator(".answer time").first).to_contain_text("23:3")  # the site's clock, not the browser's
    expect(page.locator(".answer time").first).to_have_attribute("title", re.compile("21:3.* UTC"))

    count = len(asked)
    page.locator(".answer .open").first.click()
    plays(page)
    page.get_by_role("link", name="Back").click()
    expect(page.locator(".answer").first).to_be_visible()
    assert len(asked) == count  # coming back does not search again

    starred = [each for each in found if recorded.people.get(each) == person][:2]
    for each in starred:
        page.get_by_role("button", name=f"Star {each}").click()
    other = next(each for each in found if recorded.people.get(each) not in (None, person))
    page.get_by_role("button", name=f"Reject {other}").click()
    page.get_by_role("button", name="Refine").click()
    expect(page.locator(".example")).to_have_count(4)
    expect(page.locator(f'.answer[data-tracklet="{starred[0]}"]')).to_have_count(0)
    assert [each.get("tracklet_id") for each in asked[-1]["examples"][1:]] == starred  # type: ignore[index]
    assert asked[-1]["negatives"] == [{"tracklet_id": other}]

    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    expect(page.get_by_text(re.compile("2 tracklets confirmed as P"))).to_be_visible()
    page.get_by_role("button", name="Add to case").click()
    expect(page.get_by_role("dialog").get_by_role("combobox")).to_have_value(CASE)  # the one that this tab works on
    page.get_by_label("Note").fill("striped jacket")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="Open case").click()

    page.get_by_role("button", name="Export").click()
    page.get_by_role("dialog").get_by_label("Purpose").fill("for the public prosecutor")
    page.get_by_role("dialog").get_by_role("button", name="Export").click()
    page.get_by_role("button", name="Verify").click()
    expect(page.locator(".verified")).to_contain_text("as the manifest says")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "evidence.zip")

    for view, told in (("Timeline", "tracklets in view"), ("Persons", "confirmed"), ("Site", "Where frames went")):
        page.get_by_role("navigation").get_by_role("link", name=view).click()
        expect(page.locator("main")).to_contain_text(told)
    page.get_by_role("navigation").get_by_role("link", name="Audit").click()
    expect(page.locator(".audit")).to_contain_text("for the public prosecutor")
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.locator(".verified")).to_contain_text("each follows from the one before")
    check_outcome(site, recorded, person, starred, tmp_path / "evidence.zip")


def test_the_same_by_keyboard_alone(site: Served, page: Page, recorded: Recorded, person: int, tmp_path: Path) -> None:
    keys = page.keyboard
    page.on(
        "filechooser", lambda chooser: None
    )  # from here on the browser asks us, before a key is so fast that it does not
    page.goto(site.address)
    expect(page.locator(".pick").first).to_be_visible()
    with page.expect_file_chooser() as chooser:
        keys.press("i")
    chooser.value.set_files(recorded.crop_of(recorded.of(person, Modality.RGB)[0]))
    expect(page.locator(".ask")).to_be_focused()
    keys.press("Shift+Tab")
    keys.press("Enter")  # open a new case
    expect(page.get_by_role("dialog").get_by_label("Number")).to_be_focused()
    keys.type(CASE)
    keys.press("Enter")
    expect(page.get_by_label("Case", exact=True)).to_have_value(CASE)
    keys.press("Tab")
    expect(page.locator(".ask")).to_be_focused()
    keys.press("Enter")
    expect(page.locator(".answer .open").first).to_be_focused()

    for name in ("Modality", "Time of day"):
        keys.press("m")
        while not page.evaluate("name => document.activeElement.dataset.name === name", name):
            keys.press("Tab")
        keys.press("Enter")
        keys.press("Enter")  # the first choice below: infrared, night
        expect(page.get_by_role("button", name=f"Remove filter {name}")).to_be_visible()
    expect(page.locator(".answer .badge.rgb")).to_have_count(0)
    found = answers_of(page)
    starred = [each for each in found if recorded.people.get(each) == person][:2]
    assert found[0] == starred[0]

    go_to(page, found[0])
    keys.press("Enter")
    expect(page.locator("video")).to_be_visible()
    keys.press("Space")
    until(page, "document.querySelector('video').currentTime > 0.2")
    keys.press("u")
    for each in starred:
        go_to(page, each)
        keys.press("s")
    go_to(page, next(each for each in found if recorded.people.get(each) not in (None, person)))
    keys.press("x")
    keys.press("r")
    expect(page.locator(".example")).to_have_count(4)
    expect(page.locator(f'.answer[data-tracklet="{starred[0]}"]')).to_have_count(0)

    keys.press("c")
    expect(page.get_by_role("dialog").get_by_role("button", name="Confirm")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    keys.press("e")
    expect(page.get_by_role("dialog").get_by_role("combobox")).to_be_focused()
    keys.press("Tab")
    keys.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)

    keys.type("gc")
    expect(page.locator("a.item")).to_be_visible()
    keys.press("j")
    keys.press("Enter")
    expect(page.locator(".items > li")).to_have_count(2)
    keys.press("z")
    expect(page.get_by_role("dialog").get_by_label("Purpose")).to_be_focused()
    keys.press("Enter")
    expect(page.locator(".verify")).to_be_visible()
    keys.press("y")
    expect(page.locator(".verified")).to_contain_text("as the manifest says")
    while not page.evaluate("document.activeElement.matches('.download')"):
        keys.press("Tab")
    with page.expect_download() as download:
        keys.press("Enter")
    download.value.save_as(tmp_path / "evidence.zip")
    for pressed, told in (("gt", "tracklets in view"), ("gp", "confirmed"), ("gl", "Where frames went")):
        keys.type(pressed)
        expect(page.locator("main")).to_contain_text(told)
    keys.type("ga")
    expect(page.locator(".audit")).to_be_visible()
    keys.press("y")
    expect(page.locator(".verified")).to_contain_text("each follows from the one before")
    check_outcome(site, recorded, person, starred, tmp_path / "evidence.zip")


def go_to(page: Page, tracklet_id: str) -> None:
    """With k to the first answer, then with j from answer to answer."""
    expect(page.locator(".answer").first).to_be_visible()
    count = page.locator(".answer").count()
    for pressed in "k" * count + "j" * count:
        page.keyboard.press(pressed)
        if page.evaluate("document.activeElement.closest('.answer')?.dataset.tracklet") == tracklet_id:
            return
    raise AssertionError(f"{tracklet_id} was not reached")


VIEWS = {
    "start": ("", ".pick"),
    "search": ("#/search?like=tracklet.{day}&asked=1&star={night}", ".answer"),
    "grouped": (
        "#/search?like=tracklet.{day}&asked=1&group=hour&modality=nir&modality=thermal&hours=20:00-06:00",
        ".group h2",
    ),
    "nobody": ("#/search?like=tracklet.{day}&asked=1&camera=yard&modality=rgb", ".explain"),
    "tracklet": ("#/tracklet/{day}?from=search", ".links .crop"),
    "timeline": ("#/timeline", ".seen"),
    "path": ("#/timeline?person={person}&tracklet={day}", ".path >> visible=true"),  # one within a lane has no height
    "persons": ("#/persons", ".person"),
    "person": ("#/persons/{person}", ".pick"),
    "cases": ("#/cases", ".item"),
    "case": ("#/cases/{case}", ".items"),
    "site": ("#/site", ".camera"),
    "audit": ("#/audit", ".audit"),
}  # fmt: skip


@pytest.mark.parametrize(("theme", "width", "height"), [("light", 1280, 860), ("dark", 390, 844)])
def test_every_view_can_be_read_by_everybody_and_fits(
    looked_at: Served, browser: Browser, recorded: Recorded, person: int, pictures: Path | None,
    theme: str, width: int, height: int,
) -> None:  # fmt: skip
    names = prepared(looked_at, recorded, person)
    with looking(browser, theme=theme, width=width, height=height) as page:
        for view, (address, shown) in VIEWS.items():
            page.goto(looked_at.address + address.format(**names))
            expect(page.locator(shown).first).to_be_visible()
            if view == "tracklet":
                page.wait_for_load_state("networkidle")
            check_view(page, view, pictures, theme)
        for view, key, shown in (("keys", "?", "dialog .keys"), ("frame", "f", "dialog .frame img")):
            page.goto(looked_at.address)
            expect(page.locator(".pick").first).to_be_visible()
            page.keyboard.press(key)
            expect(page.locator(shown).first).to_be_visible()
            check_view(page, view, pictures, theme)


def test_what_opens_over_a_view_can_be_read_by_everybody(
    looked_at: Served, page: Page, recorded: Recorded, person: int, pictures: Path | None
) -> None:
    names = prepared(looked_at, recorded, person)
    page.goto(looked_at.address + VIEWS["search"][0].format(**names))
    expect(page.locator(".answer").first).to_be_visible()
    page.get_by_role("button", name="Time of day").click()
    check_view(page, "chip", pictures, "light", within=".popover")
    page.keyboard.press("Escape")
    for view, key in (("confirm", "c"), ("into-case", "e")):
        page.keyboard.press(key)
        expect(page.get_by_role("dialog").locator("input, select").first).to_be_visible()
        check_view(page, view, pictures, "light", within="dialog")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    page.goto(looked_at.address + VIEWS["case"][0].format(**names))
    page.get_by_role("button", name="Export").click()
    check_view(page, "export", pictures, "light", within="dialog")


def violations(page: Page, options: dict[str, object], within: str) -> list[dict[str, Any]]:
    """What axe-core finds; its half a megabyte of script is read once, for a view is left without a reload."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(Axe().axe_script)
    found: dict[str, Any] = page.evaluate("([within, options]) => axe.run(within, options)", [within, options])
    return list(found["violations"])


def check_view(page: Page, view: str, pictures: Path | None, theme: str, *, within: str = "html") -> None:
    """Everything in one theme, and the contrast in the other one too; a picture of each where they are kept."""
    size = page.viewport_size
    assert size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], f"{view} is too wide"
    for shown, rules in ((theme, None), ("dark" if theme == "light" else "light", ["color-contrast"])):
        page.emulate_media(color_scheme=shown)  # type: ignore[arg-type]
        options = {"resultTypes": ["violations"]} | ({"runOnly": {"type": "rule", "values": rules}} if rules else {})
        serious = [
            f"{view}, {shown}: {each['id']}: {node['target']}"
            for each in violations(page, options, within)
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        if pictures is not None:
            page.screenshot(path=pictures / f"{view}-{shown}-{size['width']}.jpg", type="jpeg", quality=85)
        assert serious == []
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]


def prepared(site: Served, recorded: Recorded, person: int) -> dict[str, str]:
    """Names that the addresses of the views need; a case is there from the first time on."""
    day, night = recorded.of(person, Modality.RGB)[0], recorded.of(person, Modality.NIR)[0]
    with Store.edit(site.root) as store:
        cases = Cases(store)
        if not cases.all():
            cases.open(CASE, "Theft at the quay", Actor("anna"))
            cases.hold(CASE, [day, night], Actor("anna"), note="striped jacket")
        number = store.tracklet(day).person_id
    return {"day": day, "night": night, "person": f"P{number:04d}", "case": CASE}


@pytest.mark.parametrize(("theme", "width", "height"), [("light", 1280, 860), ("dark", 390, 844)])
def test_whoever_logs_in_can_read_that_they_have_to_and_why_they_may_not(
    browser: Browser, recorded: Recorded, pictures: Path | None, tmp_path: Path, theme: str, width: int, height: int
) -> None:
    root = Path(shutil.copytree(recorded.root, tmp_path / "run"))
    Users(root / USERS).add("vera", Role.VIEWER, None, "correct horse battery")
    with serving(root) as site, looking(browser, theme=theme, width=width, height=height) as page:
        page.goto(site.address)
        expect(page.get_by_label("Password")).to_be_visible()
        check_view(page, "login", pictures, theme)
        page.get_by_label("Name").fill("vera")
        page.get_by_label("Password").fill("wrong wrong wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("wrong name or password")
        check_view(page, "login-refused", pictures, theme)


@pytest.mark.parametrize(("theme", "width", "height"), [("light", 1280, 860), ("dark", 390, 844)])
def test_the_site_view_shows_what_each_camera_shows_and_which_of_it_is_old(
    looked_at: Served, browser: Browser, recorded: Recorded, pictures: Path | None, theme: str, width: int, height: int
) -> None:
    now = datetime.now(UTC)
    fresh, old = now + timedelta(hours=1), now - timedelta(hours=2)  # however slowly the test runs
    frames = first_frames(looked_at.root)
    pipeline = beside(
        looked_at.root, replace(frames["gate"], arrived_at=fresh), replace(frames["dock"], arrived_at=old)
    )
    with serving(looked_at.root, pipeline) as site, looking(browser, theme=theme, width=width, height=height) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/picture" in request.url else None)
        page.goto(f"{site.address}#/site")
        shown = page.get_by_role("article", name="Camera gate")
        expect(shown.get_by_role("img", name="Latest picture of gate")).to_be_visible()
        expect(shown.locator(".taken time")).to_have_text("16:00:00 CEST")  # of 14:00 UTC, by the site's clock
        expect(shown.locator(".old")).to_have_count(0)
        down = page.get_by_role("article", name="Camera dock")
        down.scroll_into_view_if_needed()
        expect(down.locator(".old")).to_contain_text("2 h 0 min old")
        expect(page.get_by_role("article", name="Camera yard")).to_contain_text("no picture yet")
        check_view(page, "site-live", pictures, theme)
        pipeline.latest.leave(replace(frames["yard"], arrived_at=fresh))
        page.get_by_role(
            "article", name="Camera yard"
        ).scroll_into_view_if_needed()  # only what is in view is asked for
        expect(page.get_by_role("img", name="Latest picture of yard")).to_be_visible()
        page.goto(f"{site.address}#/audit")
        expect(page.locator("main")).to_contain_text("Audit")
        count = len(asked)
        page.wait_for_timeout(3500)
        assert len(asked) <= count + 1  # nobody looks any more


def first_frames(root: Path) -> dict[str, Frame]:
    """Of each camera's recording."""
    found = {}
    for source in build_sources(read_config(root)):
        with closing(iter(source)) as frames:  # type: ignore[type-var]
            found[source.camera_id] = next(frames)
    return found


def test_without_a_pipeline_the_site_view_asks_for_no_latest_picture(looked_at: Served, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{looked_at.address}#/site")
    expect(page.locator(".camera .taken").first).to_have_text("first frame")
    expect(page.get_by_text("Not running")).to_be_visible()
    expect(page.locator(".live")).to_have_text("connected")
    meter = page.get_by_role("img", name=re.compile(r"\d+ % of the disk is free"))
    free = int((meter.get_attribute("aria-label") or "").split(" ")[0])
    assert abs(float(meter.evaluate("each => getComputedStyle(each).getPropertyValue('--share')")) - free / 100) < 0.01
    assert not any("/picture" in each for each in asked)


def test_the_first_view_is_light(looked_at: Served, page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    received: list[float] = []
    asked: list[str] = []
    session.on("Network.loadingFinished", lambda told: received.append(told["encodedDataLength"]))
    page.on("request", lambda request: asked.append(request.url.removeprefix(looked_at.address)))
    page.goto(looked_at.address)
    expect(page.locator(".pick img").first).to_be_visible()
    until(page, "[...document.images].filter(each => each.loading !== 'lazy').every(each => each.complete)")
    assert 20_000 < sum(received) < FIRST_VIEW_BYTES
    twice = {each for each in asked if asked.count(each) > 1}
    assert twice <= {"icon.svg"}  # which the browser fetches for its tab, too
    assert len([each for each in asked if "/crops/" not in each]) <= FIRST_VIEW_REQUESTS
    pictures = page.locator(".pick img").count()
    assert 0 < len([each for each in asked if "/crops/" in each]) <= pictures


def test_back_reload_and_a_link_keep_what_was_searched(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    day = recorded.of(person, Modality.RGB)[0]
    page.goto(f"{looked_at.address}#/search?like=tracklet.{day}&asked=1")
    page.get_by_role("button", name="Modality").click()
    page.get_by_role("button", name="Infrared").click()
    expect(page.locator(".answer .badge.rgb")).to_have_count(0)
    page.locator(".answer .starring").first.click()
    before = answers_of(page)
    page.reload()
    expect(page.locator(".answer.starred")).to_have_count(1)
    assert answers_of(page) == before
    page.go_back()  # a star is no step of its own
    expect(page.locator(".answer .badge.rgb").first).to_be_visible()


def test_a_box_on_a_paused_frame_is_searched_for(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    asked = searches(page)
    with Store.read(looked_at.root) as store:
        name = recorded.of(person, Modality.RGB)[0]
        boxes, own = store.boxes_of(name), store.tracklet(name)
    at = len(boxes.xyxy) // 2
    page.goto(looked_at.address)
    page.get_by_role("button", name="Draw on a frame").click()
    page.get_by_label("Camera").select_option("gate")
    slider = page.get_by_label("Moment of the recording")
    expect(page.get_by_role("dialog").locator(".badge.rgb")).to_be_visible()
    moment = int(boxes.frame_index[at]) / 8
    slider.evaluate(SEEK, str(moment))
    until(page, f"document.querySelector('.frame img').src.endsWith('seconds={moment:.3f}')")
    until(page, "document.querySelector('.frame img').complete")
    frame = page.locator(".frame")
    area = frame.bounding_box()
    assert area is not None
    scale = area["width"] / 480
    left, top, right, bottom = (float(each) * scale for each in boxes.xyxy[at])
    page.mouse.move(area["x"] + left, area["y"] + top)
    page.mouse.down()
    page.mouse.move(area["x"] + right, area["y"] + bottom, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Search for this person").click()
    expect(page.locator(".example")).to_contain_text("gate")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".answer").first).to_be_visible()
    spot = asked[0]["examples"][0]["spot"]  # type: ignore[index]
    assert spot["xyxy"] == pytest.approx(boxes.xyxy[at].tolist(), abs=2.0)
    assert own.tracklet_id not in answers_of(page)  # that camera at that moment is the query itself
    assert recorded.people[answers_of(page)[0]] == person


def test_a_box_is_placed_moved_sized_and_searched_for_by_keyboard(looked_at: Served, page: Page) -> None:
    keys, asked = page.keyboard, searches(page)
    page.goto(looked_at.address)
    expect(page.locator(".pick").first).to_be_visible()
    keys.press("f")
    expect(page.get_by_role("button", name="Place a box")).to_be_enabled()
    tab_to(page, "Place a box")
    keys.press("Enter")
    expect(page.locator(".drawn")).to_be_focused()
    before = box_of(page)
    keys.press("ArrowLeft")
    keys.press("ArrowDown")
    keys.press("Shift+ArrowRight")
    keys.press("Shift+ArrowUp")
    step = 3  # of a frame 480 pixels wide
    left, top, width, height = before
    assert box_of(page) == [left - step, top + step, width + step, height - step]
    tab_to(page, "Search for this person")
    keys.press("Enter")
    expect(page.locator(".ask")).to_be_focused()
    keys.press("Enter")
    expect(page.locator(".answer").first).to_be_visible()
    left, top, width, height = box_of_spot(asked[0])
    assert [left, top, width, height] == pytest.approx(
        [before[0] - step, before[1] + step, before[2] + step, before[3] - step], abs=0.11
    )


def tab_to(page: Page, name: str) -> None:
    for _ in range(30):
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} was not reached")


def box_of(page: Page) -> list[float]:
    """Left, top, width, height."""
    found = page.locator(".drawn").evaluate("box => ['x', 'y', 'width', 'height'].map(each => +box.getAttribute(each))")
    return [float(each) for each in found]


def box_of_spot(question: dict[str, Any]) -> list[float]:
    left, top, right, bottom = question["examples"][0]["spot"]["xyxy"]
    return [left, top, right - left, bottom - top]


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(
    looked_at: Served, page: Page, recorded: Recorded, person: int, way: str
) -> None:
    picture = base64.b64encode(recorded.crop_of(recorded.of(person, Modality.RGB)[0]).read_bytes()).decode()
    page.goto(looked_at.address)
    expect(page.locator(".drop")).to_be_visible()
    page.locator(".drop").evaluate(HAND_OVER, [way, picture])
    expect(page.locator(".example .badge.rgb")).to_be_visible()
    page.get_by_role("button", name="Search", exact=True).click()
    assert recorded.people[answers_of(page)[0]] == person


def test_an_empty_answer_says_which_filter_removed_how_many_and_offers_to_go_without(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    day = recorded.of(person, Modality.RGB)[0]
    page.goto(f"{looked_at.address}#/search?like=tracklet.{day}&asked=1&camera=yard&modality=rgb")
    told = page.get_by_label("Why there is no answer")
    expect(told).to_contain_text(re.compile(r"\d+ by modality"))
    expect(told).to_contain_text(re.compile(r"\d+ by camera"))
    told.get_by_role("button", name="Without it").nth(-1).click()
    expect(page.locator(".answer").first).to_be_visible()


def test_ones_own_appearance_is_left_out_unless_asked_for(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    day = recorded.of(person, Modality.RGB)[0]
    page.goto(f"{looked_at.address}#/search?like=tracklet.{day}&asked=1")
    expect(page.locator(".answer").first).to_be_visible()
    assert day not in answers_of(page)
    page.get_by_role("button", name="Without own appearance").click()
    expect(page.locator(f'.answer[data-tracklet="{day}"]')).to_be_visible()
    assert answers_of(page)[0] == day


def test_persons_are_merged_split_rejected_and_taken_back(
    site: Served, page: Page, recorded: Recorded, person: int
) -> None:
    people = partial(site.persons_of, recorded.people)
    before = people()
    page.goto(f"{site.address}#/persons")
    chosen = [page.locator(".person").nth(each).get_attribute("data-person") for each in (0, 1)]
    for each in chosen:
        page.get_by_role("button", name=f"Choose {each}", exact=True).click()
    page.get_by_role("button", name="Merge").click()
    page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    expect(page.get_by_role("heading", name=str(chosen[0]))).to_be_visible()
    assert people() != before
    page.goto(f"{site.address}#/persons")
    page.get_by_role("button", name=re.compile("Undo decision")).first.click()
    expect(page.locator(f'.person[data-person="{chosen[1]}"]')).to_be_visible()
    assert people() == before

    number = before[recorded.of(person, Modality.RGB)[0]]
    page.goto(f"{site.address}#/persons/P{number:04d}")
    expect(page.locator("button.pick").first).to_be_visible()
    count = page.locator("button.pick").count()
    page.locator("button.pick").last.click()
    page.get_by_role("button", name="Split off").click()
    page.get_by_role("dialog").get_by_role("button", name="Split off").click()
    expect(page.get_by_text("Split off.")).to_be_visible()
    assert people() != before
    page.get_by_role("status").filter(has_text="Split off.").get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Taken back.").last).to_be_visible()
    expect(page.locator("button.pick")).to_have_count(count)
    assert people() == before

    page.locator(".pairs").get_by_role("button", name="Reject this link").first.click()
    expect(page.get_by_text("Noted: two people.")).to_be_visible()


def test_whatever_stands_in_the_gallery_is_text(site: Served, page: Page, recorded: Recorded, person: int) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    with Store.edit(site.root) as store:
        Cases(store).open("evil", evil, Actor(evil, purpose=evil))
        Cases(store).hold("evil", [recorded.of(person)[0]], Actor(evil), note=evil)
    for view in ("cases", "cases/evil", "audit"):
        page.goto(f"{site.address}#/{view}")
        expect(page.locator("main")).to_contain_text("<img src=x onerror")
        assert page.locator("img[src=x]").count() == 0
        assert "owned" not in page.title()


def test_an_error_of_the_server_is_shown_with_title_and_detail(looked_at: Served, page: Page) -> None:
    page.goto(f"{looked_at.address}#/tracklet/gate-01NOSUCHTRACKLET")
    expect(page.get_by_role("alert")).to_contain_text("Not Found")
    expect(page.get_by_role("alert")).to_contain_text("no tracklet gate-01NOSUCHTRACKLET")
    page.route("**/api/v1/persons*", lambda route: route.abort())
    page.goto(f"{looked_at.address}#/persons")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")


def test_a_grey_picture_is_not_guessed_at_but_asked_about(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    page.goto(looked_at.address)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a picture").click()
    chooser.value.set_files(recorded.crop_of(recorded.of(person, Modality.NIR)[0]))
    expect(page.get_by_role("alert")).to_contain_text("may be nir, thermal or rgb")
    page.get_by_role("button", name="NIR").click()
    expect(page.locator(".example .badge.nir")).to_be_visible()


def test_a_file_that_is_no_picture_is_refused_and_no_modality_is_offered_for_it(
    looked_at: Served, page: Page, recorded: Recorded, person: int, tmp_path: Path
) -> None:
    (tmp_path / "letter.jpg").write_text("no picture")
    page.goto(looked_at.address)
    page.locator("input[type=file]").set_input_files(tmp_path / "letter.jpg")
    expect(page.get_by_role("alert")).to_contain_text("Unsupported Media Type")
    expect(page.get_by_text("It shows")).to_have_count(0)
    expect(page.get_by_role("button", name="Forget this picture")).to_be_visible()
    page.locator("input[type=file]").set_input_files(recorded.crop_of(recorded.of(person, Modality.RGB)[0]))
    expect(page.locator(".example .badge.rgb")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_error_goes_with_the_next_step_that_succeeds(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    page.goto(looked_at.address)
    for name in ("nosuch", recorded.of(person, Modality.RGB)[0]):
        page.get_by_role("textbox", name="Tracklet or person").fill(name)
        page.get_by_role("button", name="Add", exact=True).click()
        if name == "nosuch":
            expect(page.get_by_role("alert")).to_contain_text("no tracklet nosuch")
    expect(page.locator(".example .badge.rgb")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


# Three moments of the night in which Berlin's clock is put back from three to two, and one of the day before.
AUTUMN = ("2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z")
TIMES = """async (moments) => {
  const times = await import("./times.js");
  const text = (at) => times.moment(at, { withDay: true }).textContent.replace("\\u00a0", " ");
  return moments.map((at) => [text(at), times.hourOf(at)]);
}"""


def test_times_say_their_zone_and_can_be_shown_in_utc_on_a_phone(looked_at: Served, browser: Browser) -> None:
    with looking(browser, width=390, height=844) as page:
        page.goto(looked_at.address)
        shown = page.locator(".pick time").first
        expect(shown).to_contain_text("CEST")
        local = [each[0] for each in page.evaluate(TIMES, AUTUMN)]
        assert local == [
            "Sat 24 Oct, 14:00:00 CEST", "Sun 25 Oct, 02:30:00 CEST", "Sun 25 Oct, 02:30:00 CET",
            "Sun 25 Oct, 03:30:00 CET",
        ]  # fmt: skip
        hours = [each[1] for each in page.evaluate(TIMES, AUTUMN)]
        assert [each["text"] for each in hours][1:3] == ["Sun 25 Oct, 02:00 CEST", "Sun 25 Oct, 02:00 CET"]
        assert sorted(each["key"] for each in hours) == [each["key"] for each in hours]
        assert len({each["key"] for each in hours}) == 4
        utc = shown.get_attribute("title") or ""
        page.get_by_role("button", name="local").click()
        expect(shown).to_contain_text(re.search(r"[\d:]{8} UTC", utc)[0])  # type: ignore[index]
        page.get_by_role("button", name="UTC").click()
        expect(shown).to_contain_text("CEST")


FIELDS = """async ([texts, moments]) => {
  const times = await import("./times.js");
  const read = (text) => [false, true].map((later) => times.fromField(text, { later }));
  const untouched = moments.map((at) => times.timeField(at).read());
  return [texts.map(read), untouched];
}"""


def test_the_hour_that_comes_twice_is_meant_from_its_first_to_its_second(looked_at: Served, browser: Browser) -> None:
    with looking(browser) as page:
        page.goto(looked_at.address)
        expect(page.locator(".pick time").first).to_contain_text("CEST")
        texts = ["2026-10-25T02:30", "2026-10-25T01:30", "2026-10-25T03:30", "2026-03-29T02:30", "2026-06-01T14:00", ""]
        moments = ["2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z", "2026-06-01T21:32:17.250Z"]
        read, untouched = page.evaluate(FIELDS, [texts, moments])
        assert untouched == moments
        assert read == [
            ["2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z"],
            ["2026-10-24T23:30:00.000Z"] * 2,
            ["2026-10-25T02:30:00.000Z"] * 2,
            ["2026-03-29T01:30:00.000Z"] * 2,
            ["2026-06-01T12:00:00.000Z"] * 2,
            [None, None],
        ]


def test_a_filter_of_time_that_is_applied_as_it_was_stays_as_it_was(
    looked_at: Served, page: Page, recorded: Recorded, person: int
) -> None:
    like = recorded.of(person, Modality.RGB)[0]
    page.goto(f"{looked_at.address}#/search?like=tracklet.{like}&from=2026-10-25T00:30:17.000Z&asked=1")
    chip = page.get_by_role("button", name="Time:").first
    expect(chip).to_contain_text("02:30 CEST")
    chip.click()
    page.locator(".popover").get_by_role("button", name="Apply").click()
    expect(page.locator(".popover")).to_have_count(0)
    expect(chip).to_contain_text("02:30 CEST")
    assert "from=2026-10-25T00:30:17.000Z" in unquote(page.url)


def test_an_upload_is_corrected_and_shown_in_another_tab(
    looked_at: Served, page: Page, recorded: Recorded, person: int, tmp_path: Path
) -> None:
    with PilImage.open(recorded.crop_of(recorded.of(person, Modality.NIR)[0])) as crop:
        crop.transpose(PilImage.Transpose.ROTATE_90).save(tmp_path / "wide.png")
    page.goto(looked_at.address)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a picture").click()
    chooser.value.set_files(tmp_path / "wide.png")
    page.get_by_role("button", name="NIR").click()
    expect(page.locator(".example .badge.nir")).to_be_visible()
    page.get_by_text("Not right?").click()
    page.get_by_label("The picture shows").select_option("thermal")
    expect(page.locator(".example .badge.thermal")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".example .badge.thermal")).to_be_visible()
    other.goto(re.sub(r"query\.q-.", "query.q-_", page.url))
    expect(other.locator(".example")).to_contain_text("No longer kept")


def test_new_tracklets_come_without_a_reload_with_what_the_paired_camera_saw(site: Served, page: Page) -> None:
    page.goto(site.address)
    expect(page.locator(".pick").first).to_be_visible()
    expect(page.locator(".live")).to_have_text("connected")
    first = page.locator(".pick").first
    with Store.read(site.root) as store:
        known, model, calibration = store.tracklets(), store.model_id, store.calibration
        vector, last = store.embeddings([known[0].row])[0], max(each.end for each in known)
    seen = tracklet_of("porch-01NEW", at=(last - NOON).total_seconds() + 60)
    beside = Counterpart("porch_t", Modality.THERMAL, crop_image(Modality.THERMAL), last, seen.xyxy[0])
    with Store.open(site.root, model_id=model, dimension=len(vector), calibration=calibration) as store:
        store.add(sighting_of(replace(seen, counterparts=(beside,)), person=1, vector=vector))
    expect(first).to_have_attribute("data-tracklet", "porch-01NEW")
    first.click()
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("button", name="Without own appearance").click()
    answer = page.locator('.answer[data-tracklet="porch-01NEW"]')
    expect(answer.get_by_role("img", name="The same moment on porch_t, thermal")).to_be_visible()
    assert answer.locator("img").last.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_a_site_that_wants_purposes_is_told_one_before_anything_is_searched_or_decided(
    site: Served, page: Page, recorded: Recorded, person: int
) -> None:
    config = json.loads((site.root / CONFIG).read_text())
    (site.root / CONFIG).write_text(json.dumps(config | {"storage": {"purpose_required": True}}))
    day = recorded.of(person, Modality.RGB)[0]
    page.goto(f"{site.address}#/tracklet/{day}")
    page.get_by_role("button", name="Reject", exact=True).first.click()
    page.get_by_role("dialog", name="What is it for?").get_by_label("Purpose").fill("theft of 1 June")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Noted: two people.")).to_be_visible()
    page.get_by_role("link", name="Find this person").click()
    expect(page.get_by_label("Purpose")).to_have_value("theft of 1 June")
    page.get_by_label("Purpose").fill("")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".found").get_by_role("alert")).to_contain_text("purpose")
    page.get_by_label("Purpose").fill("theft of 1 June")
    page.get_by_role("button", name="Search again").click()
    expect(page.locator(".answer").first).to_be_visible()


def test_where_there_are_users_one_logs_in_and_sees_what_the_role_allows(
    page: Page, recorded: Recorded, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(recorded.root, tmp_path / "run"))
    users = Users(root / USERS)
    users.add("vera", Role.VIEWER, ["gate"], "correct horse battery")
    with serving(root) as site:
        page.goto(site.address)
        page.get_by_label("Name").fill("vera")
        page.get_by_label("Password").fill("wrong wrong wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("wrong name or password")
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        expect(page.locator(".pick").first).to_be_visible()
        expect(page.locator(".pick .badge.nir")).to_have_count(0)  # only the gate's
        expect(page.get_by_role("link", name="Audit")).to_have_count(0)
        page.goto(f"{site.address}#/audit")
        expect(page.get_by_role("alert")).to_contain_text("Not for this role")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Password")).to_be_visible()
