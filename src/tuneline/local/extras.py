"""What a template's steps need beyond the base install, when they run as processes of this machine: asked before any task starts."""

import importlib.util
import json
from collections.abc import Callable, Mapping

from tuneline.errors import UserError
from tuneline.templates import Template

TUNE = ("torch", "transformers", "tensorboard")
NEEDED_BY_STEP = {"tuneline.steps.tune_model": TUNE, "tuneline.steps.evaluate_model": (*TUNE, "sacrebleu", "rouge_score")}
NEEDED_TO_DEPLOY = (*TUNE, "fastapi", "uvicorn")
ADVICE = "Install torch for your accelerator (on a CPU: pip install torch==2.13.0), then: pip install 'tuneline[tune,serve]'"


def is_installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def check_extras(
    template: Template, parameters: Mapping[str, object], installed: Callable[[str], bool] = is_installed, *, in_containers: bool = False
) -> None:  # fmt: skip
    """Raise `UserError` with every missing module at once. Steps in containers bring their own; an endpoint is always a process of this machine."""
    text = json.dumps(template.spec)
    steps = {} if in_containers else NEEDED_BY_STEP
    wanted = dict.fromkeys(module for step, modules in steps.items() if f'"{step}"' in text for module in modules)
    if parameters.get("deploy_model") in (True, "true", "True"):
        wanted |= dict.fromkeys(NEEDED_TO_DEPLOY)
    missing = [module for module in wanted if not installed(module)]
    if missing:
        what = "serves its model from this machine, and that needs" if in_containers else "runs its steps on this machine, and they need"
        raise UserError(f"{template.name} {what} {', '.join(missing)}, which the base install leaves out.", next_action=ADVICE)
