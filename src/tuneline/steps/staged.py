"""A step as a launched job: `python -m tuneline.steps.staged tune_model ...`, with the step's own flags, in which every path is a gs:// URI."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tuneline.errors import UsageError
from tuneline.interface import Group, path_fields, texts
from tuneline.launching.order import PROCESSES
from tuneline.staging.job import RESUME_FROM, StagedJob
from tuneline.staging.job_folder import VARIABLE, JobFolder
from tuneline.staging.plan import plan
from tuneline.steps import evaluate_model, run_step, tune_model
from tuneline.tuning.machines import Machines, command, free_port

STEPS: Mapping[str, tuple[type[Group], ...]] = {"tune_model": tune_model.FLAGS, "evaluate_model": evaluate_model.FLAGS}


def main(argv: Sequence[str]) -> None:
    name, *flags = argv or [""]
    if name not in STEPS:
        raise UsageError(f"found the step {name!r}; expected one of {', '.join(STEPS)}.")
    if VARIABLE not in os.environ:
        raise UsageError(f"{VARIABLE} is not set; expected the gs:// folder of this job.", next_action="The launcher sets it; do not start this by hand.")
    machines = Machines.from_environment(os.environ)
    if not machines.master_port:
        machines = replace(machines, master_port=free_port())
    with tempfile.TemporaryDirectory(prefix="tuneline-") as disk:
        planned = plan(texts(flags, *STEPS[name]), path_fields(*STEPS[name]), Path(disk))
        StagedJob(
            step=name.replace("_", "-"), plan=planned, disk=Path(disk), folder=JobFolder(uri=os.environ[VARIABLE]), is_first=machines.index == 0,
            command=command(f"tuneline.steps.{name}", planned.arguments, machines, processes=int(os.environ.get(PROCESSES, "1"))),
            resume_from=os.environ.get(RESUME_FROM, ""),
        ).run()  # fmt: skip


if __name__ == "__main__":
    run_step("staged", main)
