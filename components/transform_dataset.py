"""Turns the examples into tokens, once for all later tasks."""

from kfp import dsl

from components import images
from components.step import step
from tuneline.interface import part, taking
from tuneline.parameters import TransformDataset


@dsl.container_component
@taking(TransformDataset)
def transform_dataset(
    parameters: TransformDataset,
    dataset_fingerprint: str,
    resolved: dsl.Input[dsl.Artifact],
    dataset: dsl.Output[dsl.Dataset],
) -> dsl.ContainerSpec:
    """Read training and evaluation examples, check every line, and turn them into tokens with a loss mask.

    Args:
        dataset_fingerprint: Fingerprint of the data files' content.
        resolved: What validate-parameters decided.

    Returns:
        dataset: Folder with the tokens, the evaluation prompts and statistics.
    """
    return step(
        "transform_dataset",
        images.BASE,
        **part(TransformDataset, parameters),
        dataset_fingerprint=dataset_fingerprint,
        resolved=resolved.path,
        output_dataset=dataset.path,
    )
