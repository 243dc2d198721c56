"""The pipeline for text and code models."""

from kfp import dsl

from pipelines.tuning import TunedModel, tuning, versioned
from tuneline.interface import taking
from tuneline.parameters import TuningParameters


@dsl.pipeline(name="tune-large-model")
@versioned
@taking(TuningParameters)
def tune_large_model(parameters: TuningParameters) -> TunedModel:
    """Tune a large language model on examples of prompts and answers.

    Returns:
        model_resource_name: The tuned model in the model registry, with its version.
        endpoint_resource_name: Its endpoint; empty when deploy_model is false.
    """
    return tuning(parameters, template_name="tune-large-model")
