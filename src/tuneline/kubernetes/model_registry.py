"""The registry of the cluster that this pod is in: a ConfigMap for each model, changed only from the state that was read."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tuneline.errors import InfrastructureError, ModelError
from tuneline.kubernetes.api import Kind, ask, object_name, open_client, own_namespace, unless
from tuneline.kubernetes.model_versions import ModelVersions, Record
from tuneline.resolution import Champion
from tuneline.vertex.backoff import Backoff, Clock

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, V1ConfigMap

KIND = Kind(
    permission="Let the pod's service account get, create and update configmaps in its namespace: docs/retraining.md has the role.",
    missing="Check that the namespace exists.",
)
READABLE = "gs://"
"""Where a later run can read the champion's files from: a pod has Google's credentials, and no others."""
MOST_TRIES = 50
TIMEOUT_SECONDS = 60.0


@dataclass(kw_only=True)
class ModelRegistry:
    """The versions of one model."""

    project: str
    display_name: str
    client: "ApiClient" = field(default_factory=partial(open_client, "Looking up earlier models"))
    namespace: str = field(default_factory=own_namespace)
    backoff: Backoff = field(default_factory=Backoff)
    clock: Clock = field(default_factory=Clock)

    @property
    def name(self) -> str:
        """Of the ConfigMap."""
        return f"tuneline-{object_name(self.project, self.display_name)}"

    def champion(self) -> Champion | None:
        """The version that the next one has to beat, if there is one. Raises ModelError when its files cannot be read from here."""
        record = self._opened().champion
        if record is None:
            return None
        if not str(record["artifactUri"]).startswith(READABLE):
            advice = f"Change `champion` in the ConfigMap {self.name}, or take it out."
            raise ModelError(f"the champion is at {record['artifactUri']}; a later run reads it from {READABLE} only.", next_action=advice)
        return Champion(model_resource_name=str(record["name"]), uri=str(record["artifactUri"]))

    def unchanged(self, data_fingerprint: str) -> str:
        """Why there is nothing new in these data, or nothing."""
        return self._opened().unchanged(data_fingerprint)

    def register(self, record: Record, *, is_promoted: bool) -> Record:
        """The version of these files: one, however often and from however many processes it is registered."""
        versions = self._change(lambda known: known.with_version(record, is_promoted=is_promoted))
        return versions.record(versions.number_of(record["artifactUri"]))

    def refuse(self, data_fingerprint: str) -> None:
        """Remember that these data did not lead to a model better than the champion, so that they are not tried again and again."""
        self._change(lambda known: known.with_refused(data_fingerprint))

    def exists(self) -> bool:
        """Whether some job has looked this model up, or registered it."""
        return self._read() is not None

    def _opened(self) -> ModelVersions:
        """What is known. A missing permission is told here, before anything is tuned: the ConfigMap is there afterwards, and could be changed."""
        versions = self._change(lambda known: known)
        self._write(self._read(), versions, is_dry=True)
        return versions

    def _change(self, change: Callable[[ModelVersions], ModelVersions]) -> ModelVersions:
        for _ in range(MOST_TRIES):
            found = self._read()
            before = ModelVersions(data=(found.data if found else None) or {})
            after = change(before)
            if found is not None and after == before:
                return after
            if self._write(found, after) is not None:
                return after
        raise InfrastructureError(f"ConfigMap {self.name} changes too often to be changed.", next_action="Try again.")

    def _write(self, found: "V1ConfigMap | None", versions: ModelVersions, *, is_dry: bool = False) -> "V1ConfigMap | None":
        """Nothing when another process was faster, or when it was this one, and its answer was lost. A dry one asks for the permission and changes nothing."""
        from kubernetes.client import V1ConfigMap, V1ObjectMeta

        labels = {"app.kubernetes.io/managed-by": "tuneline"}
        annotations = {"tuneline/project": self.project, "tuneline/display-name": self.display_name}
        metadata = found.metadata if found else V1ObjectMeta(name=self.name, labels=labels, annotations=annotations)
        body = V1ConfigMap(metadata=metadata, data=dict(versions.data))  # `metadata` has the resourceVersion that was read
        dry = {"dry_run": "All"} if is_dry else {}
        if found is None:
            return self._call("create_namespaced_config_map", namespace=self.namespace, body=body, but={409}, **dry)
        return self._call("replace_namespaced_config_map", name=self.name, namespace=self.namespace, body=body, but={404, 409}, **dry)

    def _read(self) -> "V1ConfigMap | None":
        return self._call("read_namespaced_config_map", name=self.name, namespace=self.namespace, but={404})

    def _call(self, method: str, *, but: Collection[int], **given: object) -> "V1ConfigMap | None":
        from kubernetes.client import CoreV1Api

        send: Callable[[], Any] = partial(getattr(CoreV1Api(self.client), method), _request_timeout=TIMEOUT_SECONDS, **given)
        return ask(unless(but, send), f"ConfigMap {self.name} in {self.namespace}", KIND, backoff=self.backoff, clock=self.clock)
