"""`updateMask`: which fields of a resource a PATCH changes."""

from collections.abc import Collection
from typing import Any

from pydantic.alias_generators import to_camel

from tuneline.api.faults import invalid
from tuneline.api.wire import Message
from tuneline.errors import did_you_mean


def changes(mask: str, message: Message, allowed: Collection[str]) -> dict[str, Any]:
    """The JSON fields that change, with their new values. Without a mask, those that the message has and may be changed: clients send whole resources back."""
    given = message.to_json()
    if not mask:
        return {name: value for name, value in given.items() if name in allowed}
    wanted = [to_camel(name.strip()) if "_" in name else name.strip() for name in mask.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in allowed]
    if unknown:
        hint = did_you_mean(unknown[0], allowed)
        raise invalid(f"updateMask: {', '.join(map(repr, unknown))} cannot be changed here; expected fields of {', '.join(allowed)}.{hint}")
    empty = {info.alias or name: info.get_default(call_default_factory=True) for name, info in type(message).model_fields.items()}
    return {name: given.get(name, empty[name]) for name in wanted}
