"""What a step hands on: output files, and the executor output file that tells orchestrators about them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuneline.storage import GCS_FOLDER


@dataclass(frozen=True, kw_only=True)
class OutputArtifact:
    """An output as KFP and Vertex record it."""

    uri: str
    metadata: Mapping[str, object] = field(default_factory=dict)


def artifact_uri(path: Path) -> str:
    """The URI behind a path that KFP mounted: `/gcs/b/x` is `gs://b/x`; any other path stands for itself. A folder of buckets counts as mounted."""
    text, buckets = str(path), os.environ.get(GCS_FOLDER, "").rstrip("/")
    mounts = [("/gcs/", "gs://"), ("/s3/", "s3://"), ("/minio/", "minio://"), *([(f"{buckets}/", "gs://")] if buckets else [])]
    for mount, scheme in mounts:
        if text.startswith(mount):
            return scheme + text.removeprefix(mount)
    return text


def write_text(path: Path, text: str) -> None:
    """Write an output file; its folder need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_outputs(executor_output: Path, *, artifacts: Mapping[str, OutputArtifact] | None = None, parameters: Mapping[Path, str] | None = None) -> None:
    """Write output parameters to their files, and the executor output file that carries the artifacts' metadata.

    Stock KFP sees no outputs of a container component without that file. Metadata must be finite and flat.
    """
    for path, value in (parameters or {}).items():
        write_text(path, value)
    records = {name: {"artifacts": [{"name": name, "uri": artifact.uri, "metadata": dict(artifact.metadata)}]} for name, artifact in (artifacts or {}).items()}
    write_text(executor_output, json.dumps({"artifacts": records}, allow_nan=False))
