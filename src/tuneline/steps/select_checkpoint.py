"""Decide which checkpoint becomes the tuned model, and whether it beats the champion; say why. The model artifact is the checkpoint's own folder."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tuneline.evaluation.candidates import take_candidate
from tuneline.evaluation.promotion import promotion_of
from tuneline.evaluation.report import Facts, render
from tuneline.evaluation.results import Evaluation, History
from tuneline.evaluation.selection import select
from tuneline.evaluation.statistics import DataStatistics
from tuneline.interface import parse
from tuneline.parameters import SelectCheckpoint
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, run_step, write_outputs, write_text

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
    parameters, files = parse(argv, *FLAGS)
    resolved, evaluation, metric = Resolved.read(files.resolved), Evaluation.read(files.evaluation), parameters.selection_metric
    selection = select(evaluation.candidates, metric, parameters.enable_checkpoint_selection)
    LOG.info("selected step=%d reason=%r", selection.step, selection.reason)
    evaluation, chosen = replace(evaluation, selected_step=selection.step), take_candidate(files.checkpoints, selection.step)
    promotion = promotion_of(evaluation, parameters)
    decided = asdict(promotion) if promotion else None
    write_text(files.output_selected, selection.to_json(checkpoint=chosen.name, metric=metric, candidates=evaluation.candidates, promotion=decided))
    facts = Facts(resolved=resolved, statistics=DataStatistics.read(files.dataset / "statistics.json"), history=History.read(files.history))
    page = render(files.model_display_name, facts, evaluation, selection, promotion)
    write_text(files.output_report, page)
    model = OutputArtifact(uri=artifact_uri(chosen), metadata={**resolved.base_model.metadata(), **evaluation.metadata()})
    pages = {"selected": OutputArtifact(uri=artifact_uri(files.output_selected)), "report": OutputArtifact(uri=artifact_uri(files.output_report))}
    write_outputs(files.executor_output, artifacts={**pages, "model": model})


if __name__ == "__main__":
    run_step("select-checkpoint", main)
