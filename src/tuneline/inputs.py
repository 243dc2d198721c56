"""The files that a job starts from: are they there, and which bytes are in them?

KFP and Vertex key their caches on URIs; the fingerprint makes new bytes behind an old URI a new job.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tuneline.catalog import Catalog
from tuneline.data.base_model import ARCHITECTURES, check_configuration, locate
from tuneline.errors import UserError
from tuneline.parameters import TuningParameters
from tuneline.resolution import Resolved
from tuneline.storage import Storage
from tuneline.validation import Findings, not_built_yet

DOWNLOADED = ("hf://", "gs://")
WITHOUT_EFFECT = ("reasons", "serving")
"""Of what was resolved, what changes nothing about the tuned model."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What was found."""

    fingerprint: str
    """SHA-256 over the contents of all inputs and the resolved choices, as far as they have an effect on the tuned model."""
    problems: tuple[str, ...]


def examine_inputs(parameters: TuningParameters, findings: Findings, catalog: Catalog, *, storage: Storage, downloads: Path) -> Inputs:
    """Look at data files and base model. A model is downloaded only for a job that has no other problem."""
    problems: list[str] = []
    resolved = findings.resolved
    uris = {"dataset_uri": parameters.dataset_uri, "evaluation_data_uri": parameters.evaluation_data_uri}
    refused = {problem.partition(":")[0] for problem in findings.problems}
    parts = {name: _fingerprint(name, uri, storage, problems) for name, uri in uris.items() if uri and name not in refused}
    if resolved:
        problems += [*not_built_yet(parameters, resolved), *_architecture_problems(resolved, catalog)]
        if resolved.backend == "local" and not (problems and resolved.base_model.uri.startswith(DOWNLOADED)):
            problems += _base_model_problems(resolved, catalog, downloads)
        if not problems and not resolved.base_model.uri.startswith(("hf://", "embedded:")):
            parts["base_model_uri"] = storage.fingerprint(resolved.base_model.uri)
        parts["resolved"] = json.dumps({key: value for key, value in asdict(resolved).items() if key not in WITHOUT_EFFECT}, sort_keys=True)
    return Inputs(fingerprint=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(), problems=tuple(problems))


def _fingerprint(name: str, uri: str, storage: Storage, problems: list[str]) -> str:
    """The file's fingerprint, or nothing and a problem."""
    try:
        if not storage.is_folder(uri):
            return storage.fingerprint(uri)
        problems.append(f"{name}: {uri} is a folder; expected a JSONL file. Give the file itself.")
    except UserError as error:
        problems.append(f"{name}: {error} {error.next_action}".rstrip())
    return ""


def _architecture_problems(resolved: Resolved, catalog: Catalog) -> Iterator[str]:
    """Known before the model is downloaded."""
    row = catalog.model(resolved.base_model.reference)
    if row.architecture not in ARCHITECTURES:
        yield f"large_model_reference: {row.reference} is a {row.architecture}; expected one of {', '.join(sorted(ARCHITECTURES))}. Take another model."


def _base_model_problems(resolved: Resolved, catalog: Catalog, downloads: Path) -> Iterator[str]:
    """Why the base model cannot be tuned on this machine."""
    try:
        folder = locate(resolved.base_model.uri, downloads=downloads)
        check_configuration(folder)
    except UserError as error:
        yield f"base model {resolved.base_model.uri}: {error} {error.next_action}".rstrip()
        return
    row = catalog.model(resolved.base_model.reference)
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    if row.architecture not in found:
        yield (
            f"base model {resolved.base_model.uri}: found a {' '.join(found)}; {row.reference} is a {row.architecture}. "
            "Give weights of the same architecture, or another large_model_reference."
        )
