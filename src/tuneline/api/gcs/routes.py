"""The router of the storage API."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException

from tuneline.api.gcs.batch_routes import batch_routes
from tuneline.api.gcs.bucket_routes import bucket_routes
from tuneline.api.gcs.buckets import Buckets
from tuneline.api.gcs.object_routes import download_routes, object_routes
from tuneline.api.gcs.upload_routes import upload_routes
from tuneline.api.gcs.wire import unknown

PREFIXES = ("/storage/v1", "")
"""Node's client calls `/b/...` when STORAGE_EMULATOR_HOST is set; all others call `/storage/v1/b/...`."""


def create_router(folder: Path, *, max_upload_bytes: int = 1 << 40, project_number: str = "123") -> APIRouter:
    """Cloud Storage's JSON API over a folder. All projects see all buckets, which belong to `project_number`."""
    return router_of(Buckets(folder, max_object_bytes=max_upload_bytes), project_number=project_number)


def router_of(buckets: Buckets, *, project_number: str = "123") -> APIRouter:
    """The same over an open storage layer."""
    calls = APIRouter()
    for prefix in PREFIXES:
        calls.include_router(bucket_routes(buckets, project_number), prefix=prefix)
        calls.include_router(object_routes(buckets), prefix=prefix)
    router = APIRouter(include_in_schema=False)
    router.include_router(calls)
    router.include_router(download_routes(buckets))
    router.include_router(upload_routes(buckets))
    inside = FastAPI(openapi_url=None, redirect_slashes=False, exception_handlers={HTTPException: unknown})
    inside.include_router(calls)
    router.include_router(batch_routes(inside))
    return router
