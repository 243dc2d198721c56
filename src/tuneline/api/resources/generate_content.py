"""`:generateContent` and `:streamGenerateContent` of endpoints and publishers' models, as google-genai asks them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from tuneline.api.answers import STREAM
from tuneline.api.resources.generate_content_messages import GenerateContentRequest, chat_request, response
from tuneline.api.resources.prediction_forwarding import answering, ask
from tuneline.api.resources.prediction_streams import SSE, chat_events, json_list, server_sent
from tuneline.api.resources.prediction_targets import Target
from tuneline.api.resources.predictions import CHAT, JSON, FindTarget, addresses
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, tags=["predictions"])
    for noun, path, find in addresses(service):
        _add(router, path, find, f"{version}_{{}}_{noun}")
    return router


def _add(router: APIRouter, path: str, find: FindTarget, operation_id: str) -> None:
    Found = Annotated[Target, Depends(find)]  # noqa: N806 (a type)

    @router.post(f"{path}:generateContent", operation_id=operation_id.format("generate_content"))
    async def generate(request: Request, target: Found, body: GenerateContentRequest) -> Response:
        """An answer to contents, in Gemini's form."""
        answer = await ask(request, target, CHAT, orjson.dumps(chat_request(body, stream=False)))
        if answer.status_code != 200:
            return Response(answer.content, answer.status_code, media_type=JSON)
        return Response(orjson.dumps(response(orjson.loads(answer.content), _model(target))), media_type=JSON)

    @router.post(f"{path}:streamGenerateContent", operation_id=operation_id.format("stream_generate_content"), responses=STREAM)
    async def stream(target: Found, body: GenerateContentRequest, alt: str = "") -> Response:
        """The same answer in pieces: a JSON list that grows, or events with alt=sse."""
        stack = AsyncExitStack()
        answer = await stack.enter_async_context(answering(target, CHAT, orjson.dumps(chat_request(body, stream=True))))
        if answer.status_code != 200:
            async with stack:
                return Response(await answer.aread(), answer.status_code, media_type=JSON)
        pieces = _responses(chat_events(stack, answer), target)
        content = server_sent(pieces) if alt == "sse" else json_list(pieces)
        return StreamingResponse(content, media_type=SSE if alt == "sse" else JSON, headers={"Cache-Control": "no-store"})


async def _responses(events: AsyncIterator[dict[str, Any]], target: Target) -> AsyncIterator[Body]:
    """GenerateContentResponses. The last one says why the answer ends, and what it took."""
    last: dict[str, Any] | None = None
    async for event in events:
        if "error" in event:
            yield event
            return
        if not event["choices"]:
            last = {**(last or event), "usage": event.get("usage")}
        elif any(choice.get("finish_reason") for choice in event["choices"]):
            last = {**event, "choices": [*(last["choices"] if last else []), *event["choices"]]}
        elif any(choice["delta"].get("content") for choice in event["choices"]):  # the first event has only the role
            yield response(event, _model(target))
    if last is not None:
        yield response(last, _model(target))


def _model(target: Target) -> str:
    return f"{target.model}@{target.version_id}"
