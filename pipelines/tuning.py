"""The seven tasks that every tuning pipeline consists of.

Tasks keep their components' names, also for display: the Google SDK finds the tuned model in the task that is called `upload-model`.
No conditions: upload and deploy always run and put out an empty name when they are off, because back ends differ in how they judge
conditions. Tuning and evaluation are tried twice, since a lost machine is their commonest failure and tuning goes on from its last
checkpoint; upload and deployment, because a service may be out of reach and they make nothing twice. The others fail for reasons that a
second try meets again.
"""

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

from kfp import dsl

from components import deploy_model, evaluate_model, select_checkpoint, transform_dataset, tune_model, upload_model, validate_parameters
from tuneline import __version__
from tuneline.interface import part
from tuneline.parameters import DeployModel, EvaluateModel, SelectCheckpoint, TransformDataset, TuneModel, TuningParameters, UploadModel

P = ParamSpec("P")
R = TypeVar("R")

# Vertex puts the job's region in its place; other back ends leave the text, which validate-parameters knows. In a list, because
# kfp.local searches a text for placeholders and breaks at one that it does not know.
PIPELINE_LOCATION = ["{{$.pipeline_google_cloud_location}}"]


class TunedModel(NamedTuple):
    """What a tuning pipeline puts out."""

    model_resource_name: str
    endpoint_resource_name: str


def versioned(function: Callable[P, R]) -> Callable[P, R]:
    """Let the description say which Tuneline compiles the pipeline. Clients hand a description on, people see it, nothing depends on it."""
    summary, newline, rest = (function.__doc__ or "").partition("\n")
    function.__doc__ = f"{summary} Tuneline {__version__}.{newline}{rest}"
    return function


def tuning(parameters: TuningParameters, *, template_name: str) -> TunedModel:
    """Wire the tasks of one pipeline. What is looked up outside is never cached: data by content, registry, endpoints."""
    checked = validate_parameters(**part(TuningParameters, parameters), template_name=template_name, pipeline_location=PIPELINE_LOCATION)
    checked.set_caching_options(False)
    resolved = checked.outputs["resolved"]
    fingerprint = checked.outputs["dataset_fingerprint"]

    transformed = transform_dataset(**part(TransformDataset, parameters), dataset_fingerprint=fingerprint, resolved=resolved)
    dataset = transformed.outputs["dataset"]

    tuned = tune_model(**part(TuneModel, parameters), dataset_fingerprint=fingerprint, resolved=resolved, dataset=dataset)
    tuned.set_retry(num_retries=1, backoff_duration="30s")
    checkpoints, history = tuned.outputs["checkpoints"], tuned.outputs["history"]

    evaluated = evaluate_model(
        **part(EvaluateModel, parameters), dataset_fingerprint=fingerprint, resolved=resolved, dataset=dataset, checkpoints=checkpoints, history=history
    )
    evaluated.set_retry(num_retries=1, backoff_duration="30s")
    evaluation = evaluated.outputs["evaluation"]

    chosen = select_checkpoint(
        **part(SelectCheckpoint, parameters),
        model_display_name=parameters.model_display_name,
        resolved=resolved,
        dataset=dataset,
        checkpoints=checkpoints,
        history=history,
        evaluation=evaluation,
    )
    model = chosen.outputs["model"]

    uploaded = upload_model(
        **part(UploadModel, parameters),
        pipeline_job_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        resolved=resolved,
        model=model,
        evaluation=evaluation,
        selected=chosen.outputs["selected"],
        history=history,
    )
    uploaded.set_caching_options(False)
    uploaded.set_retry(num_retries=1, backoff_duration="30s")
    model_resource_name = uploaded.outputs["model_resource_name"]

    deployed = deploy_model(
        **part(DeployModel, parameters),
        pipeline_job_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        model_resource_name=model_resource_name,
        resolved=resolved,
        model=model,
    )
    deployed.set_caching_options(False)
    deployed.set_retry(num_retries=1, backoff_duration="30s")
    return TunedModel(model_resource_name=model_resource_name, endpoint_resource_name=deployed.outputs["endpoint_resource_name"])
