"""Gives the tuned model an endpoint, when asked."""

from google_cloud_pipeline_components.types.artifact_types import VertexEndpoint
from kfp import dsl

from components import images
from components.step import step
from tuneline.interface import part, taking
from tuneline.parameters import DeployModel


@dsl.container_component
@taking(DeployModel)
def deploy_model(
    parameters: DeployModel,
    pipeline_job_name: str,
    model_resource_name: str,
    resolved: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    endpoint: dsl.Output[VertexEndpoint],
    endpoint_resource_name: dsl.OutputPath(str),
) -> dsl.ContainerSpec:
    """Deploy the tuned model to an endpoint in the upload region.

    Args:
        pipeline_job_name: Name of the pipeline job, for the endpoint's labels.
        model_resource_name: The registered model.
        resolved: What validate-parameters decided.
        model: The chosen checkpoint.

    Returns:
        endpoint: The endpoint; on a local machine the record from which its server is started.
        endpoint_resource_name: Its resource name; empty when deploy_model is false.
    """
    return step(
        "deploy_model",
        images.BASE,
        **part(DeployModel, parameters),
        pipeline_job_name=pipeline_job_name,
        model_resource_name=model_resource_name,
        resolved=resolved.path,
        model=model.path,
        undeploy_image=images.BASE,
        output_endpoint=endpoint.path,
        output_endpoint_resource_name=endpoint_resource_name,
    )
