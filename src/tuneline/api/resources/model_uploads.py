"""Uploaded models: a folder that can be served becomes a registered model; anything else is recorded as it was described."""

import re
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path

from tuneline.api.faults import Fault, invalid
from tuneline.api.resources.model_messages import RECORDED, UploadModelRequest
from tuneline.api.resources.model_versions import KIND, exists, find_version, synchronise
from tuneline.api.service import Place, Service
from tuneline.api.store import Body, Store
from tuneline.data.base_model import FETCHED_FILES, locate
from tuneline.registry import home, lineage, models, resource_id
from tuneline.registry.files import COMMIT, hashed_files
from tuneline.registry.models import ModelVersion, Registration
from tuneline.storage import Storage

CONFIGURATIONS = ("config.json", "adapter_config.json")
"""One of them makes a folder a model's, or an adapter's."""
_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_URI = re.compile(r"(gs://[^/.][^/]*/|file:///|/)[^\0]+")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_begun: "weakref.WeakKeyDictionary[Store, set[str]]" = weakref.WeakKeyDictionary()
"""Models that get their first version just now. Copying takes a while, and nobody else may begin a model of the same name meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A request that may be carried out."""

    registration: Registration
    artifact_uri: str

    @property
    def model(self) -> str:
        """The model's resource name."""
        registration = self.registration
        return f"{Place(registration.project, registration.location).name}/{KIND}/{registration.model_id or registration.folder_id}"


def admit(service: Service, place: Place, request: UploadModelRequest) -> Upload:
    """The upload, or a Fault with everything that is wrong with it."""
    resource = {name: value for name, value in request.model.to_json().items() if name in RECORDED}
    problems = [] if request.model.display_name else ["model.displayName is missing."]
    problems += alias_problems(request.model.version_aliases)
    if request.model_id and not _ID.fullmatch(request.model_id):
        problems.append(f"modelId: found {request.model_id!r}; expected up to 63 lower-case letters, digits, dashes and underscores, a letter first.")
    if request.model_id and request.parent_model:
        problems.append("modelId: found together with parentModel, which has an id already. Give one of them.")
    uri = request.model.artifact_uri
    if uri and not _URI.fullmatch(uri):
        problems.append(f"model.artifactUri: {_wrong(uri)}")
    if problems:
        raise invalid(*problems)
    display_name, model_id = request.model.display_name, request.model_id
    if request.parent_model:
        name = request.parent_model if "/" in request.parent_model else f"{place.name}/{KIND}/{request.parent_model}"
        parent = models.get(find_version(service, name.partition("@")[0])["name"]).registration
        place, display_name, model_id = Place(parent.project, parent.location), parent.display_name, parent.model_id
    elif model_id:
        _begin(service, f"{place.name}/{KIND}/{model_id}")
    else:
        model_id = resource_id(place.name, uuid.uuid4().hex)
    registration = Registration(project=place.project, location=place.location, display_name=display_name, model_id=model_id, resource=resource)
    return Upload(registration=registration, artifact_uri=uri)


def carry_out(service: Service, upload: Upload) -> Body:
    """Register the model; an UploadModelResponse."""
    registered = register(service, upload)
    return {"model": registered.name, "modelVersionId": str(registered.version)}


def register(service: Service, upload: Upload, *, must_be_servable: bool = False) -> ModelVersion:
    """Copy what can be served into the registry, and record the rest."""
    try:
        return _register(service, upload, must_be_servable=must_be_servable)
    finally:
        _begun.get(service.store, set()).discard(upload.model)


def _begin(service: Service, model: str) -> None:
    with service.store.transaction():
        begun = _begun.setdefault(service.store, set())
        if model in begun or exists(service, model):
            raise Fault("ALREADY_EXISTS", f"{model} exists already. Name it as parentModel to make its next version.")
        begun.add(model)


def _register(service: Service, upload: Upload, *, must_be_servable: bool) -> ModelVersion:
    folder = _folder(service, upload.artifact_uri) if upload.artifact_uri else None
    if must_be_servable and folder is None:
        expected = f"expected the folder of a model: {' or '.join(CONFIGURATIONS)}, and *.safetensors"
        raise invalid(f"{upload.artifact_uri}: {expected}. Name the folder itself, as in .../checkpoints/final.")
    if folder is None:
        registered = models.register(Path(), upload.registration, files={})
    else:
        try:
            files = None if (folder / COMMIT).exists() else hashed_files(folder, FETCHED_FILES)
        except OSError as error:
            raise invalid(f"{error.filename}: {error.strerror}.") from None
        registered = models.register(folder, upload.registration, files)
    if models.CHAMPION in upload.registration.resource.get("versionAliases", []):
        lineage.promote(registered)
    synchronise(service)
    return registered


def alias_problems(aliases: list[str]) -> list[str]:
    """What is wrong with version aliases."""
    return [
        f"versionAliases: found {alias!r}; expected a letter, then letters, digits and dashes, at most 128 in all."
        for alias in aliases
        if not _ALIAS.fullmatch(alias)
    ]


def artifact_names(service: Service, uri: str) -> tuple[Path | None, list[str]]:
    """The local folder of an artifact URI, if it has one, and the names of the files on its own level."""
    if not _URI.fullmatch(uri):
        raise invalid(_wrong(uri))
    in_cloud = uri.startswith("gs://")
    path = service.settings.home / "buckets" / uri.removeprefix("gs://") if in_cloud else Path(uri.removeprefix("file://"))
    try:
        is_here = path.is_dir() and not (in_cloud and ".." in path.parts)
        if in_cloud and not is_here:
            return None, [name for name in Storage().list(uri) if "/" not in name]
        if is_here:
            return path, sorted(file.name for file in path.iterdir() if file.is_file())
    except OSError as error:
        raise invalid(f"{uri}: {error.strerror}.") from None
    raise invalid(f"{uri} is no folder on this machine. Check the spelling.")


def _wrong(uri: str) -> str:
    return f"found {uri[:200]!r}; expected a gs:// URI or the absolute path of a folder."


def _folder(service: Service, uri: str) -> Path | None:
    """The folder of a model that can be served; nothing when the URI names something else."""
    path, names = artifact_names(service, uri)
    if not any(name in CONFIGURATIONS for name in names) or not any(name.endswith(".safetensors") for name in names):
        return None
    return path or locate(uri, downloads=home() / "downloads")
