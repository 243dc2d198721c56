"""Decide which checkpoint becomes the tuned model, say why, and write the report. The model artifact is the checkpoint's own folder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuneline.evaluation.candidates import take_candidate
from tuneline.evaluation.report import render
from tuneline.evaluation.results import Evaluation, History
from tuneline.evaluation.selection import select
from tuneline.evaluation.statistics import DataStatistics
from tuneline.interface import parse
from tuneline.parameters import SelectCheckpoint
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, run_step, write_outputs

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the step reads and writes. Nothing is written at `output_model`: the model stays where tuning left it."""

    model_display_name: str
    resolved: Path
    dataset: Path
    checkpoints: Path
    history: Path
    evaluation: Path
    output_selected: Path
    output_model: Path
    output_report: Path
    executor_output: Path


FLAGS = (SelectCheckpoint, Files)


def main(argv: Sequence[str]) -> None:
    parameters, files = parse(argv, SelectCheckpoint, Files)
    resolved, evaluation = Resolved.read(files.resolved), Evaluation.read(files.evaluation)
    base, metric = resolved.base_model, parameters.selection_metric
    selection = select(evaluation.candidates, metric, parameters.enable_checkpoint_selection)
    LOG.info("selected step=%d reason=%r", selection.step, selection.reason)
    evaluation, chosen = replace(evaluation, selected_step=selection.step), take_candidate(files.checkpoints, selection.step)
    selected = selection.to_json(checkpoint=chosen.name, metric=metric, candidates=evaluation.candidates)
    statistics, history = DataStatistics.read(files.dataset / "statistics.json"), History.read(files.history)
    report = render(name=files.model_display_name, resolved=resolved, statistics=statistics, history=history, evaluation=evaluation, selection=selection)
    for path, text in ((files.output_selected, selected), (files.output_report, report)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    about = {"base_model": base.stands_in or base.reference, "large_model_reference": base.reference, "max_sequence_length": base.max_sequence_length}
    artifacts = {name: OutputArtifact(uri=artifact_uri(path)) for name, path in (("selected", files.output_selected), ("report", files.output_report))}
    model = OutputArtifact(uri=artifact_uri(chosen), metadata={**about, **evaluation.metadata()})
    write_outputs(files.executor_output, artifacts={**artifacts, "model": model})


if __name__ == "__main__":
    run_step("select-checkpoint", main)
