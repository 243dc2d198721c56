"""What the versions of one model are to each other: which one is the champion, and which data did not lead to a better one.

`models/<folder id>/lineage.json` holds `{"champion": VERSION, "refused": DATA}`; `DATA` is the fingerprint of the data that the newest refused model
was tuned from.
"""

from pathlib import Path

from tuneline.registry import models
from tuneline.registry.files import locked, read_json, write_json
from tuneline.registry.models import ModelVersion, Registration

FILE = "lineage.json"


def versions(registration: Registration) -> list[ModelVersion]:
    """The versions that a model has, the newest first."""
    return [version for version in models.list_versions() if version.registration.folder_id == registration.folder_id]


def champion(registration: Registration) -> ModelVersion | None:
    """The version that the model's next one has to beat, if there is one."""
    known = versions(registration)
    number = _read(known).get("champion") if known else None
    return next((version for version in known if version.version == number), None)


def promote(version: ModelVersion) -> None:
    """Make this version the champion of its model."""
    _change(version, champion=version.version)


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
    if _read(known).get("refused") == data_fingerprint:
        return f"the same data with the same parameters did not lead to a better model than the champion of {known[0].name}."
    return ""


def _read(known: list[ModelVersion]) -> dict[str, object]:
    return read_json(_folder(known[0]) / FILE) or {}


def _change(version: ModelVersion, **values: object) -> None:
    folder = _folder(version)
    with locked(folder / ".lock"):
        write_json(folder / FILE, {**(read_json(folder / FILE) or {}), **values})


def _folder(version: ModelVersion) -> Path:
    return version.folder.parent.parent
