"""Do all ranks tune the same model on the same data? Found out before the first step, as the weights stay equal only if they begin so."""

import hashlib
from collections.abc import Mapping

import torch
from transformers import PreTrainedModel

from tuneline.errors import ParameterError
from tuneline.tuning.group import Group


def check_alike(group: Group, configuration: Mapping[str, object], model: PreTrainedModel) -> None:
    """Raise, on all ranks, an error that names each rank that differs from rank 0 and in what."""
    if group.size == 1:
        return
    first, *others = group.gather({**configuration, "weights": weights_fingerprint(model)})
    problems = [
        f"rank {rank} differs from rank 0: {name} is {values.get(name)!r}, there {first.get(name)!r}."
        for rank, values in enumerate(others, start=1)
        for name in sorted(first.keys() | values.keys())
        if values.get(name) != first.get(name)
    ]
    if problems:
        raise ParameterError(*problems, next_action="Give all ranks the same image, arguments, data and base model.")


def weights_fingerprint(model: PreTrainedModel) -> str:
    """A digest of a checksum of each weight's bits: as fast as reading them, and made where they are. Not safe against forgery."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        bits = parameter.detach().reshape(-1).view(torch.int32)
        digest.update(f"{name} {tuple(parameter.shape)} {int(bits.sum(dtype=torch.int64))}\n".encode())
    return digest.hexdigest()
