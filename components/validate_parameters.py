"""Checks all parameters and data before anything is paid for, and decides regions, machine and base model once."""

from kfp import dsl

from components import images
from components.step import step
from tuneline.interface import part, taking
from tuneline.parameters import TuningParameters


@dsl.container_component
@taking(TuningParameters)
def validate_parameters(
    parameters: TuningParameters,
    template_name: str,
    pipeline_location: list[str],
    resolved: dsl.Output[dsl.Artifact],
    dataset_fingerprint: dsl.OutputPath(str),
) -> dsl.ContainerSpec:
    """Check the parameters and decide regions, machine, batch size and base model.

    Args:
        template_name: Name of the pipeline that asks.
        pipeline_location: Region in which the pipeline runs, as the only item.

    Returns:
        resolved: What was decided, and why (JSON).
        dataset_fingerprint: Changes with the content of the data files and with every decision; part of later tasks' cache keys.
    """
    return step(
        "validate_parameters",
        images.BASE,
        **part(TuningParameters, parameters),
        template_name=template_name,
        pipeline_location=pipeline_location,
        output_resolved=resolved.path,
        output_dataset_fingerprint=dataset_fingerprint,
    )
