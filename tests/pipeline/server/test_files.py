"""The page's own files come from memory, compressed, and once only."""

from pathlib import Path

import pytest

from pipeline.server.app import PAGE
from tests.pipeline.server.conftest import Serve

NAMES = sorted(path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["", *NAMES])
def test_each_file_is_what_lies_in_the_package_packed_or_not(gallery: Path, serve: Serve, name: str) -> None:
    client = serve(gallery)
    kept = (PAGE / (name or "index.html")).read_bytes()
    packed = client.raw.get(f"/{name}", headers={"Accept-Encoding": "gzip, deflate"})
    plain = client.raw.get(f"/{name}", headers={"Accept-Encoding": "identity"})
    assert packed.content == plain.content == kept
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    if len(kept) > 2000:
        assert int(packed.headers["content-length"]) < 0.55 * len(kept)
    for each in (packed, plain):
        assert each.headers["cache-control"] == "no-cache"
        assert each.headers["vary"] == "Accept-Encoding"


def test_a_file_that_the_browser_has_is_not_sent_again_until_it_is_another(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    tag = client.raw.get("/main.js").headers["etag"]
    again = client.raw.get("/main.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.raw.get("/page.css", headers={"If-None-Match": tag}).status_code == 200


def test_nothing_else_is_there(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    for path in ("/none.js", "/views", "/views/", "/api", "/api/v1/none"):
        answer = client.raw.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store"), path
    assert client.raw.post("/").status_code == 405
    head = client.raw.head("/main.js")
    assert (head.status_code, head.content) == (200, b"")
