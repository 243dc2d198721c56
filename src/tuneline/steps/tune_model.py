"""Tune the base model, or go on from the checkpoints of an earlier attempt in the folder that `TUNELINE_RESUME_FROM` names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline import registry
from tuneline.data.base_model import locate
from tuneline.data.dataset import TokenDataset
from tuneline.interface import parse
from tuneline.parameters import TuneModel
from tuneline.progress import ProgressFile
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, run_step, write_outputs
from tuneline.steps.launching import launched


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the step reads and writes. The fingerprint only makes a cache key follow the data, the image is for a launched job."""

    dataset_fingerprint: str
    tuner_image: str
    resolved: Path
    dataset: Path
    output_checkpoints: Path
    output_tensorboard: Path
    output_history: Path
    output_gcp_resources: Path
    executor_output: Path


FLAGS = (TuneModel, Files)


def main(argv: Sequence[str]) -> None:
    parameters, files = parse(argv, *FLAGS)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded: spinning threads starve neighbours, and each other
    from tuneline.tuning import group, plan, trainer

    resolved, earlier, evaluated = Resolved.read(files.resolved), os.environ.get("TUNELINE_RESUME_FROM"), files.dataset / "evaluation.safetensors"
    training, evaluation = TokenDataset.read(files.dataset / "train.safetensors"), TokenDataset.read(evaluated) if evaluated.exists() else None
    wanted = plan.TuningPlan.from_parameters(parameters, resolved)
    outputs = trainer.Outputs(checkpoints=files.output_checkpoints, tensorboard=files.output_tensorboard)
    progress, resume_from = ProgressFile.from_environment(), Path(earlier) if earlier else None
    with group.join(os.environ, resolved.accelerator_type) as (ranks, device):
        base = ranks.first_on_each_machine(lambda: locate(resolved.base_model.uri, downloads=registry.home() / "downloads"))
        history = trainer.tune(base, training, evaluation, wanted, outputs=outputs, device=device, progress=progress, resume_from=resume_from, group=ranks)
    if ranks.rank > 0:
        return
    history.write(files.output_history)
    paths = {"checkpoints": files.output_checkpoints, "tensorboard": files.output_tensorboard, "history": files.output_history}
    artifacts = {name: OutputArtifact(uri=artifact_uri(path), metadata=history.last_metrics() if name == "history" else {}) for name, path in paths.items()}
    write_outputs(files.executor_output, artifacts=artifacts, parameters={files.output_gcp_resources: ""})


if __name__ == "__main__":
    run_step("tune-model", launched(main, "tune-model", *FLAGS, several=True))
