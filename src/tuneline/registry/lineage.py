"""What the versions of one model are to each other: which one is the champion, and which data did not lead to a better one.

`models/<folder id>/lineage.json` holds `{"champion": VERSION, "refused": DATA}`; `DATA` is the fingerprint of the data that the newest refused model
was tuned from.
"""

from dataclasses import dataclass
from pathlib import Path

from tuneline.registry import models
from tuneline.registry.files import locked, read_json, write_json
from tuneline.registry.models import LINEAGE, ModelVersion, Registration
from tuneline.resolution import Champion


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a job asks before it tunes; `tuneline.vertex.lineage.Lineage` answers the same elsewhere."""

    registration: Registration
    """Its names say which model is meant."""

    def champion(self) -> Champion | None:
        """The version that the next one has to beat, if there is one. Raises ModelError when its files are damaged."""
        version = champion(self.registration)
        if version is None:
            return None
        version.verify()
        return Champion(model_resource_name=version.resource_name, uri=str(version.artifact_folder))

    def unchanged(self, data_fingerprint: str) -> str:
        """Why there is nothing new in these data, or nothing."""
        return unchanged(self.registration, data_fingerprint)


def versions(registration: Registration) -> list[ModelVersion]:
    """The versions that a model has, the newest first."""
    return [version for version in models.list_versions() if version.registration.folder_id == registration.folder_id]


def champion(registration: Registration) -> ModelVersion | None:
    """The version that the model's next one has to beat, if there is one."""
    return next((version for version in versions(registration) if version.is_champion), None)


def promote(version: ModelVersion) -> None:
    """Make this version the champion of its model. What did not beat another one may beat it."""
    _change(version, champion=version.version, refused="")


def demote(version: ModelVersion) -> None:
    """Leave this version's model without a champion."""
    _change(version, champion=None)


def refuse(version: ModelVersion, data_fingerprint: str) -> None:
    """Remember that these data did not lead to a model better than this version, so that they are not tried again and again."""
    _change(version, refused=data_fingerprint)


def unchanged(registration: Registration, data_fingerprint: str) -> str:
    """Why there is nothing new in these data, or nothing."""
    known = versions(registration)
    if not known:
        return ""
    if known[0].registration.data_fingerprint == data_fingerprint:
        return f"{known[0].resource_name} was tuned from the same data with the same parameters."
    if (read_json(_folder(known[0]) / LINEAGE) or {}).get("refused") == data_fingerprint:
        return f"the same data with the same parameters did not lead to a better model than the champion of {known[0].name}."
    return ""


def _change(version: ModelVersion, **values: object) -> None:
    folder = _folder(version)
    with locked(folder / ".lock"):
        write_json(folder / LINEAGE, {**(read_json(folder / LINEAGE) or {}), **values})


def _folder(version: ModelVersion) -> Path:
    return version.folder.parent.parent
