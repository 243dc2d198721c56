"""`/b/{bucket}/o`: objects, except for their uploads."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tuneline.api.gcs.buckets import Buckets, merged
from tuneline.api.gcs.conditions import Conditions, read_number
from tuneline.api.gcs.draft import CHUNK_BYTES
from tuneline.api.gcs.faults import StorageFault, invalid, not_modified, precondition_failed
from tuneline.api.gcs.listing import Question
from tuneline.api.gcs.objects import Target
from tuneline.api.gcs.ranges import read_range
from tuneline.api.gcs.records import ObjectRecord, Properties
from tuneline.api.gcs.resources import DEFAULT_TYPE, download_headers, etag, object_json, properties_of
from tuneline.api.gcs.wire import Name, StorageRoute, address, json_body, refusal, text_of

Body = Annotated[dict[str, Any], Depends(json_body)]


def object_routes(buckets: Buckets) -> APIRouter:
    """The routes, without their prefix."""
    router = APIRouter(route_class=StorageRoute)

    def answer(record: ObjectRecord, request: Request) -> Response:
        return JSONResponse(object_json(record, address(request)))

    @router.get("/b/{bucket}/o")
    def list_objects(request: Request, bucket: Name) -> Response:
        records, page = buckets.objects.list(bucket, Question.of(request.query_params))
        body = {"kind": "storage#objects", "items": [object_json(record, address(request)) for record in records]}
        more = {"prefixes": page.prefixes} if page.prefixes else {}
        return JSONResponse({**body, **more, **({"nextPageToken": page.token} if page.token else {})})

    @router.get("/b/{bucket}/o/{name}")
    def get(request: Request, bucket: Name, name: Name) -> Response:
        if request.query_params.get("alt") == "media":
            return download(buckets, request, target_of(request, bucket, name))
        record = buckets.objects.get(target_of(request, bucket, name))
        _check_etag(request, record)
        return answer(record, request)

    @router.patch("/b/{bucket}/o/{name}")
    def patch(request: Request, bucket: Name, name: Name, body: Body) -> Response:
        changes = properties_of(body)
        return answer(buckets.objects.change(target_of(request, bucket, name), lambda properties: _complete(merged(properties, changes))), request)

    @router.put("/b/{bucket}/o/{name}")
    def update(request: Request, bucket: Name, name: Name, body: Body) -> Response:
        properties = _complete(merged({}, properties_of(body)))
        return answer(buckets.objects.change(target_of(request, bucket, name), lambda _: properties), request)

    @router.delete("/b/{bucket}/o/{name}")
    def delete(request: Request, bucket: Name, name: Name) -> Response:
        buckets.objects.delete(target_of(request, bucket, name))
        return Response(status_code=204)

    @router.post("/b/{bucket}/o/{name}/compose")
    def compose(request: Request, bucket: Name, name: Name, body: Body) -> Response:
        target = target_of(request, bucket, name)
        sources = _sources(body, bucket)
        destination = body.get("destination") or {}
        if not isinstance(destination, Mapping):
            raise invalid("destination: expected an object.")
        if body.get("deleteSourceObjects"):
            raise invalid("deleteSourceObjects is not supported here; delete them afterwards.")
        return answer(buckets.objects.compose(sources, target, merged({}, properties_of(destination))), request)

    @router.post("/b/{bucket}/o/{name}/copyTo/b/{to_bucket}/o/{to_name}")
    def copy(request: Request, bucket: Name, name: Name, to_bucket: Name, to_name: Name, body: Body) -> Response:
        return answer(copied(request, (bucket, name), (to_bucket, to_name), body), request)

    @router.post("/b/{bucket}/o/{name}/rewriteTo/b/{to_bucket}/o/{to_name}")
    def rewrite(request: Request, bucket: Name, name: Name, to_bucket: Name, to_name: Name, body: Body) -> Response:
        record = copied(request, (bucket, name), (to_bucket, to_name), body)
        size = str(record.size)
        done = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
        return JSONResponse({**done, "resource": object_json(record, address(request))})

    @router.post("/b/{bucket}/o/{name}/moveTo/o/{to_name}")
    def move(request: Request, bucket: Name, name: Name, to_name: Name) -> Response:
        return answer(buckets.objects.move(_source_of(request, bucket, name), target_of(request, bucket, to_name, generation="")), request)

    def copied(request: Request, source: tuple[str, str], target: tuple[str, str], body: Mapping[str, Any]) -> ObjectRecord:
        properties: Properties | None = merged({}, properties_of(body)) or None
        return buckets.objects.copy(_source_of(request, *source), target_of(request, *target, generation=""), properties)

    return router


def download_routes(buckets: Buckets) -> APIRouter:
    """The second address of downloads, which `mediaLink` names."""
    router = APIRouter(route_class=StorageRoute)

    @router.get("/download/storage/v1/b/{bucket}/o/{name}")
    def media(request: Request, bucket: Name, name: Name) -> Response:
        return download(buckets, request, target_of(request, bucket, name))

    return router


def download(buckets: Buckets, request: Request, target: Target) -> Response:
    """An object's bytes, or a range of them."""
    record, file = buckets.objects.open(target)
    try:
        _check_etag(request, record)
        part = read_range(request.headers.get("range", ""), record.size)
    except StorageFault as fault:
        file.close()
        response = refusal(fault)
        if fault.code == 416:
            response.headers["Content-Range"] = f"bytes */{record.size}"
        return response
    start, end = part or (0, record.size)
    headers = {**download_headers(record), "Content-Length": str(end - start)}
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{record.size}"
    return StreamingResponse(_bytes(file, start, end), status_code=206 if part else 200, headers=headers)


def target_of(request: Request, bucket: str, name: str, generation: str = "generation") -> Target:
    """The object that a request is about. `generation` is the query parameter that may name one, or nothing."""
    query = request.query_params
    return Target(bucket=bucket, name=name, generation=read_number(query, generation) if generation else None, conditions=Conditions.of(query))


def _source_of(request: Request, bucket: str, name: str) -> Target:
    query = request.query_params
    return Target(bucket=bucket, name=name, generation=read_number(query, "sourceGeneration"), conditions=Conditions.of(query, "ifSource"))


def _sources(body: Mapping[str, Any], bucket: str) -> list[Target]:
    """What is to be composed."""
    given = body.get("sourceObjects")
    if not isinstance(given, list) or not all(isinstance(source, Mapping) for source in given):
        raise invalid("sourceObjects: expected a list of objects, each with a name.")
    return [
        Target(
            bucket=bucket,
            name=text_of(source, "name"),
            generation=read_number(_as_query(source), "generation"),
            conditions=Conditions(generation_match=read_number(_as_query(source.get("objectPreconditions")), "ifGenerationMatch")),
        )
        for source in given
    ]


def _as_query(value: object) -> dict[str, str]:
    """Numbers in a body come as numbers or as text."""
    if value is not None and not isinstance(value, Mapping):
        raise invalid("objectPreconditions: expected an object.")
    return {key: str(item) for key, item in (value or {}).items() if item is not None}


def _complete(properties: dict[str, Any]) -> dict[str, Any]:
    return {"contentType": DEFAULT_TYPE, **properties}


def _check_etag(request: Request, record: ObjectRecord) -> None:
    expected, known = request.headers.get("if-match"), request.headers.get("if-none-match")
    if expected not in (None, "*", etag(record)):
        raise precondition_failed(f"found etag {etag(record)!r}; expected {expected!r}.")
    if known in ("*", etag(record)):
        raise not_modified()


def _bytes(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start
        while left and (content := file.read(min(CHUNK_BYTES, left))):
            left -= len(content)
            yield content
