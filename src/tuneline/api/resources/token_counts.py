"""`:countTokens` and `:computeTokens`: a prompt as the model sees it, its chat template included. Needs the tokenizer only, no server."""

import base64
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from tuneline.api.faults import Fault, invalid
from tuneline.api.resources.generate_content_messages import Content, messages_of
from tuneline.api.resources.prediction_targets import Target
from tuneline.api.resources.predictions import FindTarget, addresses
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import Message, Struct
from tuneline.data.conversation import Turn
from tuneline.data.tokens import ChatTokenizer, load_tokenizer
from tuneline.serving import protocol

ROLES: dict[str, Any] = {"system": "system", "user": "user", "assistant": "assistant"}


class CountTokensRequest(Message):
    """Contents as for `:generateContent`, or instances as for `:predict`."""

    model: str = ""
    contents: list[Content] = []
    system_instruction: Content | None = None
    instances: list[Struct] = []
    parameters: Struct = {}
    tools: list[Struct] = []
    generation_config: Struct = {}


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, tags=["predictions"])
    for noun, path, find in addresses(service):
        _add(router, path, find, f"{version}_{{}}_{noun}")
    return router


def _add(router: APIRouter, path: str, find: FindTarget, operation_id: str) -> None:
    Found = Annotated[Target, Depends(find)]  # noqa: N806 (a type)

    @router.post(f"{path}:countTokens", operation_id=operation_id.format("count_tokens"))
    def count(target: Found, request: CountTokensRequest) -> Body:
        """How many tokens prompts have."""
        prompts = _prompts(request)
        tokenizer = _tokenizer(target)
        characters = sum(1 for turns in prompts for turn in turns for letter in turn.content if not letter.isspace())
        return {"totalTokens": sum(len(tokenizer.encode_prompt(turns)) for turns in prompts), "totalBillableCharacters": characters}

    @router.post(f"{path}:computeTokens", operation_id=operation_id.format("compute_tokens"))
    def compute(target: Found, request: CountTokensRequest) -> Body:
        """The tokens of prompts."""
        tokenizer = _tokenizer(target)
        return {"tokensInfo": [_tokens(tokenizer, turns) for turns in _prompts(request)]}


def _prompts(request: CountTokensRequest) -> list[list[Turn]]:
    if bool(request.contents) == bool(request.instances):
        raise invalid("contents, instances: expected one of them, and not both.")
    if request.instances:
        return [list(instance.prompt.turns) for instance in protocol.parse({"instances": request.instances, "parameters": request.parameters})]
    problems: list[str] = []
    messages = messages_of(request.contents, request.system_instruction, problems)
    if problems:
        raise invalid(*problems)
    return [[Turn(ROLES[message["role"]], message["content"]) for message in messages]]


def _tokens(tokenizer: ChatTokenizer, turns: list[Turn]) -> Body:
    ids = tokenizer.encode_prompt(turns)
    texts = tokenizer.token_texts(ids)
    return {"role": "user", "tokens": [base64.b64encode(text.encode()).decode() for text in texts], "tokenIds": [str(id_) for id_ in ids]}


def _tokenizer(target: Target) -> ChatTokenizer:
    folder = target.folder
    if not (folder / "tokenizer.json").is_file():
        raise Fault("FAILED_PRECONDITION", f"{target.model} has no tokenizer of its own, so its tokens cannot be counted here.")
    return _loaded(folder)


@lru_cache(maxsize=8)
def _loaded(folder: Path) -> ChatTokenizer:
    return load_tokenizer(folder)
