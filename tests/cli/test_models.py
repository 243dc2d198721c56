import json
from pathlib import Path

import pytest

from tests.registry.made_up import registered
from tuneline.cli import main
from tuneline.registry import lineage


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))


def test_nothing_is_listed_where_nothing_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["models", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"models": []}


def test_models_are_listed_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registered(tmp_path)
    registered(tmp_path, "job-2", "Another")
    assert main(["models", "list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["MODEL", "BASE", "MODEL", "CREATED", "NAME"]
    assert [row.split("  ")[0] for row in rows] == ["Another", "My model"]
    assert main(["models", "list", "--json", "--label", "tuneline-run=job-1", "--label", "tune-type"]) == 0
    assert [model["displayName"] for model in json.loads(capsys.readouterr().out)["models"]] == ["My model"]


def test_a_model_is_shown_with_labels_metrics_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = registered(tmp_path)
    assert main(["models", "show", "My model", "--verify"]) == 0
    shown = capsys.readouterr().out
    for text in (version.name, "tune-type: sft", "token_accuracy: 0.5", "model.safetensors  8,000 bytes", "versionAliases: default"):
        assert text in shown
    assert main(["models", "show", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == version.to_json()


def test_damage_is_found_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = registered(tmp_path)
    (version.artifact_folder / "config.json").write_text("damaged")
    assert main(["models", "show", "latest"]) == 0
    assert main(["models", "show", "latest", "--verify"]) == 1
    assert "config.json" in capsys.readouterr().err


def test_an_unknown_model_is_the_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "nothing"]) == 1
    assert "no model 'nothing'" in capsys.readouterr().err
    assert main(["models", "list", "--label", "=x"]) == 2


def test_an_earlier_version_can_be_made_the_champion_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = registered(tmp_path)
    lineage.promote(registered(tmp_path, "job-2"))
    assert main(["models", "promote", "My model@1"]) == 0
    assert capsys.readouterr().out == f"{first.resource_name} is the champion.\n"
    assert main(["models", "show", "My model@champion", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versionAliases"] == ["champion"]
    (first.artifact_folder / "config.json").write_bytes(b"damaged")
    assert main(["models", "promote", "My model@1"]) == 1
    assert "config.json" in capsys.readouterr().err
