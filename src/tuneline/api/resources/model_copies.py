"""`models:copy`: a model version as a model, or a version, of another project or region."""

from fastapi import APIRouter

from tuneline.api import operations
from tuneline.api.answers import OPERATION
from tuneline.api.faults import invalid
from tuneline.api.resources import model_uploads
from tuneline.api.resources.model_messages import RECORDED, Model, UploadModelRequest
from tuneline.api.resources.model_versions import KIND, find_version
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.resources.pipeline_jobs import EncryptionSpec
from tuneline.api.service import Place, Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import Message, parse


class CopyModelRequest(Message):
    """Body of `models:copy`."""

    parent: str = ""
    source_model: str
    model_id: str = ""
    parent_model: str = ""
    encryption_spec: EncryptionSpec | None = None
    """The copy's own; the source's is not taken over: a key is good for one region."""
    custom_service_account: str = ""


def create_router(service: Service, version: str) -> APIRouter:
    """The route."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=[KIND])

    @router.post(f"/{KIND}:copy", operation_id=f"{version}_copy_model", responses=OPERATION)
    def copy(project: str, location: str, request: CopyModelRequest) -> Body:
        upload = model_uploads.admit(service, Place(project, location), _upload_of(find_version(service, request.source_model), request))
        answer = ("CopyModelResponse", "CopyModelOperationMetadata")
        started = operations.start(service.store, version, upload.model, answer[0], lambda: model_uploads.carry_out(service, upload), answer[1])
        return operations.answer(started)

    return router


def _upload_of(source: Body, request: CopyModelRequest) -> UploadModelRequest:
    """The upload that makes the copy: what was recorded of the source, and its files in the registry."""
    if not source[PRIVATE]["isServable"] and source.get("artifactUri"):
        raise invalid(f"sourceModel: {source['name']} was recorded without its files; upload {source['artifactUri']} again instead.")
    kept = {key: source[key] for key in RECORDED - {"artifactUri", "encryptionSpec", "versionAliases"} if key in source}
    files = {"artifactUri": source[PRIVATE]["folder"]} if source[PRIVATE]["isServable"] else {}
    key = {"encryptionSpec": request.encryption_spec.to_json()} if request.encryption_spec else {}
    return UploadModelRequest(model=parse(Model, {**kept, **files, **key}), model_id=request.model_id, parent_model=request.parent_model)
