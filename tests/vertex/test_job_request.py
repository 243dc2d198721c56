"""The request that creates a pipeline job."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tuneline.templates import load, with_image_registry
from tuneline.vertex.job_request import JobOptions, job_request, new_job_id, option_problems, template_digest

MOMENT = datetime(2026, 11, 22, 5, 10, 7, tzinfo=UTC)
TEMPLATE = load("tune-large-model")
OPTIONS = JobOptions(project="p", region="us-central1", pipeline_root="gs://bucket/out")
KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"


def test_the_body_has_what_was_given_and_nothing_that_was_not() -> None:
    request = job_request(TEMPLATE, {"project": "p", "train_steps": 20}, OPTIONS, moment=MOMENT)
    assert request.collection == "projects/p/locations/us-central1/pipelineJobs"
    assert request.name == f"{request.collection}/{request.job_id}"
    assert list(request.body) == ["displayName", "runtimeConfig", "labels", "pipelineSpec"]
    assert request.body["displayName"] == request.job_id
    assert request.body["runtimeConfig"] == {"gcsOutputDirectory": "gs://bucket/out", "parameterValues": {"project": "p", "train_steps": 20}}
    assert request.body["pipelineSpec"] == TEMPLATE.spec


def test_every_option_has_its_place() -> None:
    options = replace(
        OPTIONS,
        job_id="mine",
        display_name="My job",
        labels={"team": "a"},
        service_account="me@p.iam.gserviceaccount.com",
        network="projects/1/global/networks/n",
    )
    request = job_request(TEMPLATE, {"encryption_spec_key_name": KEY}, options, moment=MOMENT)
    assert request.job_id == "mine"
    body = {key: value for key, value in request.body.items() if key not in ("pipelineSpec", "runtimeConfig", "labels")}
    assert body == {
        "displayName": "My job",
        "encryptionSpec": {"kmsKeyName": KEY},
        "serviceAccount": "me@p.iam.gserviceaccount.com",
        "network": "projects/1/global/networks/n",
    }


def test_labels_tell_the_version_and_the_template() -> None:
    labels = job_request(TEMPLATE, {}, replace(OPTIONS, labels={"team": "a"}), moment=MOMENT).body["labels"]
    assert labels == {"team": "a", "tuneline-version": "0-1-0", "tuneline-template": template_digest(TEMPLATE)[:32]}
    elsewhere = replace(TEMPLATE, spec=with_image_registry(TEMPLATE.spec, "registry.example.com"))
    assert template_digest(elsewhere) != template_digest(TEMPLATE)


def test_a_template_s_uri_takes_its_place() -> None:
    uri = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v3.0.0"
    body = job_request(TEMPLATE, {}, replace(OPTIONS, template_uri=uri), moment=MOMENT).body
    assert list(body)[-1] == "templateUri"
    assert "pipelineSpec" not in body


def test_without_caching_every_task_is_run() -> None:
    body = job_request(TEMPLATE, {}, replace(OPTIONS, has_caching=False), moment=MOMENT).body
    caching = [task["cachingOptions"] for task in body["pipelineSpec"]["root"]["dag"]["tasks"].values()]
    assert caching == [{"enableCache": False}] * 7
    assert job_request(TEMPLATE, {}, OPTIONS, moment=MOMENT).body["pipelineSpec"] == TEMPLATE.spec


@pytest.mark.parametrize("pipeline", ["tune-large-model", "Tune_Large Model", "7up", "x" * 300, "ü", ""])
def test_ids_are_valid_whatever_the_pipeline_is_called(pipeline: str) -> None:
    assert re.fullmatch(r"[a-z][-a-z0-9]{0,127}", new_job_id(pipeline, MOMENT))
    assert "-20261122051007-" in new_job_id(pipeline, MOMENT)


def test_ids_of_one_moment_differ() -> None:
    assert len({new_job_id("tune-large-model", MOMENT) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"project": "a/b"}, "--project: found 'a/b'"),
        ({"region": "us central1"}, "--pipeline-region: found"),
        ({"region": "kubernetes"}, "--pipeline-region: found"),
        ({"region": "local"}, "--pipeline-region: found"),
        ({"pipeline_root": ""}, "--pipeline-root is missing"),
        ({"pipeline_root": "/tmp/out"}, "--pipeline-root: found '/tmp/out'; expected gs://"),
        ({"pipeline_root": "gs://Bucket"}, "--pipeline-root: found"),
        ({"job_id": "Mine"}, "--job-id: found 'Mine'"),
        ({"job_id": "x" * 129}, "--job-id: found"),
        ({"display_name": "x" * 129}, "--display-name: has 129 characters"),
        ({"service_account": "me"}, "--service-account: found 'me'"),
        ({"network": "default"}, "--network: found 'default'"),
        ({"template_uri": "https://example.com/t.yaml"}, "--template-uri: found"),
        ({"template_uri": "https://us-kfp.pkg.dev/p/r/t/v1", "has_caching": False}, "--no-cache: with --template-uri"),
        ({"labels": {"Team": "a"}}, "--labels: found the key 'Team'"),
        ({"labels": {"1st": "a"}}, "--labels: found the key '1st'"),
        ({"labels": {"team": "A B"}}, "--labels: found the value 'A B' of 'team'"),
        ({"labels": {"team": "x" * 64}}, "--labels: found the value"),
        ({"labels": {"tuneline-version": "1"}}, "tuneline-version is set by Tuneline"),
    ],
)
def test_what_vertex_ai_would_refuse_is_told_by_its_flag(changes: dict[str, object], told: str) -> None:
    [problem] = option_problems(replace(OPTIONS, **changes), TEMPLATE, is_google=True)  # type: ignore[arg-type]  # each value has its field's type
    assert told in problem


def test_good_options_have_no_problem() -> None:
    labels = {"team": "a", "größe_1": "ü-1", "empty": ""}
    good = replace(OPTIONS, project="example.com:team-1", labels=labels, service_account="1-compute@developer.gserviceaccount.com")
    assert list(option_problems(good, TEMPLATE, is_google=True)) == []
    assert list(option_problems(replace(good, region="local"), TEMPLATE, is_google=False)) == []
    rooted = replace(TEMPLATE, spec={**TEMPLATE.spec, "defaultPipelineRoot": "gs://bucket"})
    assert list(option_problems(replace(OPTIONS, pipeline_root=""), rooted, is_google=True)) == []
