"""The HTTP routes: Vertex predict, OpenAI chat completions and completions, health."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Coroutine
from typing import TypeVar
from urllib.parse import urlsplit

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from tuneline.errors import InfrastructureError, NotFoundError, UserError
from tuneline.serving import openai_protocol, protocol
from tuneline.serving.openai_protocol import CompletionRequest, Kind
from tuneline.serving.service import Service, new_id

STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
T = TypeVar("T")


def create_app(service: Service, *, hosts: Collection[str] | None, predict_route: str, health_route: str, max_body_bytes: int) -> FastAPI:
    """The application. `hosts` are the names by which it may be called; with None any."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(HostCheck, hosts=hosts)
    _add_error_handlers(app)

    async def health() -> Response:
        service.check_health()
        return JSONResponse({"status": "SERVING"})

    async def predict(request: Request) -> Response:
        body = await read_body(request, max_body_bytes)
        carried = protocol.chat_request(body)
        if carried is not None:
            answer = await complete(request, openai_protocol.parse(carried[0], "chat.completion", service.model_names))
            return JSONResponse({"predictions": answer} if carried[1] else answer)
        instances = protocol.parse(body)
        answers = await until_disconnected(request, service.answer([instance.prompt for instance in instances]))
        names = {"deployedModelId": service.deployed_model_id, "model": service.model_resource_name, "modelDisplayName": service.display_name}
        return JSONResponse(protocol.response(instances, answers) | names)

    async def predict_by_name(request: Request, endpoint: str) -> Response:
        if endpoint != service.endpoint_id:
            raise NotFoundError(f"endpoint {endpoint!r} is not served here; expected {service.endpoint_id!r}.")
        return await predict(request)

    async def chat_completions(request: Request) -> Response:
        return await respond(request, "chat.completion")

    async def completions(request: Request) -> Response:
        return await respond(request, "text_completion")

    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "tuneline"} for name in service.model_names]})

    async def respond(request: Request, kind: Kind) -> Response:
        asked = openai_protocol.parse(await read_body(request, max_body_bytes), kind, service.model_names)
        if not asked.stream:
            return JSONResponse(await complete(request, asked))
        groups = await service.prepare(asked.prompts)
        return StreamingResponse(_server_sent(service.stream(asked, groups)), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def complete(request: Request, asked: CompletionRequest) -> dict[str, object]:
        return asked.body(new_id(), await until_disconnected(request, service.answer(asked.prompts)))

    for route in dict.fromkeys((health_route, "/health", "/ping")):
        app.get(route)(health)
    for route in dict.fromkeys((predict_route, "/predict")):
        app.post(route)(predict)
    for version in ("v1", "v1beta1"):
        app.post(f"/{version}/projects/{{project}}/locations/{{location}}/endpoints/{{endpoint}}:predict")(predict_by_name)
    app.post("/v1/chat/completions")(chat_completions)
    app.post("/v1/completions")(completions)
    app.get("/v1/models")(models)
    return app


class Refusal(Exception):
    """A request that is given up, with its HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class HostCheck:
    """Turns away who calls this machine's own address by a foreign name: a web page must not talk to a local model."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hosts is not None and scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            for name, address in (("host", f"//{headers.get('host', '')}"), ("origin", headers.get("origin"))):
                if address is not None and _host_name(address) not in self._hosts:
                    await failure(403, f"header {name}: found {headers.get(name)!r}; expected one of {', '.join(sorted(self._hosts))}.")(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def read_body(request: Request, max_bytes: int) -> object:
    """The JSON body, refused as soon as it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise Refusal(413, f"body: longer than {max_bytes} bytes.")
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UserError(f"body: not JSON (line {error.lineno}, column {error.colno}: {error.msg}).") from None
    return value


async def until_disconnected(request: Request, work: Coroutine[None, None, T]) -> T:
    """The result of the work, which is given up when nobody waits for it any more."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(499, "the client has gone.")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def failure(code: int, message: str) -> JSONResponse:
    """An error as Google's services report it; OpenAI clients read the same message."""
    return JSONResponse(_error(code, message), status_code=code)


def _error(code: int, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "status": STATUS.get(code, "UNKNOWN")}}


async def _server_sent(events: AsyncGenerator[dict[str, object], None]) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            yield b"data: " + orjson.dumps(event) + b"\n\n"
        yield b"data: [DONE]\n\n"
    except InfrastructureError as error:  # the status line was sent long ago
        yield b"data: " + orjson.dumps(_error(503, str(error))) + b"\n\n"
    finally:
        await events.aclose()


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # an address that is none
        return None


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(UserError)
    async def user_error(_request: Request, error: UserError) -> Response:
        return failure(404 if isinstance(error, NotFoundError) else 400, str(error))

    @app.exception_handler(InfrastructureError)
    async def infrastructure_error(_request: Request, error: InfrastructureError) -> Response:
        return failure(503, str(error))

    @app.exception_handler(Refusal)
    async def refusal(_request: Request, error: Refusal) -> Response:
        return failure(error.code, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return failure(error.status_code, f"{request.method} {request.url.path}: {error.detail}.")

    @app.exception_handler(Exception)
    async def bug(_request: Request, _error: Exception) -> Response:
        return failure(500, "an error of the server; its log has the reason.")
