"""Two tuner containers on one host, told of each other by CLUSTER_SPEC alone, train as one process does."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.containers.conftest import Images
from tests.containers.reference import ENVIRONMENT, Outputs, Reference
from tests.containers.sandbox import Sandbox, finish
from tests.containers.stock_kfp import KfpRun

PORT = 29511
TOLERANCE = 1e-5
"""Two processes add the same gradients in another order."""


def cluster_spec(pool: str) -> str:
    """What Vertex AI gives to the machine of a worker pool."""
    hosts = {"workerpool0": [f"127.0.0.1:{PORT}"], "workerpool1": [f"127.0.0.1:{PORT + 1}"]}
    return json.dumps({"cluster": hosts, "environment": "cloud", "task": {"type": pool, "index": 0}})


def command(inputs_of: Outputs, parameters: Mapping[str, object], folder: Path) -> list[str]:
    """tune-model with the inputs that it had in a run, and outputs in `folder`."""
    inputs = {"resolved": inputs_of.resolved, "dataset": inputs_of.dataset, "dataset-fingerprint": "none", "tuner-image": "none"}
    inputs |= {name.replace("_", "-"): parameters[name] for name in ("train_steps", "evaluation_interval")}
    outputs = {f"output-{name}": folder / name for name in ("checkpoints", "tensorboard", "history", "gcp-resources")} | {
        "executor-output": folder / "executor_output.json"
    }
    flags = [part for name, value in {**inputs, **outputs}.items() for part in (f"--{name}", str(value))]
    return ["python", "-m", "tuneline.steps.tune_model", *flags]


def test_two_containers_reach_the_losses_of_one_process(
    images: Images,
    sandbox: Sandbox,
    kfp_run: Callable[[str], KfpRun],
    reference: Callable[[str], Reference],
    tmp_path: Path,
) -> None:
    expected, inputs = reference("tune-large-model"), kfp_run("tune-large-model").outputs
    folders = [tmp_path / f"rank-{rank}" for rank in range(2)]
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o777)
    commands = [command(inputs, expected.parameters, folder) for folder in folders]
    mounts = [{inputs.resolved: "ro", inputs.dataset: "ro", folder: "rw"} for folder in folders]
    environments = [ENVIRONMENT | {"CLUSTER_SPEC": cluster_spec(pool)} for pool in ("workerpool0", "workerpool1")]

    with sandbox.started(images.tuner, commands[0], environment=environments[0], mounts=mounts[0]) as first:
        # They share a network in which there is only loopback.
        others = {"environment": environments[1], "mounts": mounts[1], "network_mode": f"container:{first.id}"}
        with sandbox.started(images.tuner, commands[1], **others) as second:
            ends = [finish(container) for container in (first, second)]
    assert [end.code for end in ends] == [0, 0], [end.log[-3000:] for end in ends]

    found = json.loads((folders[0] / "history").read_text(encoding="utf-8"))
    for split in ("train", "eval"):
        single = expected.outputs.measured[split]
        assert isinstance(single, list)
        assert [row["step"] for row in found[split]] == [row["step"] for row in single]
        assert [row["num_predictions"] for row in found[split]] == [row["num_predictions"] for row in single]
        assert [row["total_loss"] for row in found[split]] == pytest.approx([row["total_loss"] for row in single], rel=TOLERANCE)
    assert found["checkpoints"] == expected.outputs.measured["checkpoints"]
    final = folders[0] / "checkpoints/postprocess/node-0/checkpoints/final"
    assert any(final.glob("*.safetensors"))
    assert list(folders[1].rglob("*.safetensors")) == [], "only rank 0 writes"
