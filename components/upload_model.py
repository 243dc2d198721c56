"""Registers the tuned model."""

from google_cloud_pipeline_components.types.artifact_types import VertexModel
from kfp import dsl

from components import images
from components.step import step
from tuneline.interface import part, taking
from tuneline.parameters import UploadModel


@dsl.container_component
@taking(UploadModel)
def upload_model(
    parameters: UploadModel,
    pipeline_job_name: str,
    resolved: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Metrics],
    selected: dsl.Input[dsl.Artifact],
    history: dsl.Input[dsl.Metrics],
    uploaded: dsl.Output[VertexModel],
    model_resource_name: dsl.OutputPath(str),
) -> dsl.ContainerSpec:
    """Register the tuned model in the upload region.

    Args:
        pipeline_job_name: Name of the pipeline job, for the model's labels.
        resolved: What validate-parameters decided.
        model: The chosen checkpoint.
        evaluation: What evaluate-model measured.
        selected: The choice and its reason.
        history: Metrics recorded while tuning, for the TensorBoard.

    Returns:
        uploaded: The registered model.
        model_resource_name: Its resource name with version; empty when upload_model is false.
    """
    return step(
        "upload_model",
        images.BASE,
        **part(UploadModel, parameters),
        pipeline_job_name=pipeline_job_name,
        serving_image=images.PREDICTOR,
        resolved=resolved.path,
        model=model.path,
        evaluation=evaluation.path,
        selected=selected.path,
        history=history.path,
        output_uploaded=uploaded.path,
        output_model_resource_name=model_resource_name,
    )
