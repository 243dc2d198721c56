"""What the user changes about where and on what tuning computes: another region or machine, several machines, places to fall back to. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from tuneline.catalog import Catalog
from tuneline.catalog.rows import MachineRow, MachineTypeRow
from tuneline.errors import did_you_mean
from tuneline.resolution import Backend, JobSettings, Machine

RESERVATION = re.compile(r"projects/[^/]+/zones/([a-z0-9-]+)-[a-z]/reservations/[^/]+")
NETWORK = re.compile(r"projects/[^/]+/global/networks/[^/]+")
SHAPES = {
    "max_wait_duration": (re.compile(r"[1-9][0-9]*s"), "seconds like '3600s'"),
    "network": (NETWORK, "projects/NUMBER/global/networks/NAME"),
    "service_account": (re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"), "an account's address like tuner@PROJECT.iam.gserviceaccount.com"),
    "reservation": (RESERVATION, "projects/P/zones/Z/reservations/R"),
}
"""Parameter -> what it must look like, and that in words."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Names and empty values are those of the pipeline parameters."""

    tuning_location: str = ""
    machine_type: str = ""
    accelerator_count: int = 0
    tuning_fallbacks: str = ""
    job: JobSettings = JobSettings()  # noqa: RUF009 (frozen)

    def given(self) -> list[str]:
        """The parameters that the user has set."""
        own = [field.name for field in fields(self) if field.name != "job" and getattr(self, field.name)]
        return own + [field.name for field in fields(self.job) if getattr(self.job, field.name) != field.default and field.name != "encryption_spec_key_name"]


def choose_machine(catalog: Catalog, usual: MachineRow, backend: Backend, overrides: Overrides, problems: list[str]) -> Machine:
    """The machine that tunes: the usual one, with what the user changed. Adds to `problems` what cannot be."""
    machine = Machine(
        region=usual.region, machine_type=usual.machine_type, accelerator_type=usual.accelerator_type, accelerator_count=usual.accelerator_count
    )  # fmt: skip
    problems += _settings_problems(overrides.job)
    if backend != "vertex":
        return replace(machine, accelerator_count=overrides.accelerator_count) if overrides.accelerator_count and machine.accelerator_type else machine
    if overrides.tuning_location:
        machine = replace(machine, region=_region(catalog, "tuning_location", overrides.tuning_location, problems))
    if overrides.machine_type:
        machine = _of_type(machine.region, _type(catalog, "machine_type", overrides.machine_type, problems), machine)
    if overrides.accelerator_count not in (0, machine.accelerator_count):
        machine = _with_count(catalog, machine, overrides, problems)
    zone = RESERVATION.fullmatch(overrides.job.reservation)
    if zone and zone[1] != machine.region:
        problems.append(f"reservation: found one in {zone[1]!r}; tuning computes in {machine.region!r}. Set tuning_location to {zone[1]}.")
    return machine


def fallbacks(catalog: Catalog, overrides: Overrides, problems: list[str]) -> tuple[Machine, ...]:
    """The places to fall back to, in their order."""
    found = []
    for text in filter(None, (part.strip() for part in overrides.tuning_fallbacks.split(","))):
        region, slash, name = text.partition("/")
        if not slash:
            problems.append(f"tuning_fallbacks: found {text!r}; expected REGION/MACHINE_TYPE, for example us-east4/a3-highgpu-8g.")
            continue
        place = Machine(region=_region(catalog, "tuning_fallbacks", region, problems), machine_type=name, accelerator_type="", accelerator_count=0)
        found.append(_of_type(place.region, _type(catalog, "tuning_fallbacks", name, problems), place))
    return tuple(found)


def sentences(machine: Machine, overrides: Overrides, others: tuple[Machine, ...]) -> Iterator[str]:
    """What was changed, for people."""
    job = overrides.job
    if job.replica_count > 1:
        yield f"{job.replica_count} such machines tune the model together: replica_count asks for it."
    if job.scheduling_strategy:
        wait = f", for at most {job.max_wait_duration}" if job.max_wait_duration else ""
        yield f"Vertex looks for machines by {job.scheduling_strategy}{wait}: scheduling_strategy asks for it."
    if job.reservation:
        yield f"The machine comes from the reservation {job.reservation}."
    if job.network:
        yield f"The tuning job is in the network {job.network}; with VPC Service Controls, all buckets have to be inside the same perimeter."
    if others:
        yield f"When {machine.region} has no quota or no machine: {', '.join(f'{other.machine_type} in {other.region}' for other in others)}, in this order."


def _settings_problems(job: JobSettings) -> Iterator[str]:
    for name, (shape, words) in SHAPES.items():
        value = getattr(job, name)
        if value and not shape.fullmatch(value):
            yield f"{name}: found {value!r}; expected {words}."
    if job.replica_count < 1:
        yield f"replica_count: found {job.replica_count}; expected 1 or more. The default is 1."
    if job.reservation and job.scheduling_strategy in ("SPOT", "FLEX_START"):
        yield f"reservation: found one with scheduling_strategy {job.scheduling_strategy!r}; a reservation is used at once. Leave one of them out."
    if job.scheduling_strategy == "FLEX_START" and not job.max_wait_duration:
        yield "max_wait_duration: is empty; FLEX_START waits for machines, and has to know for how long. Give it, like '86400s'."


def _region(catalog: Catalog, parameter: str, region: str, problems: list[str]) -> str:
    known = catalog.region_names("vertex")
    if region not in known:
        problems.append(f"{parameter}: found the region {region!r}; expected one of {', '.join(known)}.{did_you_mean(region.lower(), known)}")
    return region


def _type(catalog: Catalog, parameter: str, name: str, problems: list[str]) -> MachineTypeRow | None:
    row = catalog.machine_types.get(name)
    if row is None:
        known = ", ".join(catalog.machine_types)
        hint = did_you_mean(name, catalog.machine_types) or " Another one needs a [[machine_type]] row in a catalogue file."
        problems.append(f"{parameter}: found the machine type {name!r}; expected one of {known}.{hint}")
    return row


def _of_type(region: str, row: MachineTypeRow | None, otherwise: Machine) -> Machine:
    if row is None:
        return otherwise
    return Machine(region=region, machine_type=row.name, accelerator_type=row.accelerator_type, accelerator_count=row.accelerator_count)


def _with_count(catalog: Catalog, machine: Machine, overrides: Overrides, problems: list[str]) -> Machine:
    """Machine types have fixed numbers of accelerators, so another number is another type."""
    alike = {row.accelerator_count: row for row in catalog.machine_types.values() if row.accelerator_type == machine.accelerator_type}
    row = alike.get(overrides.accelerator_count)
    if row is None or overrides.machine_type:
        choices = ", ".join(f"{count} ({other.name})" for count, other in sorted(alike.items()))
        expected = f"expected {machine.accelerator_count}, which {machine.machine_type} has" if overrides.machine_type else f"expected one of {choices}"
        problems.append(f"accelerator_count: found {overrides.accelerator_count} x {machine.accelerator_type or 'no accelerator'}; {expected}.")
        return machine
    return _of_type(machine.region, row, machine)
