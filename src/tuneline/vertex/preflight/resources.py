"""Checks of what a job names: key, TensorBoard and images."""

from collections.abc import Iterator
from functools import partial

from tuneline.errors import NotFoundError
from tuneline.image_references import registry_of, repository_and_tag
from tuneline.parameters import IMAGE_URIS
from tuneline.templates import images
from tuneline.vertex.google_apis import REGISTRIES, GoogleApis
from tuneline.vertex.preflight import Check, Finding, Plan, ok, problem, unknown, warning
from tuneline.vertex.preflight.project import project_number
from tuneline.vertex.rest import Json, Refused, Vertex

KEY_ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def resource_checks(plan: Plan, vertex: Vertex, apis: GoogleApis) -> list[Check]:
    """Only those that the job needs."""
    checks = []
    if key := plan.value("encryption_spec_key_name"):
        checks.append(Check(name="key", run=partial(_key, key, plan, apis)))
    if tensorboard := plan.value("tensorboard_resource_id"):
        checks.append(Check(name="tensorboard", run=partial(_tensorboard, tensorboard, vertex)))
    if plan.is_google:
        checks += [Check(name="image", run=partial(_image, image, apis)) for image in _images(plan) if registry_of(image)]
    return checks


def _images(plan: Plan) -> list[str]:
    """Those of the template, and those that parameters name, each once."""
    own = images(plan.template.spec) if plan.template is not None and not plan.options.template_uri else ()
    return list(dict.fromkeys([*own, *filter(None, map(plan.value, IMAGE_URIS))]))


def _key(key: str, plan: Plan, apis: GoogleApis) -> Iterator[Finding]:
    if not apis.has("kms"):
        yield unknown(f"{key} was not looked at: a tuning service records it only")
        return
    found = apis.find("kms", key)
    if found is None:
        yield problem(f"there is no key {key}", "Create it, or check the spelling.")
        return
    if found.get("purpose") != "ENCRYPT_DECRYPT" or found.get("primary", {}).get("state") != "ENABLED":
        found_is = f"{found.get('purpose')}, its primary version is {found.get('primary', {}).get('state', 'missing')}"
        yield problem(f"{key} is {found_is}", "Expected a key for ENCRYPT_DECRYPT with an enabled primary version.")
        return
    yield ok(f"{key} exists and is enabled")
    number = project_number(plan, apis)
    policy = apis.get("kms", f"{key}:getIamPolicy")
    for agent in (f"service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com", f"service-{number}@gs-project-accounts.iam.gserviceaccount.com"):
        if _is_bound(policy, agent):
            yield ok(f"{agent} may use the key")
        else:
            yield warning(f"{agent} has no {KEY_ROLE} on the key itself", "Give it the role, unless it has it on the key ring or the project.")


def _is_bound(policy: Json, account: str) -> bool:
    return any(binding.get("role") == KEY_ROLE and f"serviceAccount:{account}" in binding.get("members", []) for binding in policy.get("bindings", []))


def _tensorboard(name: str, vertex: Vertex) -> Iterator[Finding]:
    found = vertex.find(name)
    if found is None:
        yield problem(f"there is no {name}", "Create it (POST .../tensorboards, or the console), or check the spelling.")
    else:
        yield ok(f"{name} exists: {found.get('displayName', '')}")


def _image(image: str, apis: GoogleApis) -> Iterator[Finding]:
    host, _, rest = image.partition("/")
    if not f".{host}".endswith(REGISTRIES):
        yield unknown(f"{image} was not looked at: {host} is none of Google's registries, and gets none of its credentials")
        return
    name, tag = repository_and_tag(rest)
    reference = rest.partition("@")[2] or tag or "latest"
    try:
        apis.manifest(host, f"{name}/manifests/{reference}", MANIFESTS)
    except NotFoundError:
        yield problem(f"there is no image {image}", "Push it (docs/images.md), or check the spelling.")
    except Refused as error:
        advice = "Give this account, and Vertex AI's service agent, roles/artifactregistry.reader on the repository."
        yield problem(f"{image} cannot be pulled: {error}", advice)
    else:
        yield ok(f"{image} can be pulled")
