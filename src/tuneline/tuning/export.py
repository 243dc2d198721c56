"""A checkpoint folder that loads anywhere: weights, configuration, tokenizer and chat template side by side."""

import json
import shutil
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from transformers import PreTrainedModel

from tuneline.data.tokens import ChatTokenizer

COPIED = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt",
)  # fmt: skip
"""Taken from the base model's folder where it has them."""
SHARD_SIZE = "5GB"


def stored_dtype(base: Path) -> torch.dtype:
    """The number format that the base model's weights are stored in; the tuned ones get the same."""
    configuration = json.loads((base / "config.json").read_text(encoding="utf-8"))
    name = configuration.get("dtype") or configuration.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def export_model(model: PreTrainedModel, base: Path, tokenizer: ChatTokenizer, folder: Path) -> None:
    """Write everything but the commit marker into `folder`."""
    for name in COPIED:
        if (base / name).exists():
            shutil.copyfile(base / name, folder / name)
    (folder / "generation_config.json").write_text(json.dumps(_generation_configuration(base, tokenizer), indent=2) + "\n", encoding="utf-8")
    dtype = stored_dtype(base)
    # `named_parameters` has a tied weight once, under its first name, which is how such models are stored.
    weights = {name: parameter.detach().to("cpu", dtype) for name, parameter in model.named_parameters()}
    save_torch_state_dict(weights, folder, max_shard_size=SHARD_SIZE, metadata={"format": "pt"})


def _generation_configuration(base: Path, tokenizer: ChatTokenizer) -> dict[str, object]:
    """The base's own, with the ids that end a turn: a server that knows nothing of the template must stop there too."""
    path = base / "generation_config.json"
    own = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id, "eos_token_id": sorted(tokenizer.end_of_turn_ids)}
    return {name: value for name, value in {**own, **ids}.items() if value is not None and not name.startswith("_")}
