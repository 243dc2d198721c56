"""What serves the tuned model, and what is wrong with the parameters of its registration and deployment. Pure."""

import math
import re
from collections.abc import Iterator

from tuneline.catalog import Catalog
from tuneline.errors import did_you_mean
from tuneline.image_references import registry_of
from tuneline.parameters import DeployModel
from tuneline.resolution import Backend, Machine, ResolvedModel

ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
FOLDER = re.compile(r"gs://[^/]+(/.*)?")
RESOURCES = {"parent_model": "models", "target_endpoint": "endpoints"}
"""Parameter -> the kind of resource in the upload region that it names."""
LOADING_SECONDS, SECONDS_PER_GIB, LONGEST_LOADING_SECONDS = 1800, 60, 7200
"""How long a server may take until it answers: for the machine and the image, for each GiB of weights, and what Vertex AI allows at most."""
MOST_HOURS = 365 * 24
KSERVE_SCHEMES = ("gs://", "s3://")
"""Where KServe reads models without further settings, and Kubeflow Pipelines can keep them."""
ONLY_ON_VERTEX = (
    "parent_model", "version_aliases", "model_output_root_dir", "serving_container_image_uri", "target_endpoint", "dedicated_endpoint_enabled",
    "traffic_percentage", "serving_spot", "undeploy_after_hours",
)  # fmt: skip
OF_DEPLOYMENT = (
    "target_endpoint", "dedicated_endpoint_enabled", "traffic_percentage", "serving_machine_type", "min_replica_count", "max_replica_count", "serving_spot",
    "undeploy_after_hours",
)  # fmt: skip
ELSEWHERE = ("serving_machine_type", "min_replica_count", "max_replica_count")
"""What a Kubernetes cluster heeds, too, but not this machine."""


def serving_machine(catalog: Catalog, base: ResolvedModel, parameters: DeployModel, upload_region: str, problems: list[str]) -> Machine | None:
    """The machine that serves. Adds to `problems` why there is none."""
    model = catalog.model(base.reference).reference
    usual = next((row.machine_type for row in catalog.serving.values() if catalog.model(row.model).reference == model), "")
    name = parameters.serving_machine_type or usual
    row = catalog.machine_types.get(name)
    if row:
        return Machine(region=upload_region, machine_type=row.name, accelerator_type=row.accelerator_type, accelerator_count=row.accelerator_count)
    if name:
        hint = did_you_mean(name, catalog.machine_types) or " Another one needs a [[machine_type]] row in a catalogue file."
        problems.append(f"serving_machine_type: found {name!r}; expected one of {', '.join(catalog.machine_types)}.{hint}")
    else:
        problems.append(f"serving_machine_type: is empty, and no [[serving]] row is for {model!r}. Give a machine type, or set deploy_model to false.")
    return None


def problems(parameters: DeployModel, backend: Backend, upload_region: str, root: str) -> Iterator[str]:
    """What cannot be, whatever the base model. `root` is a URI below the pipeline root, or nothing when that is not known yet."""
    if parameters.deploy_model and backend == "kubernetes" and root and not root.startswith(KSERVE_SCHEMES):
        yield f"deploy_model: artifacts are at {root}; KServe reads {' and '.join(KSERVE_SCHEMES)}. Set another pipeline root, or deploy_model to false."
    if not 0 <= parameters.traffic_percentage <= 100:
        yield f"traffic_percentage: found {parameters.traffic_percentage}; expected 0 to 100. The default is 100."
    if parameters.min_replica_count < 1:
        yield f"min_replica_count: found {parameters.min_replica_count}; expected 1 or more. The default is 1."
    if parameters.max_replica_count < parameters.min_replica_count:
        yield f"max_replica_count: found {parameters.max_replica_count}; expected min_replica_count ({parameters.min_replica_count}) or more."
    image = parameters.serving_container_image_uri
    if backend == "vertex" and parameters.upload_model and image and (problem := serving_image_problem(image)):
        yield f"{problem} Push the predictor's image there and give its URI."
    if not 0 <= parameters.undeploy_after_hours <= MOST_HOURS:
        yield f"undeploy_after_hours: found {parameters.undeploy_after_hours}; expected at most {MOST_HOURS} hours, a year, or 0 for never."
    for alias in aliases_in(parameters.version_aliases):
        if not ALIAS.fullmatch(alias):
            yield f"version_aliases: found {alias!r}; expected a small letter, then letters, digits and dashes, a small letter or digit last."
    if parameters.model_output_root_dir and not FOLDER.fullmatch(parameters.model_output_root_dir):
        yield f"model_output_root_dir: found {parameters.model_output_root_dir!r}; expected gs://BUCKET/FOLDER."
    for name, kind in RESOURCES.items() if backend == "vertex" else ():
        value = getattr(parameters, name)
        match = re.fullmatch(rf"projects/[^/]+/locations/([^/]+)/{kind}/[^/]+", value)
        if value and not match:
            yield f"{name}: found {value!r}; expected projects/PROJECT/locations/REGION/{kind}/ID. Give the whole name."
        elif match and match[1] != upload_region:
            yield f"{name}: found one in {match[1]!r}; the model is registered in {upload_region!r}. Set location to {match[1]}, or give another one."


def serving_image_problem(image: str) -> str:
    """Why Vertex AI cannot pull an image that serves a model, or nothing."""
    names_none = registry_of(image) in ("", "localhost")
    told = f"serving_container_image_uri: found the image {image!r}, which names no registry; Vertex AI pulls from Artifact Registry."
    return told if names_none else ""


def aliases_in(text: str) -> tuple[str, ...]:
    """The aliases of a text that separates them by commas."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def loading_seconds(num_bytes: int) -> int:
    """How long the server of a model of this size may take until it answers."""
    return min(LONGEST_LOADING_SECONDS, LOADING_SECONDS + SECONDS_PER_GIB * math.ceil(num_bytes / 2**30))
