from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing ran before."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TUNELINE_HOME", str(folder))
    return folder
