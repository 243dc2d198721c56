"""OpenAI's chat completions and completions: at `endpoints/E/` as Vertex has them, and plain at `/v1/` over everything that is deployed."""

import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from tuneline.api.answers import STREAM
from tuneline.api.faults import invalid
from tuneline.api.resources import prediction_targets
from tuneline.api.resources.prediction_targets import Target
from tuneline.api.resources.predictions import BODY, CHAT, COMPLETIONS, passed_on
from tuneline.api.service import Place, Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute, read_json

BY_NAME = "openapi"
"""Vertex's name for the endpoint that goes by the request's `model`."""


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, tags=["openai"])

    def addressed(project: str, location: str, endpoint_id: str) -> Target | None:
        return None if endpoint_id == BY_NAME else prediction_targets.of_endpoint(service, f"{Place(project, location).name}/endpoints/{endpoint_id}")

    Addressed = Annotated[Target | None, Depends(addressed)]  # noqa: N806 (a type)
    endpoint = "/projects/{project}/locations/{location}/endpoints/{endpoint_id}"

    async def answered(request: Request, target: Target | None, route: str) -> Response:
        body = _read(await request.body())
        name = body.pop("model", None) or ""
        if not isinstance(name, str):
            raise invalid("model: expected the name of a model.")
        if target is None:
            target = await run_in_threadpool(prediction_targets.of_name, service, name)
        return await passed_on(target, route, orjson.dumps(body))

    @router.post(f"{endpoint}/chat/completions", operation_id=f"{version}_endpoint_chat_completions", openapi_extra=BODY, responses=STREAM)
    async def endpoint_chat(request: Request, target: Addressed) -> Response:
        """A chat completion by a deployed model of the endpoint, or by the model that the body names with endpoints/openapi."""
        return await answered(request, target, CHAT)

    @router.post(f"{endpoint}/completions", operation_id=f"{version}_endpoint_completions", openapi_extra=BODY, responses=STREAM)
    async def endpoint_completions(request: Request, target: Addressed) -> Response:
        """A completion by a deployed model of the endpoint, or by the model that the body names with endpoints/openapi."""
        return await answered(request, target, COMPLETIONS)

    @router.post("/chat/completions", operation_id=f"{version}_chat_completions", openapi_extra=BODY, responses=STREAM)
    async def chat(request: Request) -> Response:
        """A chat completion by the model that the body names."""
        return await answered(request, None, CHAT)

    @router.post("/completions", operation_id=f"{version}_completions", openapi_extra=BODY, responses=STREAM)
    async def completions(request: Request) -> Response:
        """A completion by the model that the body names."""
        return await answered(request, None, COMPLETIONS)

    @router.get("/models", operation_id=f"{version}_list_deployed_models")
    def list_models() -> Body:
        names = dict.fromkeys(target.display_name for target in prediction_targets.deployed_models(service))
        return {"object": "list", "data": [_model(name) for name in names]}

    @router.get("/models/{model:path}", operation_id=f"{version}_get_deployed_model")
    def get_model(model: str) -> Body:
        return _model(prediction_targets.of_name(service, model).display_name)

    return router


def _model(name: str) -> Body:
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "tuneline"}


def _read(content: bytes) -> dict[str, Any]:
    try:
        values = read_json(content)
    except orjson.JSONDecodeError as error:
        raise invalid(f"body: not JSON (line {error.lineno}, column {error.colno}: {error.msg}).") from None
    if not isinstance(values, dict):
        raise invalid("body: expected a JSON object.")
    return values
