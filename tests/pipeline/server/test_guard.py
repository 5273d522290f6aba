"""What is hostile is refused with the right status, and the server goes on."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.server.guard import MOST_JSON
from pipeline.server.roles import Role
from tests.pipeline.server.client import API
from tests.pipeline.server.conftest import Serve, add_users


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::2]"])
def test_a_name_that_is_not_ours_is_refused(gallery: Path, serve: Serve, host: str) -> None:
    client = serve(gallery)
    for path in ("/", f"{API}/session", f"{API}/tracklets"):
        assert client.raw.get(path, headers={"Host": host}).status_code == 421
    assert client.raw.get(f"{API}/session", headers={"Host": "LOCALHOST:8080"}).status_code == 200


def test_another_sites_page_cannot_do_anything(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    asked = {"case_id": "evil"}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:9999"},
    ):
        assert client.post("/cases", asked, headers=headers).status_code == 403
    form = client.raw.post(f"{API}/cases", data={"case_id": "evil"}, headers={"X-CSRF-Token": client.csrf or ""})
    assert form.status_code == 422
    text = client.request("POST", "/cases", content=json.dumps(asked), headers={"Content-Type": "text/plain"})
    assert text.status_code == 422
    assert client.get("/cases/evil").status_code == 404
    ours = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.raw.post(f"{API}/cases", json=asked, headers=ours).status_code == 403  # without the token
    assert client.post("/cases", asked, headers=ours).status_code == 201


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_page_cannot_keep_the_server_busy(gallery: Path, serve: Serve, site: str) -> None:
    """Not as an image, nor as a link to the API; a link to the page itself leads there."""
    client = serve(gallery)
    for path in ("/audit/verify", "/tracklets/gate-ann/crops/best", "/events", "/health"):
        assert client.get(path, headers={"Sec-Fetch-Site": site}).status_code == 403
        assert client.raw.head(f"{API}{path}", headers={"Sec-Fetch-Site": site}).status_code == 403
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/tracklets/gate-ann/crops/best", headers=link).status_code == 403
    assert client.raw.get("/", headers=link).status_code == 200
    for ours in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert client.get("/tracklets/gate-ann/crops/best", headers=ours).status_code == 200


def test_answers_cannot_be_read_or_framed_by_others(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    for path in ("/", f"{API}/tracklets", f"{API}/none", f"{API}/tracklets/gate-ann/crops/best"):
        headers = client.raw.get(path, headers={"Origin": "http://evil.example"}).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    assert client.get("/tracklets").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 1_000_000, 413),
        (b"[" * 200_000, 400),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400),
        (b'{"examples": ' + b"[" * 33 + b"]" * 33 + b"}", 400),
        (b'"' + b"x" * MOST_JSON + b'"', 413),
        (b"[]" * 40 + b'"' + b'\\"' * 120_000, 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"NaN", 422),
        (b'{"examples": [{"tracklet_id": "gate-ann"}], "top_k": 1e400}', 422),
        (b'{"examples": [{"tracklet_id": "gate-ann"}], "top_k": ' + b"9" * 5000 + b"}", 400),
        (b'{"examples": [{"tracklet_id": "gate-ann\\u0000"}]}', 422),
        (b'{"examples": [{"tracklet_id": "\\ud800"}]}', 422),
        (json.dumps({"examples": [{"tracklet_id": "[" * 100}]}).encode(), 422),
    ],
)
def test_malformed_and_monstrous_json_is_refused(gallery: Path, serve: Serve, body: bytes, status: int) -> None:
    client = serve(gallery)
    started = time.perf_counter()
    answer = client.request("POST", "/search", content=body, headers={"Content-Type": "application/json"})
    assert time.perf_counter() - started < 10  # a string without an end once took minutes
    assert answer.status_code == status, answer.text[:200]
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/health").status_code == 200


JSON, FORM = ("Content-Type", "application/json"), ("Content-Type", "multipart/form-data; boundary=x")


@pytest.mark.parametrize("headers", [[JSON, FORM], [FORM, JSON], [JSON, JSON]])
def test_a_body_has_one_type(gallery: Path, serve: Serve, headers: list[tuple[str, str]]) -> None:
    """Of several the guard once believed the last and the route the first: neither size nor depth had a limit."""
    client = serve(gallery)
    answer = client.raw.post(f"{API}/session", content=b"[" * 2_000_000, headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (400, "the header Content-Type is there more than once")


@pytest.mark.parametrize("path", ["/session", "/search", "/queries/preview", "/queries/", "/nothing"])
def test_a_form_may_be_large_only_where_a_file_is_taken(gallery: Path, serve: Serve, path: str) -> None:
    form = {"file": ("x.jpg", b"\xff" * (MOST_JSON + 1), "image/jpeg")}
    client = serve(gallery)
    assert client.post(path, files=form).status_code == 413
    assert client.post("/queries", files=form).status_code == 415


@pytest.mark.parametrize(
    ("user", "token", "status"), [(None, False, 401), ("view", False, 403), ("audit", True, 403), ("view", True, 415)]
)
def test_who_may_not_upload_is_refused_before_anything_is_read(
    gallery: Path, serve: Serve, user: str | None, token: bool, status: int
) -> None:
    add_users(gallery, ("view", Role.VIEWER, None), ("audit", Role.AUDITOR, None))
    client = serve(gallery, users=True)
    if user is not None:
        client.login(user)
    read = 0

    def form() -> Iterator[bytes]:
        nonlocal read
        parts = [b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n', *[b"x" * 1000] * 50]
        for part in [*parts, b"\r\n--x--\r\n"]:
            read += len(part)
            yield part

    headers = dict([FORM]) | ({"X-CSRF-Token": client.csrf or ""} if token else {})
    answer = client.raw.post(f"{API}/queries", content=form(), headers=headers)
    assert answer.status_code == status
    assert (read > 50_000) == (status == 415)


def test_brackets_within_a_text_do_not_count(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    answer = client.post("/search", {"examples": [{"tracklet_id": "gate-ann"}], "purpose": '[{"\\' * 60})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../gallery.sqlite", "/%2e%2e/gallery.sqlite", "/..%2f..%2fetc%2fpasswd", "/....//etc/passwd",
        f"{API}/tracklets/..%2f..%2fgallery.sqlite/crops/best", f"{API}/tracklets/gate-ann/crops/..%2frecord.json",
        f"{API}/tracklets/gate-ann/crops/-1", f"{API}/tracklets/gate-ann/crops/99999",
        f"{API}/exports/..%2f..%2fusers/file", f"{API}/cameras/..%2f/frame", f"{API}/tracklets/%00/crops/best",
        f"{API}/queries/..%2f/crop", "/%5c..%5cgallery.sqlite", "//etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_gallery(gallery: Path, serve: Serve, path: str) -> None:
    answer = serve(gallery).raw.get(path)
    assert answer.status_code in (404, 422)
    assert b"SQLite" not in answer.content
    assert b"root:" not in answer.content


def test_who_was_forwarded_by_an_unknown_proxy_is_refused(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    for header in ("X-Forwarded-For", "X-Forwarded-Proto", "x-forwarded-whatever", "Forwarded", "Via", "X-Real-IP"):
        assert client.get("/session", headers={header: "10.0.0.9"}).status_code == 403
    assert client.get("/session").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/main.js", *(API + each for each in ("/tracklets", "/tracklets/gate-ann/crops/best", "/tracklets/none",
                                                "/nothing", "/events", "/openapi.json", "/search"))],
)  # fmt: skip
def test_head_is_get_without_a_body(gallery: Path, serve: Serve, path: str) -> None:
    client = serve(gallery)
    head = client.raw.head(path)
    assert head.content == b""
    if path.endswith("/events"):  # a GET has no end
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        return
    answer = client.raw.get(path)
    assert head.status_code == answer.status_code
    assert head.headers == answer.headers


def test_errors_are_problems_and_tell_no_secret(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    for answer in (client.get("/tracklets/none"), client.get("/nothing"), client.get("/tracklets?limit=x")):
        content = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert content["status"] == answer.status_code
        assert set(content) == {"type", "title", "status", "detail", "errors"}
    wrong = client.raw.post(f"{API}/session", json={"user": "ann", "password": ["hunter2hunter2"]})
    assert wrong.status_code == 422
    assert "hunter2" not in wrong.text
    assert client.raw.put(f"{API}/session").status_code == 405


def test_a_fault_of_a_route_is_told_without_its_cause(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    assert client.get("/tracklets").status_code == 200
    data = (gallery / "gallery.sqlite").read_bytes()
    (gallery / "gallery.sqlite").unlink()
    (gallery / "gallery.sqlite").write_bytes(b"not a database" * 1000)
    broken = client.get("/tracklets")
    assert broken.status_code >= 500
    assert client.get("/health").status_code == 503
    for each in gallery.glob("gallery.sqlite-*"):
        each.unlink()
    (gallery / "gallery.sqlite").unlink()
    (gallery / "gallery.sqlite").write_bytes(data)
    assert client.get("/health").status_code == 200
