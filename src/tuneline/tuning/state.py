"""What training needs to go on exactly where it was: master weights and optimizer as safetensors, the rest as JSON.

There is no random state to keep: the order of examples is a function of seed and step, and nothing else is drawn.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tuneline.data.dataset import TokenDataset
from tuneline.modeling.checkpoints import STATE, sha256
from tuneline.tuning.history import Records
from tuneline.tuning.plan import TuningPlan

TENSORS, VALUES = STATE
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainerState:
    """The values beside the tensors."""

    step: int
    records: Records
    configuration: Mapping[str, object]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainerState":
        """The inverse of `dataclasses.asdict`."""
        return cls(step=values["step"], records=Records.from_json(**values["records"]), configuration=values["configuration"])


def configuration(plan: TuningPlan, base: Path, training: TokenDataset, evaluation: TokenDataset | None) -> dict[str, object]:
    """Everything that the tuned weights depend on. Two attempts are the same tuning when these are equal."""
    files = {path.name: sha256(path) for path in sorted(base.iterdir()) if path.suffix == ".safetensors" or path.name == "config.json"}
    model = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return {
        **asdict(plan),
        "base_model": model,
        "training_data": _digest(training),
        "evaluation_data": _digest(evaluation) if evaluation else "",
    }


def _digest(dataset: TokenDataset) -> str:
    digest = hashlib.sha256()
    for array in (dataset.input_ids, dataset.loss_mask, dataset.offsets):
        digest.update(array.tobytes())
    return digest.hexdigest()


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What changed between two configurations, for people."""
    return [f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]


def save_state(folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, state: TrainerState) -> None:
    """Write the two state files into a checkpoint folder."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        # The weights in the model's own file may be rounded to its stored format; these are what the optimizer adds to.
        tensors[f"weights.{name}"] = parameter.detach()
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    save_file(tensors, folder / TENSORS)
    (folder / VALUES).write_text(json.dumps(asdict(state), allow_nan=False) + "\n", encoding="utf-8")


def read_values(folder: Path) -> TrainerState:
    """The values of a saved state."""
    return TrainerState.from_json(json.loads((folder / VALUES).read_text(encoding="utf-8")))


def restore_tensors(folder: Path, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Put master weights and moments back, in place."""
    device = next(model.parameters()).device
    tensors = load_file(folder / TENSORS, device=str(device))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"weights.{name}"])
            _set_moments(optimizer, parameter, step, [tensors[f"{moment}.{name}"] for moment in MOMENTS])


def blank_moments(step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Make room for the moments of another rank."""
    for parameter in model.parameters():
        _set_moments(optimizer, parameter, step, [torch.zeros_like(parameter) for _ in MOMENTS])


def _set_moments(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, step: int, moments: Sequence[torch.Tensor]) -> None:
    optimizer.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device), **dict(zip(MOMENTS, moments, strict=True))}


def training_tensors(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """Master weights and moments, in the same order on every rank."""
    for parameter in model.parameters():
        yield parameter.detach()
        for moment in MOMENTS:
            yield optimizer.state[parameter][moment]
