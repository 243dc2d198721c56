"""Random LoRA adapters, as PEFT writes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

TARGETS = ["q_proj", "v_proj", "down_proj"]


def write_adapter(folder: Path, base: Path, *, rank: int = 4, **changes: Any) -> Path:
    """An adapter of the base model whose weights are large enough to change what it says."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    configuration = LoraConfig(**{"r": rank, "lora_alpha": 2 * rank, "target_modules": TARGETS, "task_type": "CAUSAL_LM"} | changes)
    wrapped = get_peft_model(model, configuration)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_" in name:
                parameter.normal_(0, 0.2)
    wrapped.save_pretrained(folder)
    return folder


def edit(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change the adapter's configuration."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
