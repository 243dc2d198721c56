"""A checkpoint's folder in Cloud Storage: whether it is whole, and a copy of it near the place where it is served."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tuneline.errors import ModelError
from tuneline.placement import covers
from tuneline.registry.files import COMMIT, FileHash, files_in, no_commit
from tuneline.storage import join
from tuneline.vertex.objects import Objects, parts_of

CLAIMS = ".tuneline"
"""Folder for claims, beside the checkpoint: what is in the checkpoint's own folder is served."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A whole checkpoint."""

    uri: str
    files: Mapping[str, FileHash]

    @property
    def num_bytes(self) -> int:
        """Of all that is served."""
        return sum(file.bytes for file in self.files.values())

    @property
    def claims(self) -> str:
        """The folder of what is noted about this checkpoint."""
        return join(self.uri.rstrip("/").rpartition("/")[0], CLAIMS)

    def claim(self, name: str) -> str:
        """The URI of a claim about this checkpoint."""
        return join(self.claims, f"{name}.json")


def run_alias(pipeline_job_name: str, files: Mapping[str, FileHash]) -> str:
    """What a pipeline job calls the model version that it makes of these files, and no other version is called."""
    lines = [pipeline_job_name, *(f"{name} {file.sha256}" for name, file in sorted(files.items()))]
    return "run-" + hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def open_artifact(objects: Objects, uri: str) -> Artifact:
    """The checkpoint at a gs:// URI. Raises ModelError unless all files are there in their sizes, and no others.

    Contents are not read: Cloud Storage keeps a checksum of its own for each object, and whoever loads the model compares the SHA-256 sums.
    """
    commit = objects.read(join(uri, COMMIT))
    if commit is None:
        raise no_commit(uri)
    files = files_in(commit[0], join(uri, COMMIT))
    found = objects.list(uri, files)
    may_be = {COMMIT, *json.loads(commit[0]).get("state", {})}
    problems = [f"{join(uri, name)}: missing; {COMMIT} names it." for name in sorted(files.keys() - found.keys())]
    problems += [f"{join(uri, name)}: does not belong to the checkpoint." for name in sorted(found.keys() - files.keys() - may_be)]
    for name in sorted(files.keys() & found.keys()):
        if found[name].num_bytes != files[name].bytes:
            problems.append(f"{join(uri, name)}: {found[name].num_bytes} bytes; expected {files[name].bytes}.")
    if problems:
        raise ModelError(*problems, next_action="The checkpoint is damaged. Choose another one, or tune again.")
    return Artifact(uri=uri, files=files)


def bring_near(objects: Objects, artifact: Artifact, *, root: str, folder: str, project: str, region: str, key: str) -> Artifact:
    """The checkpoint, or a copy of it in `folder` below `root`. Without a root it stays where its bucket is at hand in the region."""
    if not root:
        if covers(objects.bucket_location(parts_of(artifact.uri)[0]), (), region):
            return artifact
        bucket = f"{project}-tuneline-{region}"
        objects.ensure_bucket(bucket, project=project, region=region, key=key)
        root = f"gs://{bucket}/models"
    target = join(root, folder)
    sources, present = objects.list(artifact.uri, [*artifact.files, COMMIT]), objects.list(target)
    for name in (*sorted(artifact.files), COMMIT):  # the marker last, so that a copy that was cut off has none
        if present.get(name) != sources[name]:
            objects.copy(join(artifact.uri, name), join(target, name), key=key)
    return open_artifact(objects, target)
