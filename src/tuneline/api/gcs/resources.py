"""Buckets and objects as the JSON of Cloud Storage, and what a request may say of an object."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from tuneline.api.gcs.faults import invalid
from tuneline.api.gcs.records import BucketRecord, ObjectRecord

WRITABLE = ("contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl", "customTime", "storageClass", "metadata")
DEFAULT_TYPE = "application/octet-stream"
MULTI_REGIONS = ("US", "EU", "ASIA")


def bucket_json(record: BucketRecord, address: str, project_number: str) -> dict[str, Any]:
    """`address` is the service's, as the client called it."""
    properties = dict(record.properties)
    location = str(properties.pop("location", "US")).upper()
    access = {"uniformBucketLevelAccess": {"enabled": False}, "publicAccessPrevention": "inherited", **properties.pop("iamConfiguration", {})}
    return {
        "kind": "storage#bucket",
        "id": record.name,
        "name": record.name,
        "selfLink": f"{address}/storage/v1/b/{record.name}",
        "projectNumber": project_number,
        "metageneration": str(record.metageneration),
        "location": location,
        "locationType": "multi-region" if location in MULTI_REGIONS else "region",
        "storageClass": "STANDARD",
        "etag": _etag(record.metageneration),
        "timeCreated": record.created,
        "updated": record.updated,
        "iamConfiguration": access,
        **properties,
    }


def object_json(record: ObjectRecord, address: str) -> dict[str, Any]:
    """`address` is the service's, as the client called it."""
    path = f"b/{record.bucket}/o/{quote(record.name, safe='')}"
    resource = {
        "kind": "storage#object",
        "id": f"{record.bucket}/{record.name}/{record.generation}",
        "selfLink": f"{address}/storage/v1/{path}",
        "mediaLink": f"{address}/download/storage/v1/{path}?generation={record.generation}&alt=media",
        "name": record.name,
        "bucket": record.bucket,
        "generation": str(record.generation),
        "metageneration": str(record.metageneration),
        "storageClass": "STANDARD",
        "size": str(record.size),
        "etag": etag(record),
        "timeCreated": record.created,
        "updated": record.updated,
        "timeStorageClassUpdated": record.created,
        "timeFinalized": record.created,
        **record.properties,
    }
    if record.md5:
        resource |= {"md5Hash": record.md5, "crc32c": record.crc32c}
    if record.component_count:
        resource["componentCount"] = record.component_count
    return resource


def download_headers(record: ObjectRecord) -> dict[str, str]:
    """What a download says of its object. No length: a range has its own."""
    properties = record.properties
    headers = {
        "Content-Type": properties["contentType"],
        "ETag": etag(record),
        "Last-Modified": format_datetime(datetime.fromisoformat(record.updated).astimezone(UTC), usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": str(record.generation),
        "X-Goog-Metageneration": str(record.metageneration),
        "X-Goog-Storage-Class": properties.get("storageClass", "STANDARD"),
        "X-Goog-Stored-Content-Length": str(record.size),
        "X-Goog-Stored-Content-Encoding": properties.get("contentEncoding", "identity"),
    }
    if record.md5:
        headers["X-Goog-Hash"] = f"crc32c={record.crc32c},md5={record.md5}"
    for key, header in (("contentEncoding", "Content-Encoding"), ("contentDisposition", "Content-Disposition"), ("cacheControl", "Cache-Control")):
        if properties.get(key):
            headers[header] = properties[key]
    return {name: value.encode("utf-8").decode("latin-1") for name, value in headers.items()}


def etag(record: ObjectRecord) -> str:
    return _etag(record.generation, record.metageneration)


def _etag(*numbers: int) -> str:
    return base64.b64encode("/".join(map(str, numbers)).encode()).decode()


def properties_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a request says of an object; null removes. Fields that are not kept (access lists, holds) are left out."""
    properties = {key: body[key] for key in WRITABLE if key in body}
    for key, value in properties.items():
        if key == "metadata":
            if value is not None and not (isinstance(value, Mapping) and all(isinstance(text, str | None) for text in value.values())):
                raise invalid("metadata: expected an object whose values are strings.")
        elif value is not None and not (isinstance(value, str) and value.isprintable()):
            raise invalid(f"{key}: expected a string without control characters.")
    return properties


def checksums_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The checksums that a sender gives with its content."""
    return {kind: str(body[key]) for kind, key in (("md5", "md5Hash"), ("crc32c", "crc32c")) if body.get(key)}


def checksums_in(header: str) -> dict[str, str]:
    """The same from `X-Goog-Hash: crc32c=...,md5=...`."""
    pairs = (pair.strip().partition("=") for pair in header.split(","))
    return {kind: value for kind, _, value in pairs if kind in ("md5", "crc32c") and value}
