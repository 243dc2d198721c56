"""Model versions: what is registered on this machine, as resources.

The registry's files (`tuneline.registry.models`) are the truth about which versions exist and what they are made of, whether a pipeline job
or an upload registered them, and about the champion. The service's store has a row for each version, so that lists can be filtered and
paged, and holds what only clients of the service change afterwards: display name, description, labels and the other aliases. Before
anything is read, rows are made for what is new in the registry and dropped for what has gone.
"""

import time
import weakref

from tuneline.api.faults import invalid, not_found
from tuneline.api.filters import Condition
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.service import Service
from tuneline.api.store import Body, Query, Store
from tuneline.registry import lineage
from tuneline.registry import models as registry
from tuneline.registry.models import CHAMPION, DEFAULT, ModelVersion

KIND, EVALUATIONS = "models", "evaluations"
FIELDS = ("model", "displayName", "description", "labels", "createTime", "updateTime", "versionId", "versionAliases", "artifactUri")
"""What a list may be filtered and ordered by."""
IS_DEFAULT = Condition(f"json_extract(body, '$.{PRIVATE}.isDefault')")
SETTLED_NS = 2_000_000_000
"""A folder that changed less than this ago may change again without its time showing it."""

_seen: "weakref.WeakKeyDictionary[Store, object]" = weakref.WeakKeyDictionary()
"""The registry's state that each store agrees with."""


def synchronise(service: Service) -> None:
    """Make the store's rows agree with the registry."""
    state = registry.state()
    if _seen.get(service.store) == state:
        return
    with service.store.transaction():
        registered = {version.resource_name: version for version in registry.list_versions()}
        known = {body["name"] for body in service.store.page(Query(kind=KIND, parent="*"))}
        for name in known - registered.keys():
            _drop(service.store, name)
        for name in sorted(registered.keys() - known, key=lambda name: registered[name].create_time):
            _add(service.store, registered[name])
        for name in (name for name, version in registered.items() if version.is_champion):
            body = service.store.get(name)
            if CHAMPION not in body["versionAliases"]:
                set_aliases(service.store, body, [*body["versionAliases"], CHAMPION])
    if all(changed < time.time_ns() - SETTLED_NS for _, changed in state):
        _seen[service.store] = state


def exists(service: Service, model: str) -> bool:
    """Whether a model has a version."""
    synchronise(service)
    return bool(_rows(service.store, model))


def all_versions(service: Service, model: str) -> list[Body]:
    """All versions of a model, the newest first; NOT_FOUND without any."""
    synchronise(service)
    found = _rows(service.store, model)
    if not found:
        raise not_found(model, "GET .../models lists the models of a project and region.")
    return found


def find_version(service: Service, name: str) -> Body:
    """The version that is meant by `projects/P/locations/L/models/M`, alone or with a version id or an alias after an @."""
    model, _, wanted = name.partition("@")
    found = all_versions(service, model)
    chosen = [body for body in found if (wanted or DEFAULT) in (body["versionId"], *body["versionAliases"])]
    if not chosen:
        raise not_found(name, f"Versions of the model: {', '.join(body['versionId'] for body in found)}.")
    return chosen[0]


def set_aliases(store: Store, body: Body, aliases: list[str]) -> Body:
    """Give a version these aliases and no other. An alias belongs to one version of a model, so others lose it."""
    with store.transaction():
        for other in _rows(store, body[PRIVATE]["model"]):
            left = [alias for alias in other["versionAliases"] if alias not in aliases]
            if other["name"] != body["name"] and left != other["versionAliases"]:
                store.update(other["name"], lambda found, left=left: _with_aliases(found, left))  # type: ignore[misc]
        return store.update(body["name"], lambda found: _with_aliases(found, aliases))


def merge_aliases(service: Service, name: str, asked: list[str]) -> Body:
    """Give a version aliases and take others away; whoever is the champion then is so for pipeline jobs, too."""
    with service.store.transaction():
        body = find_version(service, name)
        aliases = merged_aliases(body["versionAliases"], asked)
        if (CHAMPION in aliases) != (CHAMPION in body["versionAliases"]):
            (lineage.promote if CHAMPION in aliases else lineage.demote)(registry.get(body["name"]))
        return set_aliases(service.store, body, aliases)


def remove(service: Service, body: Body) -> None:
    """Delete a version: its files first, then what is known about it."""
    registry.remove(registry.get(body["name"]))
    synchronise(service)


def with_values(body: Body, values: Body, *, is_shared: bool) -> Body:
    """A version with new values. Labels are kept apart by whose they are, the model's or the version's own, and shown together."""
    if "labels" not in values:
        return {**body, **values}
    private = {**body[PRIVATE], "modelLabels" if is_shared else "versionLabels": values["labels"]}
    return {**body, **values, "labels": {**private["modelLabels"], **private["versionLabels"]}, PRIVATE: private}


def merged_aliases(present: list[str], asked: list[str]) -> list[str]:
    """Aliases after `:mergeVersionAliases`."""
    if f"-{DEFAULT}" in asked:
        raise invalid(f"versionAliases: {DEFAULT!r} cannot be taken away; give it to another version.")
    away = {alias.removeprefix("-") for alias in asked if alias.startswith("-")}
    added = [alias for alias in asked if not alias.startswith("-")]
    return [alias for alias in dict.fromkeys((*present, *added)) if alias not in away]


def _rows(store: Store, model: str) -> list[Body]:
    # From "M@" to "MA": the names of all versions, by the primary key.
    query = Query(kind=KIND, parent=model.rpartition(f"/{KIND}/")[0], condition=Condition("name > ? AND name < ?", (f"{model}@", f"{model}A")))
    return sorted(store.page(query), key=lambda body: int(body["versionId"]), reverse=True)


def _add(store: Store, registered: ModelVersion) -> None:
    uploaded, created = registered.registration.resource, registered.create_time.replace("+00:00", "Z")
    others = _rows(store, registered.name)
    # What the first version brings is the model's.
    shared: Body = others[-1][PRIVATE] if others else {"modelCreateTime": created, "modelLabels": registered.labels}
    is_tuned = bool(registered.registration.pipeline_job_name)
    aliases = list(uploaded.get("versionAliases", [DEFAULT] if is_tuned else []))
    artifacts = uploaded.get("artifactUri") or (str(registered.artifact_folder) if registered.is_servable else "")
    body: Body = {
        **uploaded,
        "name": registered.resource_name,
        "model": registered.model_id,
        "versionId": str(registered.version),
        "versionAliases": [],
        "displayName": uploaded.get("displayName") or registered.registration.display_name,
        "labels": {**shared["modelLabels"], **registered.labels},
        **({"artifactUri": artifacts} if artifacts else {}),
        # Without it the Google SDK drops the machine from a deployment.
        "supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES"],
        "createTime": created,
        PRIVATE: {
            "model": registered.name,
            "modelCreateTime": shared["modelCreateTime"],
            "modelLabels": shared["modelLabels"],
            "versionLabels": registered.labels if others else {},
            "isServable": registered.is_servable,
            "folder": str(registered.artifact_folder),
            "isDefault": False,
        },
    }
    set_aliases(store, store.insert(KIND, body), list(dict.fromkeys((*aliases, *([] if others else [DEFAULT])))))


def _drop(store: Store, name: str) -> None:
    body = store.get(name)
    for resource in (*store.page(Query(kind=EVALUATIONS, parent=name)), body):
        store.delete(resource["name"])
    heirs = _rows(store, body[PRIVATE]["model"])
    if DEFAULT in body["versionAliases"] and heirs:
        set_aliases(store, heirs[0], [*heirs[0]["versionAliases"], DEFAULT])


def _with_aliases(body: Body, aliases: list[str]) -> Body:
    return {**body, "versionAliases": aliases, PRIVATE: {**body[PRIVATE], "isDefault": DEFAULT in aliases}}
