"""A service over an empty folder, and a catalogue in which the hosted names stand for the embedded model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tuneline.api.app import create_app
from tuneline.api.server import open_service
from tuneline.api.service import Service
from tuneline.api.settings import Settings

ROOT = Path(__file__).parents[2]
TRAINING_DATA = ROOT / "examples" / "stdlib-code" / "train.jsonl"
PARENT = "/v1/projects/proj/locations/europe-west4"
OVERLAY = '[[alias]]\nreference = "code-bison@002"\nmodel = "tuneline/tiny-code@001"\nsource = "this test"\ndate = 2026-11-22\n'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("TUNELINE_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overlay = tmp_path / "catalog.toml"
    overlay.write_text(OVERLAY, encoding="utf-8")
    return Settings(home=home / "service", runs_dir=home / "runs", catalog=str(overlay))


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with open_service(settings) as service:
        yield service


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(create_app(service), base_url="http://127.0.0.1:8080")
