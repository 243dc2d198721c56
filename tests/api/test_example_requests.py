"""The requests of `examples/requests`: `tuneline submit` makes them, and the tuning service takes them."""

import json
import re
import shlex
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import ROOT
from tests.api.tuning_bench import OVERLAY, examples
from tuneline.api.app import create_app
from tuneline.api.server import open_service
from tuneline.api.settings import Settings
from tuneline.cli import main
from tuneline.data.base_model import EMBEDDED_MODELS
from tuneline.vertex.rest import ENDPOINT

REQUESTS = ROOT / "examples" / "requests"
README = (REQUESTS / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"^`([\w-]+\.json)`:\n\n```sh\n(.*?)```", README, flags=re.MULTILINE | re.DOTALL))
PIPELINES = sorted(path.name for path in REQUESTS.glob("*.json") if "templateUri" in path.read_text())
TUNING = sorted({path.name for path in REQUESTS.glob("*.json")} - set(PIPELINES))


def test_every_request_is_named_and_every_pipeline_job_has_its_command() -> None:
    assert (len(PIPELINES), len(TUNING)) == (4, 3)
    assert sorted(COMMANDS) == PIPELINES
    assert all(f"`{name}`" in README for name in TUNING)


@pytest.mark.parametrize("name", PIPELINES)
def test_submit_makes_the_request_to_the_byte(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    program, *arguments = shlex.split(COMMANDS[name].replace("\\\n", " "))
    assert (program, "--dry-run" in arguments) == ("tuneline", True)
    assert main(arguments) == 0
    head, _, body = capsys.readouterr().out.partition("\n\n")
    printed = json.loads(body)
    assert sorted(printed.pop("labels")) == ["tuneline-template", "tuneline-version"]
    assert json.dumps(printed, indent=2) + "\n" == (REQUESTS / name).read_text(encoding="utf-8")
    values = printed["runtimeConfig"]["parameterValues"]
    pipeline = printed["templateUri"].split("/")[-2]
    place = rf"projects/{values['project']}/locations/\1/pipelineJobs\?pipelineJobId={pipeline}-\d{{14}}-[0-9a-f]{{8}}"
    assert re.match(rf"POST https://([\w-]+)-aiplatform\.googleapis\.com/v1/{place}\n", head)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with the buckets that the requests name, which starts no process."""
    home = tmp_path_factory.mktemp("home")
    (home / "catalog.toml").write_text(OVERLAY + '[[alias]]\nreference = "codechat-bison@002"\nmodel = "tuneline/tiny-code@001"\n', encoding="utf-8")
    settings = Settings(home=home / "service", runs_dir=home / "runs", catalog=str(home / "catalog.toml"))
    texts = "".join(path.read_text(encoding="utf-8") for path in REQUESTS.glob("*.json"))
    for uri in re.findall(r'dataset_?uri": "gs://([^"]+)', texts, flags=re.IGNORECASE):
        (settings.buckets / uri).parent.mkdir(parents=True, exist_ok=True)
        examples(settings.buckets / uri, 7 if "validation" in uri else 30)
    (settings.buckets / "my-bucket/base-model").symlink_to(EMBEDDED_MODELS / "tiny-code-001")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNELINE_HOME", str(home))
        with open_service(settings) as service:
            patch.setattr(service.runner, "_start", lambda _job_id: None)
            yield TestClient(create_app(service), base_url="http://127.0.0.1")


@pytest.mark.parametrize("name", PIPELINES)
def test_the_tuning_service_takes_a_pipeline_job(name: str, client: TestClient) -> None:
    body = json.loads((REQUESTS / name).read_text(encoding="utf-8"))
    values = body["runtimeConfig"]["parameterValues"]
    tensorboard = values.pop("tensorboard_resource_id", "projects/p/locations/us-central1/tensorboards/0")  # this service has none
    answer = client.post(f"/v1/projects/{values['project']}/locations/{tensorboard.split('/')[3]}/pipelineJobs", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["runtimeConfig"]["parameterValues"].items() >= values.items()


@pytest.mark.parametrize("name", TUNING)
def test_the_tuning_service_takes_a_tuning_job(name: str, client: TestClient) -> None:
    body = (REQUESTS / name).read_bytes()
    answer = client.post("/v1beta1/projects/proj/locations/us-central1/tuningJobs", content=body, headers={"Content-Type": "application/json"})
    refused = answer.json().get("error", {}).get("message", "").splitlines()
    assert answer.status_code == 200 or refused, answer.text
    assert all("adapters is not built yet" in problem for problem in refused), refused
