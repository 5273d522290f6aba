"""Errors over HTTP as RFC 9457 has them, and which status each of the application's errors has."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pipeline.errors import DamagedGalleryError, GalleryMismatchError, PipelineError, ResourceError, UsageError
from pipeline.server.users import UsersFileError

MEDIA_TYPE = "application/problem+json"


class ProblemError(HTTPException):
    """An error that the one who asks is told."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, kind: str = "about:blank", headers: Mapping[str, str] | None = None
    ) -> None:
        """Of this kind.

        Args:
            status: Of the answer.
            detail: For people; holds no secret.
            kind: A name that a program can tell apart.
            headers: Of the answer.
        """
        super().__init__(status.value, detail, dict(headers or {}))
        self.kind = kind


def not_found(what: str) -> ProblemError:
    """The same for what does not exist and for what the one who asks may not see."""
    return ProblemError(HTTPStatus.NOT_FOUND, f"no {what}")


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer."""
    content = {
        "type": kind,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": errors,
    }
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def of_http(error: HTTPException) -> JSONResponse:
    """Of an error with a status of its own."""
    kind = error.kind if isinstance(error, ProblemError) else "about:blank"
    return problem(error.status_code, str(error.detail), kind=kind, headers=error.headers)


def of_validation(error: RequestValidationError) -> JSONResponse:
    """Of a question that does not fit the schema; says where, but not what it was: it may be a password."""
    errors = [{"where": list(map(str, each["loc"])), "what": each["msg"]} for each in error.errors()]
    malformed = any(each["type"] == "json_invalid" for each in error.errors())
    status = HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY
    said = "; ".join(f"{'.'.join(each['where'])}: {each['what']}" for each in errors[:3])
    return problem(status, said, errors=errors)


def of_pipeline(error: PipelineError) -> JSONResponse:
    """Of an error of the application."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, UsageError) else HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, GalleryMismatchError):
        status = HTTPStatus.CONFLICT
    if isinstance(error, ResourceError | DamagedGalleryError):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, UsersFileError):  # who is not logged in learns no path
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the file of users cannot be read; the server's log says why")
    return problem(status, str(error))
