"""What earlier runs left behind, as far as it decides what this one does: the champion, and whether anything is new."""

from dataclasses import replace
from typing import Protocol

from tuneline.kubernetes.model_registry import ModelRegistry
from tuneline.parameters import TuningParameters
from tuneline.registry import lineage as local_lineage
from tuneline.registry.models import Registration
from tuneline.resolution import Champion, Resolved
from tuneline.vertex import lineage as vertex_lineage
from tuneline.vertex.rest import Vertex


class Lineage(Protocol):
    """The earlier versions of the job's model, wherever they are registered."""

    def champion(self) -> Champion | None: ...
    def unchanged(self, data_fingerprint: str) -> str:
        """Why there is nothing new in these data, or nothing."""


def with_champion(parameters: TuningParameters, resolved: Resolved | None) -> Resolved | None:
    """The choices with the champion, where the job has a gate, and with its files as the base model, where the job goes on from it."""
    if resolved is None or not (parameters.champion_gate or parameters.continue_from_champion):
        return resolved  # what is wrong is told with all other problems
    champion = lineage_of(parameters, resolved).champion()
    if champion is None:
        follows = ["the first model that is registered becomes it"] if parameters.champion_gate else []
        follows += ["tuning starts from the base model"] if parameters.continue_from_champion else []
        return replace(resolved, reasons=(*resolved.reasons, f"There is no champion yet: {', and '.join(follows)}."))
    reasons = (*resolved.reasons, f"The champion is {champion.model_resource_name}.")
    if parameters.continue_from_champion:
        base = replace(resolved.base_model, uri=champion.uri)
        resolved, reasons = replace(resolved, base_model=base), (*reasons, "Tuning goes on from the champion: continue_from_champion asks for it.")
    return replace(resolved, champion=champion, reasons=reasons)


def with_skip_reason(parameters: TuningParameters, resolved: Resolved) -> Resolved:
    """The choices with the reason for which there is nothing to do, if there is one."""
    reason = lineage_of(parameters, resolved).unchanged(resolved.data_fingerprint) if parameters.skip_unchanged else ""
    return replace(resolved, skip_reason=reason, reasons=(*resolved.reasons, f"Skipped: {reason}")) if reason else resolved


def lineage_of(parameters: TuningParameters, resolved: Resolved) -> Lineage:
    """The versions of the model that the job's model will be one of."""
    project, region, name = parameters.project, resolved.upload_region, parameters.model_display_name
    if resolved.backend == "vertex":
        model = vertex_lineage.model_name_of(project=project, region=region, display_name=name, parent_model=parameters.parent_model)
        return vertex_lineage.Lineage(vertex=Vertex(region=region), model=model)
    if resolved.backend == "kubernetes":
        return ModelRegistry(project=project, display_name=name)
    return local_lineage.Lineage(registration=Registration(project=project, location=region, display_name=name))
