"""`/upload/storage/v1/b/{bucket}/o`: content in one request (media, multipart) or in several (resumable)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from tuneline.api.gcs.buckets import Buckets, merged
from tuneline.api.gcs.conditions import Conditions, read_number
from tuneline.api.gcs.faults import StorageFault, invalid, too_large
from tuneline.api.gcs.multipart import RelatedBody, boundary_of
from tuneline.api.gcs.objects import Target
from tuneline.api.gcs.ranges import read_chunk
from tuneline.api.gcs.records import ObjectRecord
from tuneline.api.gcs.resources import DEFAULT_TYPE, checksums_in, checksums_of, object_json, properties_of
from tuneline.api.gcs.uploads import Upload
from tuneline.api.gcs.wire import CANCELLED, MAX_JSON_BYTES, Name, StorageRoute, address, chunks, drain, json_body, read_json, text_of

PATH = "/upload/storage/v1/b/{bucket}/o"
GCLOUD_PATH = f"/resumable{PATH}"
"""Where gcloud begins an upload in several requests."""


def upload_routes(buckets: Buckets) -> APIRouter:
    router = APIRouter(route_class=StorageRoute)
    kinds = {"media": _media, "multipart": _multipart, "resumable": _begin}

    @router.post(PATH)
    @router.post(GCLOUD_PATH)
    async def insert(request: Request, bucket: Name) -> Response:
        if "upload_id" in request.query_params:  # gcsfs goes on by POST
            return await go_on(request, bucket)
        kind = request.query_params.get("uploadType", "")
        if kind not in kinds:
            raise invalid(f"uploadType: found {kind!r}; expected one of {', '.join(kinds)}.")
        try:
            return await kinds[kind](buckets, request, bucket)
        except StorageFault:
            await drain(request)
            raise

    @router.put(PATH)
    async def go_on(request: Request, bucket: Name) -> Response:
        identifier = request.query_params.get("upload_id", "")
        try:
            upload = await run_in_threadpool(buckets.uploads.get, bucket, identifier)
            return await _go_on(buckets, request, identifier, upload)
        except StorageFault:
            await drain(request)
            raise

    @router.delete(PATH)
    def cancel(request: Request, bucket: Name) -> Response:
        buckets.uploads.cancel(bucket, request.query_params.get("upload_id", ""))
        return Response(status_code=CANCELLED)

    return router


async def _media(buckets: Buckets, request: Request, bucket: str) -> Response:
    """The body is the content."""
    objects, target = buckets.objects, _target(request, bucket, {})
    await run_in_threadpool(objects.admit, target)
    encoding = {"contentEncoding": request.query_params["contentEncoding"]} if "contentEncoding" in request.query_params else {}
    properties = _properties(properties_of(encoding), request.headers.get("content-type", ""))
    with objects.draft() as draft:
        async for content in chunks(request.stream()):
            await run_in_threadpool(draft.write, content)
        checksums = checksums_in(request.headers.get("x-goog-hash", ""))
        record = await run_in_threadpool(objects.commit, draft, target, properties, checksums=checksums)
    return _answer(record, request)


async def _multipart(buckets: Buckets, request: Request, bucket: str) -> Response:
    """The body is metadata, then content."""
    objects = buckets.objects
    body = RelatedBody(boundary_of(request.headers.get("content-type", "")), max_metadata_bytes=MAX_JSON_BYTES)
    with objects.draft() as draft:
        async for content in chunks(request.stream()):
            await run_in_threadpool(draft.write, body.feed(content))
        await run_in_threadpool(draft.write, body.finish())
        metadata = read_json(body.metadata)
        checksums = {**checksums_of(metadata), **checksums_in(request.headers.get("x-goog-hash", ""))}
        properties = _properties(properties_of(metadata), body.media_type)
        record = await run_in_threadpool(objects.commit, draft, _target(request, bucket, metadata), properties, checksums=checksums)
    return _answer(record, request)


async def _begin(buckets: Buckets, request: Request, bucket: str) -> Response:
    """The body is metadata; the content follows at the address in the answer."""
    metadata = await json_body(request)
    length = read_number(request.headers, "x-upload-content-length")
    if length is not None and length > buckets.objects.max_object_bytes:
        raise too_large(buckets.objects.max_object_bytes)
    properties = _properties(properties_of(metadata), request.headers.get("x-upload-content-type", ""))
    target = _target(request, bucket, metadata)
    identifier = await run_in_threadpool(buckets.uploads.start, target, properties, checksums_of(metadata))
    query = urlencode({"uploadType": "resumable", "name": target.name, "upload_id": identifier})
    location = f"{address(request)}{PATH.format(bucket=bucket)}?{query}"
    return Response(headers={"Location": location, "X-GUploader-UploadID": identifier})


async def _go_on(buckets: Buckets, request: Request, identifier: str, upload: Upload) -> Response:
    """A chunk, or the question how much has arrived."""
    header = request.headers.get("content-range", "")
    chunk = read_chunk(header)
    if upload.finished is not None:
        await drain(request)
        return _answer(await run_in_threadpool(buckets.uploads.result, upload), request)
    if chunk.start is not None:
        turn, position = upload.begin(chunk.start), chunk.start
        try:
            async for content in chunks(request.stream()):
                if chunk.end is not None and position + len(content) > chunk.end:
                    raise invalid(f"Content-Range: {header!r}, but the body is longer.")
                await run_in_threadpool(upload.write, turn, position, content)
                position += len(content)
        finally:
            upload.rest(turn)
    if not header or chunk.total == upload.draft.size:
        checksums = checksums_in(request.headers.get("x-goog-hash", ""))
        return _answer(await run_in_threadpool(buckets.uploads.finish, identifier, upload, checksums), request)
    if chunk.total is not None and upload.draft.size > chunk.total:
        raise invalid(f"Content-Range: {header!r}, but {upload.draft.size} bytes have arrived.")
    arrived = {"Range": f"bytes=0-{upload.draft.size - 1}"} if upload.draft.size else {}
    return Response(status_code=308, headers=arrived)


def _target(request: Request, bucket: str, metadata: Mapping[str, Any]) -> Target:
    """The object to be written: its name is in the query or in the metadata."""
    name = request.query_params.get("name") or text_of(metadata, "name")
    if not name:
        raise StorageFault(400, "required", "name: expected the object's name, in the query or in the metadata.")
    return Target(bucket=bucket, name=name, conditions=Conditions.of(request.query_params))


def _properties(given: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    return {"contentType": media_type or DEFAULT_TYPE, **merged({}, given)}


def _answer(record: ObjectRecord, request: Request) -> Response:
    return JSONResponse(object_json(record, address(request)))
