"""Tables of models, machines, regions and prices: TOML rows with a source and a date, and what they mean together."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tuneline.catalog.loading import Entry, build, find_duplicates, lay_over, read_entries
from tuneline.catalog.rows import CONTEXT_LENGTHS, AliasRow, BatchSizeRow, LimitsRow, MachineRow, MachineTypeRow, ModelRow, PriceRow, RegionRow, Row, ServingRow
from tuneline.errors import CatalogError, did_you_mean

FILES = ("models.toml", "machines.toml", "regions.toml", "serving.toml", "prices.toml")
ACCELERATORS = {"vertex": ("GPU", "TPU"), "local": ("CPU", "GPU", "TPU"), "kubernetes": ("CPU", "GPU", "TPU")}
"""What a job may be tuned with, by back end."""
R = TypeVar("R", bound=Row)


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All rows, by name."""

    models: Mapping[str, ModelRow]
    aliases: Mapping[str, AliasRow]
    limits: Mapping[str, LimitsRow]
    regions: Mapping[str, RegionRow]
    batch_sizes: Mapping[str, BatchSizeRow]
    machines: Mapping[str, MachineRow]
    machine_types: Mapping[str, MachineTypeRow]
    serving: Mapping[str, ServingRow]
    prices: Mapping[str, PriceRow]

    def references(self) -> list[str]:
        """Every reference that `large_model_reference` may have."""
        return sorted({*self.models, *self.aliases, *(spelling for row in self.models.values() for spelling in row.spellings)})

    def model(self, reference: str) -> ModelRow:
        """The base model behind a reference: its own row, or that of the model that stands in for it."""
        while reference in self.aliases:
            reference = self.aliases[reference].model
        for row in self.models.values():
            if reference == row.reference or reference in row.spellings:
                return row
        known = self.references()
        hint = did_you_mean(reference, known) or f" Known: {', '.join(known)}."
        raise CatalogError(f"found {reference!r}, which is not in the model catalogue.{hint}")

    def machine(self, backend: str, accelerator: str, *, open_model_in: str = "") -> MachineRow:
        """The machine that tunes with an accelerator on a back end. An open model is tuned in its pipeline's region, where that has a machine for it."""
        rows = [row for row in self.machines.values() if row.accelerator == accelerator and self.regions[row.region].backend == backend]
        own = [row for row in rows if row.models == "open" and row.region == open_model_in]
        return next(row for row in [*own, *rows] if row in own or row.models == "any")

    def region_names(self, backend: str, *, hosted: bool = False) -> list[str]:
        """The regions of a back end; with `hosted` only those in which hosted references may be."""
        return [row.name for row in self.regions.values() if row.backend == backend and (row.hosted or not hosted)]

    def batch_size(self, region: str, context: str) -> BatchSizeRow | None:
        """The row for a tuning region and context length, if there is one."""
        return next((row for row in self.batch_sizes.values() if (row.region, row.context) == (region, context)), None)

    def usd_per_hour(self, machine_type: str, region: str) -> float | None:
        """What Compute Engine charges for a machine on demand, if that is known."""
        for row in self.prices.values():
            if machine_type in row.machine_types and region in row.regions:
                return row.usd_per_hour * (self.machine_types[machine_type].accelerator_count if row.per == "accelerator" else 1)
        return None


@functools.lru_cache(maxsize=8)  # a service asks for the same one with every request
def load_catalog(overlay_text: str | None = None, overlay_name: str = "overlay") -> Catalog:
    """The built-in tables, with the rows of a user's TOML file laid over those of the same name."""
    folder = Path(__file__).parent
    return assemble({name: (folder / name).read_text(encoding="utf-8") for name in FILES}, overlay_text, overlay_name)


def assemble(files: Mapping[str, str], overlay_text: str | None = None, overlay_name: str = "overlay") -> Catalog:
    """One catalogue out of the texts of its files. All that is wrong with them is raised at once."""
    problems: list[str] = []
    entries = [entry for name, text in files.items() for entry in read_entries(text, name, problems)]
    overlay = read_entries(overlay_text or "", overlay_name, problems)
    problems += find_duplicates(entries) + find_duplicates(overlay)
    built = [(entry, build(entry, problems)) for entry in lay_over(entries, overlay)]
    catalog = Catalog(
        models=_named(built, ModelRow), aliases=_named(built, AliasRow), limits=_named(built, LimitsRow), regions=_named(built, RegionRow),
        batch_sizes=_named(built, BatchSizeRow), machines=_named(built, MachineRow), machine_types=_named(built, MachineTypeRow),
        serving=_named(built, ServingRow), prices=_named(built, PriceRow),
    )  # fmt: skip
    if not problems:
        problems += [problem for entry, row in built if row for problem in _dangling(catalog, entry, row)] or _gaps(
            catalog, {entry.name: entry.place for entry, row in built if isinstance(row, MachineRow)}
        )
    if problems:
        raise CatalogError(*problems)
    return catalog


def _named(built: list[tuple[Entry, Row | None]], cls: type[R]) -> dict[str, R]:
    return {entry.name: row for entry, row in built if isinstance(row, cls)}


def _dangling(catalog: Catalog, entry: Entry, row: Row) -> list[str]:
    """What a row names that no other row is."""
    names: list[tuple[str, str, list[str]]] = []
    if isinstance(row, ModelRow | AliasRow):
        names.append(("limits", row.limits, list(catalog.limits)))
    if isinstance(row, AliasRow):
        names.append(("model", row.model, catalog.references()))
    if isinstance(row, BatchSizeRow | MachineRow):
        names.append(("region", row.region, list(catalog.regions)))
    if isinstance(row, ServingRow):
        names += [("model", row.model, catalog.references()), ("machine_type", row.machine_type, list(catalog.machine_types))]
    if isinstance(row, PriceRow):
        names += [("machine_types", name, list(catalog.machine_types)) for name in row.machine_types]
        names += [("regions", name, list(catalog.regions)) for name in row.regions]
    problems = [f"{entry.place}: {key} names {value!r}, which no row has.{did_you_mean(value, known)}" for key, value, known in names if value not in known]
    if isinstance(row, AliasRow) and not problems and _goes_round(catalog, row):
        problems.append(f"{entry.place}: model names {row.model!r}, which leads back to this row. Name a [[model]].")
    if isinstance(row, MachineRow) and not problems and row.accelerator not in catalog.regions[row.region].tuning_accelerators:
        problems.append(f"{entry.place}: region {row.region!r} does not have {row.accelerator!r} among its tuning_accelerators.")
    if isinstance(row, ModelRow) and row.max_sequence_length > row.context_window:
        problems.append(f"{entry.place}: max_sequence_length {row.max_sequence_length} is above context_window {row.context_window}.")
    return problems


def _goes_round(catalog: Catalog, row: AliasRow) -> bool:
    seen = {row.reference}
    name = row.model
    while name in catalog.aliases and name not in seen:
        seen.add(name)
        name = catalog.aliases[name].model
    return name in seen


def _gaps(catalog: Catalog, places: Mapping[str, str]) -> list[str]:
    """What placement could ask for and not find, or find twice."""
    problems = []
    found: dict[tuple[str, str], str] = {}
    for row in catalog.machines.values():
        if row.models == "open":
            continue
        backend = catalog.regions[row.region].backend
        other = found.setdefault((backend, row.accelerator), row.id)
        if other != row.id:
            problems.append(f"{places[row.id]}: {other!r} is the {backend} machine for {row.accelerator} as well. Keep one.")
        if backend == "vertex":
            missing = [context for context in CONTEXT_LENGTHS if not catalog.batch_size(row.region, context)]
            problems += [f"{places[row.id]}: no [[batch_size]] row has region {row.region!r} and context {context!r}." for context in missing]
    needed = [(backend, accelerator) for backend, accelerators in ACCELERATORS.items() for accelerator in accelerators]
    return problems + [
        f"No [[machine]] row is the {backend} machine for {accelerator}." for backend, accelerator in needed if (backend, accelerator) not in found
    ]
