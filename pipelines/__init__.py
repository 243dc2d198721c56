"""The pipelines that `python -m pipelines.compile` turns into templates."""

from pipelines.tune_large_chat_model import tune_large_chat_model
from pipelines.tune_large_model import tune_large_model

PIPELINES = (tune_large_model, tune_large_chat_model)

__all__ = ["PIPELINES", "tune_large_chat_model", "tune_large_model"]
