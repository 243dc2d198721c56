"""The container of a step: `python -m tuneline.steps.NAME` and one flag for every value."""

from kfp import dsl

from tuneline.interface import flag


def step(name: str, image: str, **values: object) -> dsl.ContainerSpec:
    """Run the step with `values` as its flags.

    Flag and value are two arguments: the value is then one placeholder and nothing else, which is all that stock KFP replaces, and
    a value that holds quotes, spaces or `$` stays one argument. Without the executor output file stock KFP would see no outputs.
    """
    values = {**values, "executor_output": dsl.PIPELINE_TASK_EXECUTOR_OUTPUT_PATH_PLACEHOLDER}
    arguments = [part for key, value in values.items() for part in (flag(key), value)]
    return dsl.ContainerSpec(image=image, command=["python", "-m", f"tuneline.steps.{name}"], args=arguments)
