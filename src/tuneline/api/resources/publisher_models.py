"""Base models of the catalogue as Vertex's publisher models: `publishers/google/models/code-bison`, versions `001` and `002`."""

from collections.abc import Iterator
from dataclasses import dataclass

from tuneline.api.faults import not_found
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.catalog import Catalog
from tuneline.catalog_file import read_catalog
from tuneline.errors import did_you_mean

GOOGLE = "google"
"""Publisher of references that name none."""
_SCHEMATA = {kind: f"gs://google-cloud-aiplatform/schema/predict/{{}}/{kind}_generation_1.0.0.yaml" for kind in ("text", "chat", "code", "codechat")}


@dataclass(frozen=True, kw_only=True)
class PublisherModel:
    """One reference of the catalogue."""

    reference: str
    publisher: str
    model: str
    version: str
    kind: str

    @property
    def name(self) -> str:
        """Resource name without a version, by which the Google SDK finds the pipeline that tunes the model."""
        return f"publishers/{self.publisher}/models/{self.model}"

    def to_json(self) -> Body:
        schema = _SCHEMATA.get(self.kind, "")
        schemata = {f"{noun}SchemaUri": schema.format(noun) for noun in ("instance", "parameters", "prediction")} if schema else {}
        return {
            "name": self.name,
            "versionId": self.version,
            "launchStage": "GA",
            "versionState": "VERSION_STATE_STABLE",
            # The SDK takes the last part for large_model_reference, so here the version belongs to it.
            "publisherModelTemplate": f"projects/{{project}}/locations/{{location}}/{self.name}@{self.version}",
            **({"predictSchemata": schemata} if schemata else {}),
        }


def catalog_of(service: Service) -> Catalog:
    """The catalogue of a service."""
    return read_catalog(service.settings.catalog)


def all_models(catalog: Catalog) -> Iterator[PublisherModel]:
    """Every reference that has a version, in the catalogue's order."""
    kinds = {**{name: row.kind for name, row in catalog.models.items()}, **{name: row.kind for name, row in catalog.aliases.items()}}
    for reference, kind in kinds.items():
        name, _, version = reference.rpartition("@")
        publisher, _, model = name.rpartition("/")
        if version and "/" not in publisher:
            yield PublisherModel(reference=reference, publisher=publisher or GOOGLE, model=model, version=version, kind=kind)


def find(catalog: Catalog, publisher: str, model_id: str) -> PublisherModel | None:
    """The model of this id, `NAME@VERSION`; without a version the last one."""
    model, _, version = model_id.partition("@")
    found = [known for known in all_models(catalog) if (known.publisher, known.model) == (publisher, model) and version in ("", known.version)]
    return max(found, key=lambda known: known.version, default=None)


def get(catalog: Catalog, publisher: str, model_id: str) -> PublisherModel:
    """The same; NOT_FOUND without it."""
    found = find(catalog, publisher, model_id)
    if found is None:
        known = [f"{model.model}@{model.version}" for model in all_models(catalog) if model.publisher == publisher]
        advice = f"The catalogue has {', '.join(known)}." if known else "The catalogue has no model of this publisher."
        raise not_found(f"publishers/{publisher}/models/{model_id}", f"{advice}{did_you_mean(model_id, known)}")
    return found
