"""Models, registered as files: `models/<folder id>/versions/<n>/{record.json, files/...}`. Those that jobs tuned, and those that were uploaded.

A version appears by one rename, never changes afterwards and goes away by one rename; its number is never given to another. The same
checkpoint of the same pipeline job makes one version, however often and from however many processes it is registered; the same display name,
project and region make versions of one model. An upload has a model id of its own, and makes a version each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneline.errors import InfrastructureError, ModelError, NotFoundError, did_you_mean
from tuneline.registry import home, resource_id
from tuneline.registry.files import COMMIT, FileHash, committed_files, copy_verified, flush_folder, locked, read_json, remove_folder, verify, write_json

BASE_MODEL_LABEL = "google-vertex-llm-tuning-base-model-id"
TUNE_TYPE_LABEL = "tune-type"
RUN_LABEL = "tuneline-run"
DATA_LABEL = "tuneline-data"
"""What a model was tuned from: see `data_label`."""
RECORD, LINEAGE = "record.json", "lineage.json"
DEFAULT, CHAMPION = "default", "champion"
"""Aliases that versions have here."""
INCOMING = ".incoming"
OUTGOING = ".outgoing"
REMOVED = ".removed"
"""Suffix of the empty file that keeps the number of a version that was there."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a pipeline job, or an upload, says about the model that it registers."""

    project: str
    location: str
    display_name: str
    pipeline_job_name: str = ""
    """Empty for an upload."""
    base_model: str = ""
    """Reference in the model catalogue, as asked for; empty for an upload."""
    stands_in: str = ""
    """Reference of the model that was tuned in its place, if another was."""
    step: int = 0
    """Training step of the checkpoint."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    data_fingerprint: str = ""
    """Of the data and parameters that it was tuned from."""
    model_id: str = ""
    """Of an upload. A tuned model's follows from its names."""
    resource: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the Vertex model that were given: labels, and those of an upload."""

    @property
    def folder_id(self) -> str:
        """Name of the model's folder; unlike a model id, it is one for all projects and regions."""
        names = ("models", self.model_id) if self.model_id else (self.display_name,)
        return resource_id(self.project, self.location, *names)

    @property
    def labels(self) -> dict[str, str]:
        """Labels by which the Google SDKs find tuned models, the run's own, and those that were given."""
        reference, run = self.base_model, self.pipeline_job_name
        tuned = {BASE_MODEL_LABEL: label(reference.replace("@", "-").replace("/", "-")), TUNE_TYPE_LABEL: "sft"} if reference else {}
        data = self.data_fingerprint
        own = {**({RUN_LABEL: label(run)} if run else {}), **({DATA_LABEL: data_label(data)} if data else {})}
        return {**self.resource.get("labels", {}), **tuned, **own}


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What came of registering a model, wherever that was."""

    resource_name: str
    """With the version, where there are versions."""
    record: Mapping[str, object]
    """As `record_of` writes it."""


NOTHING = Registered(resource_name="", record={})
"""Where a model is kept out, or is not to be registered."""


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One registered version of a model."""

    registration: Registration
    model_id: str
    version: int
    is_default: bool
    """Whether the model's name without a version means this one: the newest."""
    is_champion: bool
    """Whether it is the one that the next version has to beat: see `tuneline.registry.lineage`."""
    create_time: str
    files: Mapping[str, FileHash]
    folder: Path

    @property
    def name(self) -> str:
        """Resource name of the model, without the version."""
        return f"projects/{self.registration.project}/locations/{self.registration.location}/models/{self.model_id}"

    @property
    def resource_name(self) -> str:
        """Resource name with the version."""
        return f"{self.name}@{self.version}"

    @property
    def labels(self) -> dict[str, str]:
        """The registration's."""
        return self.registration.labels

    @property
    def aliases(self) -> list[str]:
        """Names that stand for this version instead of its number."""
        return [*([DEFAULT] if self.is_default else []), *([CHAMPION] if self.is_champion else [])]

    @property
    def artifact_folder(self) -> Path:
        """The model's files, ready to be loaded."""
        return self.folder / "files"

    @property
    def is_servable(self) -> bool:
        """Whether there are files to serve. Of an upload that is no model's folder, there is only the record."""
        return bool(self.files)

    def verify(self) -> None:
        """Refuse, by name, files that are damaged, and a model that has none."""
        if not self.is_servable:
            raise ModelError(f"{self.resource_name} has no files on this machine.", next_action="Upload the folder of a model as its artifactUri.")
        verify(self.artifact_folder, self.files)

    def to_json(self) -> dict[str, object]:
        """The record as people and programs see it."""
        return record_of(
            self.registration, name=self.name, version_id=str(self.version), aliases=self.aliases, create_time=self.create_time,
            artifact_uri=str(self.artifact_folder), files=self.files,
        )  # fmt: skip


def record_of(
    registration: Registration, *, name: str, version_id: str, aliases: Sequence[str], create_time: str, artifact_uri: str, files: Mapping[str, FileHash]
) -> dict[str, object]:  # fmt: skip
    """The record of a registered model, spelled as Vertex spells a model."""
    return {
        "name": name,
        "versionId": version_id,
        "versionAliases": list(aliases),
        "displayName": registration.display_name,
        "createTime": create_time,
        "labels": registration.labels,
        "artifactUri": artifact_uri,
        "baseModel": registration.base_model,
        "standsIn": registration.stands_in,
        "pipelineJob": registration.pipeline_job_name,
        "step": registration.step,
        "metrics": dict(registration.metrics),
        "files": {name: asdict(file) for name, file in files.items()},
    }


def label(text: str) -> str:
    """A label value: up to 63 lower-case letters, digits, dashes and underscores."""
    return "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "-_" else "-" for letter in text.lower())[:63]


def data_label(data_fingerprint: str) -> str:
    """A data fingerprint as a label's value, which has no room for all of its digits."""
    return data_fingerprint[:40]


def register(checkpoint: Path, registration: Registration, files: Mapping[str, FileHash] | None = None) -> ModelVersion:
    """Copy the checkpoint into the registry, every file checked against its hash; the version that this pipeline job has made.

    `files` are those of a folder that has no commit marker; none at all for a model that is only recorded.
    """
    model = _models() / registration.folder_id
    try:
        with locked(model / ".lock"):
            versions, files = _versions(model), committed_files(checkpoint) if files is None else files
            for known in versions:
                # A run's name may be used again elsewhere, so the bytes have to agree, too.
                if registration.pipeline_job_name and known.registration.pipeline_job_name == registration.pipeline_job_name and known.files == files:
                    known.verify()
                    return known
            _copy(checkpoint, files, registration, model / "versions", _next_number(model))
            return _versions(model)[-1]
    except OSError as error:
        advice = "Make room on the disk, or set TUNELINE_HOME to a folder that can be written."
        raise InfrastructureError(f"{error.filename or model}: {error.strerror}; the model is not registered.", next_action=advice) from error


def keep_in_place(checkpoint: Path, uri: str, registration: Registration) -> Registered:
    """Where there is no registry, the checked checkpoint stays where it is, and its address is its name."""
    files = committed_files(checkpoint)
    verify(checkpoint, files)
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    record = record_of(registration, name=uri, version_id="", aliases=[], create_time=moment, artifact_uri=uri, files=files)
    return Registered(resource_name=uri, record=record)


def remove(version: ModelVersion) -> None:
    """Forget a version and delete its files. Its number stays taken."""
    model = version.folder.parent.parent
    with locked(model / ".lock"):
        outgoing = version.folder.with_name(OUTGOING)
        remove_folder(outgoing)
        version.folder.with_name(f"{version.version}{REMOVED}").touch()
        if version.folder.exists():
            version.folder.rename(outgoing)
        remove_folder(outgoing)


def state() -> tuple[tuple[str, int], ...]:
    """Something that changes whenever a version comes or goes or becomes the champion, and costs less than to read them all."""
    changing = (path for name in ("versions", LINEAGE) for path in _models().glob(f"*/{name}"))
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in changing))


def list_versions(labels: Mapping[str, str] | None = None) -> list[ModelVersion]:
    """All versions of all models that carry the labels, newest first. An empty value asks only for the label."""
    wanted = labels or {}
    versions = [version for model in sorted(_models().glob("*/versions")) for version in _versions(model.parent)]
    chosen = [version for version in versions if all(key in version.labels and value in ("", version.labels[key]) for key, value in wanted.items())]
    return sorted(chosen, key=lambda version: version.create_time, reverse=True)


def get(name: str) -> ModelVersion:
    """The version that is meant by a resource name, model id or display name, each with `@version`, `@alias` or neither; or by `latest`."""
    versions = list_versions()
    if name == "latest" and versions:
        return versions[0]
    for text, wanted in ((name, DEFAULT), name.rsplit("@", 1) if "@" in name else ("", "")):
        for version in versions:
            if text in (version.name, version.model_id, version.registration.display_name) and wanted in (str(version.version), *version.aliases):
                return version
    names = sorted({version.registration.display_name for version in versions})
    raise NotFoundError(
        f"no model {name!r} in {_models()}.{did_you_mean(name, names)}",
        next_action=f"Registered models: {', '.join(names)}." if names else "Nothing is registered yet; a pipeline job registers its model.",
    )


def _copy(checkpoint: Path, files: Mapping[str, FileHash], registration: Registration, versions: Path, number: int) -> None:
    """Everything is made beside its place and appears by one rename, so that a crash leaves no half version."""
    incoming = versions / INCOMING
    remove_folder(incoming)
    copy_verified(checkpoint, incoming / "files", files)
    hashes = {name: asdict(file) for name, file in sorted(files.items())}
    # What only training reads (`state`) stays behind, so the copy has its own commit marker.
    write_json(incoming / "files" / COMMIT, {"step": registration.step, "files": hashes, "state": {}})
    create_time = datetime.now(UTC).isoformat(timespec="microseconds")
    write_json(incoming / RECORD, {**asdict(registration), "create_time": create_time, "files": hashes})
    (incoming / RECORD).chmod(0o600)  # an uploaded container's environment may hold a secret
    incoming.rename(versions / str(number))
    flush_folder(versions)


def _versions(model: Path) -> list[ModelVersion]:
    """The versions of one model, oldest first."""
    folders = sorted((folder for folder in (model / "versions").glob("[0-9]*") if folder.name.isdecimal()), key=lambda folder: int(folder.name))
    champion = (read_json(model / LINEAGE) or {}).get("champion")
    return [_read(folder, is_default=folder == folders[-1], is_champion=int(folder.name) == champion) for folder in folders]


def _next_number(model: Path) -> int:
    """One more than any version has, or had."""
    return max((int(path.name.removesuffix(REMOVED)) for path in (model / "versions").glob("[0-9]*")), default=0) + 1


def _read(folder: Path, *, is_default: bool, is_champion: bool) -> ModelVersion:
    record = read_json(folder / RECORD) or {}
    try:
        create_time, files = record.pop("create_time"), record.pop("files")
        registration = Registration(**record)
    except (KeyError, TypeError) as error:
        raise InfrastructureError(f"{folder / RECORD}: {error}; the record is damaged or was written by another version.") from error
    return ModelVersion(
        registration=registration,
        model_id=registration.model_id or folder.parent.parent.name,
        version=int(folder.name),
        is_default=is_default,
        is_champion=is_champion,
        create_time=str(create_time),
        files={name: FileHash(**file) for name, file in files.items()},
        folder=folder,
    )


def _models() -> Path:
    return home() / "models"
