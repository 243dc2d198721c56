"""A model whose LoRA adapter has become part of its weights: it is as fast as its base, and any engine runs it."""

from collections.abc import Sequence

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tuneline.errors import ModelError
from tuneline.modeling.loading import load_model
from tuneline.serving.adapters import CONFIGURATION, WEIGHTS, Adapter
from tuneline.serving.model_files import ServedModel

WRONG_BASE = "Check that the base model is the one that the adapter was trained on."


def load_served_model(model: ServedModel, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The model in memory, with its adapter merged."""
    loaded = load_model(model.folder, packed=False, dtype=dtype, device=device)
    return loaded if model.adapter is None else merge(loaded, model.adapter)


def merge(base: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """The base model, whose weights are changed in place."""
    try:
        from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    except ImportError:
        raise ModelError(f"{adapter.folder} is an adapter, which needs the package peft.", next_action="pip install 'tuneline[serve]'") from None
    try:
        wrapped = PeftModel(base, LoraConfig.from_pretrained(str(adapter.folder)))
        result = set_peft_model_state_dict(wrapped, load_file(adapter.folder / WEIGHTS))
        # A name that does not fit is only listed by peft: the adapter would be served in part, or not at all.
        _check_names(adapter, "has weights that the base model has no place for", result.unexpected_keys)
        _check_names(adapter, "lacks", [name for name in result.missing_keys if ".lora_" in name])
        merged: PreTrainedModel = wrapped.merge_and_unload(safe_merge=True)
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        problem = f"{adapter.folder}: the adapter does not fit its base model, or its {CONFIGURATION} is wrong: {error}"
        raise ModelError(problem[:1000], next_action=WRONG_BASE) from error
    return merged.eval()


def _check_names(adapter: Adapter, problem: str, names: Sequence[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        raise ModelError(f"{adapter.folder / WEIGHTS} {problem}: {shown}.", next_action=WRONG_BASE)
