"""Measures the base model and every checkpoint on the evaluation data."""

from kfp import dsl

from components import images
from components.step import step
from tuneline.interface import part, taking
from tuneline.parameters import EvaluateModel


@dsl.container_component
@taking(EvaluateModel)
def evaluate_model(
    parameters: EvaluateModel,
    dataset_fingerprint: str,
    resolved: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    checkpoints: dsl.Input[dsl.Model],
    history: dsl.Input[dsl.Metrics],
    evaluation: dsl.Output[dsl.Metrics],
    gcp_resources: dsl.OutputPath(str),
) -> dsl.ContainerSpec:
    """Measure the base model and every checkpoint on the evaluation data.

    Args:
        dataset_fingerprint: Fingerprint of the data files' content.
        resolved: What validate-parameters decided.
        dataset: The transformed dataset.
        checkpoints: The checkpoints that tune-model made.
        history: Metrics recorded while tuning.

    Returns:
        evaluation: Metrics of the base model and the checkpoints, with sample answers (JSON).
        gcp_resources: The job that computed, as Vertex's console shows it (JSON); empty when the task did so itself.
    """
    return step(
        "evaluate_model",
        images.TUNER,
        **part(EvaluateModel, parameters),
        dataset_fingerprint=dataset_fingerprint,
        tuner_image=images.TUNER,
        resolved=resolved.path,
        dataset=dataset.path,
        checkpoints=checkpoints.path,
        history=history.path,
        output_evaluation=evaluation.path,
        output_gcp_resources=gcp_resources,
    )
