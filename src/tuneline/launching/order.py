"""What is to be run elsewhere: the same step with the same flags, on one of several places. Pure.

A launch is known by its key, a digest of the flags. The URIs of the outputs are among them, and no other task of any run has the same: so the key
says which pipeline job and which task it belongs to.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneline.resolution import JobSettings, Machine, Resolved
from tuneline.staging.job import RESUME_FROM
from tuneline.staging.job_folder import VARIABLE
from tuneline.storage import join

COMMAND = ("python", "-m", "tuneline.steps.staged")
PROCESSES = "TUNELINE_PROCESSES"
"""Environment variable with the number of processes that the step is on each machine."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """One job of a launch: the `attempt`-th time, counted from 1, at a place of `Order.places`, counted from 0."""

    attempt: int = 1
    place: int = 0

    @property
    def name(self) -> str:
        """Distinguishes the jobs of one launch."""
        return f"{self.attempt}-{self.place}"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A launch."""

    step: str
    """The task's name: `tune-model`."""
    arguments: tuple[str, ...]
    """What follows `COMMAND`."""
    outputs: str
    """gs:// folder that the outputs are in."""
    image: str
    places: tuple[Machine, ...]
    """Where it may run: the machine that was chosen, then those to fall back to."""
    settings: JobSettings
    several: bool
    """Whether all accelerators of all machines do the step together."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The run's own."""
    resume_from: str = ""

    @property
    def key(self) -> str:
        """32 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.arguments).encode()).hexdigest()[:32]

    @property
    def replicas(self) -> int:
        """Machines."""
        return self.settings.replica_count if self.several else 1

    def processes(self, place: Machine) -> int:
        """Processes on each machine."""
        return max(1, place.accelerator_count) if self.several else 1

    def folder(self, job: Try) -> str:
        """Where the job and its launcher speak, and the launch's claim is."""
        return join(self.outputs, f"jobs/{self.key[:16]}/{job.name}")

    def environment(self, job: Try) -> dict[str, str]:
        """The variables of the job's containers."""
        own = {VARIABLE: self.folder(job), PROCESSES: str(self.processes(self.places[job.place]))}
        return {**own, RESUME_FROM: self.resume_from} if self.resume_from else own


def make_order(
    step: str, arguments: Sequence[str], *, outputs: str, image: str, resolved: Resolved, several: bool, labels: Mapping[str, str], resume_from: str = ""
) -> Order:
    """The launch of a step (`tune-model`) whose flags hold URIs for paths."""
    machine = Machine(
        region=resolved.tuning_region, machine_type=resolved.machine_type, accelerator_type=resolved.accelerator_type,
        accelerator_count=resolved.accelerator_count,
    )  # fmt: skip
    return Order(
        step=step, arguments=(step.replace("-", "_"), *arguments), outputs=outputs, image=resolved.job.tuning_image_uri or image,
        places=(machine, *resolved.fallbacks), settings=resolved.job, several=several, labels=labels, resume_from=resume_from,
    )  # fmt: skip
