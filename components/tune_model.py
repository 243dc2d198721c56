"""Trains the base model on the transformed dataset."""

from kfp import dsl

from components import images
from components.step import step
from tuneline.interface import part, taking
from tuneline.parameters import TuneModel


@dsl.container_component
@taking(TuneModel)
def tune_model(
    parameters: TuneModel,
    dataset_fingerprint: str,
    resolved: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    checkpoints: dsl.Output[dsl.Model],
    tensorboard: dsl.Output[dsl.Artifact],
    history: dsl.Output[dsl.Metrics],
    gcp_resources: dsl.OutputPath(str),
) -> dsl.ContainerSpec:
    """Tune the base model on the transformed dataset.

    Args:
        dataset_fingerprint: Fingerprint of the data files' content.
        resolved: What validate-parameters decided.
        dataset: The transformed dataset.

    Returns:
        checkpoints: Folder with self-contained checkpoints under postprocess/node-0/checkpoints.
        tensorboard: Folder with TensorBoard events.
        history: Training and evaluation metrics by step (JSON).
        gcp_resources: The job that computed, as Vertex's console shows it (JSON); empty when the task did so itself.
    """
    return step(
        "tune_model",
        images.TUNER,
        **part(TuneModel, parameters),
        dataset_fingerprint=dataset_fingerprint,
        tuner_image=images.TUNER,
        resolved=resolved.path,
        dataset=dataset.path,
        output_checkpoints=checkpoints.path,
        output_tensorboard=tensorboard.path,
        output_history=history.path,
        output_gcp_resources=gcp_resources,
    )
