"""docs/templates.md says what is so: its blocks run one after the other, as written, but for the repository's address."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_template_repository import FakeRepository, service_account, serving
from tuneline import __version__, templates

ROOT = Path(__file__).parents[1]
HOST = "https://europe-kfp.pkg.dev/my-project/templates"
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs" / "templates.md").read_text(encoding="utf-8"))
RUN = [(language, block) for language, block in BLOCKS if not block.startswith("# Needs ")]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeRepository]:
    with serving(FakeRepository(token="a-token")) as repository:
        yield repository


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fake: FakeRepository) -> Path:
    """Where the blocks run: a home with credentials for the repository, and a gcloud that knows the same token."""
    folder = tmp_path_factory.mktemp("documentation")
    kfp_files = folder / ".config" / "kfp"
    kfp_files.mkdir(parents=True)
    (kfp_files / "registry_credentials.json").write_text(json.dumps(fake.token))
    gcloud = folder / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(f'#!/bin/sh\ntest "$*" = "auth print-access-token" && echo {fake.token}\n')
    gcloud.chmod(0o755)
    service_account(fake, folder)
    return folder


def run(language: str, block: str, folder: Path, fake: FakeRepository) -> str:
    bins = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"HOME": str(folder), "PATH": os.pathsep.join(bins), "PYTHONPATH": str(ROOT / "src")}
    environment |= {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "key.json"), "TUNELINE_HOME": str(folder / "tuneline")}
    command = ["bash", "-euc"] if language == "sh" else [sys.executable, "-c"]
    done = subprocess.run([*command, block.replace(HOST, fake.url)], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_blocks_run_as_written(folder: Path, fake: FakeRepository) -> None:
    assert len(RUN) >= 7
    for language, block in RUN:
        added = 'print(job.pipeline_spec["pipelineInfo"]["description"])' if "PipelineJob" in block else ""
        printed = run(language, block + added, folder, fake)
        assert not added or f"Tuneline {__version__}." in printed
    tags = fake.tags["tune-large-model"]
    assert set(tags) == {__version__, "latest", "pinned-1"}
    assert templates.load(str(folder / "tune-large-model.yaml")).digest == tags[__version__] == tags["latest"]
    assert templates.load(str(folder / "pinned.yaml")).digest == tags["pinned-1"]


def test_the_images_documentation_retargets_as_written(folder: Path, fake: FakeRepository) -> None:
    [block] = [block for _, block in BLOCK.findall((ROOT / "docs" / "images.md").read_text(encoding="utf-8")) if "template retarget" in block]
    assert f"europe-docker.pkg.dev/my-project/tuneline/tuneline/base:{__version__}" in run("sh", block, folder, fake)
