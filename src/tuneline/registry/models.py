"""Tuned models, registered as files: `models/<model id>/versions/<n>/{record.json, files/...}`.

A version appears by one rename and never changes afterwards. The same checkpoint of the same pipeline job makes one version,
however often and from however many processes it is registered; the same display name, project and region make versions of one model.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tuneline.errors import InfrastructureError, NotFoundError, did_you_mean
from tuneline.registry import home, resource_id
from tuneline.registry.files import COMMIT, FileHash, committed_files, copy_verified, flush_folder, locked, read_json, remove_folder, verify, write_json

BASE_MODEL_LABEL = "google-vertex-llm-tuning-base-model-id"
TUNE_TYPE_LABEL = "tune-type"
RUN_LABEL = "tuneline-run"
RECORD = "record.json"
INCOMING = ".incoming"


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a pipeline job says about the model that it registers."""

    project: str
    location: str
    display_name: str
    pipeline_job_name: str
    base_model: str
    """Reference in the model catalogue, as asked for."""
    stands_in: str = ""
    """Reference of the model that was tuned in its place, if another was."""
    step: int = 0
    """Training step of the checkpoint."""
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One registered version of a model."""

    registration: Registration
    model_id: str
    version: int
    is_default: bool
    """Whether the model's name without a version means this one: the newest."""
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
        """Labels by which the Google SDKs find tuned models, and the run's own."""
        reference, run = self.registration.base_model, self.registration.pipeline_job_name
        return {BASE_MODEL_LABEL: label(reference.replace("@", "-").replace("/", "-")), TUNE_TYPE_LABEL: "sft", RUN_LABEL: label(run)}

    @property
    def artifact_folder(self) -> Path:
        """The model's files, ready to be loaded."""
        return self.folder / "files"

    def verify(self) -> None:
        """Refuse, by name, files that are damaged."""
        verify(self.artifact_folder, self.files)

    def to_json(self) -> dict[str, object]:
        """The record as people and programs see it, spelled as Vertex spells a model."""
        return {
            "name": self.name,
            "versionId": str(self.version),
            "versionAliases": ["default"] if self.is_default else [],
            "displayName": self.registration.display_name,
            "createTime": self.create_time,
            "labels": self.labels,
            "artifactUri": str(self.artifact_folder),
            "baseModel": self.registration.base_model,
            "standsIn": self.registration.stands_in,
            "pipelineJob": self.registration.pipeline_job_name,
            "step": self.registration.step,
            "metrics": dict(self.registration.metrics),
            "files": {name: asdict(file) for name, file in self.files.items()},
        }


def label(text: str) -> str:
    """A label value: up to 63 lower-case letters, digits, dashes and underscores."""
    return "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "-_" else "-" for letter in text.lower())[:63]


def register(checkpoint: Path, registration: Registration) -> ModelVersion:
    """Copy the checkpoint into the registry, every file checked against its hash; the version that this pipeline job has made."""
    model = _models() / resource_id(registration.project, registration.location, registration.display_name)
    try:
        with locked(model / ".lock"):
            versions, files = _versions(model), committed_files(checkpoint)
            for known in versions:
                # A run's name may be used again elsewhere, so the bytes have to agree, too.
                if known.registration.pipeline_job_name == registration.pipeline_job_name and known.files == files:
                    known.verify()
                    return known
            number = max((known.version for known in versions), default=0) + 1
            _copy(checkpoint, files, registration, model / "versions", number)
            return _versions(model)[-1]
    except OSError as error:
        advice = "Make room on the disk, or set TUNELINE_HOME to a folder that can be written."
        raise InfrastructureError(f"{error.filename or model}: {error.strerror}; the model is not registered.", next_action=advice) from error


def list_versions(labels: Mapping[str, str] | None = None) -> list[ModelVersion]:
    """All versions of all models that carry the labels, newest first. An empty value asks only for the label."""
    wanted = labels or {}
    versions = [version for model in sorted(_models().glob("*/versions")) for version in _versions(model.parent)]
    chosen = [version for version in versions if all(key in version.labels and value in ("", version.labels[key]) for key, value in wanted.items())]
    return sorted(chosen, key=lambda version: version.create_time, reverse=True)


def get(name: str) -> ModelVersion:
    """The version that is meant by a resource name, model id or display name, each with `@version` or without; or by `latest`."""
    versions = list_versions()
    if name == "latest" and versions:
        return versions[0]
    for text, wanted in ((name, "default"), name.rsplit("@", 1) if "@" in name else ("", "")):
        for version in versions:
            if text in (version.name, version.model_id, version.registration.display_name) and _is_meant(version, wanted):
                return version
    names = sorted({version.registration.display_name for version in versions})
    raise NotFoundError(
        f"no model {name!r} in {_models()}.{did_you_mean(name, names)}",
        next_action=f"Registered models: {', '.join(names)}." if names else "Nothing is registered yet; a pipeline job registers its model.",
    )


def _is_meant(version: ModelVersion, wanted: str) -> bool:
    return version.is_default if wanted == "default" else wanted == str(version.version)


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
    incoming.rename(versions / str(number))
    flush_folder(versions)


def _versions(model: Path) -> list[ModelVersion]:
    """The versions of one model, oldest first."""
    folders = sorted((folder for folder in (model / "versions").glob("[0-9]*")), key=lambda folder: int(folder.name))
    return [_read(folder, is_default=folder == folders[-1]) for folder in folders]


def _read(folder: Path, *, is_default: bool) -> ModelVersion:
    record = read_json(folder / RECORD) or {}
    try:
        create_time, files = record.pop("create_time"), record.pop("files")
        registration = Registration(**record)
    except (KeyError, TypeError) as error:
        raise InfrastructureError(f"{folder / RECORD}: {error}; the record is damaged or was written by another version.") from error
    return ModelVersion(
        registration=registration,
        model_id=folder.parent.parent.name,
        version=int(folder.name),
        is_default=is_default,
        create_time=str(create_time),
        files={name: FileHash(**file) for name, file in files.items()},
        folder=folder,
    )


def _models() -> Path:
    return home() / "models"
