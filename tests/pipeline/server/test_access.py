"""Every cell of the table in docs/access.md is tried: route by role by camera right."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.routing import APIRoute
from httpx import Response

from pipeline.audit import Actor
from pipeline.cases import Cases
from pipeline.config import ServerConfig, from_sources
from pipeline.persons import Persons
from pipeline.query import write_config
from pipeline.server.access import needs_of
from pipeline.server.app import PAGE, create_app
from pipeline.server.desk import Desk
from pipeline.server.roles import PERMISSIONS, Role
from pipeline.server.users import USERS, Users
from pipeline.store import Store
from tests.pipeline.footage import frame_of
from tests.pipeline.recordings import scene, write_video
from tests.pipeline.server.client import API, Client
from tests.pipeline.server.conftest import add_users, beside, fill_gallery
from tests.pipeline.server.test_search import jpeg

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "api.json"
ROLES = [Role.VIEWER, Role.OPERATOR, Role.ADMIN, Role.AUDITOR]


@dataclass(frozen=True)
class Cell:
    allowed: frozenset[Role]
    other_camera: str


def table() -> dict[tuple[str, str], Cell]:
    rows = re.findall(r"^\| `(\w+) (/\S+)` \| (\w+) \| (\w+) \| (\w+) \| (\w+) \| (.+) \|$",
                      (ROOT / "docs" / "access.md").read_text(), re.MULTILINE)  # fmt: skip
    return {
        (method, path): Cell(frozenset(role for role, cell in zip(ROLES, cells, strict=True) if cell == "yes"), other)
        for method, path, *cells, other in rows
    }


TABLE = table()


def routes_of(app: Any) -> list[APIRoute]:
    found: list[APIRoute] = []

    def walk(routes: Any) -> None:
        for each in routes:
            if isinstance(each, APIRoute):
                found.append(each)
            elif hasattr(each, "original_router"):
                walk(each.original_router.routes)

    walk(app.routes)
    return found


ALL = sorted(
    (method, route.path.removeprefix(API), route)
    for route in routes_of(create_app(Desk(Path(), ServerConfig())))
    for method in route.methods
)

USERS_OF = {
    (role, limited): f"{role.value}-{'some' if limited else 'all'}" for role in ROLES for limited in (False, True)
}
VISIBLE = ["gate", "lobby"]  # to the limited ones; dock is not


@dataclass
class Site:
    """A server with eight users, and the names of things of the camera gate (seen by all) and dock (seen by some)."""

    client: Client
    root: Path
    sessions: dict[str, tuple[str, str]]
    exports: dict[bool, str]
    queries: dict[str, str]

    def act_as(self, user: str | None) -> None:
        self.client.raw.cookies.clear()
        token, self.client.csrf = self.sessions.get(user or "", ("", ""))
        if token:
            self.client.raw.cookies.set("session", token)

    def login(self, user: str) -> None:
        assert self.client.login(user).status_code == 201
        self.sessions[user] = (self.client.raw.cookies["session"], self.client.csrf or "")

    def prepare(self) -> None:
        """Case c1 is open and holds both tracklets."""
        with Store.edit(self.root) as store:
            Cases(store).open("c1", "the gate", Actor("test"))
            Cases(store).hold("c1", ["gate-ann", "dock-ann"], Actor("test"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("matrix")
    root = folder / "run"
    fill_gallery(root)
    video = write_video(folder / "gate.mp4")
    config = from_sources(
        [f"gate={video},start=2026-06-01T12:00:00Z", f"dock={video},modality=thermal", f"lobby={video},modality=nir"],
        overrides=[f"reid.weights={folder}/none"],
    )
    write_config(root, config)
    add_users(root, *((name, role, VISIBLE if limited else None) for (role, limited), name in USERS_OF.items()))
    pipeline = beside(root, *(frame_of(scene(30), 0, camera_id=name) for name in ("gate", "dock")))
    desk = Desk(
        root, ServerConfig(logins_per_minute=1000, actions_per_minute=10_000), Users(root / USERS), "cpu", pipeline
    )
    with Client(create_app(desk)) as client:
        made = Site(client, root, {}, {}, {})
        with Store.edit(root) as store:
            Persons(store).confirm("dock-ann", "gate-ann", Actor("test"))  # decision 1
        for name in USERS_OF.values():
            made.login(name)
        for limited in (False, True):
            made.act_as(USERS_OF[Role.OPERATOR, limited])
            made.prepare()
            made.exports[limited] = client.post("/cases/c1/exports", {"clips": False}).json()["export_id"]
            while client.get(f"/exports/{made.exports[limited]}").json()["state"] == "running":
                time.sleep(0.02)
        picture = jpeg(scene(30)[80:200, 90:140])
        for (role, _), name in USERS_OF.items():
            if role is not Role.AUDITOR:
                made.act_as(name)
                told = client.post("/queries", files={"file": ("x.jpg", picture, "image/jpeg")})
                made.queries[name] = told.json()["query_id"]
        yield made


Call = Callable[[Site, str, bool], Response]  # the site, who asks, and whether it is about the camera dock


def simple(method: str, path: str, json: Any = None) -> Call:
    """A request; in its path and content ``{cam}`` and ``{person}`` stand for those of the camera it is about."""

    def filled(value: Any, dock: bool) -> Any:
        if isinstance(value, str):
            return value.replace("{cam}", "dock" if dock else "gate")
        if isinstance(value, dict):
            return {key: filled(each, dock) for key, each in value.items()}
        return [filled(each, dock) for each in value] if isinstance(value, list) else value

    def call(site: Site, user: str, dock: bool) -> Response:
        return site.client.request(method, filled(path, dock), json=filled(json, dock))

    return call


def upload(site: Site, user: str, dock: bool) -> Response:
    picture = scene(30)[80:200, 90:140]
    if dock:  # a thermal camera, which shows no colours
        picture = np.repeat(picture[..., :1], 3, axis=2)
    files = {"file": ("x.jpg", jpeg(picture), "image/jpeg")}
    return site.client.post("/queries", files=files, data={"camera_id": "dock"} if dock else {})


def own_query(site: Site, user: str, dock: bool) -> Response:
    whose = site.queries.get(user, "q-0123456789abcdef0123")
    if dock:
        whose = next(name for other, name in site.queries.items() if other != user)
    return site.client.get(f"/queries/{whose}/crop")


def export(rest: str = "") -> Call:
    return lambda site, user, dock: site.client.get(f"/exports/{site.exports[not dock]}{rest}")


def remove_export(site: Site, user: str, dock: bool) -> Response:
    """Of one that shows dock too, or gate alone; it is there again when it went."""
    name = site.exports[not dock]
    files = [site.root / "exports" / f"{name}{suffix}" for suffix in (".json", ".zip")]
    kept = [each.read_bytes() for each in files]
    answer = site.client.delete(f"/exports/{name}")
    assert [each.exists() for each in files] == [answer.status_code != 204] * 2
    for path, data in zip(files, kept, strict=True):
        path.write_bytes(data)
    return answer


def person(site: Site, user: str, dock: bool) -> Response:
    """P0003 is seen by gate; P0004 by dock alone."""
    return site.client.get(f"/persons/P000{4 if dock else 3}")


def log_in(site: Site, user: str, dock: bool) -> Response:
    return site.client.login(user)


def log_out(site: Site, user: str, dock: bool) -> Response:
    answer = site.client.delete("/session")
    site.login(user)
    return answer


def undo(site: Site, user: str, dock: bool) -> Response:
    """Of a decision of the one who asks, about tracklets of gate alone, or of dock too."""
    with Store.edit(site.root) as store:
        made = Persons(store).reject("dock-kim" if dock else "gate-eve", "gate-bob", Actor(user)).decision_id
    answer = site.client.post(f"/decisions/{made}/undo", {})
    if answer.status_code != 201:
        with Store.edit(site.root) as store:
            Persons(store).undo(made, Actor("test"))
    return answer


BOTH = {"tracklet_id": "{cam}-ann", "to_tracklet_id": "gate-bob"}
CALLS: dict[tuple[str, str], Call] = {
    ("POST", "/session"): log_in,
    ("DELETE", "/session"): log_out,
    ("GET", "/cameras/{camera_id}"): simple("GET", "/cameras/{cam}"),
    ("GET", "/cameras/{camera_id}/recording"): simple("GET", "/cameras/{cam}/recording"),
    ("GET", "/cameras/{camera_id}/picture"): simple("GET", "/cameras/{cam}/picture"),
    ("GET", "/cameras/{camera_id}/frame"): simple("GET", "/cameras/{cam}/frame?seconds=1"),
    ("GET", "/tracklets/{tracklet_id}"): simple("GET", "/tracklets/{cam}-ann"),
    ("GET", "/tracklets/{tracklet_id}/boxes"): simple("GET", "/tracklets/{cam}-ann/boxes"),
    ("GET", "/tracklets/{tracklet_id}/links"): simple("GET", "/tracklets/{cam}-ann/links"),
    ("GET", "/tracklets/{tracklet_id}/crops/{position}"): simple("GET", "/tracklets/{cam}-ann/crops/best"),
    ("GET", "/tracklets/{tracklet_id}/counterparts/{camera_id}"): lambda site, user, dock: site.client.get(
        f"/tracklets/gate-ann/counterparts/{'dock' if dock else 'lobby'}"
    ),
    ("GET", "/tracklets/{tracklet_id}/clip"): simple("GET", "/tracklets/{cam}-ann/clip"),
    ("POST", "/queries/preview"): simple("POST", "/queries/preview", {"tracklet_id": "{cam}-ann"}),
    ("POST", "/queries"): upload,
    ("GET", "/queries/{query_id}/crop"): own_query,
    ("POST", "/search"): simple("POST", "/search", {"examples": [{"tracklet_id": "{cam}-ann"}]}),
    ("GET", "/persons/{person}"): person,
    ("POST", "/persons/merge"): simple("POST", "/persons/merge", {"into": "P0001", "other": "P0001"}),
    ("POST", "/persons/split"): simple("POST", "/persons/split", {"tracklets": ["{cam}-ann"]}),
    ("POST", "/persons/confirm"): simple("POST", "/persons/confirm", BOTH),
    ("POST", "/persons/reject"): simple("POST", "/persons/reject", BOTH),
    ("POST", "/decisions/{decision_id}/undo"): undo,
    ("POST", "/cases"): simple("POST", "/cases", {"case_id": "c2"}),
    ("GET", "/cases/{case_id}"): simple("GET", "/cases/c1"),
    ("POST", "/cases/{case_id}/items"): simple("POST", "/cases/c1/items", {"tracklets": ["{cam}-ann"]}),
    ("DELETE", "/cases/{case_id}/items/{tracklet_id}"): simple("DELETE", "/cases/c1/items/{cam}-ann"),
    ("POST", "/cases/{case_id}/close"): simple("POST", "/cases/c1/close"),
    ("POST", "/cases/{case_id}/exports"): simple("POST", "/cases/c1/exports", {"clips": False}),
    ("GET", "/exports/{export_id}"): export(),
    ("GET", "/exports/{export_id}/file"): export("/file"),
    ("GET", "/exports/{export_id}/verify"): export("/verify"),
    ("DELETE", "/exports/{export_id}"): remove_export,
} | {
    ("GET", path): simple("GET", path)
    for path in (
        "/health", "/session", "/site", "/cameras", "/tracklets", "/persons", "/links", "/cases", "/exports",
        "/decisions", "/audit", "/audit/verify", "/config", "/config/schema",
    )
}  # fmt: skip
STREAM = ("GET", "/events")  # has no end: tests/pipeline/server/test_live.py tries it
PUBLIC = {("GET", "/health"), ("POST", "/session")}


def test_every_route_has_a_row_and_is_tried() -> None:
    routes = {(method, path) for method, path, _ in ALL}
    assert routes == set(TABLE)
    assert routes == set(CALLS) | {STREAM}


@pytest.mark.parametrize(("method", "path", "route"), ALL, ids=lambda each: str(each) if isinstance(each, str) else "")
def test_the_table_says_what_the_code_asks_for(method: str, path: str, route: APIRoute) -> None:
    needs, cell = needs_of(route), TABLE[method, path]
    if (method, path) in PUBLIC:
        assert needs is None
        return
    assert needs is not None
    assert cell.allowed == {role for role in ROLES if needs.permission in PERMISSIONS[role]}
    assert (cell.other_camera == "needs all") == needs.all_cameras


@pytest.mark.parametrize(("method", "path"), sorted(CALLS), ids=" ".join)
def test_who_has_not_logged_in_gets_nothing(site: Site, method: str, path: str) -> None:
    if (method, path) in PUBLIC or (method, path) == ("DELETE", "/session"):
        return
    site.act_as(None)
    site.client.csrf = "x"
    assert CALLS[method, path](site, USERS_OF[Role.ADMIN, False], False).status_code == 401


def test_what_is_not_in_the_table_tells_nobody_anything_of_a_site(site: Site) -> None:
    site.act_as(None)
    assert site.client.get("/openapi.json").json() == json.loads(DOCUMENT.read_text(encoding="utf-8"))
    page = site.client.raw.get("/")
    assert page.content == (PAGE / "index.html").read_bytes()


@pytest.mark.parametrize(("method", "path"), sorted(CALLS), ids=" ".join)
def test_each_role_and_right_gets_what_the_table_says(site: Site, method: str, path: str) -> None:
    cell = TABLE[method, path]
    for (role, limited), user in USERS_OF.items():
        for dock in (False, True):
            if "/cases" in path:
                site.prepare()
            site.act_as(user)
            answer = CALLS[method, path](site, user, dock)
            said = (role, limited, dock, answer.status_code, answer.text[:300])
            if role not in cell.allowed or (limited and cell.other_camera == "needs all"):
                assert answer.status_code == 403, said
            elif dock and (cell.other_camera == "own queries only" or (limited and cell.other_camera == "404")):
                assert answer.status_code == 404, said
            else:
                assert answer.status_code in (200, 201, 202, 204, 409), said
            if limited and answer.headers.get("content-type") == "application/json":
                assert "dock" not in answer.text, said
                assert "P0004" not in answer.text, said


@pytest.mark.parametrize("path", ["/site", "/cameras", "/tracklets", "/persons", "/links", "/cases", "/cases/c1"])
def test_what_is_left_out_for_some_is_there_for_others(site: Site, path: str) -> None:
    site.prepare()
    site.act_as(USERS_OF[Role.VIEWER, False])
    assert "dock" in site.client.get(path).text


def test_counts_are_those_of_the_cameras_that_may_be_seen(site: Site) -> None:
    site.act_as(USERS_OF[Role.VIEWER, False])
    whole = site.client.get("/site").json()
    site.act_as(USERS_OF[Role.VIEWER, True])
    part = site.client.get("/site").json()
    with Store.read(site.root) as store:
        gate = [each for each in store.tracklets() if each.camera_id in VISIBLE]
    assert part["tracklets"] == len(gate) < whole["tracklets"]
    assert part["persons"] == len({each.person_id for each in gate}) < whole["persons"]
    assert part["crops"] < whole["crops"]


def test_a_request_without_the_token_changes_nothing(site: Site) -> None:
    site.prepare()
    site.act_as(USERS_OF[Role.ADMIN, False])
    for token in ("", "x", site.sessions[USERS_OF[Role.OPERATOR, False]][1]):
        answer = site.client.request("POST", "/cases/c1/close", headers={"X-CSRF-Token": token})
        assert (answer.status_code, "X-CSRF-Token" in answer.text) == (403, True)
        assert answer.json()["type"] == "csrf"
    assert site.client.get("/cases/c1").json()["closed"] is None


def test_a_forged_cookie_is_nobodys(site: Site) -> None:
    for token in ("x", "../../etc/passwd", "A" * 4000, site.sessions[USERS_OF[Role.ADMIN, False]][0][:-1]):
        site.client.raw.cookies.clear()
        site.client.raw.cookies.set("session", token)
        assert site.client.get("/session").status_code == 401


def test_nobody_takes_an_open_case_over_nor_ends_holds_on_cameras_unseen(site: Site) -> None:
    site.prepare()
    for limited, again in ((True, 403), (False, 201)):
        site.act_as(USERS_OF[Role.OPERATOR, limited])
        assert site.client.post("/cases", {"case_id": "c1", "title": "mine"}).status_code == 409
        with Store.edit(site.root) as store:
            assert next(each.title for each in Cases(store).all() if each.case_id == "c1") == "the gate"
            Cases(store).close("c1", Actor("test"))
        assert site.client.post("/cases", {"case_id": "c1", "title": "mine"}).status_code == again
        site.prepare()
    site.act_as(USERS_OF[Role.OPERATOR, True])
    assert site.client.post("/cases/c1/close").status_code == 403
    with Store.read(site.root) as store:
        assert len(Cases(store).held()) >= 2


def test_an_export_by_who_sees_all_shows_more_than_the_cameras_of_its_case(site: Site) -> None:
    """The camera dock stands beside gate, and is in the zip as a counterpart, and in the audit of the case."""
    with Store.edit(site.root) as store:
        Cases(store).open("c3", "gate alone", Actor("test"))
        Cases(store).hold("c3", ["gate-ann"], Actor("test"))
    names = {}
    for limited in (False, True):
        site.act_as(USERS_OF[Role.OPERATOR, limited])
        names[limited] = site.client.post("/cases/c3/exports", {"clips": False}).json()["export_id"]
        while site.client.get(f"/exports/{names[limited]}").json()["state"] == "running":
            time.sleep(0.02)
    for rest in ("", "/file", "/verify"):
        assert site.client.get(f"/exports/{names[True]}{rest}").status_code == 200
        assert site.client.get(f"/exports/{names[False]}{rest}").status_code == 404, rest
    listed = [each["export_id"] for each in site.client.get("/exports").json()["items"]]
    assert names[True] in listed
    assert names[False] not in listed
    note = site.root / "exports" / f"{names[True]}.json"
    old = json.loads(note.read_text()) | {"cameras": ["gate"]}
    old.pop("version")  # as an older version left it
    note.write_text(json.dumps(old))
    assert site.client.get(f"/exports/{names[True]}").status_code == 404
    site.act_as(USERS_OF[Role.OPERATOR, False])
    assert site.client.get(f"/exports/{names[True]}/file").status_code == 200
