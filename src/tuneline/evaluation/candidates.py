"""The checkpoints to choose from."""

from pathlib import Path

from tuneline.errors import ModelError
from tuneline.modeling.checkpoints import final_checkpoint, list_checkpoints, verify


def find_candidates(artifact: Path) -> dict[int, Path]:
    """Step -> folder, in order. The last step is `final` where that exists: the same weights, without what only training reads."""
    checkpoints = list_checkpoints(artifact)
    final = final_checkpoint(artifact)
    if not checkpoints and not final:
        raise ModelError(
            f"{artifact} holds no finished checkpoint; expected at least one.",
            next_action="Run the pipeline again: tune-model goes on where it stopped.",
        )
    folders = {checkpoint.step: checkpoint.path for checkpoint in [*checkpoints, *([final] if final else [])]}
    return dict(sorted(folders.items()))


def take_candidate(artifact: Path, step: int) -> Path:
    """The folder of one step's checkpoint, after every file's hash was checked."""
    candidates = find_candidates(artifact)
    if step not in candidates:
        raise ModelError(
            f"{artifact} has no checkpoint of step {step}, which was selected; found those of {', '.join(map(str, candidates))}.",
            next_action="Run the pipeline again without the cache.",
        )
    verify(candidates[step])
    return candidates[step]
