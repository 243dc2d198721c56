"""Parameters, template and catalogue -> what is wrong, what has no effect, and the resolved choices. Pure.

Every problem names the parameter, what was found, what is expected and what to do; all are found at once.
"""

import math
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import get_args, get_type_hints

from tuneline.catalog import Catalog
from tuneline.catalog.base_model import BaseModel, resolve_base_model
from tuneline.catalog.rows import Kind
from tuneline.deployment import ELSEWHERE, OF_DEPLOYMENT, ONLY_ON_VERTEX, serving_machine
from tuneline.deployment import problems as deployment_problems
from tuneline.errors import ParameterError, did_you_mean
from tuneline.overrides import Overrides
from tuneline.parameters import TuningParameters
from tuneline.placement import PLACEHOLDER, Placement, Request, resolve_placement
from tuneline.resolution import Backend, JobSettings, Machine, Resolved

KINDS: Mapping[str, tuple[Kind, ...]] = {"tune-large-model": ("text", "code", "any"), "tune-large-chat-model": ("text", "chat", "codechat", "any")}
"""Template -> the kinds of model references that it takes. A template that is not here takes all. The hosted templates share one
list of inputs, with a text model as the default; so the chat template takes that too."""
GENERATION_METRICS = ("exact_match", "rouge_l", "chrf")
_ON_KUBERNETES = ("accelerator_count", "replica_count", "tuning_image_uri")
"""Settings of the job that tunes which a Kubeflow TrainJob has as well."""
DEFAULTS = {field.name: field.default for field in fields(TuningParameters)}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The outcome. `resolved` is there when there is no problem."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    resolved: Resolved | None


def check(parameters: TuningParameters, *, template: str, catalog: Catalog, pipeline_location: str, has_gpu: bool, root: str = "") -> Findings:
    """Everything that can be said before a file is opened. `root` is a URI below the pipeline root, where that is known."""
    problems = [*_placeholders(parameters), *_required(parameters), *_ranges(parameters), *_choices(parameters), *_not_available(parameters)]
    base, placement = None, None
    try:
        base = resolve_base_model(
            catalog, parameters.large_model_reference, max_context_length=parameters.max_context_length, base_model_uri=parameters.base_model_uri
        )
        problems += _model_problems(base, template)
    except ParameterError as error:
        problems += error.problems
    try:
        placement = _place(parameters, catalog, base, pipeline_location, has_gpu=has_gpu)
    except ParameterError as error:
        problems += error.problems
    backend: Backend = placement.backend if placement else "kubernetes"  # its rules about URIs are the mildest
    problems += _uri_problems(parameters, base, backend)
    problems += _champion_problems(parameters, backend, root)
    problems += deployment_problems(parameters, backend, placement.upload_region if placement else parameters.location, root)
    is_served = parameters.deploy_model and backend != "local"
    serving = serving_machine(catalog, base.resolved, parameters, placement.upload_region, problems) if is_served and base and placement else None
    resolved = _resolved(base, placement, serving) if base and placement and not problems else None
    return Findings(problems=tuple(dict.fromkeys(problems)), warnings=tuple(without_effect(parameters, backend)), resolved=resolved)


def not_built_yet(resolved: Resolved) -> list[str]:
    """What can be explained but not run."""
    problems = []
    if resolved.accelerator_type.startswith("TPU"):
        problems.append("accelerator_type: found 'TPU'; tuning on TPU is not built yet. Use GPU, or leave accelerator_type out.")
    return problems


def _champion_problems(parameters: TuningParameters, backend: Backend, root: str) -> Iterator[str]:
    """A pod reads the champion from where an earlier run's files are: from Cloud Storage. The credentials of other stores are the orchestrator's alone."""
    if backend == "kubernetes" and root and not root.startswith("gs://"):
        for name in ("champion_gate", "continue_from_champion"):
            if getattr(parameters, name):
                yield f"{name}: artifacts are at {root}; later runs read the champion from gs:// only. Set another pipeline root, or {name} to false."


def _place(parameters: TuningParameters, catalog: Catalog, base: BaseModel | None, pipeline_location: str, *, has_gpu: bool) -> Placement:
    request = Request(
        pipeline_location=pipeline_location, location=parameters.location, accelerator_type=parameters.accelerator_type,
        encryption_spec_key_name=parameters.encryption_spec_key_name, tensorboard_resource_id=parameters.tensorboard_resource_id,
        batch_size=parameters.batch_size, is_open_model=base is not None and not base.resolved.legacy, overrides=_overrides(parameters),
    )  # fmt: skip
    length, batch_size = (base.resolved.max_sequence_length, base.row.local_batch_size) if base else (1, 1)
    return resolve_placement(catalog, request, sequence_length=length, local_batch_size=batch_size, has_gpu=has_gpu)


def _overrides(parameters: TuningParameters) -> Overrides:
    job = JobSettings(**{field.name: getattr(parameters, field.name) for field in fields(JobSettings)})
    return Overrides(job=job, **{field.name: getattr(parameters, field.name) for field in fields(Overrides) if field.name != "job"})


def _resolved(base: BaseModel, placement: Placement, serving: Machine | None) -> Resolved:
    reasons = [*base.reasons, *placement.reasons]
    if serving:
        on = f" with {serving.accelerator_count} x {serving.accelerator_type}" if serving.accelerator_type else ""
        reasons.append(f"The model is served in {serving.region} on {serving.machine_type}{on}.")
    return Resolved(base_model=base.resolved, limits=base.limits, serving=serving, **{**vars(placement), "reasons": tuple(reasons)})


def _placeholders(parameters: TuningParameters) -> Iterator[str]:
    for name, value in asdict(parameters).items():
        if isinstance(value, str) and PLACEHOLDER in value:
            yield f"{name}: contains {PLACEHOLDER!r}, which an orchestrator would replace. Write it in another way, or bring it in the data file."


def _required(parameters: TuningParameters) -> Iterator[str]:
    if not parameters.project:
        yield "project: is empty; expected a project id. Give the project that owns the model (any name on your own machine)."
    if not 1 <= len(parameters.model_display_name) <= 128:
        yield f"model_display_name: has {len(parameters.model_display_name)} characters; expected 1 to 128. Give the tuned model a name."
    if not parameters.dataset_uri and not parameters.dataset_name:
        yield "dataset_uri: is empty; expected the training examples. Give a JSONL file: a gs:// URI or a path."


def _ranges(parameters: TuningParameters) -> Iterator[str]:
    least = {"train_steps": 1, "evaluation_interval": 1, "evaluation_max_tokens": 1, "evaluation_num_prompts": 0, "batch_size": 0, "seed": 0}
    for name, minimum in least.items():
        if getattr(parameters, name) < minimum:
            yield f"{name}: found {getattr(parameters, name)}; expected {minimum} or more. The default is {DEFAULTS[name]}."
    if parameters.learning_rate != -1 and not _is_rate(parameters.learning_rate):
        yield f"learning_rate: found {parameters.learning_rate}; expected a number above 0, or -1. Leave it out and use learning_rate_multiplier."
    for name in ("champion_margin", "max_general_loss_increase"):
        value = getattr(parameters, name)
        if not (math.isfinite(value) and value >= 0):
            yield f"{name}: found {value}; expected 0 or more. The default is {DEFAULTS[name]:g}."
    if not _is_rate(parameters.learning_rate_multiplier):
        yield f"learning_rate_multiplier: found {parameters.learning_rate_multiplier}; expected a number above 0. The default is 1."


def _is_rate(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _choices(parameters: TuningParameters) -> Iterator[str]:
    kinds = get_type_hints(TuningParameters)
    for name in ("enable_checkpoint_selection", "selection_metric", "overlength_policy", "scheduling_strategy"):
        value, choices = getattr(parameters, name), get_args(kinds[name])
        if value not in choices:
            yield f"{name}: found {value!r}; expected one of {', '.join(map(repr, choices))}.{did_you_mean(value, choices)}"
    if parameters.selection_metric in GENERATION_METRICS and parameters.evaluation_data_uri and _compares(parameters) and not parameters.evaluation_num_prompts:
        yield f"selection_metric: {parameters.selection_metric!r} is measured on answers; found evaluation_num_prompts 0. Set it to 1 or more."
    if parameters.champion_gate and not parameters.evaluation_data_uri:
        yield "champion_gate: found true without evaluation_data_uri; the champion is beaten on evaluation data. Give it, or set champion_gate to false."
    if parameters.deploy_model and not parameters.upload_model:
        yield "deploy_model: found true with upload_model false; an endpoint serves a registered model. Set upload_model to true."


def _compares(parameters: TuningParameters) -> bool:
    """Whether selection_metric decides anything."""
    return parameters.enable_checkpoint_selection != "false" or parameters.champion_gate


def _not_available(parameters: TuningParameters) -> Iterator[str]:
    """Parameters of the hosted templates that are here so that a request for them is answered."""
    if parameters.dataset_name:
        yield f"dataset_name: found {parameters.dataset_name!r}; managed datasets are not available. Export it as JSONL and give dataset_uri."
    for name in ("tuning_method", "api_endpoint", "tpu_training_skip_cmek"):
        if getattr(parameters, name) != DEFAULTS[name]:
            yield f"{name}: found {getattr(parameters, name)!r}; only {DEFAULTS[name]!r} is available. Leave it out."


def _model_problems(base: BaseModel, template: str) -> Iterator[str]:
    taken = KINDS.get(template)
    if taken and base.kind not in taken:
        other = next(name for name, kinds in KINDS.items() if base.kind in kinds)
        yield f"large_model_reference: found {base.resolved.reference!r}, a {base.kind} model; {template} takes {' and '.join(taken[:-1])} models. Use {other}."
    if taken and "FULL" not in base.row.modes:
        yield f"large_model_reference: found {base.row.reference!r}, which is tuned with adapters only; {template} tunes all weights. Take another model."


def _uri_problems(parameters: TuningParameters, base: BaseModel | None, backend: Backend) -> Iterator[str]:
    files = {name: getattr(parameters, name) for name in ("dataset_uri", "evaluation_data_uri", "general_data_uri", "catalog_uri")}
    folders = {"evaluation_output_root_dir": parameters.evaluation_output_root_dir}
    for name, uri in {**files, **folders}.items():
        if uri:
            yield from _unreadable(name, uri, backend, ("gs",))
    if parameters.base_model_uri:
        yield from _unreadable("base_model_uri", parameters.base_model_uri, backend, ("gs", "hf"))
    elif base:
        yield from _unreadable(f"uri of the catalogue row {base.row.reference!r}", base.row.uri, backend, ("gs", "hf"))
    if (place := _same_place(parameters.dataset_uri)) and place == _same_place(parameters.evaluation_data_uri):
        found = f"the training examples, {parameters.dataset_uri}"
        yield f"evaluation_data_uri: found {found}; a model that has learned its evaluation cannot be measured. Give examples that are kept apart."


def _unreadable(name: str, uri: str, backend: Backend, schemes: Collection[str]) -> Iterator[str]:
    scheme = match[1].lower() if (match := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)) else ""
    known = " or ".join([*(f"{scheme}://" for scheme in schemes), "a path"])
    if scheme in ("http", "https"):
        yield f"{name}: found {uri!r}; {scheme}:// is not read. Download it and give its path, or copy it to a gs:// URI."
    elif scheme and scheme not in (*schemes, "file"):
        yield f"{name}: found {uri!r}; expected {known}. Copy it there."
    elif scheme == "gs" and not uri[5:].partition("/")[0]:
        yield f"{name}: found {uri!r}; expected gs://BUCKET/NAME."
    elif backend == "vertex" and scheme in ("", "file") and not uri.startswith(("/gcs/", "embedded:")):
        yield f"{name}: found the path {uri!r}; a job on Vertex reads {' and '.join(f'{scheme}://' for scheme in schemes)} only. Copy it to a bucket."
    elif "hf" in schemes and re.fullmatch(r"[\w.-]*\w[\w.-]*/[\w.-]+", uri, re.ASCII) and not uri.startswith("."):
        yield f"{name}: found {uri!r}, which may be two things. Write hf://{uri} for a Hugging Face model, ./{uri} for a folder."


def _same_place(uri: str) -> str:
    """One spelling for one file: `/gcs/b/x` is `gs://b/x`, `./x` is `x`."""
    text = uri.removeprefix("file://")
    text = f"gs://{text.removeprefix('/gcs/')}" if text.startswith("/gcs/") else text
    scheme, separator, path = text.rpartition("://")
    return scheme + separator + posixpath.normpath(path) if path else ""


def without_effect(parameters: TuningParameters, backend: Backend) -> Iterator[str]:
    """Settings that have no effect."""
    if not parameters.evaluation_data_uri:
        names = ("evaluation_interval", "selection_metric", "evaluation_num_prompts", "evaluation_max_tokens")
        for name in names:
            if getattr(parameters, name) != DEFAULTS[name]:
                yield f"{name} has no effect: there is no evaluation_data_uri."
        if parameters.enable_checkpoint_selection == "true":
            yield "enable_checkpoint_selection has no effect: there is no evaluation_data_uri to choose by. The last checkpoint is taken."
    else:
        if parameters.evaluation_interval > parameters.train_steps:
            yield "evaluation_interval is more than train_steps: only the base model and the last step are evaluated."
        if parameters.selection_metric != DEFAULTS["selection_metric"] and not _compares(parameters):
            yield "selection_metric has no effect: enable_checkpoint_selection is false."
    if not parameters.champion_gate:
        for name in ("general_data_uri", "champion_margin", "max_general_loss_increase"):
            if getattr(parameters, name) != DEFAULTS[name]:
                yield f"{name} has no effect: champion_gate is false."
    if parameters.learning_rate > 0 and parameters.learning_rate_multiplier != 1:
        yield "learning_rate_multiplier has no effect: learning_rate is set, and is not scaled."
    for name in _overrides(parameters).given() if backend != "vertex" else ():
        if backend == "local" or name not in _ON_KUBERNETES:
            yield f"{name} has no effect outside Vertex."
    for name in (*(ONLY_ON_VERTEX if backend != "vertex" else ()), *(ELSEWHERE if backend == "local" else ())):
        if getattr(parameters, name) != DEFAULTS[name]:
            yield f"{name} has no effect {'on this machine' if name in ELSEWHERE else 'outside Vertex'}."
    if not parameters.deploy_model:
        for name in OF_DEPLOYMENT if backend == "vertex" else ():
            if getattr(parameters, name) != DEFAULTS[name]:
                yield f"{name} has no effect: deploy_model is false."
    if parameters.tensorboard_resource_id and backend != "vertex":
        yield "tensorboard_resource_id has no effect outside Vertex: the events are in the run's tensorboard artifact."
