"""Decides which checkpoint becomes the tuned model, and reports why."""

from kfp import dsl

from components import images
from components.step import step
from tuneline.interface import part, taking
from tuneline.parameters import SelectCheckpoint


@dsl.container_component
@taking(SelectCheckpoint)
def select_checkpoint(
    parameters: SelectCheckpoint,
    model_display_name: str,
    resolved: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    checkpoints: dsl.Input[dsl.Model],
    history: dsl.Input[dsl.Metrics],
    evaluation: dsl.Input[dsl.Metrics],
    selected: dsl.Output[dsl.Artifact],
    model: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
) -> dsl.ContainerSpec:
    """Choose the checkpoint that becomes the tuned model.

    Args:
        model_display_name: Display name of the tuned model, for the report.
        resolved: What validate-parameters decided.
        dataset: The transformed dataset.
        checkpoints: The checkpoints that tune-model made.
        history: Metrics recorded while tuning.
        evaluation: What evaluate-model measured.

    Returns:
        selected: The choice and its reason (JSON).
        model: The chosen checkpoint's folder, in place.
        report: Page with curves, metrics and sample answers.
    """
    return step(
        "select_checkpoint",
        images.BASE,
        **part(SelectCheckpoint, parameters),
        model_display_name=model_display_name,
        resolved=resolved.path,
        dataset=dataset.path,
        checkpoints=checkpoints.path,
        history=history.path,
        evaluation=evaluation.path,
        output_selected=selected.path,
        output_model=model.path,
        output_report=report.path,
    )
