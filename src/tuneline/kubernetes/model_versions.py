"""The versions of one model, as the data of a ConfigMap. Pure.

`version-N` is a version's record as JSON, `champion` the number of the version that the next one has to beat, `refused` what `data_label` makes of the
newest data that did not lead to a better one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuneline.registry.models import CHAMPION, DATA_LABEL, DEFAULT, data_label

Record = Mapping[str, Any]
MOST_VERSIONS = 400
"""Records that are kept; the oldest go first. A ConfigMap holds 1 MiB, and a record with its labels and metrics takes up to 2 KiB."""
_VERSION, _REFUSED = "version-", "refused"


@dataclass(frozen=True, kw_only=True)
class ModelVersions:
    """What is known of a model."""

    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        """Of the versions, the newest first."""
        return sorted((int(key.removeprefix(_VERSION)) for key in self.data if key.startswith(_VERSION)), reverse=True)

    @property
    def champion(self) -> Record | None:
        """The record of the version that the next one has to beat, if there is one."""
        number = self.data.get(CHAMPION, "")
        return self.record(int(number)) if number.isdecimal() and f"{_VERSION}{number}" in self.data else None

    def record(self, number: int) -> Record:
        """A version, spelled as Vertex spells a model."""
        record: dict[str, Any] = json.loads(self.data[f"{_VERSION}{number}"])
        aliases = [*([DEFAULT] if number == self.numbers[0] else []), *([CHAMPION] if str(number) == self.data.get(CHAMPION) else [])]
        return {**record, "versionId": str(number), "versionAliases": aliases}

    def number_of(self, uri: str) -> int:
        """The version whose files are there; 0 when there is none."""
        return next((number for number in self.numbers if json.loads(self.data[f"{_VERSION}{number}"])["artifactUri"] == uri), 0)

    def with_version(self, record: Record, *, is_promoted: bool) -> "ModelVersions":
        """With the version of these files, and as the champion if it has beaten the one before; unchanged when it is there already."""
        if self.number_of(record["artifactUri"]):
            return self
        number = max(self.numbers, default=0) + 1
        own = {key: value for key, value in record.items() if key not in ("versionId", "versionAliases")}
        data = {**self.data, f"{_VERSION}{number}": json.dumps(own, sort_keys=True)}
        if is_promoted:
            data |= {CHAMPION: str(number), _REFUSED: ""}
        return replace(self, data=data)._pruned()

    def with_refused(self, data_fingerprint: str) -> "ModelVersions":
        """These data did not lead to a model better than the champion."""
        return replace(self, data={**self.data, _REFUSED: data_label(data_fingerprint)})

    def unchanged(self, data_fingerprint: str) -> str:
        """Why there is nothing new in these data, or nothing."""
        if not self.numbers:
            return ""
        newest, wanted = self.record(self.numbers[0]), data_label(data_fingerprint)
        if newest["labels"].get(DATA_LABEL) == wanted:
            return f"version {newest['versionId']}, {newest['name']}, was tuned from the same data with the same parameters."
        if self.data.get(_REFUSED) == wanted:
            return "the same data with the same parameters did not lead to a better model than the champion."
        return ""

    def _pruned(self) -> "ModelVersions":
        old = [str(number) for number in self.numbers[MOST_VERSIONS:] if str(number) != self.data.get(CHAMPION)]
        return replace(self, data={key: value for key, value in self.data.items() if key.removeprefix(_VERSION) not in old})
