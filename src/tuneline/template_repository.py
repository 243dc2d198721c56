"""Ask a repository of pipeline templates: Artifact Registry's, or another of the same protocol.

A version is the SHA-256 of the template's bytes, a tag a name for a version. The repository is asked through kfp's client, which the library
imports here and nowhere else.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneline.errors import InfrastructureError, NotFoundError, TemplateError, TunelineError, UsageError, UserError
from tuneline.image_references import DIGEST
from tuneline.templates import digest_of

if TYPE_CHECKING:
    from kfp.registry import RegistryClient
    from requests import Response

PAGE_SIZE = 1000
"""Entries of a list that Artifact Registry gives at most. kfp's client reads one page only, and asks for no size."""

_PACKAGES = "https://artifactregistry.googleapis.com/v1/projects/{project_id}/locations/{location}/repositories/{repo_id}/packages"
LISTS = {
    "list_packages_url": f"{_PACKAGES}?pageSize={PAGE_SIZE}",
    "list_versions_url": f"{_PACKAGES}/{{package_name}}/versions?view=FULL&pageSize={PAGE_SIZE}",
    "list_tags_url": f"{_PACKAGES}/{{package_name}}/tags?pageSize={PAGE_SIZE}",
}

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}", re.ASCII)
"""What names and tags look like."""

_PART = r"[A-Za-z0-9][\w.:~-]*"
_ARTIFACT_REGISTRY = re.compile(rf"https://[a-z0-9-]+-kfp\.pkg\.dev/{_PART}/{_PART}", re.ASCII)
_OTHER = re.compile(rf"(https://(?![\w.-]+\.pkg\.dev\b)[\w.-]+|http://(127\.0\.0\.1|localhost))(:\d+)?(/{_PART})*", re.ASCII)
_EXPECTED = "https://REGION-kfp.pkg.dev/PROJECT/REPOSITORY"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A template in a repository; as text `REPOSITORY/NAME/TAG` or `REPOSITORY/NAME/sha256:...`."""

    repository: str
    name: str
    reference: str

    def __str__(self) -> str:
        return f"{self.repository}/{self.name}/{self.reference}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One version of a template in a repository."""

    address: Address
    tags: tuple[str, ...]
    create_time: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is in a repository, by name, the newest first."""

    entries: tuple[Entry, ...]
    complete: bool
    """False when a list had as many entries as one answer holds."""


def read_repository(url: str) -> str:
    """The address of a repository, checked, without a slash at its end."""
    plain = url.rstrip("/")
    if not (_ARTIFACT_REGISTRY.fullmatch(plain) or _OTHER.fullmatch(plain)):
        raise UsageError(f"{url!r} is no repository of templates; expected {_EXPECTED}.")
    return plain


def read_address(uri: str) -> Address:
    """The address of a template in a repository, checked."""
    repository, name, reference = ["", "", "", *uri.rsplit("/", 2)][-3:]
    is_reference = DIGEST.fullmatch(reference) or NAME.fullmatch(reference)
    if not (is_reference and NAME.fullmatch(name) and (_ARTIFACT_REGISTRY.fullmatch(repository) or _OTHER.fullmatch(repository))):
        raise TemplateError(f"{uri!r} is no template in a repository; expected {_EXPECTED}/NAME/TAG, or sha256:... for the tag.")
    return Address(repository=repository, name=name, reference=reference)


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository of templates. Each method is one request or two; names and tags are checked by then."""

    url: str
    client: "RegistryClient"
    page_size: int = 0
    """Entries that a list has at most; 0 where nobody says, and a list may always lack some."""

    def version_of(self, name: str, tag: str) -> str | None:
        """The version that a tag stands for; nothing when there is no such tag."""
        where = self._where(name, tag)
        try:
            with _asking(where):
                record = self.client.get_tag(package_name=name, tag=tag)
        except NotFoundError:
            return None
        return _version(record, where)

    def content(self, name: str, version: str) -> bytes:
        """The bytes of a version, checked against it."""
        where = self._where(name, version)
        with _asking(where), tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "template")
            self.client.download_pipeline(package_name=name, version=version, file_name=str(file))
            content = file.read_bytes()
        if digest_of(content) != version:
            raise InfrastructureError(
                f"{where}: found {len(content)} bytes with the digest {digest_of(content)}; expected those of the version.",
                next_action="Try again. If it stays so, the repository does not hold what it says: do not use this version.",
            )
        return content

    def upload(self, name: str, content: bytes) -> None:
        """Add a version, with no tag. The same bytes again change nothing."""
        expected = (name, digest_of(content))
        where = self._where(*expected)
        with _asking(where), tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{name}.yaml")
            file.write_bytes(content)
            stored = self.client.upload_pipeline(file_name=str(file))
        if stored != expected:
            raise InfrastructureError(f"{where}: the repository says that it stored {'/'.join(stored)[:200]}. No tag was put on it.")

    def create_tag(self, name: str, version: str, tag: str) -> str:
        """Put a tag where there is none. What it stands for then is another version, when someone else was first."""
        where, refusal = self._where(name, tag), None
        try:
            with _asking(where):
                self.client.create_tag(package_name=name, version=version, tag=tag)
        except TunelineError as error:  # that it exists, or that the answer got lost: whether it is there is what counts
            refusal = error
        found = self.version_of(name, tag)
        if found is None:
            raise refusal or InfrastructureError(f"{where}: the repository made the tag, and does not have it.", next_action="Try again.")
        return found

    def move_tag(self, name: str, version: str, tag: str) -> None:
        """Let a tag stand for this version from now on."""
        with _asking(self._where(name, tag)):
            self.client.update_tag(package_name=name, version=version, tag=tag)

    def listing(self) -> Listing:
        """All templates, with their versions and tags."""
        with _asking(self.url):
            packages = list(self.client.list_packages())
        complete, entries = len(packages) < self.page_size, []
        for name in (_text(package, "name", self.url).rpartition("/")[2] for package in packages):
            where = f"{self.url}/{name}"
            with _asking(where):
                versions, tags = list(self.client.list_versions(name)), list(self.client.list_tags(name))
            complete = complete and max(len(versions), len(tags)) < self.page_size
            named = [(_version(tag, where), _text(tag, "name", where).rpartition("/")[2]) for tag in tags]
            found = [(_text(version, "createTime", where), _version(version, where, "name")) for version in versions]
            entries += [
                Entry(
                    address=Address(repository=self.url, name=name, reference=version),
                    tags=tuple(sorted(tag for tagged, tag in named if tagged == version)),
                    create_time=create_time,
                )
                for create_time, version in sorted(found, reverse=True)
            ]
        return Listing(entries=tuple(sorted(entries, key=lambda entry: entry.address.name)), complete=complete)

    def _where(self, name: str, reference: str) -> str:
        return str(Address(repository=self.url, name=name, reference=reference))


def connect(url: str, *, lists: Mapping[str, str] = LISTS) -> Repository:
    """The repository at a checked address, with this machine's Google credentials where it is Artifact Registry's.

    `lists` takes the place of entries in kfp's own description of Artifact Registry.
    """
    try:
        from kfp.registry import RegistryClient
    except ModuleNotFoundError:
        action = "Install it: pip install 'tuneline[kfp]'"
        raise UserError("Repositories of templates are asked through the package kfp, which is not installed.", next_action=action) from None
    if not _ARTIFACT_REGISTRY.fullmatch(url):
        try:
            return Repository(url=url, client=RegistryClient(host=url))
        except ValueError as error:
            raise UserError(f"kfp's own files, ~/.config/kfp/registry_*.json, cannot be used: {error}") from None
    with _asking(url), tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "context.json")
        file.write_text(json.dumps(dict(lists)), encoding="utf-8")
        return Repository(url=url, client=RegistryClient(host=url, config_file=str(file)), page_size=PAGE_SIZE)


@contextmanager
def _asking(where: str) -> Iterator[None]:
    """Turn what kfp's client raises into errors that say what to do."""
    import google.auth.exceptions
    import requests

    try:
        yield
    except requests.HTTPError as error:
        raise _refusal(where, error.response) from None
    except google.auth.exceptions.TransportError as error:
        raise _unreachable(where, error) from None
    except google.auth.exceptions.GoogleAuthError as error:
        raise UserError(f"{where}: no usable Google credentials: {error}", next_action="Log in: gcloud auth application-default login") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # kfp takes answers apart unchecked
        raise _malformed(where, f"{type(error).__name__}: {error}") from None
    except OSError as error:  # all other errors of requests, too
        raise _unreachable(where, error) from None


def _refusal(where: str, response: "Response") -> TunelineError:
    code, said = response.status_code, _message(response)
    problem = f"{where}: the repository answered {code}{f' ({said})' if said else ''}."
    if code in (401, 403):
        action = "Use an account with roles/artifactregistry.reader, to publish roles/artifactregistry.writer: gcloud auth application-default login"
        return UserError(problem, next_action=action)
    if code == 404:
        return NotFoundError(problem, next_action="Check the spelling of the address.")
    if code in (408, 429) or code >= 500:
        return InfrastructureError(problem, next_action="Try again later: what is done already is not done twice.")
    return TemplateError(problem)


def _message(response: "Response") -> str:
    """What a JSON answer says about its error, on one line."""
    try:
        text = str(response.json()["error"]["message"])
    except (ValueError, TypeError, KeyError):
        text = str(response.reason or "")
    return " ".join(text.split())[:200]


def _unreachable(where: str, error: Exception) -> InfrastructureError:
    return InfrastructureError(f"{where}: cannot be reached: {type(error).__name__}: {error}", next_action="Check the network and the address, then try again.")


def _malformed(where: str, what: str) -> InfrastructureError:
    return InfrastructureError(f"{where}: the answer is not a template repository's: {what}.", next_action="Check that the address is one; then try again.")


def _text(record: object, key: str, where: str) -> str:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, str):
        raise _malformed(where, f"expected an object with the text {key!r}")
    return value


def _version(record: object, where: str, key: str = "version") -> str:
    version = _text(record, key, where).rpartition("/")[2]
    if not DIGEST.fullmatch(version):
        raise _malformed(where, f"{key} is {version[:80]!r}; expected sha256:...")
    return version
