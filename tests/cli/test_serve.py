"""`tuneline serve`: what is refused before it listens."""

import socket
from pathlib import Path

import pytest

from tuneline.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))


def test_wrong_numbers_are_told_and_right_ones_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--max-running", "0", "--port", "70000"]) == 2
    told = capsys.readouterr().err
    assert "--max-running is 0; expected at least 1." in told
    assert "--port is 70000; expected a port from 0 to 65535." in told
    assert "--requests-per-second" not in told


@pytest.mark.parametrize("text", [None, "no toml", '[[model]]\nreference = "x/y@1"\nunknown = 1\n'])
def test_a_catalogue_that_cannot_be_read_is_told_at_the_start(tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    if text is not None:
        file.write_text(text)
    assert main(["serve", "--catalog", str(file)]) == 1
    assert "mine.toml" in capsys.readouterr().err


def test_a_port_that_another_has_is_told_before_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    told = capsys.readouterr().err
    assert f"127.0.0.1:{port}: Address already in use." in told
    assert "http://" not in told
