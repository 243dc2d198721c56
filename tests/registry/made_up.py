"""Checkpoints without a model in them: for the registry files are bytes."""

import hashlib
import json
from pathlib import Path

from tuneline.registry.models import ModelVersion, Registration, register

CONTENT = {"config.json": b'{"architectures": []}', "model.safetensors": b"weights " * 1000, "shards/two.safetensors": b"more"}


def write_checkpoint(folder: Path, content: dict[str, bytes] = CONTENT, step: int = 20) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in content.items()}
    (folder / "COMMIT.json").write_text(json.dumps({"step": step, "files": files, "state": {}}), encoding="utf-8")
    return folder


def registration(job: str = "job-1", name: str = "My model", *, location: str = "local", base_model: str = "code-bison@002") -> Registration:
    return Registration(
        project="acme", location=location, display_name=name, pipeline_job_name=job, base_model=base_model, step=20, metrics={"token_accuracy": 0.5}
    )


def registered(tmp_path: Path, job: str = "job-1", name: str = "My model") -> ModelVersion:
    return register(write_checkpoint(tmp_path / f"checkpoint of {job}"), registration(job, name))
