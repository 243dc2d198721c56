"""Objects as files: write, read, change, copy and list them (pure file work, no HTTP).

Content is written aside and takes its name in one step, so that a reader sees the old object or the new one. A file that somebody put
into a bucket's folder is an object from the first look on; one that somebody changed there is a new generation.
"""

import heapq
import mimetypes
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from tuneline.api.gcs.conditions import ANYTHING, Conditions
from tuneline.api.gcs.draft import CHUNK_BYTES, Draft, Hashes
from tuneline.api.gcs.faults import changed_meanwhile, invalid, no_bucket, no_object
from tuneline.api.gcs.layout import Layout
from tuneline.api.gcs.listing import Page, Question, page_of
from tuneline.api.gcs.names import check_object_name, is_bucket_name, path_of
from tuneline.api.gcs.records import ObjectRecord, Properties, Records, now
from tuneline.api.gcs.tree import Walk, file_facts, is_free, open_file, opened, prune, required

MAX_HASHED_IN_LISTS = 64 << 20
"""A listing does not wait for the checksums of larger files that were put into the folder by hand; asking for the object itself does."""
MAX_SOURCES = 32
"""Of one compose request, as on Cloud Storage."""
ATTEMPTS = 3
"""To read a file that somebody else keeps changing."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The object that a request is about."""

    bucket: str
    name: str
    generation: int | None = None
    """The only one that is meant; older ones are not kept."""
    conditions: Conditions = ANYTHING


class Objects:
    """The objects of all buckets below one folder."""

    def __init__(self, layout: Layout, records: Records, *, max_object_bytes: int) -> None:
        self._layout, self._records = layout, records
        self.max_object_bytes = max_object_bytes

    # --- write

    def draft(self, identifier: str = "") -> Draft:
        """A file for new content."""
        return Draft(self._layout.parts / (identifier or secrets.token_hex(16)), max_bytes=self.max_object_bytes, kept=bool(identifier))

    def admit(self, target: Target) -> None:
        """Refuse a write that cannot be, before its content is sent."""
        check_object_name(target.name)
        with self._records.lock:
            self._check(target, self._current(target.bucket, target.name))

    def commit(
        self, draft: Draft, target: Target, properties: Properties, *, checksums: Mapping[str, str] | None = None, component_count: int = 0
    ) -> ObjectRecord:
        """Make a draft the object, in one step, if the conditions hold at that moment."""
        draft.hashes.check(checksums or {})
        check_object_name(target.name)
        draft.seal()
        with self._records.lock:
            current = self._current(target.bucket, target.name)
            self._check(target, current)
            generation = self._records.next_generation()
            moment = now()
            record = ObjectRecord(
                bucket=target.bucket,
                name=target.name,
                generation=generation,
                size=draft.size,
                mtime_ns=draft.stamp(generation),
                md5=draft.hashes.md5,
                crc32c=draft.hashes.crc32c,
                created=moment,
                updated=moment,
                component_count=component_count,
                properties=properties,
            )
            return self._place(record, current, str(draft.path))

    def copy(self, source: Target, target: Target, properties: Properties | None = None) -> ObjectRecord:
        """Write an object's content and, unless others are given, its properties to another name."""
        record, file = self.open(source)
        with file, self.draft() as draft:
            self.admit(target)
            draft.fill(file, record.size)
            return self.commit(draft, target, _with_type(properties, record), component_count=record.component_count)

    def compose(self, sources: Sequence[Target], target: Target, properties: Properties) -> ObjectRecord:
        """Write the contents of several objects, one after the other, to one name, which may be among them."""
        if not 1 <= len(sources) <= MAX_SOURCES:
            raise invalid(f"sourceObjects: found {len(sources)}; expected 1 to {MAX_SOURCES}.")
        self.admit(target)
        num_components, media_type = 0, ""
        with self.draft() as draft:
            for source in sources:
                record, file = self.open(source)
                with file:
                    draft.fill(file, record.size)
                num_components += record.component_count or 1
                media_type = media_type or record.properties["contentType"]
            return self.commit(draft, target, {"contentType": media_type, **properties}, component_count=num_components)

    def move(self, source: Target, target: Target) -> ObjectRecord:
        """Give an object another name in its bucket, without copying."""
        check_object_name(target.name)
        if source.name == target.name:
            raise invalid(f"moveTo: source and destination are both {source.name!r}; expected two names.")
        with self._records.lock:
            record = self._existing(source)
            current = self._current(target.bucket, target.name)
            self._check(target, current)
            moment = now()
            moved = replace(record, name=target.name, generation=self._records.next_generation(), metageneration=1, created=moment, updated=moment)
            with self._file_of(record) as (folder, name):
                moved = self._place(moved, current, name, folder)
            self._forget(record)
            return moved

    def change(self, target: Target, change: Callable[[dict[str, Any]], dict[str, Any]]) -> ObjectRecord:
        """Change properties, not content."""
        with self._records.lock:
            record = self._existing(target)
            record = replace(record, metageneration=record.metageneration + 1, updated=now(), properties=change(dict(record.properties)))
            self._records.put(record)
        return self._hashed(record)

    def delete(self, target: Target) -> None:
        with self._records.lock:
            record = self._existing(target)
            with self._file_of(record) as (folder, name):
                os.unlink(name, dir_fd=folder)
            self._forget(record)

    # --- read

    def get(self, target: Target) -> ObjectRecord:
        """What is known of an object, with its checksums."""
        return self._hashed(self._existing(target))

    def open(self, target: Target) -> tuple[ObjectRecord, BinaryIO]:
        """An object and its bytes, which stay readable whatever happens to the object."""
        for _ in range(ATTEMPTS):
            record = self._existing(target)
            file = self._open(record)
            if file is not None:
                return record, file
        raise changed_meanwhile(target.bucket, target.name)

    def list(self, bucket: str, question: Question) -> tuple[list[ObjectRecord], Page]:
        """One page: its objects, and the page for prefixes and the token of the next."""
        self._check_bucket(bucket)
        walk = Walk(self._layout.folder, bucket, prefix=question.prefix, floor=question.floor)

        def skip_to(name: str) -> None:
            walk.floor = max(walk.floor, name)

        page = page_of(self._names(bucket, walk), question, skip_to=skip_to)
        records = [record for name in page.items if (record := self._current(bucket, name))]
        return [self._hashed(record) if record.size <= MAX_HASHED_IN_LISTS else record for record in records], page

    def is_empty(self, bucket: str) -> bool:
        return next(iter(self._names(bucket, Walk(self._layout.folder, bucket))), None) is None

    # --- underneath

    def _check_bucket(self, bucket: str) -> None:
        """A bucket is a folder with a bucket's name; not a link to one."""
        if is_bucket_name(bucket):
            with opened(self._layout.folder, (bucket,)) as folder:
                if folder is not None:
                    return
        raise no_bucket(bucket)

    def _check(self, target: Target, current: ObjectRecord | None) -> None:
        """The conditions of a write."""
        self._check_bucket(target.bucket)
        target.conditions.check(*((current.generation, current.metageneration) if current else (0, 0)))

    def _existing(self, target: Target) -> ObjectRecord:
        """The object that a request needs, if its conditions hold."""
        self._check_bucket(target.bucket)
        record = self._current(target.bucket, target.name)
        if record is None or target.generation not in (None, record.generation):
            raise no_object(target.bucket, target.name)
        target.conditions.check(record.generation, record.metageneration)
        return record

    def _current(self, bucket: str, name: str) -> ObjectRecord | None:
        """The row that is true of the file that is there. A file without one gets one."""
        with self._records.lock:
            known = self._records.generations(bucket, name)
            parts = path_of(name)
            if parts is not None and is_bucket_name(bucket):
                with opened(self._layout.folder, (bucket, *parts[:-1])) as folder:
                    facts = None if folder is None else file_facts(folder, parts[-1])
                if facts is not None:
                    match = (record for record in known if not record.is_aside and _describes(record, facts))
                    return next(match, None) or self._adopt(bucket, name, facts)
            return next((record for record in known if record.is_aside and self._layout.file_aside(record).is_file()), None)

    def _adopt(self, bucket: str, name: str, facts: os.stat_result) -> ObjectRecord:
        """Give a file that did not come through the service a generation. Its checksums are left for whoever asks for them."""
        record = ObjectRecord(
            bucket=bucket,
            name=name,
            generation=self._records.next_generation(),
            size=facts.st_size,
            mtime_ns=facts.st_mtime_ns,
            created=now(),
            updated=now(),
            properties={"contentType": mimetypes.guess_type(name)[0] or "application/octet-stream"},
        )
        self._records.put(record, durable=False)
        return record

    def _hashed(self, record: ObjectRecord) -> ObjectRecord:
        """With checksums, unless the file changes while it is read."""
        if record.md5:
            return record
        file = self._open(record)
        if file is None:
            return record
        hashes = Hashes()
        with file:
            while content := file.read(CHUNK_BYTES):
                hashes.update(content)
            if not _describes(record, os.fstat(file.fileno())):
                return record
        self._records.put_checksums(record, hashes.md5, hashes.crc32c)
        return replace(record, md5=hashes.md5, crc32c=hashes.crc32c)

    def _open(self, record: ObjectRecord) -> BinaryIO | None:
        """The file that a row describes; None if it is no longer there."""
        try:
            with self._file_of(record) as (folder, name):
                file = os.fdopen(open_file(folder, name), "rb")
        except FileNotFoundError:
            return None
        if not record.is_aside and not _describes(record, os.fstat(file.fileno())):
            file.close()
            return None
        return file

    @contextmanager
    def _file_of(self, record: ObjectRecord) -> Iterator[tuple[int, str]]:
        """Where an object's file is."""
        parts = path_of(record.name)
        is_aside = record.is_aside or parts is None
        with required(self._layout.folder, self._layout.aside(record.bucket) if is_aside else (record.bucket, *(parts or ())[:-1])) as folder:
            yield folder, str(record.generation) if is_aside or parts is None else parts[-1]

    def _place(self, record: ObjectRecord, current: ObjectRecord | None, source: str, source_folder: int | None = None) -> ObjectRecord:
        """Note a generation, then give its file the name: its path where that is free, else one in the hidden tree."""
        with self._path_for(record) as path, required(self._layout.folder, self._layout.aside(record.bucket), create=True) as aside:
            folder, name = path or (aside, str(record.generation))
            record = replace(record, is_aside=path is None)
            self._records.put(record, replacing=current)
            try:
                os.rename(source, name, src_dir_fd=source_folder, dst_dir_fd=folder)
                os.fsync(folder)
            except BaseException:
                self._records.forget(record)
                raise
        if current is not None and current.is_aside:
            self._layout.file_aside(current).unlink(missing_ok=True)
        return record

    @contextmanager
    def _path_for(self, record: ObjectRecord) -> Iterator[tuple[int, str] | None]:
        """Where a new file may have its object's name; None if that cannot be a path, or something else stands in its way."""
        parts = path_of(record.name)
        if parts is None:
            yield None
            return
        with opened(self._layout.folder, (record.bucket, *parts[:-1]), create=True) as folder:
            yield None if folder is None or not is_free(folder, parts[-1]) else (folder, parts[-1])

    def _forget(self, record: ObjectRecord) -> None:
        """What was known of an object whose file is gone, and the folders that it leaves empty."""
        self._records.forget_all(record.bucket, record.name)
        parts = path_of(record.name)
        if parts is not None and not record.is_aside:
            prune(self._layout.folder, (record.bucket, *parts[:-1]), keep=1)

    def _names(self, bucket: str, walk: Walk) -> Iterator[str]:
        """The names of a bucket's objects, in order."""
        last = None
        aside = self._records.names_aside(bucket, walk.floor)
        for name in heapq.merge(walk, (name for name in aside if self._current(bucket, name))):
            if name != last:
                yield name
            last = name


def _describes(record: ObjectRecord, facts: os.stat_result) -> bool:
    return (record.size, record.mtime_ns) == (facts.st_size, facts.st_mtime_ns)


def _with_type(properties: Properties | None, record: ObjectRecord) -> Properties:
    return record.properties if properties is None else {"contentType": record.properties["contentType"], **properties}
