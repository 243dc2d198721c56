"""The documentation says what is so: the README's commands run as written, links lead somewhere."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "pretraining").glob("*.md")])
BLOCKS = [block.strip() for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)]


def test_the_readme_keeps_its_order() -> None:
    assert re.findall(r"^## (.*)$", README, flags=re.MULTILINE) == ["Try it", "What you see", "Use your own data", "Vertex", "Where to go next"]
    assert BLOCKS[0] == "make tune"
    assert BLOCKS[-1] == "make test"


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_written(tmp_path: Path) -> None:
    """All but `make test` itself, one after the other, as a newcomer would."""
    environment = {**os.environ, "TUNELINE_HOME": str(tmp_path / "home"), "OMP_WAIT_POLICY": "PASSIVE"}
    commands = BLOCKS[:-1]
    assert len(commands) >= 5
    try:
        for command in commands:
            done = subprocess.run(["bash", "-euc", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=570, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            assert done.stdout, command
    finally:
        subprocess.run([".venv/bin/tuneline", "endpoints", "undeploy", "--all"], cwd=ROOT, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_every_document_is_reachable_from_the_readme() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        assert f"docs/{document.name}" in README, document.name
