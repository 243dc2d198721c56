"""What was measured of a model version, as its evaluation in Vertex AI's registry. Imported once, by its display name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tuneline.errors import TunelineError
from tuneline.vertex.rest import Vertex

SCHEMA = "gs://google-cloud-aiplatform/schema/modelevaluation/general_text_generation_metrics_1.0.0.yaml"
METRICS = {"rouge_l": "rougeLSum"}
"""Ours -> what the schema calls it. It has no place for losses and accuracies: these are in the metadata."""


@dataclass(frozen=True, kw_only=True)
class ImportEvaluation:
    """The import as an action for `tuneline.vertex.once`; the result is the evaluation's name."""

    vertex: Vertex
    model: str
    """With its version."""
    name: str
    """Display name."""
    metrics: Mapping[str, float]
    pipeline_job_name: str

    def look_up(self) -> str:
        evaluations = self.vertex.list(f"{self.model}/evaluations", key="modelEvaluations")
        return next((str(found["name"]) for found in evaluations if found.get("displayName") == self.name), "")

    def call(self) -> str:
        """The API answers at once, so the name is the operation, too."""
        evaluation = {
            "displayName": self.name,
            "metricsSchemaUri": SCHEMA,
            "metrics": schema_metrics(self.metrics),
            "metadata": {"pipeline_job_id": self.pipeline_job_name, **self.metrics},
        }
        return str(self.vertex.post(f"{self.model}/evaluations:import", {"modelEvaluation": evaluation})["name"])

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:  # noqa: ARG002 (there is nothing to wait for)
        return operation


def schema_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """What the schema knows of our metrics."""
    return {theirs: metrics[ours] for ours, theirs in METRICS.items() if ours in metrics}
