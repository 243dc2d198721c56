"""The preflight: each check tells what is so, what is wrong and what could not be told, and none hinders another."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests

from tests.vertex.stub_api import HANG_UP, FakeTime, StubApi, error
from tuneline.catalog import load_catalog
from tuneline.errors import InfrastructureError
from tuneline.image_references import registry_of
from tuneline.placement import covers
from tuneline.submission import check_parameters
from tuneline.templates import load, with_image_registry
from tuneline.vertex.backoff import Backoff
from tuneline.vertex.google_apis import ADDRESSES, STORAGE_HOST, GoogleApis, default_addresses
from tuneline.vertex.job_request import JobOptions
from tuneline.vertex.preflight import Check, Finding, Plan, exit_code, ok, problem, run_checks, unknown, warning
from tuneline.vertex.preflight.buckets import READ, WRITE, bucket_checks
from tuneline.vertex.preflight.offline import offline_checks
from tuneline.vertex.preflight.project import project_checks
from tuneline.vertex.preflight.resources import KEY_ROLE, resource_checks
from tuneline.vertex.rest import ENDPOINT, Vertex

KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
TENSORBOARD = "projects/p/locations/us-central1/tensorboards/7"
REGISTRY = "us-docker.pkg.dev/p/tuneline"
GIVEN = {"project": "p", "model_display_name": "m", "dataset_uri": "gs://data/d.jsonl", "upload_model": "false"}
OPTIONS = JobOptions(project="p", region="us-central1", pipeline_root="gs://root/out", service_account="me@p.iam.gserviceaccount.com")


TEMPLATE, CATALOG = load("tune-large-model"), load_catalog()


def plan(*, options: JobOptions = OPTIONS, is_google: bool = True, registry: str = REGISTRY, **values: object) -> Plan:
    template = replace(TEMPLATE, spec=with_image_registry(TEMPLATE.spec, registry)) if registry else TEMPLATE
    checked = check_parameters(template, {**GIVEN, **values}, pipeline_location=options.region, catalog=CATALOG)
    return Plan(options=options, template=template, checked=checked, is_google=is_google)


@dataclass(frozen=True)
class Bench:
    """All services behind one stub, each under its own path."""

    api: StubApi
    vertex: Vertex
    apis: GoogleApis

    def all(self, given: Plan) -> list[tuple[str, Finding]]:
        checks = [*project_checks(given, self.vertex, self.apis), *bucket_checks(given, self.apis), *resource_checks(given, self.vertex, self.apis)]
        return list(run_checks(checks))

    def about(self, name: str, given: Plan) -> list[tuple[str, str]]:
        """Outcome and text of the findings of one check."""
        return [(finding.outcome, finding.found) for check, finding in self.all(given) if check == name]


@pytest.fixture
def bench(api: StubApi, vertex: Vertex, time: FakeTime) -> Bench:
    """A project in which everything is as it should be."""
    number = {"state": "ENABLED", "parent": "projects/123"}
    quota = {"consumerQuotaLimits": [{"quotaBuckets": [{"effectiveLimit": "0"}, {"effectiveLimit": "8", "dimensions": {"region": "us-central1"}}]}]}
    agents = [f"serviceAccount:service-123@{domain}.iam.gserviceaccount.com" for domain in ("gcp-sa-aiplatform", "gs-project-accounts")]
    api.on("GET", "/userinfo/userinfo", (200, {"email": "me@example.com"}))
    api.on("GET", "/serviceusage/v1/projects/p/services/aiplatform.googleapis.com", (200, number))
    api.on("GET", "/v1/projects/p/locations/us-central1/pipelineJobs", (200, {}))
    api.on("POST", "/resourcemanager/projects/p:testIamPermissions", lambda asked: (200, asked.body))
    api.on("POST", ":testIamPermissions", lambda asked: (200, asked.body))
    api.on("GET", "consumerQuotaMetrics/aiplatform.googleapis.com/custom_model_training_nvidia_a100_80gb_gpus", (200, quota))
    api.on("GET", "/storage/b/(data|root)", (200, {"location": "US-CENTRAL1"}))
    api.on("GET", "/iam/testPermissions", lambda asked: (200, {"permissions": asked.query["permissions"]}))
    api.on("GET", "/o/d.jsonl", (200, {"size": "1234"}))
    api.on("GET", f"/kms/{KEY}", (200, {"purpose": "ENCRYPT_DECRYPT", "primary": {"state": "ENABLED"}}))
    api.on("GET", f"/kms/{KEY}:getIamPolicy", (200, {"bindings": [{"role": KEY_ROLE, "members": agents}]}))
    api.on("GET", f"/v1/{TENSORBOARD}", (200, {"displayName": "mine"}))
    api.on("GET", "/v2/p/tuneline/tuneline/.*/manifests/0.1.0", (200, {"schemaVersion": 2}))
    addresses = {name: f"{api.address}/{name}" for name in ADDRESSES}
    apis = GoogleApis(addresses=addresses, registries={"us-docker.pkg.dev": api.address}, backoff=Backoff(attempts=2), clock=time.clock)
    return Bench(api, replace(vertex, backoff=Backoff(attempts=2)), apis)


def test_a_project_in_good_order_has_no_finding_but_ok(bench: Bench) -> None:
    findings = bench.all(plan(encryption_spec_key_name=KEY, tensorboard_resource_id=TENSORBOARD))
    assert [(name, finding) for name, finding in findings if finding.outcome != "ok"] == []
    names = dict.fromkeys(name for name, _ in findings)
    assert list(names) == ["credentials", "api", "vertex", "permissions", "service account", "quota", "bucket", "key", "tensorboard", "image"]
    assert [finding.found for name, finding in findings if name == "image"] == [
        f"{REGISTRY}/tuneline/{role}:0.1.0 can be pulled" for role in ("base", "tuner-gpu", "predictor")
    ]
    assert exit_code(finding for _, finding in findings) == 0


def test_the_manifest_is_asked_for_in_every_form(bench: Bench) -> None:
    bench.all(plan())
    accepted = [asked.headers["accept"] for asked in bench.api.asked if "/manifests/" in asked.path]
    assert len(accepted) == 3
    assert "application/vnd.oci.image.index.v1+json" in accepted[0]


NOT_FOUND, DENIED = error(404, "NOT_FOUND"), error(403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("check", "path", "answer", "outcome", "told"),
    [
        ("api", "/services/aiplatform.googleapis.com", (200, {"state": "DISABLED"}), "problem", "is disabled in p"),
        ("api", "/services/aiplatform.googleapis.com", DENIED, "unknown", "PERMISSION_DENIED"),
        ("credentials", "/userinfo", error(401, "UNAUTHENTICATED"), "unknown", "whose they are could not be told"),
        ("vertex", "/pipelineJobs", error(401, "UNAUTHENTICATED"), "problem", "UNAUTHENTICATED"),
        ("vertex", "/pipelineJobs", error(503, "UNAVAILABLE"), "unknown", "UNAVAILABLE"),
        ("permissions", "/projects/p:testIamPermissions", (200, {}), "problem", "you lack aiplatform.pipelineJobs.create, aiplatform.pipelineJobs.get"),
        ("service account", "serviceAccounts/.*:testIamPermissions", (200, {}), "problem", "you may not act as me@p"),
        ("service account", "serviceAccounts/.*:testIamPermissions", NOT_FOUND, "problem", "there is no service account me@p"),
        ("quota", "/consumerQuotaMetrics/.*", NOT_FOUND, "unknown", "the quota for NVIDIA_A100_80GB in us-central1 could not be told"),
        ("quota", "/consumerQuotaMetrics/.*", (200, {}), "unknown", "could not be told"),
        ("bucket", "/storage/b/root", NOT_FOUND, "problem", "pipeline root: there is no bucket gs://root"),
        ("bucket", "/storage/b/root", DENIED, "unknown", "pipeline root: where gs://root is could not be told"),
        ("bucket", "/storage/b/root", (200, {"location": "EU"}), "warning", "gs://root is in eu, in none of the job's regions"),
        (
            "bucket",
            "/b/root/iam/testPermissions",
            (200, {"permissions": list(READ)}),
            "warning",
            "you lack storage.objects.create, storage.objects.delete on gs",
        ),
        ("bucket", "/b/data/iam/testPermissions", (200, {}), "warning", "dataset_uri: you lack storage.objects.get"),
        ("bucket", "/o/d.jsonl", NOT_FOUND, "problem", "dataset_uri: there is no object gs://data/d.jsonl"),
        ("bucket", "/b/data", HANG_UP, "unknown", "ConnectionError"),
        ("key", f"/kms/{KEY}", NOT_FOUND, "problem", f"there is no key {KEY}"),
        ("key", f"/kms/{KEY}", (200, {"purpose": "ASYMMETRIC_SIGN"}), "problem", "is ASYMMETRIC_SIGN, its primary version is missing"),
        ("key", f"/kms/{KEY}:getIamPolicy", (200, {}), "warning", f"service-123@gcp-sa-aiplatform.iam.gserviceaccount.com has no {KEY_ROLE}"),
        ("key", f"/kms/{KEY}:getIamPolicy", DENIED, "unknown", "PERMISSION_DENIED"),
        ("tensorboard", f"/v1/{TENSORBOARD}", NOT_FOUND, "problem", f"there is no {TENSORBOARD}"),
        ("image", "/manifests/0.1.0", NOT_FOUND, "problem", f"there is no image {REGISTRY}/tuneline/base:0.1.0"),
        ("image", "/manifests/0.1.0", DENIED, "problem", "cannot be pulled"),
    ],
)
def test_what_is_not_in_order_is_told_by_its_check_and_hinders_no_other(
    bench: Bench, check: str, path: str, answer: Any, outcome: str, told: str
) -> None:  # fmt: skip
    good = bench.all(plan(encryption_spec_key_name=KEY, tensorboard_resource_id=TENSORBOARD))
    bench.api.on("POST" if "testIam" in path else "GET", path, answer)
    findings = bench.all(plan(encryption_spec_key_name=KEY, tensorboard_resource_id=TENSORBOARD))
    [finding] = [finding for name, finding in findings if name == check and finding.outcome != "ok"][:1]
    assert finding.outcome == outcome
    assert told in finding.found
    assert {name for name, _ in findings} == {name for name, _ in good}


def test_a_limit_below_the_machine_s_need_is_a_problem(bench: Bench) -> None:
    limits: list[tuple[str, str]] = []
    for limit in ("0", "7", "8", "-1"):
        bucket = {"effectiveLimit": limit, "dimensions": {"region": "us-central1"}}
        bench.api.on("GET", "/consumerQuotaMetrics/.*", (200, {"consumerQuotaLimits": [{"quotaBuckets": [bucket]}]}))
        limits += bench.about("quota", plan())
    need = "the quota for NVIDIA_A100_80GB in us-central1 is"
    assert limits == [
        ("problem", f"{need} 0; the job needs 8"),
        ("problem", f"{need} 7; the job needs 8"),
        ("ok", f"{need} 8; the job needs 8"),
        ("ok", f"{need} unlimited; the job needs 8"),
    ]


def test_without_a_service_account_the_default_one_is_named(bench: Bench) -> None:
    default = "123-compute@developer.gserviceaccount.com"
    told = bench.about("service account", plan(options=replace(OPTIONS, service_account="")))
    assert told == [("warning", f"the job will run as the default account {default}"), ("ok", f"you may act as {default}")]


@pytest.mark.parametrize(
    ("location", "places", "region", "expected"),
    [
        ("US-CENTRAL1", [], "us-central1", True),
        ("US-CENTRAL1", [], "us-east4", False),
        ("US", [], "us-west4", True),
        ("US", [], "northamerica-northeast1", False),
        ("EU", [], "europe-west9", True),
        ("ASIA", [], "asia-northeast3", True),
        ("NAM4", [], "us-central1", True),
        ("EUR4", [], "europe-west4", True),
        ("EUR4", [], "europe-west1", False),
        ("US", ["US-EAST1", "US-EAST4"], "europe-west4", False),
        ("XY9", ["US-EAST1", "US-EAST4"], "us-east4", True),
    ],
)
def test_a_bucket_s_location_covers_regions(location: str, places: list[str], region: str, expected: bool) -> None:
    assert covers(location, places, region) is expected


def test_a_bucket_in_any_of_the_job_s_regions_is_no_warning(bench: Bench) -> None:
    elsewhere = plan(options=replace(OPTIONS, region="europe-west4"), location="europe-west9")
    seen: dict[str, list[tuple[str, str]]] = {}
    for location in ("EUROPE-WEST4", "EUROPE-WEST9", "US-CENTRAL1", "US", "ASIA"):
        bench.api.on("GET", "/storage/b/(data|root)", (200, {"location": location}))
        seen[location] = [told for told in bench.about("bucket", elsewhere) if told[0] == "warning"]
    assert [location for location, warnings in seen.items() if warnings] == ["ASIA"]
    assert "europe-west4 (pipeline), europe-west9 (upload), us-central1 (tuning)" in seen["ASIA"][0][1]


def test_every_uri_in_a_bucket_is_looked_at_for_what_is_done_with_it(bench: Bench) -> None:
    bench.api.on("GET", "/o/e.jsonl", (200, {"size": "1"}))
    bench.all(plan(evaluation_data_uri="gs://data/e.jsonl", base_model_uri="gs://models/m", evaluation_output_root_dir="gs://root/e"))
    asked = [(asked.path.split("/")[3], tuple(asked.query["permissions"])) for asked in bench.api.asked if asked.path.endswith("testPermissions")]
    assert asked == [("root", WRITE), ("data", READ), ("data", READ), ("root", WRITE)]
    assert ("problem", "base_model_uri: there is no bucket gs://models") in bench.about("bucket", plan(base_model_uri="gs://models/m"))


def test_what_you_may_not_is_a_problem_unless_the_job_has_an_account_of_its_own(bench: Bench) -> None:
    bench.api.on("GET", "/iam/testPermissions", (200, {}))
    outcomes = {account: [outcome for outcome, _ in bench.about("bucket", plan(options=replace(OPTIONS, service_account=account)))] for account in ("", "me@p")}
    assert outcomes == {"": ["problem", "problem"], "me@p": ["warning", "warning"]}


def test_images_that_parameters_name_are_looked_for_like_the_template_s(bench: Bench) -> None:
    missing = f"{REGISTRY}/mine:1"
    bench.api.on("GET", "/v2/p/tuneline/mine/manifests/1", NOT_FOUND)
    told = bench.about("image", plan(tuning_image_uri=missing, serving_container_image_uri="mine:2"))
    assert [text for outcome, text in told if outcome != "ok"] == [f"there is no image {missing}"]


@pytest.mark.parametrize(("reference", "path"), [(":1", "1"), ("", "latest"), (":1@sha256:abc", "sha256:abc"), ("@sha256:abc", "sha256:abc")])
def test_an_image_is_looked_for_by_its_digest_or_its_tag(bench: Bench, reference: str, path: str) -> None:
    bench.api.on("GET", f"/v2/p/tuneline/mine/manifests/{path}", (200, {}))
    told = bench.about("image", plan(tuning_image_uri=f"{REGISTRY}/mine{reference}"))
    assert told[-1] == ("ok", f"{REGISTRY}/mine{reference} can be pulled")


@pytest.mark.parametrize("uri", ["gs://data/models/m", "gs://data/models/m/"])
def test_a_base_model_is_a_folder(bench: Bench, uri: str) -> None:
    bench.api.on("GET", "/storage/b/data/o", lambda asked: (200, {"items": [{"name": "x"}]} if asked.query["prefix"] == ["models/m/"] else {}))
    told = [text for _, text in bench.about("bucket", plan(base_model_uri=uri))]
    assert f"base_model_uri: {uri} is there, and you may read it" in told
    missing = bench.about("bucket", plan(base_model_uri="gs://data/other"))
    assert ("problem", "base_model_uri: there is no folder gs://data/other") in missing


def test_an_objects_name_may_hold_anything(bench: Bench) -> None:
    bench.api.on("GET", r"/o/a#1\?\.jsonl", (200, {"size": "1"}))
    told = bench.about("bucket", plan(dataset_uri="gs://data/a#1?.jsonl"))
    assert ("ok", "dataset_uri: gs://data/a#1?.jsonl is there, 1 bytes, and you may read it") in told


def test_google_s_credentials_go_to_google_s_registries_only(bench: Bench) -> None:
    for registry in ("ghcr.io/team", "evilgcr.io/team", "localhost:5000"):
        bench.api.asked.clear()
        told = bench.about("image", plan(registry=registry))
        assert [outcome for outcome, _ in told] == ["unknown"] * 3
        assert "gets none of its credentials" in told[0][1]
        assert not [asked for asked in bench.api.asked if "/manifests/" in asked.path]


def test_a_tuning_service_is_asked_for_its_jobs_and_its_buckets_only(bench: Bench, time: FakeTime) -> None:
    apis = GoogleApis(addresses={"storage": f"{bench.api.address}/storage"}, clock=time.clock)
    findings = Bench(bench.api, bench.vertex, apis).all(plan(is_google=False, encryption_spec_key_name=KEY, tensorboard_resource_id=TENSORBOARD))
    assert [name for name, _ in findings] == ["vertex", "bucket", "key", "tensorboard"]
    assert [finding.outcome for _, finding in findings] == ["ok", "ok", "unknown", "ok"]


def test_where_other_services_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORAGE_HOST, raising=False)
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert default_addresses() == ADDRESSES
    monkeypatch.setenv(STORAGE_HOST, "127.0.0.1:9000")
    assert default_addresses() == {name: address for name, address in ADDRESSES.items() if name != "storage"}
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:8080/")
    assert default_addresses() == {"storage": "http://127.0.0.1:9000/storage/v1"}
    monkeypatch.delenv(STORAGE_HOST)
    assert default_addresses() == {"storage": "http://127.0.0.1:8080/storage/v1"}


def test_an_emulator_of_storage_gets_no_credentials(bench: Bench) -> None:
    apis = GoogleApis(addresses={}, session=requests.Session())
    told = [finding for _, finding in run_checks(bucket_checks(plan(), apis))]
    assert [finding.outcome for finding in told] == ["unknown", "unknown"]
    assert bench.api.asked == []


def offline(given: Plan, is_installed: Callable[[str], bool] = lambda _: True) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, finding in run_checks(offline_checks(given, is_installed=is_installed)):
        found.setdefault(name, []).append((finding.outcome, finding.found))
    return found


def test_what_needs_no_network_is_told_by_subject() -> None:
    good = offline(plan(encryption_spec_key_name=KEY, tensorboard_resource_id=TENSORBOARD))
    assert [outcome for findings in good.values() for outcome, _ in findings] == ["ok"] * 8
    bad = offline(
        plan(
            options=replace(OPTIONS, job_id="X", region="us-west1"),
            train_steps="many",
            large_model_reference="gpt@1",
            location="mars",
            encryption_spec_key_name="k",
            tensorboard_resource_id="t",
        )
    )
    problems = {name: [text for outcome, text in findings if outcome == "problem"] for name, findings in bad.items()}
    assert {name: len(texts) for name, texts in problems.items() if texts} == {
        "names": 1,
        "parameters": 1,
        "catalogue": 1,
        "placement": 1,
        "key": 1,
        "tensorboard": 1,
    }
    assert problems["parameters"] == ["train_steps is 'many'; expected a whole number."]


def test_what_is_not_built_for_vertex_ai_is_a_problem_there_only() -> None:
    assert [outcome for outcome, _ in offline(plan(accelerator_type="TPU"))["parameters"]] == ["problem"]
    assert [outcome for outcome, _ in offline(plan(accelerator_type="TPU", is_google=False))["parameters"]] == ["ok"]


def test_images_without_a_registry_are_told_where_they_would_be_pulled() -> None:
    outcomes = [outcome for outcome, text in offline(plan(registry=""))["template"] if "Docker Hub" in text]
    assert outcomes == ["warning"] * 3
    assert all("Docker Hub" not in text for _, text in offline(plan(registry="", is_google=False))["template"])


def test_a_template_that_vertex_ai_fetches_was_not_compared() -> None:
    uri = "https://us-kfp.pkg.dev/p/r/t/v1"
    assert offline(plan(options=replace(OPTIONS, template_uri=uri)))["template"][1] == (
        "unknown",
        f"Vertex AI will read it from {uri}: what is there was not compared",
    )


def test_packages_that_are_missing_are_told_with_their_extra() -> None:
    told = offline(plan(), is_installed=lambda name: name not in ("google.auth", "gcsfs"))["packages"]
    assert told == [("problem", "google.auth is not installed"), ("warning", "gcsfs is not installed")]


def test_without_a_template_the_rest_is_still_checked(bench: Bench) -> None:
    bare = Plan(options=OPTIONS)
    assert offline(bare)["placement"] == [("unknown", "not decided without a template")]
    assert [name for name, _ in bench.all(bare)] == ["credentials", "api", "vertex", "permissions", "service account", "quota", "bucket"]


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("tuneline/base:1", ""),
        ("python", ""),
        ("localhost/x", "localhost"),
        ("host:5000/x", "host:5000"),
        ("us-docker.pkg.dev/p/r/x@sha256:1", "us-docker.pkg.dev"),
    ],
)
def test_the_registry_of_an_image(image: str, registry: str) -> None:
    assert registry_of(image) == registry


def test_a_check_that_breaks_off_tells_why_and_the_next_goes_on() -> None:
    def broken() -> list[Finding]:
        raise InfrastructureError("no route")

    findings = list(run_checks([Check(name="a", run=broken), Check(name="b", run=lambda: [ok("fine")])]))
    assert [(name, finding.outcome) for name, finding in findings] == [("a", "unknown"), ("b", "ok")]
    assert findings[0][1].is_passing


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([ok("a"), warning("b"), unknown("c")], 0),
        ([ok("a"), Finding(outcome="unknown", found="no route", is_passing=True)], 13),
        ([Finding(outcome="unknown", found="no route", is_passing=True), problem("b")], 1),
        ([], 0),
    ],
)
def test_the_exit_code(findings: list[Finding], expected: int) -> None:
    assert exit_code(findings) == expected
