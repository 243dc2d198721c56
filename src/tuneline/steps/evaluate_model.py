"""Measure the base model and every checkpoint on the evaluation data."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline import registry
from tuneline.data.base_model import locate
from tuneline.evaluation.candidates import find_candidates
from tuneline.evaluation.results import History
from tuneline.interface import parse
from tuneline.parameters import EvaluateModel
from tuneline.progress import ProgressFile
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, run_step, write_outputs
from tuneline.steps.launching import launched
from tuneline.storage import Storage, join


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

    resolved = Resolved.read(files.resolved)
    base = locate(resolved.base_model.uri, downloads=registry.home() / "downloads")
    device, progress = devices.prepare_device(resolved.accelerator_type), ProgressFile.from_environment()
    evaluation = comparison.compare(
        base, find_candidates(files.checkpoints), history=History.read(files.history), metric=parameters.selection_metric,
        examiner=examiner.open_examiner(files.dataset, base, parameters, device, progress), enabled=parameters.enable_checkpoint_selection,
    )  # fmt: skip
    evaluation.write(files.output_evaluation)
    if parameters.evaluation_output_root_dir:
        Storage().write_text(join(parameters.evaluation_output_root_dir, "evaluation.json"), evaluation.to_json())
    measured = OutputArtifact(uri=artifact_uri(files.output_evaluation), metadata=evaluation.metadata())
    write_outputs(files.executor_output, artifacts={"evaluation": measured}, parameters={files.output_gcp_resources: ""})


if __name__ == "__main__":
    run_step("evaluate-model", launched(main, "evaluate-model", *FLAGS, several=False))
