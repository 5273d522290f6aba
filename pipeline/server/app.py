"""The application: routes, guard and errors around one desk."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.bundle import software_version
from pipeline.errors import PipelineError
from pipeline.server import problems
from pipeline.server.desk import Desk
from pipeline.server.files import PageFiles
from pipeline.server.guard import Guard
from pipeline.server.routes import cameras, cases, persons, search, session, site, tracklets
from pipeline.server.routes.asking import PROBLEMS
from pipeline.server.users import UsersFileError

logger = logging.getLogger(__name__)

API = "/api/v1"
PAGE = Path(__file__).parent / "page"


def create_app(desk: Desk, *, hosts: Collection[str] | None = None) -> FastAPI:
    """The page and its API.

    Args:
        desk: What all routes share; closed when the application ends.
        hosts: Names under which the server may be asked; None for any.
    """

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        desk.hub.loop = asyncio.get_running_loop()
        desk.exports.go_on()
        yield
        desk.hub.end()
        desk.close()

    app = FastAPI(
        title="Cross-modal surveillance",
        version=software_version(),
        summary="People seen by RGB, near-infrared and thermal cameras: search, decide, export.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=alive,
        generate_unique_id_function=_name_of,
        separate_input_output_schemas=False,
    )
    app.state.desk = desk
    for each in (session, site, cameras, tracklets, search, persons, cases):
        app.include_router(each.router, prefix=API, responses=PROBLEMS)
    app.add_route("/{path:path}", PageFiles(PAGE).send, include_in_schema=False)
    _handle_errors(app)
    app.add_middleware(
        Guard,
        hosts=hosts,
        upload=(API + search.UPLOAD, round(1e6 * desk.settings.upload_mb)),
        secure=desk.secure,
        proxy=desk.settings.trusted_proxy,
    )
    return app


def _name_of(route: APIRoute) -> str:
    return route.name


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return problems.of_http(error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        return problems.of_validation(error)

    @app.exception_handler(PipelineError)
    async def ours(request: Request, error: PipelineError) -> Response:
        if error.exit_code != 2 or isinstance(error, UsersFileError):
            logger.error("%s %s: %s", request.method, request.url.path, error)
        return problems.of_pipeline(error)

    @app.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s", request.method, request.url.path, exc_info=error)
        return problems.problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong; the server's log says what")


def openapi() -> dict[str, Any]:
    """The document that describes the API; it depends on no gallery."""
    from pipeline.config import ServerConfig

    return create_app(Desk(Path(), ServerConfig())).openapi()
