"""What earlier runs left behind, as far as it decides what this one does: the champion, and whether anything is new."""

from dataclasses import replace

from tuneline.errors import ParameterError
from tuneline.parameters import TuningParameters
from tuneline.registry import lineage
from tuneline.registry.models import Registration
from tuneline.resolution import Champion, Resolved


def with_champion(parameters: TuningParameters, resolved: Resolved | None) -> Resolved | None:
    """The choices with the champion, where the job has a gate, and with its files as the base model, where the job goes on from it."""
    if resolved is None or not (parameters.champion_gate or parameters.continue_from_champion):
        return resolved
    _check_backend("champion_gate" if parameters.champion_gate else "continue_from_champion", resolved)
    version = lineage.champion(registration_of(parameters, resolved))
    if version is None:
        return replace(resolved, reasons=(*resolved.reasons, "There is no champion yet: the first model that is registered becomes it."))
    champion = Champion(model_resource_name=version.resource_name, uri=str(version.artifact_folder))
    reasons = (*resolved.reasons, f"The champion is {champion.model_resource_name}.")
    if parameters.continue_from_champion:
        base = replace(resolved.base_model, uri=champion.uri)
        return replace(
            resolved, champion=champion, base_model=base, reasons=(*reasons, "Tuning goes on from the champion: continue_from_champion asks for it.")
        )
    return replace(resolved, champion=champion, reasons=reasons)


def with_skip_reason(parameters: TuningParameters, resolved: Resolved) -> Resolved:
    """The choices with the reason for which there is nothing to do, if there is one."""
    if not parameters.skip_unchanged:
        return resolved
    _check_backend("skip_unchanged", resolved)
    reason = lineage.unchanged(registration_of(parameters, resolved), resolved.data_fingerprint)
    return replace(resolved, skip_reason=reason, reasons=(*resolved.reasons, f"Skipped: {reason}")) if reason else resolved


def registration_of(parameters: TuningParameters, resolved: Resolved) -> Registration:
    """The model whose versions the job's models are."""
    return Registration(project=parameters.project, location=resolved.upload_region, display_name=parameters.model_display_name)


def _check_backend(parameter: str, resolved: Resolved) -> None:
    if resolved.backend != "local":
        raise ParameterError(f"{parameter}: found true; looking up earlier models outside this machine is not built yet. Set it to false.")
