"""Values of earlier tasks, found again by what went into them. The outputs stay where they are; the cache holds references and digests.

A hit needs the same component, the same command, the same values and the same content of every input artifact, and outputs that still
have the content that the earlier task left. The code of this package counts, too: a change between two releases is a change.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneline import __version__
from tuneline.errors import InfrastructureError
from tuneline.local.artifacts import ContentDigests
from tuneline.local.run_record import Artifact, Values
from tuneline.registry.files import read_json, write_json
from tuneline.templates import Json


@dataclass(frozen=True)
class Hit:
    """Values of an earlier task, and its run."""

    run: str
    outputs: Values


class TaskCache:
    """The index: one file a task, `<key>.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests = ContentDigests()

    def key(self, command: Mapping[str, Json], artifacts: Mapping[str, Artifact]) -> str:
        """The key of a command, with values but without this run's paths, on these input artifacts."""
        inputs = {name: self._digests.of(artifact.uri) or [artifact.uri, dict(artifact.metadata)] for name, artifact in artifacts.items()}
        text = json.dumps([__version__, _code(), command, inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, key: str) -> Hit | None:
        """The outputs under `key`, when all of them are still as they were."""
        try:
            entry = read_json(self._folder / f"{key}.json")
        except InfrastructureError:  # a damaged entry is no hit; the task runs and writes a new one
            return None
        if entry is None:
            return None
        outputs = Values.from_json(entry["outputs"])
        if any(self._digests.of(artifact.uri) != entry["digests"].get(name) for name, artifact in outputs.artifacts.items()):
            return None
        return Hit(entry["run"], outputs)

    def keep(self, key: str, run: str, outputs: Values) -> None:
        """Remember outputs, if all of them lie on this machine."""
        digests = {name: self._digests.of(artifact.uri) for name, artifact in outputs.artifacts.items()}
        if None not in digests.values():
            write_json(self._folder / f"{key}.json", {"run": run, "outputs": outputs.to_json(), "digests": digests})


@functools.cache
def _code() -> str:
    """Digest of this package: its code, tables and embedded models."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
