"""`publishers/*/models`: what `from_pretrained` and model lists ask for."""

from fastapi import APIRouter

from tuneline.api.faults import invalid
from tuneline.api.paging import Listing, window
from tuneline.api.resources import publisher_models
from tuneline.api.resources.publisher_models import PublisherModel, catalog_of
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute

KIND = "publisherModels"
ANY = "*"


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, tags=["publishers"])

    @router.get("/publishers/{publisher}/models", operation_id=f"{version}_list_publisher_models")
    def list_models(publisher: str, listing: Listing, listAllVersions: bool = False) -> Body:  # noqa: N803
        if listing.filter or listing.order_by:
            raise invalid("filter: publisher models have neither filters nor orders here. Leave filter and orderBy out.")
        known = [model for model in publisher_models.all_models(catalog_of(service)) if publisher in (ANY, model.publisher)]
        latest: dict[str, PublisherModel] = {}
        for model in known:
            latest[model.name] = max(latest.get(model.name, model), model, key=lambda model: model.version)
        shown, rest = window(known if listAllVersions else list(latest.values()), listing)
        return {KIND: [model.to_json() for model in shown], **rest}

    @router.get("/publishers/{publisher}/models/{model_id}", operation_id=f"{version}_get_publisher_model")
    def get(publisher: str, model_id: str) -> Body:
        return publisher_models.get(catalog_of(service), publisher, model_id).to_json()

    return router
