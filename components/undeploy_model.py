"""Takes a deployed model off its endpoint when its time is over. No task of a tuning pipeline: a schedule that fires once runs it."""

from kfp import dsl

from components import images
from components.step import step


@dsl.container_component
def undeploy_model(endpoint_resource_name: str, deployed_model_id: str, undeployed: dsl.OutputPath(bool)) -> dsl.ContainerSpec:
    """Take a model off its endpoint if the endpoint's label for it says that its time is over.

    Args:
        endpoint_resource_name: The endpoint, `projects/P/locations/L/endpoints/E`.
        deployed_model_id: The model's id on the endpoint.

    Returns:
        undeployed: Whether it was taken off now.
    """
    return step(
        "undeploy_model",
        images.BASE,
        endpoint_resource_name=endpoint_resource_name,
        deployed_model_id=deployed_model_id,
        output_undeployed=undeployed,
    )
