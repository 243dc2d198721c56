"""The pipeline for chat and code chat models."""

from kfp import dsl

from pipelines.tuning import TunedModel, tuning, versioned
from tuneline.interface import taking
from tuneline.parameters import TuningParameters


@dsl.pipeline(name="tune-large-chat-model")
@versioned
@taking(TuningParameters)
def tune_large_chat_model(parameters: TuningParameters) -> TunedModel:
    """Tune a large language model on examples of conversations.

    Returns:
        model_resource_name: The tuned model in the model registry, with its version.
        endpoint_resource_name: Its endpoint; empty when deploy_model is false.
    """
    return tuning(parameters, template_name="tune-large-chat-model")
