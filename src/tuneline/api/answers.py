"""What the OpenAPI document says of answers. Nothing checks or changes an answer by it; tests compare the two."""

from functools import cache
from typing import Any, TypeAlias

from pydantic import create_model

from tuneline.api.wire import Message, Struct

Answers: TypeAlias = dict[int | str, dict[str, Any]]
"""The argument `responses` of a route."""


class Operation(Message):
    """Work that may take a while. Once it is done it has a response or an error."""

    name: str
    metadata: Struct
    done: bool
    response: Struct = {}
    error: Struct = {}
    """A google.rpc.Status."""


def shows(message: type[Message]) -> Answers:
    """The route answers with a message."""
    return {200: {"model": message}}


@cache  # a class has to be the same in all versions
def lists(message: type[Message], key: str) -> Answers:
    """The route answers with a page of them."""
    fields: dict[str, Any] = {key: (list[message], ...), "next_page_token": (str, "")}  # type: ignore[valid-type]
    return shows(create_model(f"List{key[0].upper()}{key[1:]}Response", __base__=Message, __doc__="One page.", **fields))


OPERATION = shows(Operation)
STREAM: Answers = {200: {"content": {"text/event-stream": {}}}}
"""The route answers with JSON, or with server-sent events when it is asked to."""
