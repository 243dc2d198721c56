"""Buckets as folders: the storage layer as a whole (pure file work, no HTTP)."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneline.api.gcs.conditions import ANYTHING, Conditions
from tuneline.api.gcs.faults import conflict, invalid, no_bucket, precondition_failed
from tuneline.api.gcs.layout import Layout
from tuneline.api.gcs.listing import Page, Question, page_of
from tuneline.api.gcs.names import check_bucket_name, is_bucket_name
from tuneline.api.gcs.objects import Objects
from tuneline.api.gcs.records import BucketRecord, Properties, Records, now
from tuneline.api.gcs.tree import opened, remove_folders
from tuneline.api.gcs.uploads import Uploads

READ_ONLY = (
    *("kind", "id", "name", "selfLink", "projectNumber", "metageneration", "etag", "timeCreated", "updated", "locationType"),
    *("acl", "defaultObjectAcl", "generation"),
)
"""Fields of a bucket that a request may hold and that say nothing."""


class Buckets:
    """All buckets below one folder, their `objects` and the `uploads` that are under way.

    One process at a time serves a folder.
    """

    def __init__(self, folder: Path, *, max_object_bytes: int = 1 << 40) -> None:
        self._layout = Layout.at(folder)
        self._records = Records(self._layout.records)
        self.objects = Objects(self._layout, self._records, max_object_bytes=max_object_bytes)
        self.uploads = Uploads(self._layout, self._records, self.objects)

    def close(self) -> None:
        self._records.close()

    def insert(self, name: str, properties: Properties) -> BucketRecord:
        """Make a bucket. A folder of this name that is there already is a bucket already."""
        check_bucket_name(name)
        record = BucketRecord(name=name, created=now(), updated=now(), properties=_checked(properties))
        with self._records.lock:
            try:
                (self._layout.folder / name).mkdir()
            except FileExistsError:
                raise conflict(f"Your previous request to create the named bucket succeeded and you already own it: {name}") from None
            self._drop(name)  # what was known of one whose folder was removed by hand
            self._records.put_bucket(record)
        return record

    def get(self, name: str, conditions: Conditions = ANYTHING) -> BucketRecord:
        with self._records.lock:
            record = self._record(name)
        conditions.check(0, record.metageneration)
        return record

    def list(self, question: Question) -> tuple[list[BucketRecord], Page]:
        """One page of buckets, by name."""
        names = sorted(path.name for path in self._layout.folder.iterdir() if is_bucket_name(path.name) and path.is_dir() and not path.is_symlink())
        page = page_of(names, replace(question, delimiter=""), skip_to=lambda _: None)
        return [self.get(name) for name in page.items], page

    def change(self, name: str, changes: Mapping[str, Any], conditions: Conditions = ANYTHING, *, whole: bool = False) -> BucketRecord:
        """Lay fields over a bucket's own (null removes one), or replace them as a `whole`."""
        with self._records.lock:
            record = self.get(name, conditions)
            properties = _checked(changes if whole else merged(record.properties, changes))
            record = replace(record, metageneration=record.metageneration + 1, updated=now(), properties=properties)
            self._records.put_bucket(record)
        return record

    def set_policy(self, name: str, policy: Mapping[str, Any]) -> BucketRecord:
        """Note an IAM policy. Nobody is asked for permissions here; clients read back what they wrote."""
        with self._records.lock:
            record = self.get(name)
            if policy.get("etag") not in (None, "", policy_etag(record)):
                raise precondition_failed(f"found etag {policy['etag']!r}; expected {policy_etag(record)!r}.")
            kept = {key: policy[key] for key in ("version", "bindings") if key in policy}
            record = replace(record, metageneration=record.metageneration + 1, updated=now(), policy=kept)
            self._records.put_bucket(record)
        return record

    def delete(self, name: str, conditions: Conditions = ANYTHING) -> None:
        """Remove an empty bucket."""
        with self._records.lock:
            self.get(name, conditions)
            if not self.objects.is_empty(name):
                raise conflict(f"The bucket you tried to delete is not empty: {name}")
            if not remove_folders(self._layout.folder, name):
                raise conflict(f"The bucket you tried to delete has links or other things in its folder that are no objects: {name}")
            self._drop(name)

    def _record(self, name: str) -> BucketRecord:
        """What is known of a bucket; a folder that somebody made is one from the first look on."""
        if is_bucket_name(name):
            with opened(self._layout.folder, (name,)) as folder:
                if folder is not None:
                    known = self._records.bucket(name)
                    if known is None:
                        known = BucketRecord(name=name, created=now(), updated=now())
                        self._records.put_bucket(known)
                    return known
        raise no_bucket(name)

    def _drop(self, name: str) -> None:
        self._records.forget_bucket(name)
        shutil.rmtree(self._layout.folder.joinpath(*self._layout.aside(name)), ignore_errors=True)


def merged(current: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch: objects are merged, null removes, everything else replaces."""
    result = dict(current)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def policy_etag(record: BucketRecord) -> str:
    """Changes with every change of the bucket."""
    return f"CA{record.metageneration}="


def _checked(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What a bucket keeps of a request. What would be believed and not done is refused."""
    kept = {key: value for key, value in properties.items() if key not in READ_ONLY}
    labels = kept.get("labels", {})
    if not isinstance(labels, Mapping) or not all(isinstance(value, str) for value in labels.values()):
        raise invalid("labels: expected an object whose values are strings.")
    if not isinstance(kept.get("iamConfiguration", {}), Mapping):
        raise invalid("iamConfiguration: expected an object.")
    for key in ("location", "storageClass"):
        if not isinstance(kept.get(key, ""), str):
            raise invalid(f"{key}: expected a string.")
    versioning = kept.get("versioning")
    if isinstance(versioning, Mapping) and versioning.get("enabled"):
        raise invalid("versioning: older generations are not kept here; leave it off.")
    if kept.get("retentionPolicy"):
        raise invalid("retentionPolicy: files on this machine can always be deleted; leave it out.")
    return kept
