"""Turn training and evaluation examples into tokens, and refuse the data with all its errors at once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline import registry
from tuneline.data.base_model import check_configuration, locate
from tuneline.data.tokens import load_tokenizer
from tuneline.data.transformation import Transformation, metadata
from tuneline.interface import parse
from tuneline.parameters import TransformDataset
from tuneline.progress import ProgressFile
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, run_step, write_outputs

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Files:
    """What comes in and goes out."""

    dataset_fingerprint: str
    """Only there so that new bytes behind an old URI are a new task."""
    resolved: Path
    output_dataset: Path
    executor_output: Path


FLAGS = (TransformDataset, Files)


def main(argv: Sequence[str]) -> None:
    parameters, files = parse(argv, TransformDataset, Files)
    resolved = Resolved.read(files.resolved)
    model = resolved.base_model
    folder = locate(model.uri, downloads=registry.home() / "downloads")
    check_configuration(folder)
    transformation = Transformation(
        tokenizer=load_tokenizer(folder), base_model=model.stands_in or model.reference, max_sequence_length=model.max_sequence_length,
        limits=resolved.limits, default_context=parameters.default_context, overlength_policy=parameters.overlength_policy,
    )  # fmt: skip
    report = ProgressFile.from_environment().report
    data, evaluation, general = parameters.dataset_uri, parameters.evaluation_data_uri, parameters.general_data_uri
    statistics = transformation.run(data, evaluation, files.output_dataset, report, general_uri=general)
    facts = metadata(statistics)
    LOG.info(" ".join(f"{name}={value}" for name, value in facts.items()))
    write_outputs(files.executor_output, artifacts={"dataset": OutputArtifact(uri=artifact_uri(files.output_dataset), metadata=facts)})


if __name__ == "__main__":
    run_step("transform-dataset", main)
