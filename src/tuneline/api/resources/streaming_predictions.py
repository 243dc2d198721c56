"""`:serverStreamingPredict`, by which `predict_streaming` of Google's language model classes asks."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from fastapi.responses import Response, StreamingResponse

from tuneline.api.faults import invalid
from tuneline.api.resources.prediction_forwarding import answering
from tuneline.api.resources.prediction_streams import chat_events, json_list
from tuneline.api.resources.prediction_targets import Target
from tuneline.api.resources.predictions import CHAT, JSON, FindTarget, addresses
from tuneline.api.resources.tensors import StreamingPredictRequest, tensor_of, value_of
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.serving import protocol
from tuneline.serving.protocol import Instance


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, tags=["predictions"])
    for noun, path, find in addresses(service):
        _add(router, path, find, f"{version}_server_streaming_predict_{noun}")
    return router


def _add(router: APIRouter, path: str, find: FindTarget, operation_id: str) -> None:
    Found = Annotated[Target, Depends(find)]  # noqa: N806 (a type)

    @router.post(f"{path}:serverStreamingPredict", operation_id=operation_id)
    async def stream(target: Found, request: StreamingPredictRequest) -> Response:
        """The prediction for one instance, in pieces: a JSON list that grows."""
        instance = _instance(request)
        stack = AsyncExitStack()
        answer = await stack.enter_async_context(answering(target, CHAT, orjson.dumps(_chat_request(instance))))
        if answer.status_code != 200:
            async with stack:
                return Response(await answer.aread(), answer.status_code, media_type=JSON)
        return StreamingResponse(json_list(_responses(chat_events(stack, answer), instance)), media_type=JSON, headers={"Cache-Control": "no-store"})


def _instance(request: StreamingPredictRequest) -> Instance:
    parameters = {} if request.parameters is None else {"parameters": value_of(request.parameters)}
    instances = protocol.parse({"instances": [value_of(tensor) for tensor in request.inputs], **parameters})
    if len(instances) != 1 or instances[0].prompt.num_answers != 1:
        raise invalid("inputs: expected one instance that wants one answer. Send the others in requests of their own.")
    return instances[0]


def _chat_request(instance: Instance) -> Body:
    sampling = instance.prompt.sampling
    given = {"max_tokens": sampling.max_tokens, "seed": sampling.seed, "stop": list(sampling.stop) or None}
    return {
        "messages": [{"role": turn.role, "content": turn.content} for turn in instance.prompt.turns],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stream": True,
        **{name: value for name, value in given.items() if value is not None},
    }


async def _responses(events: AsyncIterator[dict[str, Any]], instance: Instance) -> AsyncIterator[Body]:
    async for event in events:
        if "error" in event:
            yield event
            return
        text = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        if text:
            yield {"outputs": [tensor_of(_prediction(instance, text))]}


def _prediction(instance: Instance, text: str) -> Body | str:
    """A piece of an answer in the form of the whole one."""
    safety = {"blocked": False}
    if instance.form == "chat":
        return {"candidates": [{"author": "bot", "content": text}], "safetyAttributes": [safety]}
    return {"content": text, "safetyAttributes": safety} if instance.form == "text" else text
