"""The parts of a container image's reference: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`. Pure."""

import re

REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*/?")
A_REGISTRY = "a host and a path, such as europe-docker.pkg.dev/my-project/tuneline"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def registry_of(image: str) -> str:
    """The registry's host that an image names, or nothing: then Docker Hub is meant."""
    host, slash, _ = image.partition("/")
    return host if slash and (host == "localhost" or "." in host or ":" in host) else ""


def without_registry(image: str) -> str:
    """The reference without its registry's host."""
    return image.partition("/")[2] if registry_of(image) else image


def repository_and_tag(image: str) -> tuple[str, str]:
    """Repository, with its registry, and tag of an image reference; no digest, and an empty tag when there is none."""
    name = image.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def names_image(key: str, image: str) -> bool:
    """Whether `key`, the reference or its last parts, with or without the tag, stands for `image`."""
    (wanted, wanted_tag), (repository, tag) = repository_and_tag(key), repository_and_tag(image)
    return f"/{repository}".endswith(f"/{wanted}") and wanted_tag in ("", tag)
