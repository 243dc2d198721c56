"""The application: all routes under `/v1` and `/v1beta1`, operations also under `/ui`, errors as google.rpc.Status."""

import logging
from functools import cache

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tuneline import __version__
from tuneline.api import operations
from tuneline.api.answers import OPERATION
from tuneline.api.document import Json, describe
from tuneline.api.fault_injection import FaultInjection
from tuneline.api.faults import Fault, fault_of, status_name
from tuneline.api.gcs import router_of
from tuneline.api.security import Gate
from tuneline.api.service import Service
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import refusal
from tuneline.errors import TunelineError

LOG = logging.getLogger(__name__)
VERSIONS = ("v1", "v1beta1")


def create_app(service: Service) -> FastAPI:
    """All routes over one service."""
    app = FastAPI(title="Tuneline", version=__version__, openapi_url=None, redirect_slashes=False)
    app.add_middleware(Gate, settings=service.settings)
    if service.settings.faults is not None:
        app.add_middleware(FaultInjection, faults=service.settings.faults, injected=service.injected)
    _add_error_handlers(app)
    for version in VERSIONS:
        for router in _resource_routers(service, version):
            app.include_router(router, prefix=f"/{version}")
    for prefix in (*VERSIONS, "ui"):
        app.include_router(_operations(service, prefix), prefix=f"/{prefix}")
    app.include_router(router_of(service.buckets))

    @cache
    def document() -> Json:
        return describe(app)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> Json:
        return document()

    @app.get("/health", operation_id="service_get_health", tags=["service"])
    def health() -> dict[str, str]:
        return {"status": "SERVING"}

    return app


def _resource_routers(service: Service, version: str) -> list[APIRouter]:
    from tuneline.api.resources import ROUTERS

    return [create(service, version) for create in ROUTERS]


def _operations(service: Service, prefix: str) -> APIRouter:
    router = APIRouter(route_class=StrictRoute, tags=["operations"])

    def operation(name: str) -> dict[str, object]:
        return operations.answer(service.store.get(name))

    @router.get("/projects/{project}/locations/{location}/operations/{operation_id}", operation_id=f"{prefix}_get_location_operation", responses=OPERATION)
    def of_location(project: str, location: str, operation_id: str) -> dict[str, object]:
        return operation(f"projects/{project}/locations/{location}/operations/{operation_id}")

    @router.get(
        "/projects/{project}/locations/{location}/{resource:path}/operations/{operation_id}", operation_id=f"{prefix}_get_operation", responses=OPERATION
    )
    def of_resource(project: str, location: str, resource: str, operation_id: str) -> dict[str, object]:
        return operation(f"projects/{project}/locations/{location}/{resource}/operations/{operation_id}")

    return router


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Fault)
    async def refused(_request: Request, fault: Fault) -> Response:
        return JSONResponse(fault.to_json(), status_code=fault.http_status)

    @app.exception_handler(TunelineError)
    async def library_error(_request: Request, error: TunelineError) -> Response:
        fault = fault_of(error)
        if fault.status == "INTERNAL":
            LOG.error("%s", error, exc_info=error)
        return JSONResponse(fault.to_json(), status_code=fault.http_status)

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> Response:
        fault = refusal(_body_of(request.scope.get("route")), error.errors(), error.body if isinstance(error.body, str) else "")
        return JSONResponse(fault.to_json(), status_code=fault.http_status)

    @app.exception_handler(HTTPException)
    async def framework_error(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Fault):  # raised while the framework read the body
            return await refused(request, error.__cause__)
        message = f"{request.method} {request.scope['path']}: there is no such method here." if error.status_code in (404, 405) else str(error.detail)
        body = {"error": {"code": error.status_code, "message": message, "status": status_name(error.status_code)}}
        return JSONResponse(body, status_code=error.status_code)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, _error: ClientDisconnect) -> Response:
        return await refused(request, Fault("CANCELLED", "the client has gone.", http_status=499))  # for nobody; but no bug either

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        LOG.error("%s %r", request.method, request.scope["path"], exc_info=error)
        return JSONResponse(Fault("INTERNAL", "This is a bug of Tuneline; the service's log has it.").to_json(), status_code=500)


def _body_of(route: object) -> type[BaseModel] | None:
    """The message that a route expects as its body."""
    field = route.body_field if isinstance(route, APIRoute) else None
    kind = field.field_info.annotation if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
