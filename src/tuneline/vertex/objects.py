"""Single objects of Cloud Storage with their generations: what several processes agree through, by writes that only one of them can make."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tuneline.errors import InfrastructureError, NotFoundError, UserError

if TYPE_CHECKING:
    from google.cloud import storage

ABSENT = 0
"""Generation of an object that does not exist."""


def open_client() -> "storage.Client":
    """Google's client, or one for `STORAGE_EMULATOR_HOST`, where nobody's Google credentials go."""
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
    except ModuleNotFoundError:
        raise UserError("gs:// URIs need the package google-cloud-storage, which is not installed.", next_action="pip install 'tuneline[vertex]'") from None
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project="local", credentials=AnonymousCredentials())
    return storage.Client()


@dataclass(kw_only=True)
class Objects:
    """Objects by URI."""

    client: "storage.Client" = field(default_factory=open_client)

    def read(self, uri: str) -> tuple[bytes, int] | None:
        """Content and generation, or nothing when there is no such object."""
        from google.cloud.exceptions import GoogleCloudError, NotFound, PreconditionFailed

        blob = self._blob(uri)
        while True:
            try:
                blob.reload()
                generation = int(blob.generation or ABSENT)
                content: bytes = blob.download_as_bytes(if_generation_match=generation)
            except NotFound:
                return None
            except PreconditionFailed:  # replaced since the look at its generation
                continue
            except (GoogleCloudError, OSError) as error:
                raise _failed(uri, error) from error
            else:
                return content, generation

    def write(self, uri: str, content: bytes, *, generation: int) -> int | None:
        """Replace exactly this generation (ABSENT: make the object). The new generation, or nothing when another writer was first.

        The content must be the writer's own, different from any other writer's: when an answer is lost the library asks again, is told that the
        condition does not hold, and only the content tells whether that was our own write.
        """
        from google.cloud.exceptions import GoogleCloudError, PreconditionFailed

        blob = self._blob(uri)
        try:
            blob.upload_from_string(content, content_type="application/json", if_generation_match=generation)
        except PreconditionFailed:
            found = self.read(uri)
            return found[1] if found and found[0] == content else None
        except (GoogleCloudError, OSError) as error:
            raise _failed(uri, error) from error
        return int(blob.generation or ABSENT)

    def bucket_location(self, bucket: str) -> str:
        """Where a bucket is: `europe-west4`, or a multi-region such as `us`; lower case."""
        from google.cloud.exceptions import GoogleCloudError, NotFound

        try:
            return str(self.client.get_bucket(bucket).location).lower()
        except NotFound:
            raise NotFoundError(f"gs://{bucket}: there is no such bucket.", next_action="Create it, or check the spelling.") from None
        except (GoogleCloudError, OSError) as error:
            raise _failed(f"gs://{bucket}", error) from error

    def _blob(self, uri: str) -> "storage.Blob":
        parts = urlsplit(uri)
        name = parts.path.removeprefix("/")
        if parts.scheme != "gs" or not parts.netloc or not name:
            raise UserError(f"{uri}: not an object; expected gs://BUCKET/NAME.")
        return self.client.bucket(parts.netloc).blob(name)


LOCATED = ("dataset_uri", "evaluation_data_uri", "general_data_uri", "base_model_uri", "model_output_root_dir")
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


def _failed(uri: str, error: Exception) -> UserError | InfrastructureError:
    from google.cloud.exceptions import Forbidden, Unauthorized

    if isinstance(error, Forbidden | Unauthorized):
        return UserError(f"{uri}: access denied.", next_action="Give the account roles/storage.objectUser on the bucket.")
    return InfrastructureError(f"{uri}: {type(error).__name__}: {error}")
