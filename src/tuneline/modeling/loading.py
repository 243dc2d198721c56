"""A model from a folder, without running anything that the folder brings along."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tuneline.data.base_model import check_configuration
from tuneline.errors import ModelError
from tuneline.modeling import attention


def load_model(folder: Path, *, packed: bool, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The model in `folder`, in evaluation mode; `packed` for the forward pass of `tuneline.modeling.scoring`."""
    check_configuration(folder)
    attention.register()
    transformers_logging.disable_progress_bar()
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype,
            attn_implementation=attention.PACKED if packed else "sdpa",
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {error}", next_action="Give a folder with config.json and model.safetensors.") from error
    return model.to(device).eval()
