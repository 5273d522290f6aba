"""The OpenAPI document is the committed one, and the server keeps to it whatever it is asked."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipeline.audit import Actor
from pipeline.cases import Cases
from pipeline.config import ServerConfig
from pipeline.server.app import openapi
from pipeline.server.roles import Role
from pipeline.server.serving import open_door, served
from pipeline.store import Store
from tests.pipeline.footage import frame_of
from tests.pipeline.recordings import scene
from tests.pipeline.server.client import API, PASSWORD
from tests.pipeline.server.conftest import add_users, beside
from tests.pipeline.server.test_search import jpeg

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "api.json"
KNOWN: dict[str, Any] = {
    "camera_id": "gate", "person": "P0001", "case_id": "c1", "position": "best", "seconds": 1.5,
    "xyxy": [100, 90, 130, 190],
}  # fmt: skip
_CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
)


def test_the_committed_document_is_what_the_server_gives() -> None:
    """Written anew with: python -m tests.pipeline.server.test_contract."""
    assert json.loads(DOCUMENT.read_text(encoding="utf-8")) == openapi()


def test_every_route_says_what_it_does_and_how_it_fails() -> None:
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            assert {"4XX", "5XX"} <= set(operation["responses"]), (method, path)


def _site(recorded: Path, root: Path) -> Path:
    """A copy of the run in which case c1 holds all there is."""
    shutil.copytree(recorded, root)
    with Store.edit(root) as store:
        names = {each.camera_id: each.tracklet_id for each in store.tracklets()}
        Cases(store).open("c1", "the gate", Actor("test"))
        Cases(store).hold("c1", list(names.values()), Actor("test"))
    KNOWN.update(tracklet_id=names["gate"], to_tracklet_id=names["dock"])
    return root


@contextmanager
def _served(root: Path, **settings: Any) -> Iterator[str]:
    """Its address, on a socket of its own."""
    door = open_door(root, ServerConfig(port=0, **settings))
    with served(root, door, device="cpu", pipeline=beside(root, frame_of(scene(30), 0, camera_id="gate"))):
        yield door.address.rstrip("/")
        assert requests.get(f"{door.address}{API.removeprefix('/')}/health", timeout=30).status_code == 200


@pytest.fixture(scope="module")
def server(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, requests.Session]]:
    """Address of a server with a run and its recordings; a session that may change things."""
    root = _site(recorded, tmp_path_factory.mktemp("contract") / "run")
    with _served(root) as address, requests.Session() as session:
        session.headers["X-CSRF-Token"] = session.get(f"{address}{API}/session", timeout=30).json()["csrf"]
        yield address, session


@pytest.fixture(scope="module")
def with_users(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, requests.Session]]:
    """A server in which an operator, who may do all that a viewer may and more, sees gate and not dock; no session."""
    root = _site(recorded, tmp_path_factory.mktemp("users") / "run")
    add_users(root, ("ann", Role.OPERATOR, ["gate"]))
    with _served(root, logins_per_minute=1_000, actions_per_minute=100_000) as address, requests.Session() as session:
        yield address, session


@pytest.fixture
def operator(with_users: tuple[str, requests.Session]) -> tuple[str, requests.Session]:
    """The same with a session of the operator, whom a route may have logged out."""
    address, session = with_users
    if session.get(f"{address}{API}/session", timeout=30).status_code == 401:
        asked = {"user": "ann", "password": PASSWORD}
        told = session.post(f"{address}{API}/session", json=asked, timeout=30)
        session.headers["X-CSRF-Token"] = told.json()["csrf"]
    return address, session


def _known(value: Any) -> Any:
    """The same with names of things that there are."""
    if isinstance(value, dict):
        named = {key: KNOWN[key] if key in KNOWN and each is not None else _known(each)
                 for key, each in value.items()}  # fmt: skip
        return named | ({"tracklets": [KNOWN["tracklet_id"]]} if value.get("tracklets") else {})
    return [_known(each) for each in value] if isinstance(value, list) else value


schema = schemathesis.openapi.from_dict(openapi()).exclude(path=f"{API}/events")  # which has no end


def _few(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def _asked(case: schemathesis.Case, server: tuple[str, requests.Session]) -> schemathesis.Response:
    """The answer, which keeps the contract."""
    address, session = server
    if case.meta is not None and case.meta.generation.mode.is_positive:  # about things that there are
        case.path_parameters = _known(case.path_parameters)
        case.query = _known(case.query)
        case.body = _known(case.body)
    answer = case.call(base_url=address, session=session)
    case.validate_response(answer, checks=list(_CHECKS))
    return answer


@schema.parametrize()
@_few(8)
def test_no_question_breaks_the_server_or_the_contract(
    case: schemathesis.Case, server: tuple[str, requests.Session]
) -> None:
    _asked(case, server)


@schema.parametrize()
@_few(4)
def test_who_sees_one_camera_hears_of_no_other_whatever_they_ask(
    case: schemathesis.Case, operator: tuple[str, requests.Session]
) -> None:
    answer = _asked(case, operator)
    asked = f"{answer.request.url} {answer.request.body!r}"
    if "json" in answer.headers["content-type"][0] and "dock" not in asked:
        assert "dock" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/cameras/{camera_id}/recording", {}, 200),
        ("GET", "/cameras/{camera_id}/picture", {}, 200),
        ("GET", "/cameras/{camera_id}/frame", {"query": {"seconds": 1.5}}, 200),
        ("GET", "/cameras/{camera_id}/frame", {"query": {"at": "2026-06-01T16:00:05+02:00"}}, 200),
        ("GET", "/cameras/{camera_id}/frame", {"query": {"at": "2026-06-01T14:00:05"}}, 422),
        ("GET", "/cameras/{camera_id}/frame", {"query": {"at": "2026-06-01"}}, 422),
        ("POST", "/queries", {"body": {"file": jpeg(scene(30)[80:200, 90:140])}}, 201),
    ],
)
def test_what_there_is_answers_and_keeps_the_contract(
    method: str, path: str, content: dict[str, Any], status: int, server: tuple[str, requests.Session]
) -> None:
    address, session = server
    form = {"media_type": "multipart/form-data"} if "body" in content else {}
    case = schema[f"{API}{path}"][method].Case(path_parameters={"camera_id": "gate"}, **content, **form)
    answer = case.call(base_url=address, session=session)
    assert answer.status_code == status, answer.text
    case.validate_response(answer, checks=list(_CHECKS))


if __name__ == "__main__":
    DOCUMENT.write_text(json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
