"""Where a tuning begins: at the base model, or at the newest checkpoint of an earlier attempt at the same tuning."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tuneline.errors import ModelError, ParameterError
from tuneline.modeling.checkpoints import Checkpoint, adopt, list_checkpoints, newest_resumable, remove_leftovers, verify
from tuneline.tuning.group import Group
from tuneline.tuning.state import TrainerState, blank_moments, differences, read_values, restore_tensors, training_tensors

log = logging.getLogger(__name__)


def restore_start(
    group: Group, artifact: Path, offered: Path | None, configuration: Mapping[str, object], model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> TrainerState | None:
    """Bring every rank to the state to go on from; nothing for a fresh start. Only rank 0 needs to see the folders."""

    def restore() -> dict[str, object] | None:
        start = find_start(artifact, offered, configuration)
        if start is None:
            return None
        checkpoint, state = start
        restore_tensors(checkpoint.path, state.step, model, optimizer)
        return asdict(state)

    values = group.on_rank_zero(restore)
    if values is None:
        return None
    state = TrainerState.from_json(values)
    if group.rank > 0:
        blank_moments(state.step, model, optimizer)
    group.broadcast(training_tensors(model, optimizer))
    return state


def find_start(artifact: Path, offered: Path | None, configuration: Mapping[str, object]) -> tuple[Checkpoint, TrainerState] | None:
    """The checkpoint in `artifact` to go on from; nothing for a fresh start.

    An earlier attempt's artifact may be `offered`: its checkpoints are taken over when they are whole and of the same tuning, and
    else passed over with a warning. What lies in `artifact` itself cannot be passed over, as new checkpoints would mix with it.
    """
    remove_leftovers(artifact)
    if offered and offered.resolve() != artifact.resolve() and not list_checkpoints(artifact):
        _take_over(offered, artifact, configuration)
    newest = newest_resumable(artifact)
    if newest is None:
        if list_checkpoints(artifact):
            raise ModelError(f"{artifact} holds checkpoints without training state.", next_action="Give an empty output folder.")
        return None
    verify(newest.path)
    state = read_values(newest.path)
    if changes := differences(state.configuration, configuration):
        raise ParameterError(*(f"{artifact} holds checkpoints of another tuning: {change}." for change in changes), next_action="Give an empty output folder.")
    log.info("resume_from_step=%d", newest.step)
    return newest, state


def _take_over(offered: Path, artifact: Path, configuration: Mapping[str, object]) -> None:
    newest = newest_resumable(offered)
    if newest is None:
        log.warning("resume: %s holds no checkpoint with training state; starting at the base model.", offered)
        return
    try:
        verify(newest.path)
    except ModelError as error:
        log.warning("resume: starting at the base model, because %s", error)
        return
    if changes := differences(read_values(newest.path).configuration, configuration):
        log.warning("resume: starting at the base model, because this is another tuning: %s", "; ".join(changes))
        return
    # The newest first: once it is here, this artifact can be resumed by itself.
    for checkpoint in reversed(list_checkpoints(offered)):
        try:
            verify(checkpoint.path)
        except ModelError as error:
            log.warning("resume: a checkpoint is left behind: %s", error)
        else:
            adopt(checkpoint, artifact)
