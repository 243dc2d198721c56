"""`models`: upload, get, list, patch, delete, and their versions."""

from fastapi import APIRouter

from tuneline.api import operations
from tuneline.api.answers import OPERATION, lists, shows
from tuneline.api.faults import Fault, invalid
from tuneline.api.filters import Condition
from tuneline.api.paging import Listing, page
from tuneline.api.resources import endpoint_deployments, model_uploads, model_versions
from tuneline.api.resources.model_messages import MergeVersionAliasesRequest, Model, UploadModelRequest
from tuneline.api.resources.model_versions import FIELDS, IS_DEFAULT, KIND, all_versions, find_version
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.resources.update_masks import changes
from tuneline.api.service import Place, Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute

OF_MODEL, OF_VERSION = ("displayName", "description", "labels"), ("versionDescription", "labels")
"""What a PATCH may change: by a model's name what all its versions share, by a version's name what is its own."""


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=[KIND])
    one = f"/{KIND}/{{model_id}}"

    @router.post(f"/{KIND}:upload", operation_id=f"{version}_upload_model", responses=OPERATION)
    def upload(project: str, location: str, request: UploadModelRequest) -> Body:
        admitted = model_uploads.admit(service, Place(project, location), request)
        answer = ("UploadModelResponse", "UploadModelOperationMetadata")
        if not admitted.artifact_uri:  # nothing to copy, so nothing to wait for
            return operations.answer(operations.done(service.store, version, admitted.model, answer[0], model_uploads.carry_out(service, admitted), answer[1]))
        started = operations.start(service.store, version, admitted.model, answer[0], lambda: model_uploads.carry_out(service, admitted), answer[1])
        return operations.answer(started)

    @router.get(f"/{KIND}", operation_id=f"{version}_list_models", responses=lists(Model, KIND))
    def list_models(project: str, location: str, listing: Listing) -> Body:
        model_versions.synchronise(service)
        return _page(service, Place(project, location).name, listing, IS_DEFAULT, is_versioned=False)

    @router.get(f"{one}:listVersions", operation_id=f"{version}_list_model_versions", responses=lists(Model, KIND))
    def list_versions(project: str, location: str, model_id: str, listing: Listing) -> Body:
        [*_, newest] = all_versions(service, _name(project, location, model_id).partition("@")[0])
        parent, model = Place(project, location).name, newest[PRIVATE]["model"]
        return _page(service, parent, listing, Condition(f"json_extract(body, '$.{PRIVATE}.model') = ?", (model,)), is_versioned=True)

    @router.get(one, operation_id=f"{version}_get_model", responses=shows(Model))
    def get(project: str, location: str, model_id: str) -> Body:
        return view(service, find_version(service, _name(project, location, model_id)), is_versioned="@" in model_id)

    @router.patch(one, operation_id=f"{version}_update_model", responses=shows(Model))
    def patch(project: str, location: str, model_id: str, model: Model, updateMask: str = "", update_mask: str = "") -> Body:  # noqa: N803
        name = _name(project, location, model_id.removesuffix("@-"))
        values = changes(updateMask or update_mask, model, OF_VERSION if "@" in name else OF_MODEL)
        return view(service, change(service, name, values), is_versioned="@" in name)

    @router.post(f"{one}:mergeVersionAliases", operation_id=f"{version}_merge_version_aliases", responses=shows(Model))
    def merge_aliases(project: str, location: str, model_id: str, request: MergeVersionAliasesRequest) -> Body:
        problems = model_uploads.alias_problems([alias.removeprefix("-") for alias in request.version_aliases])
        if problems:
            raise invalid(*problems)
        body = model_versions.merge_aliases(service, _name(project, location, model_id), request.version_aliases)
        return view(service, body, is_versioned="@" in model_id)

    @router.delete(f"{one}:deleteVersion", operation_id=f"{version}_delete_model_version", responses=OPERATION)
    def delete_version(project: str, location: str, model_id: str) -> Body:
        body = find_version(service, _name(project, location, model_id))
        if len(all_versions(service, body[PRIVATE]["model"])) == 1:
            raise Fault("FAILED_PRECONDITION", f"{body['name']} is the model's only version; delete the model instead.")
        return deleted(body[PRIVATE]["model"], [body])

    @router.delete(one, operation_id=f"{version}_delete_model", responses=OPERATION)
    def delete(project: str, location: str, model_id: str) -> Body:
        name = _name(project, location, model_id)
        if "@" in name:
            raise invalid(f"name: found {name!r}; expected a model without a version. Delete one of its versions with :deleteVersion.")
        return deleted(name, all_versions(service, name))

    def deleted(model: str, bodies: list[Body]) -> Body:
        deployed = endpoint_deployments.references(service)
        used = [reference["endpoint"] for body in bodies for reference in deployed.get(body["name"], [])]
        if used:
            raise Fault("FAILED_PRECONDITION", f"{model} is deployed on {', '.join(used)}; undeploy it first.")
        for body in bodies:
            model_versions.remove(service, body)
        return operations.answer(operations.done(service.store, version, model, "google.protobuf.Empty", {}, "DeleteOperationMetadata"))

    return router


def change(service: Service, name: str, values: Body) -> Body:
    """Change what a model's versions share, or what one version has of its own."""
    if values.get("displayName") == "":
        raise invalid("displayName: found nothing; expected a name.")
    with service.store.transaction():
        body = find_version(service, name)
        changed = [body] if "@" in name else all_versions(service, body[PRIVATE]["model"])
        for version in changed:
            service.store.update(version["name"], lambda found: model_versions.with_values(found, values, is_shared="@" not in name))
        return service.store.get(body["name"])


def view(service: Service, body: Body, *, is_versioned: bool, deployed: dict[str, list[Body]] | None = None) -> Body:
    """The resource as it is answered: to one who asked for a version, by that version's name, which the Google SDK sends back to change it.

    `deployed`: where versions are, when that is known already.
    """
    references = (endpoint_deployments.references(service) if deployed is None else deployed).get(body["name"], [])
    return {
        **{key: value for key, value in body.items() if key not in (PRIVATE, "model")},
        "name": body["name"] if is_versioned else body[PRIVATE]["model"],
        "createTime": body[PRIVATE]["modelCreateTime"],
        "versionCreateTime": body["createTime"],
        "versionUpdateTime": body["updateTime"],
        **({"deployedModels": references} if references else {}),
    }


def _page(service: Service, parent: str, listing: Listing, within: Condition, *, is_versioned: bool) -> Body:
    deployed = endpoint_deployments.references(service)

    def show(body: Body) -> Body:
        return view(service, body, is_versioned=is_versioned, deployed=deployed)

    return page(service.store, KIND, parent, listing, fields=FIELDS, show=show, within=within)


def _name(project: str, location: str, model_id: str) -> str:
    return f"{Place(project, location).name}/{KIND}/{model_id}"
