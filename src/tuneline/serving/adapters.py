"""PEFT adapters: a folder with adapter_config.json and adapter_model.safetensors. Read and checked without torch, before anything loads it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tuneline.errors import ModelError

CONFIGURATION = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = ("adapter_model.bin", "adapter_model.pt")
MAX_BYTES = 10_000_000

PLAIN_INITIALIZATIONS = frozenset({"gaussian", "eva", "orthogonal", "lora_ga"})
"""They set the adapter's first weights only. PiSSA and its like change the base model's, too."""
UNDERSTOOD = frozenset({
    "alpha_pattern", "base_model_name_or_path", "bias", "init_lora_weights", "lora_alpha", "peft_type", "r", "rank_pattern", "revision", "target_modules",
    "task_type", "use_dora", "use_rslora",
})  # fmt: skip
WITHOUT_EFFECT = frozenset({
    "auto_mapping", "corda_config", "eva_config", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_dropout", "lora_ga_config", "megatron_core", "peft_version", "qalora_group_size",
})  # fmt: skip
"""Of training, or of a feature that another key turns on."""
EMBEDDINGS = ("embed_tokens", "lm_head")


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA adapter that can be served."""

    folder: Path
    rank: int
    """The largest of its ranks."""
    base_model: str
    """As the adapter names it; may be empty."""
    base_revision: str
    uses_dora: bool


def is_adapter(folder: Path) -> bool:
    """Whether the folder is an adapter's rather than a whole model's."""
    return (folder / CONFIGURATION).is_file()


def read_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`. Raises one `ModelError` with every reason why it cannot be served."""
    values = _read_object(folder / CONFIGURATION)
    problems = [f"{CONFIGURATION}: {problem}" for problem in _configuration_problems(values)]
    problems += [problem for name in (CONFIGURATION, WEIGHTS) for problem in _link_problems(folder / name)]
    problems += _weight_problems(folder)
    if problems:
        action = "Merge the adapter into its base model with PEFT (merge_and_unload, save_pretrained) and serve the whole model."
        raise ModelError(*(f"{folder}: {problem}" for problem in problems), next_action=action)
    ranks = [values["r"], *_object(values.get("rank_pattern")).values()]
    return Adapter(
        folder=folder,
        rank=max(int(str(rank)) for rank in ranks),
        base_model=str(values.get("base_model_name_or_path") or ""),
        base_revision=str(values.get("revision") or ""),
        uses_dora=values.get("use_dora") is True,
    )


def _configuration_problems(values: Mapping[str, object]) -> Iterator[str]:
    if values.get("peft_type") != "LORA":
        yield f"peft_type: found {values.get('peft_type')!r}; expected 'LORA'."
        return
    if values.get("task_type") not in (None, "CAUSAL_LM"):
        yield f"task_type: found {values['task_type']!r}; expected 'CAUSAL_LM'."
    for name, rank in {"r": values.get("r"), **{f"rank_pattern.{key}": rank for key, rank in _object(values.get("rank_pattern")).items()}}.items():
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            yield f"{name}: found {rank!r}; expected a whole number from 1 up."
    if values.get("bias") not in (None, "none"):
        yield f"bias: found {values['bias']!r}; expected 'none'."
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start not in PLAIN_INITIALIZATIONS:
        yield f"init_lora_weights: {start!r} changes the base model's weights, too; expected true, or one of {', '.join(sorted(PLAIN_INITIALIZATIONS))}."
    for name in sorted(set(values) - UNDERSTOOD - WITHOUT_EFFECT):
        if values[name] not in (None, False, "", [], {}):
            yield f"{name}: not supported."


def _weight_problems(folder: Path) -> Iterator[str]:
    if not (folder / WEIGHTS).is_file():
        pickled = [name for name in PICKLED if (folder / name).exists()]
        yield f"only {pickled[0]}, which is pickled and can run code; expected {WEIGHTS}." if pickled else f"{WEIGHTS} is missing."
        return
    try:
        with safe_open(folder / WEIGHTS, framework="numpy") as tensors:
            names = list(tensors.keys())
    except (SafetensorError, OSError):
        yield f"{WEIGHTS} is damaged or no safetensors file."
        return
    found = sorted({part for name in names for part in name.split(".") if part in EMBEDDINGS})
    if found:
        yield f"{WEIGHTS} changes {' and '.join(found)}; expected linear layers only, because many base models share the weights of these two."


def _link_problems(path: Path) -> Iterator[str]:
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        yield f"{path.name} is a link out of the folder; copy the file itself."


def _read_object(path: Path) -> Mapping[str, object]:
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} is longer than {MAX_BYTES:,} bytes.")
    try:
        return _object(json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not JSON.", next_action="Fetch the adapter again.") from None


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
