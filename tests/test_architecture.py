"""Rules of the house that a machine can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tuneline.cli import COMMANDS

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("src", "components", "pipelines", "pretraining", "benchmarks", "scripts") for path in (ROOT / folder).rglob("*.py"))
FORBIDDEN_CALLS = {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "yaml.load", "os.system"}
HEAVY = ("torch", "transformers", "kfp", "google.cloud", "fastapi", "numpy")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_sources_to_check() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_has_a_docstring_and_at_most_400_lines(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "module docstring missing"
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.name in ("steps", "components") and path.name != "__init__.py"], ids=name_of)
def test_steps_and_components_have_at_most_60_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_unsafe_is_called(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN_CALLS, f"line {node.lineno}"
            for keyword in node.keywords:
                if keyword.arg in ("trust_remote_code", "shell"):
                    assert isinstance(keyword.value, ast.Constant), f"line {node.lineno}"
                    assert keyword.value.value is False, f"line {node.lineno}"


def output_of(arguments: list[str], *, not_loaded: tuple[str, ...]) -> str:
    """What `tuneline` prints, in a process in which these modules are not loaded by it."""
    program = (
        "import sys; before = set(sys.modules)\n"  # a site package may load things at the interpreter's start
        "from tuneline.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"loaded = [m for m in {not_loaded!r} if m in sys.modules and m not in before]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_loads_no_heavy_module(command: list[str]) -> None:
    allowed = ("numpy",) if command in (["validate"], ["inspect"], ["dataset"]) else ()
    assert "usage" in output_of([*command, "--help"], not_loaded=tuple(module for module in HEAVY if module not in allowed)).lower()


@pytest.mark.parametrize("command", [["submit"], ["schedule", "create", "--cron", "0 3 * * 1"]], ids=lambda words: words[0])
@pytest.mark.parametrize("place", [["--pipeline-region", "us-central1"], ["--kubeflow", "kubeflow.example.com"]], ids=str)
def test_a_dry_run_loads_neither_a_heavy_module_nor_a_network_client(command: list[str], place: list[str]) -> None:
    job = ["tune-large-model", "--project", "p", "--pipeline-root", "gs://bucket/out", "--dataset-uri", "gs://bucket/d.jsonl", *place]
    split = 2 if command[0] == "schedule" else 1
    arguments = [*command[:split], *job, *command[split:], "--dry-run"]
    assert output_of(arguments, not_loaded=(*HEAVY, "requests", "google.auth", "rich")).startswith("POST https://")
