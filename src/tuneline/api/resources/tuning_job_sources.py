"""Which model a tuning job begins with: a reference of the catalogue, weights of the user's own, or a model that was tuned before."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuneline.api.faults import Fault
from tuneline.api.filters import Condition
from tuneline.api.resources.model_versions import find_version
from tuneline.api.resources.tuning_job_messages import PreTunedModel, TuningJob
from tuneline.api.resources.tuning_job_view import KIND, checkpoints_folder
from tuneline.api.service import Service
from tuneline.api.store import Body, Query
from tuneline.catalog.base_model import BaseModel
from tuneline.errors import ModelError, UserError
from tuneline.evaluation.candidates import find_candidates
from tuneline.registry import models
from tuneline.registry.models import ModelVersion
from tuneline.storage import Storage, join

MODEL_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/models/[^/@]+(@[^/@]+)?")
PUBLISHER = re.compile(r"publishers/([^/]+)/models/([^/]+)")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where tuning begins."""

    reference: str
    """In the model catalogue."""
    base_model_uri: str = ""
    """Weights that are tuned instead of the reference's own."""
    display_name: str = ""
    """Of the model that is tuned further."""


def find_source(service: Service, job: TuningJob, problems: list[str]) -> Source | None:
    """What the request means; nothing, and the reason in `problems`, when that does not exist."""
    if job.pre_tuned_model:
        return _pre_tuned(service, job.pre_tuned_model, problems)
    return Source(reference=reference_of(job.base_model), base_model_uri=job.custom_base_model) if job.base_model else None


def reference_of(base_model: str) -> str:
    """The catalogue's spelling of a base model: the resource name of a publisher's model is understood, too."""
    match = PUBLISHER.fullmatch(base_model)
    if not match:
        return base_model
    return match[2] if match[1] == "google" and "@" not in match[2] else f"{match[1]}/{match[2]}"


def custom_model_problems(uri: str, base: BaseModel) -> Iterator[str]:
    """Why the folder of `customBaseModel` cannot be tuned in the place of the base model's own weights."""
    if uri.startswith("hf://"):
        return
    try:
        config = json.loads(Storage().read_text(join(uri, "config.json")))
    except UserError as error:
        yield f"customBaseModel: {error} Expected a folder with a model's config.json, tokenizer and safetensors files."
        return
    except ValueError:
        yield f"customBaseModel: {join(uri, 'config.json')} is not JSON; expected the folder of a model."
        return
    found = config.get("architectures") if isinstance(config, dict) else None
    if found != [base.row.architecture]:
        shown = " ".join(map(str, found))[:200] if isinstance(found, list) else "nothing"
        yield f"customBaseModel: {uri}: found {shown}; {base.row.reference} is a {base.row.architecture}. Give weights of the same architecture."


def _pre_tuned(service: Service, given: PreTunedModel, problems: list[str]) -> Source | None:
    name = given.tuned_model_name
    if not MODEL_NAME.fullmatch(name):
        problems.append(f"preTunedModel.tunedModelName: found {name!r}; expected projects/PROJECT/locations/REGION/models/MODEL, with @VERSION or without.")
        return None
    try:
        version = registered(service, name)
    except Fault as fault:
        problems.append(f"preTunedModel.tunedModelName: {fault}")
        return None
    if not version.registration.base_model:
        problems.append(f"preTunedModel.tunedModelName: {name} was uploaded, not tuned. Give its base model as baseModel and its folder as customBaseModel.")
        return None
    folder = _checkpoint(service, version, given.checkpoint_id, problems) if given.checkpoint_id else version.artifact_folder
    registration = version.registration
    return Source(reference=registration.base_model, base_model_uri=str(folder), display_name=registration.display_name) if folder else None


def _checkpoint(service: Service, version: ModelVersion, checkpoint_id: str, problems: list[str]) -> Path | None:
    """The folder of a tuned model's checkpoint: they stay with the run of the job that made the model."""
    owner = owner_of(service, version.resource_name)
    known = owner["tunedModel"].get("checkpoints", []) if owner else []
    step = next((int(checkpoint["step"]) for checkpoint in known if checkpoint["checkpointId"] == checkpoint_id), 0)
    if not step or owner is None:
        expected = f"one of {', '.join(checkpoint['checkpointId'] for checkpoint in known)}" if known else "none: no tuning job of this service made the model"
        problems.append(f"preTunedModel.checkpointId: found {checkpoint_id!r}; expected {expected}. Leave it out for the last checkpoint.")
        return None
    artifact = checkpoints_folder(service.jobs, owner)
    folder = _candidates(artifact).get(step)
    if folder is None:
        problems.append(f"preTunedModel.checkpointId: checkpoint {checkpoint_id} is no longer in the run's folder. Leave it out for the last checkpoint.")
    return folder


def _candidates(artifact: Path | None) -> dict[int, Path]:
    try:
        return find_candidates(artifact) if artifact else {}
    except ModelError:  # nothing is left
        return {}


def registered(service: Service, name: str) -> ModelVersion:
    """The version behind a model's resource name, alone or with a version or an alias; NOT_FOUND without one."""
    return models.get(str(find_version(service, name)["name"]))


def owner_of(service: Service, model: str) -> Body | None:
    """The tuning job that made a model version, if one of this service did."""
    condition = Condition("json_extract(body, '$.tunedModel.model') = ?", (model,))
    return next(iter(service.store.page(Query(kind=KIND, parent="*", condition=condition), limit=1)), None)
