"""Which names buckets and objects may have, and which object names can be paths."""

import ipaddress
import re

from tuneline.api.gcs.faults import invalid

MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
"""Longest file name of the usual file systems."""

TEMPORARY = re.compile(r"\..{0,100}\.[0-9a-f]{32}\.part", re.DOTALL)
"""Files of this name are `tuneline.storage`'s, before they get their own: jobs on this machine write to the buckets' folders, too."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9]")


def check_bucket_name(name: str) -> None:
    """Cloud Storage's rules, except that "goog" and "google" are allowed: a local folder may stand for one of Google's public buckets."""
    if not is_bucket_name(name):
        raise invalid(
            f"Invalid bucket name: {name!r}; expected 3 to 63 lower-case letters, digits, '-', '_' and '.' (222 with dots), no IP address, "
            "a letter or digit at both ends."
        )


def is_bucket_name(name: str) -> bool:
    parts = name.split(".")
    longest = 222 if len(parts) > 1 else 63
    if not (_BUCKET.fullmatch(name) and 3 <= len(name) <= longest and all(0 < len(part) <= 63 for part in parts)):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def check_object_name(name: str) -> None:
    """Cloud Storage's rules, and no NUL."""
    if problem := _object_problem(name):
        raise invalid(f"Invalid object name: {problem}.")


def is_object_name(name: str) -> bool:
    return not _object_problem(name)


def _object_problem(name: str) -> str:
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if not 1 <= size <= MAX_NAME_BYTES:
        return f"found {size} bytes; expected 1 to {MAX_NAME_BYTES}"
    if found := re.search(r"[\r\n\0]", name):
        return f"found the character {found[0]!r}"
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        return f"{name!r} is reserved"
    return ""


def path_of(name: str) -> tuple[str, ...] | None:
    """The parts of the path below the bucket's folder at which an object lies; None for a name that cannot be a path.

    Those are names with an empty part (`a/`, `a//b`, `/a`), with the parts `.` or `..`, with a NUL, with a part longer than file names may be,
    or with one that stands for a file in the making.
    """
    parts = tuple(name.split("/"))
    return parts if all(is_path_part(part) for part in parts) else None


def is_path_part(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part and len(part.encode("utf-8", "surrogateescape")) <= MAX_PART_BYTES and not TEMPORARY.fullmatch(part)
