"""The step as a launcher: where validate-parameters says so, the task has a job compute, waits for it, and hands on what it has made."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tuneline.errors import InfrastructureError
from tuneline.interface import Group, parse, path_fields, texts
from tuneline.launching.order import make_order
from tuneline.launching.platforms import open_platform
from tuneline.launching.running import Launcher
from tuneline.progress import ProgressFile
from tuneline.resolution import Resolved
from tuneline.staging.job import RESUME_FROM
from tuneline.staging.job_folder import VARIABLE
from tuneline.staging.plan import HANDED_BACK, remote_arguments
from tuneline.steps import OutputArtifact, artifact_uri, labels_of_run, write_outputs

Main = Callable[[Sequence[str]], None]


def launched(main: Main, step: str, parameters: type[Group], files: type[Group], *, several: bool) -> Main:
    """A `main` that has a job run the step, unless the task computes in place, or is that job itself.

    With `several`, all accelerators of all machines do the step together.
    """

    def run(argv: Sequence[str]) -> None:
        parse(argv, parameters, files)  # raises what is wrong with the flags
        flags, paths = texts(argv, parameters, files), path_fields(files)
        resolved = Resolved.read(Path(flags["resolved"]))
        if resolved.launch == "in-place" or VARIABLE in os.environ:
            main(argv)
            return
        outputs = {name: artifact_uri(Path(flags[name])) for name in paths if name.startswith("output_") and name not in HANDED_BACK}
        arguments = remote_arguments(flags, paths, artifact_uri)
        earlier = artifact_uri(Path(os.environ.get(RESUME_FROM, "")))
        order = make_order(
            step, arguments, outputs=next(iter(outputs.values())).rpartition("/")[0], image=flags["tuner_image"], resolved=resolved, several=several,
            labels=labels_of_run(), resume_from=earlier if earlier.startswith("gs://") else "",
        )  # fmt: skip
        resources = Path(flags["output_gcp_resources"])
        launcher = Launcher(order=order, platform=open_platform(resolved.launch), resources=resources, progress=ProgressFile.from_environment())
        told = launcher.run().metadata()
        if told is None:
            raise InfrastructureError("The job has succeeded, but told nothing of its outputs.", next_action="Read its log.")
        artifacts = {name.removeprefix("output_"): uri for name, uri in outputs.items()}
        write_outputs(
            Path(flags["executor_output"]), parameters={resources: resources.read_text(encoding="utf-8")},
            artifacts={name: OutputArtifact(uri=uri, metadata=told.get(name, {})) for name, uri in artifacts.items()},
        )  # fmt: skip

    return run
