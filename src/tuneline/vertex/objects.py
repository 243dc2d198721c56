"""Single objects of Cloud Storage with their generations: what several processes agree through, by writes that only one of them can make."""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tuneline.errors import InfrastructureError, NotFoundError, UserError
from tuneline.parameters import DATA_URIS
from tuneline.vertex.rest import LOG_IN

if TYPE_CHECKING:
    from google.cloud import storage

ABSENT = 0
"""Generation of an object that does not exist."""


def open_client() -> "storage.Client":
    """Google's client, or one for `STORAGE_EMULATOR_HOST`, where nobody's Google credentials go."""
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
    except ModuleNotFoundError:
        raise UserError("gs:// URIs need the package google-cloud-storage, which is not installed.", next_action="pip install 'tuneline[vertex]'") from None
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project="local", credentials=AnonymousCredentials())
    try:
        return storage.Client(project=None)  # whoever is asked for a project's buckets names the project
    except DefaultCredentialsError as error:
        raise UserError(f"There are no Google credentials on this machine: {error}", next_action=LOG_IN) from None


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What a listing tells about an object."""

    num_bytes: int
    crc32c: str


@dataclass(kw_only=True)
class Objects:
    """Objects by URI."""

    client: "storage.Client" = field(default_factory=open_client)

    def read(self, uri: str) -> tuple[bytes, int] | None:
        """Content and generation, or nothing when there is no such object."""
        from google.cloud.exceptions import NotFound, PreconditionFailed

        while True:
            blob = self._blob(uri)
            with _explained(uri):
                try:
                    blob.reload()
                except NotFound:
                    return None
                generation = int(blob.generation or ABSENT)
                with contextlib.suppress(NotFound, PreconditionFailed):  # replaced since the look at its generation, so look again
                    content: bytes = blob.download_as_bytes(if_generation_match=generation)
                    return content, generation

    def write(self, uri: str, content: bytes, *, generation: int) -> int | None:
        """Replace exactly this generation (ABSENT: make the object). The new generation, or nothing when another writer was first.

        The content must be the writer's own, different from any other writer's: when an answer is lost the library asks again, is told that the
        condition does not hold, and only the content tells whether that was our own write.
        """
        from google.cloud.exceptions import PreconditionFailed

        blob = self._blob(uri)
        with _explained(uri):
            try:
                blob.upload_from_string(content, content_type="application/json", if_generation_match=generation)
            except PreconditionFailed:
                found = self.read(uri)
                return found[1] if found and found[0] == content else None
            return int(blob.generation or ABSENT)

    def list(self, folder: str, expected: Collection[str] = ()) -> dict[str, StoredObject]:
        """The objects below a folder, by their names relative to it. Placeholders that stand for folders are left out.

        Those that are expected and missing are asked for one by one: a listing may lag behind (a proxy's, a cache's; Cloud Storage's own does not).
        """
        bucket, prefix = parts_of(f"{folder.rstrip('/')}/")
        with _explained(folder):
            blobs = [*self.client.list_blobs(bucket, prefix=prefix)]
        found = {str(blob.name).removeprefix(prefix): StoredObject(num_bytes=int(blob.size), crc32c=str(blob.crc32c)) for blob in blobs}
        found |= {name: stored for name in sorted({*expected} - found.keys()) if (stored := self.find(f"{folder.rstrip('/')}/{name}"))}
        return {name: stored for name, stored in found.items() if name and not name.endswith("/")}

    def find(self, uri: str) -> StoredObject | None:
        """The object, if there is one."""
        from google.cloud.exceptions import NotFound

        blob = self._blob(uri)
        with _explained(uri):
            try:
                blob.reload()
            except NotFound:
                return None
        return StoredObject(num_bytes=int(blob.size), crc32c=str(blob.crc32c))

    def copy(self, source: str, target: str, *, key: str = "") -> None:
        """Copy an object within Cloud Storage, in as many calls as its size takes, encrypted with `key`, if there is one.

        Raises InfrastructureError when the copy has another checksum.
        """
        from google.cloud.exceptions import NotFound
        from google.cloud.storage.retry import DEFAULT_RETRY

        original, blob = self._blob(source), self._blob(target, key)
        with _explained(f"{source} -> {target}"):
            try:
                original.reload()
                token = None
                while True:
                    token, _done, _size = blob.rewrite(original, token=token, retry=DEFAULT_RETRY)  # twice makes the same copy
                    if token is None:
                        break
            except NotFound:
                raise NotFoundError(f"{source} -> {target}: there is no such object or bucket.", next_action="Check the spelling.") from None
        if (blob.crc32c, blob.size) != (original.crc32c, original.size):
            raise InfrastructureError(f"{target}: CRC32C {blob.crc32c}, {blob.size} bytes; {source} has {original.crc32c}, {original.size} bytes.")

    def bucket_location(self, bucket: str) -> str:
        """Where a bucket is: `europe-west4`, or a multi-region such as `us`; lower case."""
        from google.cloud.exceptions import NotFound

        with _explained(f"gs://{bucket}"):
            try:
                return str(self.client.get_bucket(bucket).location).lower()
            except NotFound:
                raise NotFoundError(f"gs://{bucket}: there is no such bucket.", next_action="Create it, or check the spelling.") from None

    def ensure_bucket(self, name: str, *, project: str, region: str, key: str = "") -> None:
        """Make the project's bucket unless it is there: uniform access, and `key`, if there is one, for everything in it.

        Names of buckets are everybody's. One that belongs to another project is refused, so that nobody can wait for our files under a name that is
        easy to guess.
        """
        from google.cloud.exceptions import Conflict

        with _explained(f"gs://{name}"):
            if self._owns(project, name):
                return
            bucket = self.client.bucket(name)
            bucket.iam_configuration.uniform_bucket_level_access_enabled = True
            if key:
                bucket.default_kms_key_name = key
            try:
                self.client.create_bucket(bucket, project=project, location=region)
            except Conflict:
                if not self._owns(project, name):  # nor has another process of ours just made it
                    problem = f"gs://{name}: the bucket belongs to another project than {project}."
                    raise UserError(problem, next_action="Set model_output_root_dir to a folder in a bucket of your own.") from None

    def _owns(self, project: str, name: str) -> bool:
        return any(bucket.name == name for bucket in self.client.list_buckets(project=project, prefix=name))

    def _blob(self, uri: str, key: str = "") -> "storage.Blob":
        bucket, name = parts_of(uri)
        return self.client.bucket(bucket).blob(name, kms_key_name=key or None)


def parts_of(uri: str) -> tuple[str, str]:
    """Bucket and name of an object. Names may hold anything, also `?` and `#`."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket or not name:
        raise UserError(f"{uri}: not an object; expected gs://BUCKET/NAME.")
    return bucket, name


LOCATED = (*DATA_URIS, "base_model_uri", "model_output_root_dir")
"""Parameters whose bucket's place matters to a job on Vertex."""


def locations(objects: Objects, parameters: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Parameter -> its bucket and where that is, for all that are gs:// URIs. A bucket that may not be looked at is left out: reading will tell."""
    found = {}
    for name in LOCATED:
        parts = urlsplit(parameters.get(name, ""))
        if parts.scheme == "gs":
            with contextlib.suppress(UserError):
                found[name] = (parts.netloc, objects.bucket_location(parts.netloc))
    return found


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn what the client raises into errors that say what to do."""
    from google.api_core.exceptions import ClientError, TooManyRequests
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.exceptions import Forbidden, GoogleCloudError, Unauthorized

    try:
        yield
    except (Forbidden, Unauthorized) as error:
        action = "Give the account roles/storage.objectUser on the bucket, and what docs/images.md names for this step."
        raise UserError(f"{uri}: access denied.", next_action=action) from error
    except (GoogleCloudError, GoogleAuthError, OSError) as error:
        is_users = isinstance(error, ClientError) and not isinstance(error, TooManyRequests)
        raise (UserError if is_users else InfrastructureError)(f"{uri}: {type(error).__name__}: {error}") from error
