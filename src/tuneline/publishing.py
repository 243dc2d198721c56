"""Publish templates to a repository and pull them from it, so that what a tag stands for is known, checked, and stays.

`latest` moves; every other tag stays where it was put.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneline.errors import NotFoundError, TemplateError, TunelineError, UsageError
from tuneline.image_references import DIGEST
from tuneline.template_repository import NAME, Address, Repository, connect
from tuneline.templates import digest_of

LATEST = "latest"


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What `publish` did."""

    address: Address
    """By version."""
    tags: Mapping[str, str]
    """Tag -> version that it stands for, of the tags that were asked for."""
    changed: bool
    """False when all was there already."""


def check_names(name: str, tags: Sequence[str]) -> None:
    """Refuse what a repository could not take as a template's name and tags."""
    problems = [f"{tag!r} is no tag; expected letters, digits, '.', '_' and '-', 128 at most." for tag in tags if not NAME.fullmatch(tag)]
    problems += [] if NAME.fullmatch(name) else [f"{name!r} cannot be published under its name; expected letters, digits, '.', '_' and '-'."]
    problems += [] if tags else ["no tag is given, and the template does not say which Tuneline compiled it. Name one: --tag TAG."]
    if problems:
        raise UsageError(*problems)


def pull(address: Address) -> tuple[Address, bytes]:
    """A template's bytes, and its address by version. A tag is looked up first, so that what it stands for is known and checked."""
    repository = connect(address.repository)
    version = address.reference if DIGEST.fullmatch(address.reference) else repository.version_of(address.name, address.reference)
    if version is None:
        raise NotFoundError(
            f"{address}: there is no such template or tag.", next_action=f"tuneline template list --from {address.repository} shows what there is."
        )
    return Address(repository=address.repository, name=address.name, reference=version), repository.content(address.name, version)


def publish(repository: Repository, name: str, content: bytes, tags: Sequence[str]) -> Publication:
    """Store a version, look whether it is there to the byte, then put its tags on it.

    A tag other than `latest` that stands for another version is refused, before anything is sent if it can be seen then. Content that is
    there under all of them is left alone, and `latest` with it. Of two who publish under one new tag the repository lets the first one have it.
    """
    address = Address(repository=repository.url, name=name, reference=digest_of(content))
    version = address.reference
    fixed = [tag for tag in dict.fromkeys(tags) if tag != LATEST]
    before = {tag: repository.version_of(name, tag) for tag in fixed or [LATEST]}
    _refuse_moved(address, before, sent=False)
    changed = any(found != version for found in before.values())
    if changed:
        repository.upload(name, content)
    repository.content(name, version)
    if changed:
        _refuse_moved(address, {tag: before[tag] or repository.create_tag(name, version, tag) for tag in fixed}, sent=True)
        if LATEST in tags:
            _move_latest(repository, address, fixed)
    after = {tag: repository.version_of(name, tag) or "" for tag in dict.fromkeys(tags)}
    _refuse_moved(address, after, sent=changed)
    return Publication(address=address, tags=after, changed=changed)


def _refuse_moved(address: Address, found: Mapping[str, str | None], *, sent: bool) -> None:
    problems = [
        f"{address.repository}/{address.name}/{tag} stands for {version}; found other content to publish, {address.reference}. Only {LATEST} moves."
        for tag, version in found.items()
        if tag != LATEST and version not in (None, address.reference)
    ]
    if problems:
        left = f" What was sent lies there as {address.reference}, without that tag." if sent else " Nothing was sent."
        raise TemplateError(*problems, next_action=f"Publish it under a tag of its own: the next version's, or --tag TAG.{left}")


def _move_latest(repository: Repository, address: Address, fixed: Sequence[str]) -> None:
    try:
        if repository.create_tag(address.name, address.reference, LATEST) != address.reference:
            repository.move_tag(address.name, address.reference, LATEST)
    except TunelineError as error:
        if fixed:
            error.next_action = f"{', '.join(fixed)} is published; {LATEST} is left. Publish again with --tag {LATEST} alone."
        raise
