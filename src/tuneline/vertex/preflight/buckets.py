"""Checks of the buckets that a job reads and writes: are they there, where, and may this account use them? Cheap enough for every submission."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from tuneline.parameters import DATA_URIS
from tuneline.placement import covers
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.preflight import Check, Finding, Plan, ok, problem, unknown, warning
from tuneline.vertex.rest import Json, Refused

READ = ("storage.objects.get", "storage.objects.list")
WRITE = (*READ, "storage.objects.create", "storage.objects.delete")
ROLES = {READ: "roles/storage.objectViewer", WRITE: "roles/storage.objectUser"}
_FILES, _FOLDERS = (*DATA_URIS, "catalog_uri"), ("base_model_uri",)


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a job does with a URI."""

    what: str
    uri: str
    permissions: Sequence[str]

    @property
    def bucket(self) -> str:
        return self.uri.removeprefix("gs://").partition("/")[0]

    @property
    def name(self) -> str:
        """What stands behind the bucket. It may hold anything, also `?` and `#`."""
        return self.uri.removeprefix("gs://").partition("/")[2]


def bucket_checks(plan: Plan, apis: GoogleApis) -> list[Check]:
    """One check a URI in Cloud Storage."""
    return [Check(name="bucket", run=partial(_bucket, use, plan, apis)) for use in uses(plan)]


def uses(plan: Plan) -> list[Use]:
    """The URIs in Cloud Storage. A tuning service keeps what tasks hand on in its own folders, so there the root is not used."""
    found = [Use(what=name, uri=plan.value(name), permissions=READ) for name in (*_FILES, *_FOLDERS)]
    found.append(Use(what="evaluation_output_root_dir", uri=plan.value("evaluation_output_root_dir"), permissions=WRITE))
    if plan.is_google:
        found.insert(0, Use(what="pipeline root", uri=plan.options.pipeline_root, permissions=WRITE))
    return [use for use in found if use.uri.startswith("gs://")]


def _bucket(use: Use, plan: Plan, apis: GoogleApis) -> Iterator[Finding]:
    if not apis.has("storage"):
        yield unknown(f"{use.what}: {use.uri} was not looked at, because STORAGE_EMULATOR_HOST stands in for Cloud Storage")
        return
    try:
        found = apis.find("storage", f"b/{quote(use.bucket, safe='')}", fields="location,locationType,customPlacementConfig")
    except Refused as error:
        if error.status != "PERMISSION_DENIED":
            raise
        # The bucket's own facts take storage.buckets.get, which no job needs.
        yield unknown(f"{use.what}: where gs://{use.bucket} is could not be told", "This account lacks storage.buckets.get.")
    else:
        if found is None:
            yield problem(f"{use.what}: there is no bucket gs://{use.bucket}", "Create it, or check the spelling.")
            return
        yield from _place(use, plan, found)
    allowed = set(apis.get("storage", f"b/{quote(use.bucket, safe='')}/iam/testPermissions", permissions=list(use.permissions)).get("permissions", []))
    missing = [permission for permission in use.permissions if permission not in allowed]
    if missing:
        # Whoever submits may be kept from what the job's own account may read.
        told = warning if plan.options.service_account else problem
        advice = f"Give yourself and the job's account {ROLES[tuple(use.permissions)]} on it."
        yield told(f"{use.what}: you lack {', '.join(missing)} on gs://{use.bucket}", advice)
    elif use.what in _FILES:
        yield _file(use, apis)
    elif use.what in _FOLDERS:
        yield _folder(use, apis)
    else:
        yield ok(f"{use.what}: you may {'write' if tuple(use.permissions) == WRITE else 'read'} {use.uri}")


def _place(use: Use, plan: Plan, found: Json) -> Iterator[Finding]:
    location = str(found.get("location", ""))
    places = found.get("customPlacementConfig", {}).get("dataLocations", [])
    if plan.is_google and not any(covers(location, places, region) for region in plan.regions.values()):
        regions = ", ".join(f"{region} ({name})" for name, region in plan.regions.items())
        yield warning(
            f"{use.what}: gs://{use.bucket} is in {location.lower()}, in none of the job's regions: {regions}",
            "Reading across regions is slower and costs. A bucket of the pipeline's region, or of a multi-region around it, does not.",
        )


def _file(use: Use, apis: GoogleApis) -> Finding:
    name = quote(use.name, safe="")
    found = apis.find("storage", f"b/{quote(use.bucket, safe='')}/o/{name}", fields="size") if name else None
    if found is None:
        return problem(f"{use.what}: there is no object {use.uri}", "Copy the file there, or check the spelling.")
    return ok(f"{use.what}: {use.uri} is there, {int(found.get('size', 0)):,} bytes, and you may read it")


def _folder(use: Use, apis: GoogleApis) -> Finding:
    prefix = f"{use.name.rstrip('/')}/".lstrip("/")
    found = apis.get("storage", f"b/{quote(use.bucket, safe='')}/o", prefix=prefix, maxResults="1", fields="items(name)")
    if not found.get("items"):
        return problem(f"{use.what}: there is no folder {use.uri}", "Copy the model's files there, or check the spelling.")
    return ok(f"{use.what}: {use.uri} is there, and you may read it")
