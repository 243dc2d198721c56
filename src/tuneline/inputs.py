"""The files that a job starts from: are they there, and which bytes are in them?

KFP and Vertex key their caches on URIs; the fingerprint makes new bytes behind an old URI a new job.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tuneline.catalog import Catalog
from tuneline.data.base_model import architecture_problems, check_configuration, locate
from tuneline.errors import UserError
from tuneline.parameters import DATA_URIS, SelectCheckpoint, TransformDataset, TuneModel, TuningParameters
from tuneline.resolution import Resolved
from tuneline.storage import Storage, content_of
from tuneline.validation import Findings, not_built_yet

SHAPING = (TransformDataset, TuneModel, SelectCheckpoint)
"""Parameters that decide which weights are registered, if any."""
DOWNLOADED = ("hf://", "gs://")
WITHOUT_EFFECT = ("reasons", "serving")
"""Of what was resolved, what changes nothing about the tuned model."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What was found."""

    fingerprint: str
    """SHA-256 over the contents of all inputs and the resolved choices, without their reasons: part of the cache keys of later tasks."""
    data_fingerprint: str
    """SHA-256 over what the tuned model comes from: contents of the data, base model, parameters that shape it; no URIs of data, places or machines."""
    problems: tuple[str, ...]


def examine_inputs(parameters: TuningParameters, findings: Findings, catalog: Catalog, *, storage: Storage, downloads: Path) -> Inputs:
    """Look at data files and base model. A model is downloaded only for a job that has no other problem."""
    problems: list[str] = []
    resolved = findings.resolved
    uris = {name: getattr(parameters, name) for name in DATA_URIS}
    refused = {problem.partition(":")[0] for problem in findings.problems}
    parts = {name: _fingerprint(name, uri, storage, problems) for name, uri in uris.items() if uri and name not in refused}
    if resolved:
        problems += [*not_built_yet(resolved), *architecture_problems(catalog, resolved.base_model.reference)]
        if resolved.backend == "local" and not (problems and resolved.base_model.uri.startswith(DOWNLOADED)):
            problems += _base_model_problems(resolved, catalog, downloads)
        if not problems and not resolved.base_model.uri.startswith(("hf://", "embedded:")):
            parts["base_model_uri"] = storage.fingerprint(resolved.base_model.uri)
        parts["resolved"] = json.dumps({key: value for key, value in asdict(resolved).items() if key not in WITHOUT_EFFECT}, sort_keys=True)
    return Inputs(fingerprint=_sha256(parts), data_fingerprint=_data_fingerprint(parameters, resolved, parts), problems=tuple(problems))


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _data_fingerprint(parameters: TuningParameters, resolved: Resolved | None, parts: Mapping[str, str]) -> str:
    """Where the files of the base model lie does not count with continue_from_champion: they follow from earlier runs, and each run would look new."""
    shaping = {name: getattr(parameters, name) for group in SHAPING for name in (field.name for field in fields(group)) if name not in DATA_URIS}
    data = {name: content_of(parts[name]) for name in DATA_URIS if name in parts}
    base = asdict(resolved.base_model) if resolved else {}
    weights = parts.get("base_model_uri", "")
    if parameters.continue_from_champion:
        base, weights = {**base, "uri": "of the champion"}, ""
    return _sha256([data, shaping, base, weights, resolved.batch_size if resolved else 0])


def _fingerprint(name: str, uri: str, storage: Storage, problems: list[str]) -> str:
    """The file's fingerprint, or nothing and a problem."""
    try:
        if not storage.is_folder(uri):
            return storage.fingerprint(uri)
        problems.append(f"{name}: {uri} is a folder; expected a JSONL file. Give the file itself.")
    except UserError as error:
        problems.append(f"{name}: {error} {error.next_action}".rstrip())
    return ""


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
