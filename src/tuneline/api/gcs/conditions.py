"""Preconditions: a request that only holds for the state its sender knows. 0 stands for "there is none"."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from tuneline.api.gcs.faults import StorageFault, invalid, not_modified, precondition_failed


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the sender asks of an object's, or a bucket's, numbers. None: nothing is asked."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], prefix: str = "if") -> "Conditions":
        """From the query parameters `ifGenerationMatch` and so on; of the source of a copy with the prefix `ifSource`."""
        given = {key.replace("MetaGeneration", "Metageneration"): value for key, value in query.items()}  # as google-cloud-storage writes it in uploads
        keys = {field.name: prefix + "".join(word.capitalize() for word in field.name.split("_")) for field in fields(cls)}
        return cls(**{name: read_number(given, key) for name, key in keys.items()})

    def fault(self, generation: int, metageneration: int) -> StorageFault | None:
        """Why the request may not go on; 0 and 0 when there is no such object."""
        if self.generation_match not in (None, generation):
            return precondition_failed(f"found generation {generation}; expected {self.generation_match}.")
        if self.metageneration_match not in (None, metageneration):
            return precondition_failed(f"found metageneration {metageneration}; expected {self.metageneration_match}.")
        if self.generation_not_match == generation or self.metageneration_not_match == metageneration:
            return not_modified()
        return None

    def check(self, generation: int, metageneration: int) -> None:
        if fault := self.fault(generation, metageneration):
            raise fault


ANYTHING = Conditions()


def read_number(values: Mapping[str, str], key: str) -> int | None:
    """A query parameter that is a number of 64 bits, from 0."""
    text = values.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 1 << 63):
        raise invalid(f"{key}: found {text!r}; expected a whole number from 0.")
    return int(text)
