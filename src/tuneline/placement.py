"""Where a job runs and on what: three regions, a machine and a batch size, each with its reason. Pure.

The pipeline runs where it was submitted, the model goes to `location`, and tuning computes where the accelerator is, or where `tuneline.overrides` says.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneline.catalog import ACCELERATORS, Catalog
from tuneline.catalog.base_model import context_of
from tuneline.catalog.rows import MachineRow
from tuneline.errors import ParameterError, did_you_mean
from tuneline.overrides import Overrides, choose_machine, fallbacks, sentences
from tuneline.resolution import Backend, JobSettings, Launch, Machine, Resolved

_CONTINENTS = {"us": "us-", "eu": "europe-", "asia": "asia-"}
_PAIRS = {
    "nam4": ("us-central1", "us-east1"),
    "eur4": ("europe-north1", "europe-west4"),
    "eur5": ("europe-west1", "europe-west2"),
    "eur7": ("europe-west2", "europe-west3"),
    "eur8": ("europe-west3", "europe-west6"),
    "asia1": ("asia-northeast1", "asia-northeast2"),
}
"""Predefined dual-regions of Cloud Storage."""
PLACEHOLDER = "{{$."
VERTEX_REGION = "CLOUD_ML_REGION"
KEY_NAME = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")
TENSORBOARD_NAME = re.compile(r"projects/[^/]+/locations/([^/]+)/tensorboards/[0-9]+")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for. Names and empty values are those of the pipeline parameters."""

    pipeline_location: str
    """Region of the pipeline job, `local`, or text that only Vertex and the embedded engine replace."""
    location: str = ""
    accelerator_type: str = ""
    encryption_spec_key_name: str = ""
    tensorboard_resource_id: str = ""
    batch_size: int = 0
    is_open_model: bool = False
    """Whether the base model is an open one, asked for by its own name, and not by a hosted reference."""
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What the job gets."""

    backend: Backend
    pipeline_region: str
    upload_region: str
    tuning_region: str
    machine_type: str
    accelerator_type: str
    accelerator_count: int
    batch_size: int
    launch: Launch
    fallbacks: tuple[Machine, ...]
    job: JobSettings
    reasons: tuple[str, ...]
    """One sentence each."""


def pipeline_location_of(text: str, environment: Mapping[str, str]) -> str:
    """The region that a task was given as a JSON list of one text: Vertex's, `local`, or the placeholder that nobody has replaced.

    Whether Vertex replaces placeholders inside lists is not documented. Its containers know their region by this variable, too
    (google-cloud-aiplatform's own default), so a placeholder that is left means Kubernetes only where the variable is not set.
    """
    [location] = json.loads(text)
    return str(environment.get(VERTEX_REGION) or location if PLACEHOLDER in location else location)


def resolve_placement(catalog: Catalog, request: Request, *, sequence_length: int, local_batch_size: int, has_gpu: bool) -> Placement:
    """Decide. Raises one ParameterError with everything that cannot be."""
    problems: list[str] = []
    backend, pipeline_region = _pipeline_region(catalog, request, problems)
    upload_region = request.location or pipeline_region
    uploads = [*_vertex_regions(catalog, request), *([] if backend == "vertex" else catalog.region_names(backend))]
    if upload_region not in uploads and not (problems and not request.location):
        problems.append(_unknown_region("location", request.location, uploads))
    accelerator, accelerator_reason = _accelerator(backend, request.accelerator_type, problems, has_gpu=has_gpu)
    usual = catalog.machine(backend, accelerator, open_model_in=pipeline_region if request.is_open_model else "")
    machine = choose_machine(catalog, usual, backend, request.overrides, problems)
    others = fallbacks(catalog, request.overrides, problems) if backend == "vertex" else ()
    problems += _key_problems(catalog, request, (pipeline_region, upload_region), accelerator, [machine, *others])
    problems += _tensorboard_problems(request, backend, pipeline_region)
    if problems:
        raise ParameterError(*problems)
    batch_size, batch_reason = _batch_size(catalog, request, backend, usual, sequence_length, local_batch_size)
    reasons = [
        f"The pipeline runs {_where(pipeline_region)}: it was submitted there.",
        f"The model is registered {_where(upload_region)}: {'location asks for it' if request.location else 'location is not set'}.",
        accelerator_reason,
        _tuning_reason(usual, machine, accelerator, backend, request.overrides),
        *(sentences(machine, request.overrides, others) if backend == "vertex" else ()),
        batch_reason,
    ]
    if request.encryption_spec_key_name:
        reasons.append(f"Data and model are encrypted with your key: pipeline, upload and tuning are all in {machine.region}, as the key is.")
    return Placement(
        backend=backend, pipeline_region=pipeline_region, upload_region=upload_region, tuning_region=machine.region, machine_type=machine.machine_type,
        accelerator_type=machine.accelerator_type, accelerator_count=machine.accelerator_count, batch_size=batch_size,
        launch=_launch(backend, request.accelerator_type), fallbacks=others, job=request.overrides.job, reasons=tuple(reasons),
    )  # fmt: skip


def bucket_warnings(resolved: Resolved, locations: Mapping[str, tuple[str, str]]) -> list[str]:
    """What is slow or costly about where the buckets are. `locations`: parameter -> bucket and its location, `europe-west4` or a multi-region like `eu`."""
    warnings = []
    for parameter, (bucket, location) in locations.items():
        wanted = resolved.upload_region if parameter == "model_output_root_dir" else resolved.tuning_region
        if resolved.backend == "vertex" and not covers(location, (), wanted):
            purpose = "the model is registered" if parameter == "model_output_root_dir" else "tuning computes"
            warnings.append(f"{parameter}: the bucket {bucket} is in {location.lower()}, and {purpose} in {wanted}: each run pays for the way between them.")
    return warnings


def covers(location: str, places: Sequence[str], region: str) -> bool:
    """Whether a bucket at `location` (or with data in these places, for a dual-region of one's own) has its data in a region."""
    location = location.lower()
    if location in _CONTINENTS:
        return region.startswith(_CONTINENTS[location])
    return region in (location, *_PAIRS.get(location, ()), *(place.lower() for place in places))


def _launch(backend: Backend, accelerator_type: str) -> Launch:
    """A Vertex task can only run in the pipeline's region, and a Kubernetes task's pod has no accelerator unless a TrainJob gets it one."""
    if backend == "vertex":
        return "custom-job"
    return "train-job" if backend == "kubernetes" and accelerator_type else "in-place"


def _vertex_regions(catalog: Catalog, request: Request) -> list[str]:
    return catalog.region_names("vertex", hosted=not request.is_open_model)


def _pipeline_region(catalog: Catalog, request: Request, problems: list[str]) -> tuple[Backend, str]:
    location = request.pipeline_location
    if PLACEHOLDER in location:  # stock Kubeflow Pipelines leaves Vertex's placeholder as it is
        return "kubernetes", "kubernetes"
    row = catalog.regions.get(location)
    known = [name for name in catalog.regions if catalog.regions[name].backend != "vertex" or name in _vertex_regions(catalog, request)]
    if row is None or location not in known:
        hint = " Only open models may be there." if row else ""
        problems.append(_unknown_region("pipeline region", location, known) + hint)
        return "vertex", location
    return row.backend, row.name


def _unknown_region(what: str, found: str, known: Sequence[str]) -> str:
    return f"{what}: found {found!r}; expected one of {', '.join(known)}.{did_you_mean(found.lower(), known)}"


def _accelerator(backend: Backend, asked: str, problems: list[str], *, has_gpu: bool) -> tuple[str, str]:
    """The accelerator and the reason for it."""
    choices = [choice for choice in ACCELERATORS[backend] if choice != "CPU"]
    if asked and asked not in choices:
        hint = " Leave it out to tune on the CPU where there is no GPU." if asked.upper() == "CPU" else did_you_mean(asked.upper(), choices)
        problems.append(f"accelerator_type: found {asked!r}; expected 'GPU', 'TPU' or nothing.{hint}")
        return choices[0], ""
    if asked == "GPU" and backend == "local" and not has_gpu:
        problems.append("accelerator_type: found 'GPU'; this machine has no GPU that can be used. Leave accelerator_type out to tune on the CPU.")
    if asked:
        return asked, f"The accelerator is {asked}: accelerator_type asks for it."
    if backend == "vertex":
        return "GPU", "The accelerator is GPU: accelerator_type is not set, and GPU is the default."
    if has_gpu:
        return "GPU", "The accelerator is GPU: accelerator_type is not set, and this machine has one."
    return "CPU", "There is no accelerator: accelerator_type is not set, and this machine has no GPU."


def _key_problems(catalog: Catalog, request: Request, regions: tuple[str, str], accelerator: str, machines: Sequence[Machine]) -> list[str]:
    """Why a customer-managed key cannot be used: it must be where the data (pipeline), the machines and the model (upload) are."""
    key = request.encryption_spec_key_name
    if not key:
        return []
    match = KEY_NAME.fullmatch(key)
    if not match:
        return [f"encryption_spec_key_name: found {key!r}; expected projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY. Give the whole name."]
    homes = sorted({row.region for row in catalog.machines.values() if row.cmek})
    problems = []
    for machine in machines:
        if machine.region not in homes:
            found = f"{accelerator} tuning in {machine.region}"
            problems.append(f"encryption_spec_key_name: found a key with {found}; expected GPU tuning in {' or '.join(homes)}. Leave the key out.")
    expected = [machines[0].region] if machines[0].region in homes else homes
    for what, region in (("pipeline region", regions[0]), ("location (model upload)", regions[1]), ("key's own region", match[1])):
        if region not in expected:
            problems.append(f"encryption_spec_key_name: the {what} is {region!r}; expected {' or '.join(expected)}. Change it, or leave the key out.")
    return problems


def _tensorboard_problems(request: Request, backend: Backend, pipeline_region: str) -> list[str]:
    name = request.tensorboard_resource_id
    if not name:
        return []
    match = TENSORBOARD_NAME.fullmatch(name)
    if not match:
        return [f"tensorboard_resource_id: found {name!r}; expected projects/PROJECT/locations/REGION/tensorboards/NUMBER. Give the whole name."]
    if backend == "vertex" and match[1] != pipeline_region:
        return [f"tensorboard_resource_id: found one in {match[1]!r}; expected one in the pipeline's region {pipeline_region!r}. Give one of that region."]
    return []


def _batch_size(
    catalog: Catalog, request: Request, backend: Backend, machine: MachineRow, sequence_length: int, local_batch_size: int
) -> tuple[int, str]:  # fmt: skip
    if request.batch_size > 0:
        return request.batch_size, f"A step sees {request.batch_size} examples: batch_size asks for it."
    row = catalog.batch_size(machine.region, context_of(sequence_length)) if backend == "vertex" and not request.is_open_model else None
    if row:
        return row.batch_size, f"A step sees {row.batch_size} examples: the batch size of {row.context} models tuned in {row.region}."
    return local_batch_size, f"A step sees {local_batch_size} examples: the base model's own batch size."


def _tuning_reason(usual: MachineRow, machine: Machine, accelerator: str, backend: Backend, overrides: Overrides) -> str:
    if backend != "vertex":
        return f"Tuning computes {_where(machine.region)}, on {accelerator}: outside Vertex a task runs where the pipeline runs."
    on = f"{machine.machine_type} with {machine.accelerator_count} x {machine.accelerator_type}" if machine.accelerator_type else machine.machine_type
    asked = [name for name in ("tuning_location", "machine_type", "accelerator_count") if getattr(overrides, name)]
    if asked:
        why = f"{' and '.join(asked)} {'ask' if len(asked) > 1 else 'asks'} for it"
    elif usual.models == "open":
        why = "open models are tuned in the region of their pipeline"
    else:
        why = f"on Vertex, {accelerator} tuning always does, whatever the other regions"
    return f"Tuning computes {_where(machine.region)} on {on}: {why}."


def _where(region: str) -> str:
    return {"local": "on this machine", "kubernetes": "in this Kubernetes cluster"}.get(region, f"in {region}")
