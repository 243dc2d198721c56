"""`/b`: buckets and their IAM policies."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tuneline.api.gcs.buckets import Buckets, policy_etag
from tuneline.api.gcs.conditions import Conditions
from tuneline.api.gcs.listing import Question
from tuneline.api.gcs.records import BucketRecord
from tuneline.api.gcs.resources import bucket_json
from tuneline.api.gcs.wire import Name, StorageRoute, address, json_body, text_of

Body = Annotated[dict[str, Any], Depends(json_body)]


def bucket_routes(buckets: Buckets, project_number: str) -> APIRouter:
    """The routes, without their prefix."""
    router = APIRouter(route_class=StorageRoute)

    def answer(record: BucketRecord, request: Request) -> Response:
        return JSONResponse(bucket_json(record, address(request), project_number))

    def conditions(request: Request) -> Conditions:
        return Conditions.of(request.query_params)

    @router.post("/b")
    def insert(request: Request, body: Body) -> Response:
        return answer(buckets.insert(text_of(body, "name"), body), request)

    @router.get("/b")
    def list_buckets(request: Request) -> Response:
        records, page = buckets.list(Question.of(request.query_params))
        items = [bucket_json(record, address(request), project_number) for record in records]
        more = {"nextPageToken": page.token} if page.token else {}
        return JSONResponse({"kind": "storage#buckets", "items": items, **more})

    @router.get("/b/{bucket}")
    def get(request: Request, bucket: Name) -> Response:
        return answer(buckets.get(bucket, conditions(request)), request)

    @router.patch("/b/{bucket}")
    def patch(request: Request, bucket: Name, body: Body) -> Response:
        return answer(buckets.change(bucket, body, conditions(request)), request)

    @router.put("/b/{bucket}")
    def update(request: Request, bucket: Name, body: Body) -> Response:
        return answer(buckets.change(bucket, body, conditions(request), whole=True), request)

    @router.delete("/b/{bucket}")
    def delete(request: Request, bucket: Name) -> Response:
        buckets.delete(bucket, conditions(request))
        return Response(status_code=204)

    @router.get("/b/{bucket}/storageLayout")
    def layout(request: Request, bucket: Name) -> Response:
        facts = bucket_json(buckets.get(bucket), address(request), project_number)
        where = {"location": facts["location"], "locationType": facts["locationType"]}
        return JSONResponse({"kind": "storage#storageLayout", "bucket": bucket, **where, "hierarchicalNamespace": {"enabled": False}})

    @router.get("/b/{bucket}/managedFolders")
    def managed_folders(bucket: Name) -> Response:
        buckets.get(bucket)
        return JSONResponse({"kind": "storage#managedFolders", "items": []})

    @router.get("/b/{bucket}/iam")
    def get_policy(bucket: Name) -> Response:
        return _policy(buckets.get(bucket))

    @router.put("/b/{bucket}/iam")
    def set_policy(bucket: Name, body: Body) -> Response:
        return _policy(buckets.set_policy(bucket, body))

    @router.get("/b/{bucket}/iam/testPermissions")
    def test_permissions(request: Request, bucket: Name) -> Response:
        buckets.get(bucket)
        asked = request.query_params.getlist("permissions")
        return JSONResponse({"kind": "storage#testIamPermissionsResponse", "permissions": asked})

    return router


def _policy(record: BucketRecord) -> Response:
    policy = {"version": 1, "bindings": [], **record.policy}
    return JSONResponse({"kind": "storage#policy", "resourceId": f"projects/_/buckets/{record.name}", **policy, "etag": policy_etag(record)})
