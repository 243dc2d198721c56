"""Predictions of endpoints and publishers' models: predict, rawPredict, streamRawPredict, and the server's own routes below `invoke/`."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from tuneline.api.answers import STREAM
from tuneline.api.faults import not_found
from tuneline.api.resources import prediction_targets
from tuneline.api.resources.prediction_forwarding import answering, ask
from tuneline.api.resources.prediction_targets import Target
from tuneline.api.service import Place, Service
from tuneline.api.strict_json import StrictRoute

PREDICT, CHAT, COMPLETIONS = "/predict", "/v1/chat/completions", "/v1/completions"
JSON = "application/json"
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {JSON: {"schema": {"type": "object"}}}}}
"""What the OpenAPI document says of a body that the model's server reads."""
FindTarget = Callable[..., Target]


def addresses(service: Service) -> tuple[tuple[str, str, FindTarget], ...]:
    """Noun, path and target of everything that predicts."""

    def of_endpoint(project: str, location: str, endpoint_id: str) -> Target:
        return prediction_targets.of_endpoint(service, f"{Place(project, location).name}/endpoints/{endpoint_id}")

    def of_publisher(project: str, location: str, publisher: str, model_id: str) -> Target:  # noqa: ARG001 (they are in the path)
        return prediction_targets.of_publisher(service, publisher, model_id)

    place = "/projects/{project}/locations/{location}"
    return (
        ("endpoint", f"{place}/endpoints/{{endpoint_id}}", of_endpoint),
        ("publisher_model", f"{place}/publishers/{{publisher}}/models/{{model_id}}", of_publisher),
    )


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, tags=["predictions"])
    for noun, path, find in addresses(service):
        _add(router, path, find, f"{version}_{{}}_{noun}")
    return router


def _add(router: APIRouter, path: str, find: FindTarget, operation_id: str) -> None:
    Found = Annotated[Target, Depends(find)]  # noqa: N806 (a type)

    @router.post(f"{path}:predict", operation_id=operation_id.format("predict"), openapi_extra=BODY)
    async def predict(request: Request, target: Found) -> Response:
        """Predictions for instances."""
        answer = await ask(request, target, PREDICT, await request.body())
        content = answer.content if answer.status_code != 200 else _named(answer.content, target)
        return Response(content, answer.status_code, media_type=JSON)

    @router.post(f"{path}:rawPredict", operation_id=operation_id.format("raw_predict"), openapi_extra=BODY, responses=STREAM)
    async def raw_predict(request: Request, target: Found) -> Response:
        """The answer of the model's server to any body that it reads."""
        body = await request.body()
        answer = await ask(request, target, raw_route(body), body)
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type", JSON), headers=_headers(target))

    @router.post(f"{path}:streamRawPredict", operation_id=operation_id.format("stream_raw_predict"), openapi_extra=BODY, responses=STREAM)
    async def stream_raw_predict(request: Request, target: Found) -> Response:
        """The same answer, as it comes."""
        body = await request.body()
        return await passed_on(target, raw_route(body), body)

    @router.post(f"{path}/invoke/{{route:path}}", operation_id=operation_id.format("invoke"), openapi_extra=BODY, responses=STREAM)
    async def invoke(request: Request, target: Found, route: str) -> Response:
        """A route of the model's server by its own path."""
        if f"/{route}" not in (PREDICT, CHAT, COMPLETIONS):
            raise not_found(f"/{route}", f"The model's server has {', '.join((PREDICT, CHAT, COMPLETIONS))}.")
        return await passed_on(target, f"/{route}", await request.body())


def raw_route(body: bytes) -> str:
    """The server's route for a raw body: a model's container on Vertex has one for all of them."""
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:  # the server says what is wrong with it
        return PREDICT
    if not isinstance(values, dict) or "instances" in values or "@requestFormat" in values:
        return PREDICT
    return CHAT if "messages" in values else COMPLETIONS if "prompt" in values else PREDICT


async def passed_on(target: Target, path: str, content: bytes) -> Response:
    """The server's answer, passed on as it comes."""
    stack = AsyncExitStack()
    answer = await stack.enter_async_context(answering(target, path, content))

    async def pieces() -> AsyncIterator[bytes]:
        async with stack:
            async for piece in answer.aiter_raw():
                yield piece

    headers = {**_headers(target), "Cache-Control": "no-store"}
    return StreamingResponse(pieces(), answer.status_code, media_type=answer.headers.get("content-type", JSON), headers=headers)


def _named(content: bytes, target: Target) -> bytes:
    """A predict response with the names that clients know the model by."""
    values = orjson.loads(content)
    if "predictions" not in values:  # an OpenAI answer, which was asked for
        return content
    names = {"deployedModelId": target.deployed_model_id, "model": target.model, "modelVersionId": target.version_id, "modelDisplayName": target.display_name}
    return orjson.dumps(values | names)


def _headers(target: Target) -> dict[str, str]:
    names = {"Deployed-Model-Id": target.deployed_model_id, "Model": target.model, "Model-Version-Id": target.version_id}
    return {f"X-Vertex-AI-{name}": quote(value, safe="/@") for name, value in names.items()}
