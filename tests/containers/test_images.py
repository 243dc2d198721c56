"""What is in the images, and that every step starts in its own as a cluster may run it: unprivileged and unable to write."""

import importlib.metadata
import json
import re

import docker
import pytest
import yaml

import tuneline
from tests.containers.conftest import Images
from tests.containers.reference import ROOT, TEMPLATES
from tests.containers.sandbox import USER, Sandbox

COMPUTING = ("numpy", "safetensors", "tokenizers", "torch", "transformers")
ABSENT = {
    "base": {"torch", "transformers", "fastapi", "uvicorn", "rich", "tensorboard", "sacrebleu", "rouge-score", "pip", "kfp"},
    "tuner": {"fastapi", "uvicorn", "rich", "pip", "kfp"},
    "predictor": {"tensorboard", "sacrebleu", "rouge-score", "rich", "pip", "kfp"},
}
PRESENT = {
    "base": {"tuneline", "tokenizers"},
    "tuner": {"tuneline", "torch", "transformers", "tensorboard", "sacrebleu", "rouge-score"},
    "predictor": {"tuneline", "torch", "transformers", "fastapi", "uvicorn"},
}
LIST_DISTRIBUTIONS = """
import importlib.metadata, json
print(json.dumps({found.name.lower().replace("_", "-"): found.version for found in importlib.metadata.distributions()}))
"""
LIST_IDENTITY = """
import json, os
def writable(path):
    try:
        open(os.path.join(path, "x"), "w").close()
    except OSError:
        return False
    return True
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
places = {path: writable(path) for path in ("/", "/opt/tuneline", "/tmp")}
rights = {"user": f"{os.getuid()}:{os.getgid()}", "capabilities": int(status["CapEff"], 16), "interfaces": os.listdir("/sys/class/net")}
print(json.dumps({**rights, "writable": places}))
"""


def executors() -> dict[str, dict[str, object]]:
    """Image and command of every task of the compiled templates."""
    found = {}
    for template in TEMPLATES:
        spec = next(yaml.safe_load_all((ROOT / f"compiled/{template}.yaml").read_text(encoding="utf-8")))
        found |= {label: executor["container"] for label, executor in spec["deploymentSpec"]["executors"].items()}
    assert len(found) == 7
    return found


EXECUTORS = executors()


@pytest.mark.parametrize("label", EXECUTORS)
def test_every_task_of_the_templates_starts_in_its_image(label: str, images: Images, sandbox: Sandbox, docker_client: docker.DockerClient) -> None:
    executor = EXECUTORS[label]
    assert executor["image"] in (images.base, images.tuner)
    assert not docker_client.images.get(executor["image"]).attrs["Config"].get("Entrypoint"), "stock KFP would put it before the task's command"
    done = sandbox.run(executor["image"], executor["command"])
    assert done.code == 2, done.log
    assert done.log.startswith(label.removeprefix("exec-"))
    assert "--executor-output is missing." in done.log


@pytest.mark.parametrize("role", ["base", "tuner", "predictor"])
def test_an_image_holds_what_its_steps_import_and_nothing_else(role: str, images: Images, sandbox: Sandbox) -> None:
    done = sandbox.run(getattr(images, role), ["python", "-c", LIST_DISTRIBUTIONS])
    assert done.code == 0, done.log
    found = json.loads(done.output)
    assert PRESENT[role] <= found.keys()
    assert ABSENT[role] & found.keys() == set()
    assert found["tuneline"] == tuneline.__version__
    here = {name: importlib.metadata.version(name).partition("+")[0] for name in COMPUTING if name in found}
    assert {name: found[name].partition("+")[0] for name in here} == here, "weights can only be equal where the same code computes"


@pytest.mark.parametrize("role", ["base", "tuner", "predictor"])
def test_an_image_needs_no_rights(role: str, images: Images, sandbox: Sandbox) -> None:
    done = sandbox.run(getattr(images, role), ["python", "-c", LIST_IDENTITY])
    assert done.code == 0, done.log
    places = {"/": False, "/opt/tuneline": False, "/tmp": True}
    assert json.loads(done.output) == {"user": USER, "capabilities": 0, "interfaces": ["lo"], "writable": places}


@pytest.mark.parametrize("role", ["base", "tuner", "predictor"])
def test_an_image_says_what_it_is(role: str, images: Images, docker_client: docker.DockerClient, capsys: pytest.CaptureFixture[str]) -> None:
    image = docker_client.images.get(getattr(images, role))
    configuration, labels = image.attrs["Config"], image.labels
    assert configuration["User"] == USER
    assert labels["org.opencontainers.image.version"] == tuneline.__version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])
    num_layers = len(image.attrs["RootFS"]["Layers"])
    with capsys.disabled():
        print(f"\n{getattr(images, role)}: {image.attrs['Size'] / 1e6:.0f} MB in {num_layers} layers")
    assert num_layers <= 12
