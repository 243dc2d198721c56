"""Which files a launched job takes from Cloud Storage and which it leaves there, read off the flags of its step. Pure.

Flags that are paths are inputs, or outputs by their names. The launcher replaces each path by its URI, the job each URI by a path on its own disk.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import ParameterError, UsageError
from tuneline.interface import flag

HANDED_BACK = ("executor_output", "output_gcp_resources")
"""Outputs that are the launcher's to write, from what the job tells it: on Kubeflow they are files of the task's own pod."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A file or folder that is at a URI and on the disk of the job."""

    name: str
    """The flag's field: `dataset`, `output_checkpoints`."""
    uri: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a job does around its step."""

    arguments: tuple[str, ...]
    """The step's, with the paths of this disk."""
    inputs: tuple[Transfer, ...]
    outputs: tuple[Transfer, ...]
    executor_output: Path
    """Where the step tells of its artifacts."""


def remote_arguments(texts: Mapping[str, str], paths: Collection[str], uri_of: Callable[[Path], str]) -> tuple[str, ...]:
    """The step's flags as another machine understands them. Raises ParameterError for a path that no other machine can see.

    `texts` are the flags by field, `paths` the fields that are paths, `uri_of` tells what lies behind a mounted path.
    """
    remote = {name: uri_of(Path(text)) if name in paths else text for name, text in texts.items() if name not in HANDED_BACK}
    problems = [
        f"{flag(name)}: found {remote[name]!r}; a job outside of this task reads and writes gs:// only."
        for name in paths
        if name in remote and not remote[name].startswith("gs://")
    ]
    if problems:
        raise ParameterError(*problems, next_action="Run the pipeline with a root in a bucket: pipeline_root gs://BUCKET/FOLDER.")
    return tuple(part for name, text in remote.items() for part in (flag(name), text))


def plan(texts: Mapping[str, str], paths: Collection[str], disk: Path) -> Plan:
    """The inverse: every URI gets a place below the folder `disk`. Raises UsageError."""
    if missing := [name for name in paths if name not in texts and name not in HANDED_BACK]:
        raise UsageError(*(f"{flag(name)} is missing." for name in missing))
    transfers = [Transfer(name=name, uri=texts[name], path=disk / name) for name in paths if name not in HANDED_BACK]
    local = {**texts, **{name: str(disk / name) for name in paths}}
    return Plan(
        arguments=tuple(part for name, text in local.items() for part in (flag(name), text)),
        inputs=tuple(transfer for transfer in transfers if not transfer.name.startswith("output_")),
        outputs=tuple(transfer for transfer in transfers if transfer.name.startswith("output_")),
        executor_output=disk / HANDED_BACK[0],
    )
