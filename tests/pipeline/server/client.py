"""A browser's view of the API: keeps the cookie, sends the CSRF token with everything that changes something."""

from types import TracebackType
from typing import Any, Self

from fastapi import FastAPI
from httpx import Response
from starlette.testclient import TestClient

API = "/api/v1"
PASSWORD = "correct horse battery"  # noqa: S105


class Client:
    """Of an application in this process."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.raw = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        self.csrf: str | None = None

    def __enter__(self) -> Self:
        self.raw.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.raw.__exit__(kind, error, trace)

    def login(self, user: str, password: str = PASSWORD) -> Response:
        self.raw.cookies.clear()
        answer = self.raw.post(f"{API}/session", json={"user": user, "password": password})
        if answer.status_code == 201:
            self.csrf = answer.json()["csrf"]
        return answer

    def request(self, method: str, path: str, **content: Any) -> Response:
        headers = dict(content.pop("headers", {}))
        if method != "GET" and "X-CSRF-Token" not in headers:
            if self.csrf is None:
                self.csrf = self.raw.get(f"{API}/session").json().get("csrf", "")
            headers["X-CSRF-Token"] = self.csrf
        return self.raw.request(method, f"{API}{path}", headers=headers, **content)

    def get(self, path: str, **content: Any) -> Response:
        return self.request("GET", path, **content)

    def post(self, path: str, json: Any = None, **content: Any) -> Response:
        return self.request("POST", path, json=json, **content)

    def delete(self, path: str) -> Response:
        return self.request("DELETE", path)
