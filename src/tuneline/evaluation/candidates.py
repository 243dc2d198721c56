"""The checkpoints to choose from."""

from pathlib import Path

from tuneline.data.base_model import check_configuration, locate
from tuneline.errors import ModelError
from tuneline.modeling.checkpoints import final_checkpoint, list_checkpoints, verify
from tuneline.resolution import Champion


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


def find_champion(champion: Champion, base: Path, *, downloads: Path) -> Path:
    """The folder of the champion, which has to read the same tokens as the base model: the evaluation data is one file of tokens for all."""
    folder = locate(champion.uri, downloads=downloads)
    check_configuration(folder)
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file() or tokenizer.read_bytes() != (base / "tokenizer.json").read_bytes():
        raise ModelError(
            f"the champion {champion.model_resource_name} has another tokenizer than the base model; expected one that reads the same tokens.",
            next_action="Tune the same base model as the champion's, or give the model another model_display_name and so a champion of its own.",
        )
    return folder
