"""What a person asks about a run that has ended: the model, the endpoint, the chosen step, the metrics, the report."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuneline.local.artifacts import artifact_path
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import RunRecord, Values
from tuneline.templates import Json

HTML_SCHEMA = "system.HTML"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Empty where a pipeline has no such thing."""

    model_resource_name: str = ""
    endpoint_resource_name: str = ""
    selected_step: int | None = None
    base_metrics: Mapping[str, Json] = field(default_factory=dict)
    tuned_metrics: Mapping[str, Json] = field(default_factory=dict)
    report: str = ""
    """Path of the report page."""
    skipped: str = ""
    """Why there was nothing to do."""
    promotion: str = ""
    """What became of the champion, and why."""


def read_result(folder: RunFolder, record: RunRecord) -> Result:
    """The result of a run, from its outputs and from the artifacts `selected` and `evaluation`."""
    selected, evaluation = _content(record, "selected"), _content(record, "evaluation")
    step, promotion = selected.get("selected_step"), selected.get("promotion")
    base, candidates = evaluation.get("base"), evaluation.get("candidates")
    chosen = [item for item in candidates if isinstance(item, dict) and item.get("step") == step] if isinstance(candidates, list) else []
    report = folder.path / "report.html"
    return Result(
        model_resource_name=str(record.outputs.parameters.get("model_resource_name", "")),
        endpoint_resource_name=str(record.outputs.parameters.get("endpoint_resource_name", "")),
        selected_step=step if isinstance(step, int) else None,
        base_metrics=_measured(base),
        tuned_metrics=_measured(chosen[0]) if chosen and _measured(base) else {},
        report=str(report) if report.exists() else "",
        skipped=str(_content(record, "resolved").get("skip_reason", "")),
        promotion=str(promotion.get("reason", "")) if isinstance(promotion, dict) else "",
    )


def publish_pages(folder: RunFolder, outputs: Values) -> None:
    """Copy HTML artifacts to `<output>.html` in the run folder: an artifact's own file has no suffix, so browsers show its source."""
    for name, artifact in outputs.artifacts.items():
        page = Path(artifact_path(artifact.uri))
        if artifact.schema_title == HTML_SCHEMA and page.is_file() and "skipped" not in artifact.metadata:
            shutil.copyfile(page, folder.path / f"{name}.html")


def _content(record: RunRecord, output: str) -> dict[str, Json]:
    """The JSON object in the first artifact of this name."""
    for task in record.tasks.values():
        if output in task.outputs.artifacts:
            file = Path(artifact_path(task.outputs.artifacts[output].uri))
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # gone, or an artifact of another pipeline
                return {}
            return content if isinstance(content, dict) else {}
    return {}


def _measured(metrics: Json) -> dict[str, Json]:
    """Metrics without the step; nothing when only the step is there."""
    return {name: value for name, value in metrics.items() if name != "step" and value is not None} if isinstance(metrics, dict) else {}
