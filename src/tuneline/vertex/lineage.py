"""What the versions of one model in Vertex AI's registry are to each other: the champion is an alias, the data behind a version are labels.

A version has the label `tuneline-data` with the data that it was tuned from; the champion has `tuneline-refused` with the newest data that did not
lead to a better one. Both hold the first 40 digits of the data's fingerprint, as a label has room for 63.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tuneline.errors import ModelError, NotFoundError
from tuneline.registry import resource_id
from tuneline.registry.models import CHAMPION, DATA_LABEL, data_label
from tuneline.resolution import Champion
from tuneline.vertex.rest import Json, Vertex

REFUSED_LABEL = "tuneline-refused"


def model_id_of(*, project: str, region: str, display_name: str) -> str:
    """The id of the model that a project and region have by a display name."""
    return f"tuneline-{resource_id(project, region, display_name)}"


def model_name_of(*, project: str, region: str, display_name: str, parent_model: str = "") -> str:
    """Resource name of the model whose versions a job's models are: `parent_model`, a name or an id, or the one that has the display name."""
    parent = f"projects/{project}/locations/{region}"
    wanted = parent_model.partition("@")[0] or model_id_of(project=project, region=region, display_name=display_name)
    return wanted if "/" in wanted else f"{parent}/models/{wanted}"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The versions of one model."""

    vertex: Vertex
    model: str
    """Resource name, without a version. There may be no such model yet."""

    def champion(self) -> Champion | None:
        """The version that the next one has to beat, if there is one."""
        found = self._champion()
        if found is None:
            return None
        name = f"{self.model}@{found['versionId']}"
        if not str(found.get("artifactUri", "")).startswith("gs://"):
            action = f"Give the alias {CHAMPION} to a version that has them, or take it away."
            raise ModelError(f"the champion {name} has no files in Cloud Storage.", next_action=action)
        return Champion(model_resource_name=name, uri=str(found["artifactUri"]).rstrip("/"))

    def unchanged(self, data_fingerprint: str) -> str:
        """Why there is nothing new in these data, or nothing."""
        wanted = data_label(data_fingerprint)
        newest = self._newest()
        if newest and newest.get("labels", {}).get(DATA_LABEL) == wanted:
            return f"{self.model}@{newest['versionId']} was tuned from the same data with the same parameters."
        champion = self._champion() if newest else None
        if champion and champion.get("labels", {}).get(REFUSED_LABEL) == wanted:
            return f"the same data with the same parameters did not lead to a better model than the champion of {self.model}."
        return ""

    def _champion(self) -> Json | None:
        return self.vertex.find(f"{self.model}@{CHAMPION}")

    def _newest(self) -> Json | None:
        try:
            page = self.vertex.get(f"{self.model}:listVersions", orderBy="create_time desc", pageSize="1")
        except NotFoundError:
            return None
        return next(iter(page.get("models", [])), None)


def promotion_aliases(promotion: Mapping[str, object] | None) -> tuple[str, ...]:
    """Aliases of a version for what select-checkpoint has decided. The version that has them loses them when another one gets them."""
    return (CHAMPION,) if promotion and promotion["is_promoted"] else ()


def refuse(vertex: Vertex, champion: Champion, data_fingerprint: str) -> None:
    """Remember that these data did not lead to a model better than the champion, so that they are not tried again and again."""
    name = champion.model_resource_name
    labels = vertex.get(name).get("labels", {})
    vertex.patch(name, {"name": name, "labels": {**labels, REFUSED_LABEL: data_label(data_fingerprint)}}, update_mask="labels")
