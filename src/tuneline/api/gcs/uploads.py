"""Uploads in several requests (resumable): what has arrived stays on disk, also when the service is restarted in between."""

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from tuneline.api.gcs.conditions import ANYTHING, Conditions
from tuneline.api.gcs.draft import Draft
from tuneline.api.gcs.faults import StorageFault, invalid, no_upload
from tuneline.api.gcs.layout import KEPT_SECONDS, Layout
from tuneline.api.gcs.objects import Objects, Target
from tuneline.api.gcs.records import ObjectRecord, Properties, Records


class Upload:
    """One object on its way."""

    def __init__(self, draft: Draft, target: Target, properties: Properties, checksums: Mapping[str, str], finished: int | None) -> None:
        self.draft, self.target, self.properties, self.checksums = draft, target, properties, checksums
        self.finished = finished
        """Generation of the object that it has become."""
        self.lock = threading.Lock()
        self._turn = 0

    def begin(self, start: int) -> int:
        """A request's turn to write, which ends any other's: a client that lost its connection may be back before the service has noticed."""
        with self.lock:
            if start > self.draft.size:
                raise invalid(f"Content-Range: found a chunk that begins at byte {start}; expected byte {self.draft.size} or one before it.")
            self._turn += 1
            return self._turn

    def write(self, turn: int, start: int, content: bytes) -> None:
        """Append what begins at byte `start` of the object; bytes that are already there are left out."""
        with self.lock:
            if turn != self._turn or self.finished is not None:
                raise StorageFault(503, "backendError", "Another request goes on with this upload.")
            self.draft.write(content[self.draft.size - start :])

    def rest(self, turn: int) -> None:
        """Hold no file open between two requests."""
        with self.lock:
            if turn == self._turn:
                self.draft.rest()


class Uploads:
    """The uploads that are under way, by identifier."""

    def __init__(self, layout: Layout, records: Records, objects: Objects) -> None:
        self._layout, self._records, self._objects = layout, records, objects
        self._open: dict[str, Upload] = {}
        self._opening = threading.Lock()
        records.forget_uploads_before(time.time() - KEPT_SECONDS)

    def start(self, target: Target, properties: Properties, checksums: Mapping[str, str]) -> str:
        """Begin an upload; its identifier, which is also the right to go on with it."""
        self._objects.admit(target)
        identifier = secrets.token_urlsafe(32)
        draft = self._objects.draft(identifier)
        draft.path.touch(exist_ok=False)
        upload = Upload(draft, target, properties, checksums, None)
        self._save(identifier, upload)
        self._open[identifier] = upload
        return identifier

    def get(self, bucket: str, identifier: str) -> Upload:
        with self._opening:
            upload = self._open.get(identifier) or self._restored(identifier)
            if upload is None or upload.target.bucket != bucket:
                raise no_upload()
            self._open[identifier] = upload
            return upload

    def finish(self, identifier: str, upload: Upload, checksums: Mapping[str, str]) -> ObjectRecord:
        """Make what has arrived the object. If that may not be, the upload is over, too."""
        with upload.lock:
            if upload.finished is not None:
                return self.result(upload)
            try:
                record = self._objects.commit(upload.draft, upload.target, upload.properties, checksums={**upload.checksums, **checksums})
            except StorageFault:
                self._forget(identifier, upload)
                raise
            upload.finished = record.generation
            self._save(identifier, upload)
            self._open.pop(identifier, None)
        return record

    def result(self, upload: Upload) -> ObjectRecord:
        """The object that a finished upload has become, while it is still that."""
        return self._objects.get(replace(upload.target, generation=upload.finished, conditions=ANYTHING))

    def cancel(self, bucket: str, identifier: str) -> None:
        upload = self.get(bucket, identifier)
        with upload.lock:
            self._forget(identifier, upload)

    def _forget(self, identifier: str, upload: Upload) -> None:
        self._records.forget_upload(identifier)
        self._open.pop(identifier, None)
        upload.draft.rest()
        if upload.finished is None:
            upload.draft.path.unlink(missing_ok=True)

    def _save(self, identifier: str, upload: Upload) -> None:
        target = upload.target
        body = {"bucket": target.bucket, "name": target.name, "conditions": asdict(target.conditions), "finished": upload.finished}
        self._records.put_upload(identifier, {**body, "properties": upload.properties, "checksums": upload.checksums})

    def _restored(self, identifier: str) -> Upload | None:
        """An upload that an earlier process began."""
        body = self._records.upload(identifier)
        if body is None:
            return None
        draft = self._objects.draft(identifier)
        if body["finished"] is None:
            if not draft.path.is_file():
                return None
            draft = Draft.found(draft.path, max_bytes=self._objects.max_object_bytes)
        target = Target(bucket=body["bucket"], name=body["name"], conditions=Conditions(**body["conditions"]))
        return Upload(draft, target, body["properties"], body["checksums"], body["finished"])
