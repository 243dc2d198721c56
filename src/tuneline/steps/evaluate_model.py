"""Measure the base model and every checkpoint on the evaluation data."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline import registry
from tuneline.data.base_model import locate
from tuneline.evaluation.candidates import find_candidates, find_champion
from tuneline.evaluation.results import History
from tuneline.interface import parse
from tuneline.parameters import EvaluateModel
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
    checkpoints: Path
    history: Path
    output_evaluation: Path
    output_gcp_resources: Path
    executor_output: Path


FLAGS = (EvaluateModel, Files)


def main(argv: Sequence[str]) -> None:
    parameters, files = parse(argv, *FLAGS)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded: spinning threads starve neighbours, and each other
    from tuneline.evaluation import comparison, examiner
    from tuneline.tuning import devices

    resolved, downloads = Resolved.read(files.resolved), registry.home() / "downloads"
    base, device = locate(resolved.base_model.uri, downloads=downloads), devices.prepare_device(resolved.accelerator_type)
    champion = find_champion(resolved.champion, base, downloads=downloads) if resolved.champion and parameters.champion_gate else None
    evaluation = comparison.compare(
        base, find_candidates(files.checkpoints), history=History.read(files.history), champion=champion, metric=parameters.selection_metric,
        examiner=examiner.open_examiner(files.dataset, base, parameters, device, ProgressFile.from_environment()),
        enabled=parameters.enable_checkpoint_selection,
    )  # fmt: skip
    evaluation.write(files.output_evaluation)
    if parameters.evaluation_output_root_dir:
        evaluation.publish(parameters.evaluation_output_root_dir)
    artifacts = {"evaluation": OutputArtifact(uri=artifact_uri(files.output_evaluation), metadata=evaluation.metadata())}
    write_outputs(files.executor_output, artifacts=artifacts, parameters={files.output_gcp_resources: ""})


if __name__ == "__main__":
    run_step("evaluate-model", launched(main, "evaluate-model", *FLAGS, several=False))
