"""A compiled template under KFP's own local runner, each task in a container of the image that the template names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
from kfp import local
from kfp.components import load_component_from_file

from tests.containers.reference import ENVIRONMENT, ROOT, Outputs, stage
from tests.containers.sandbox import RESTRICTIONS

EARLY_LINE = {"PYTHONWARNINGS": "none"}
"""Makes Python complain at once. podman answers a request for logs with their first line, and only then does the runner ask what the
container is: a task that says nothing would be gone by then."""
ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class KfpRun:
    """What a run left on disk, and what KFP says that it put out."""

    tasks: Mapping[str, Path]
    """Task name -> the folder of its outputs."""
    parameters: Mapping[str, object]

    @property
    def outputs(self) -> Outputs:
        return Outputs.found(lambda task, output: self.tasks[task] / output)


def run_under_kfp(template: str, folder: Path, labels: Mapping[str, str]) -> KfpRun:
    """Run the file in `compiled/` as it is."""
    for attempt in range(ATTEMPTS):
        try:
            return _run(template, folder / f"attempt-{attempt}", labels)
        except docker.errors.APIError as error:  # podman's answer about a container that is just being removed; the runner expects another one
            if "no such container" not in str(error) or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def _run(template: str, folder: Path, labels: Mapping[str, str]) -> KfpRun:
    """Only the pipeline root and KFP's workspace are mounted, so the data lies in the former.

    The runner calls a task a success when its container is gone before it has asked how it ended: only files prove anything.
    """
    root, workspace = folder / "root", folder / "workspace"
    for place in (root, workspace):
        place.mkdir(parents=True)
        place.chmod(0o777)  # the containers' user is nobody on this machine
    parameters = stage(template, root / "data")
    runner = local.DockerRunner(**RESTRICTIONS, labels=dict(labels), environment=ENVIRONMENT | EARLY_LINE)
    local.init(runner=runner, pipeline_root=str(root), workspace_root=str(workspace))
    run = load_component_from_file(str(ROOT / f"compiled/{template}.yaml"))(**parameters)
    return KfpRun(tasks={path.name: path for path in root.glob(f"{template}-*/*")}, parameters=run.outputs)
