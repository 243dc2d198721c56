"""The arguments of `tuneline run`."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tuneline.cli.template_arguments import Syntax, model_display_name
from tuneline.local.run_record import LOCATION
from tuneline.templates import Template

SYNTAX = Syntax(
    command="run",
    usage=("tuneline run TEMPLATE [--PARAMETER VALUE ...] [OPTION ...]", "tuneline run --resume RUN [OPTION ...]"),
    summary="Run a compiled template on this machine.",
    options={
        "--runs-dir": ("DIR", "folder of the runs; default: runs/ in TUNELINE_HOME"),
        "--name": ("RUN", "name of this run; default: the pipeline's name and the time"),
        "--catalog": ("FILE", "TOML file with catalogue rows laid over the built-in ones (sets catalog_uri)"),
        "--resume": ("RUN", "go on with a stopped or failed run, by its name or folder; its parameters hold"),
        "--grace": ("SECONDS", "how long tasks may save their work after Ctrl-C or SIGTERM; default: 25"),
        "--container-engine": ("NAME", "with --containers: docker or podman; default: docker if its daemon answers, else podman"),
        "--container-memory": ("SIZE", "with --containers: memory of each task, like 8Gi; default: the template's limit, if it has one"),
        "--container-cpus": ("NUMBER", "with --containers: processors of each task, like 1.5; default: the template's limit, if it has one"),
    },
    switches={
        "--containers": "run each task in a container of its own image, instead of as a process of this machine",
        "--no-cache": "run every task, also when an earlier run had the same inputs",
        "--logs": "show the tasks' logs while they run",
        "--quiet": "show nothing while the run goes on",
        "--json": "print one JSON object on standard output",
        "--help": "show this text; after a template also its parameters",
    },
    filled_in={"project": LOCATION, "model_display_name": "base model, data and day; no day when retraining"},
)
_MAY_BE_A_HUB_NAME = ("base_model_uri",)


def complete(parameters: Mapping[str, str], template: Template, *, moment: datetime) -> dict[str, str]:
    """The parameters with what a person at a machine need not say: project, display name, the working directory of paths."""
    completed = {name: _absolute(name, value) for name, value in parameters.items()}
    if "project" in template.inputs:
        completed.setdefault("project", LOCATION)
    if "model_display_name" in template.inputs:
        completed.setdefault("model_display_name", model_display_name(parameters, template, moment))
    return completed


def _absolute(name: str, value: str) -> str:
    """A path that tasks understand, too: they run in folders of their own."""
    is_path = name.endswith(("_uri", "_dir")) and not name.endswith("_image_uri") and value and "://" not in value and not value.startswith("embedded:")
    if not is_path or (name in _MAY_BE_A_HUB_NAME and not Path(value).expanduser().exists()):
        return value
    return str(Path(value).expanduser().absolute())
