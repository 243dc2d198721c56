"""The catalogue: what the built-in rows say, what the loader refuses, and what a user's rows change."""

from pathlib import Path

import pytest

from tuneline import catalog as catalog_package
from tuneline.catalog import FILES, assemble, load_catalog
from tuneline.catalog.base_model import context_of, resolve_base_model
from tuneline.catalog.rows import ModelRow
from tuneline.data.base_model import ARCHITECTURES
from tuneline.errors import CatalogError, ParameterError

TEXTS = {name: (Path(catalog_package.__file__).parent / name).read_text(encoding="utf-8") for name in FILES}

OPEN_MODELS = {
    "google/gemma3@gemma-3-1b-it": ("hf://google/gemma-3-1b-it", 8192, {"FULL"}),
    "google/gemma3@gemma-3-4b-it": ("hf://google/gemma-3-4b-it", 8192, {"FULL"}),
    "google/gemma3@gemma-3-12b-it": ("hf://google/gemma-3-12b-it", 8192, {"FULL"}),
    "google/gemma3@gemma-3-27b-it": ("hf://google/gemma-3-27b-it", 8192, {"FULL", "PEFT_ADAPTER"}),
    "meta/llama3_1@llama-3.1-8b": ("hf://meta-llama/Llama-3.1-8B", 8192, {"FULL", "PEFT_ADAPTER"}),
    "meta/llama3_1@llama-3.1-8b-instruct": ("hf://meta-llama/Llama-3.1-8B-Instruct", 8192, {"FULL", "PEFT_ADAPTER"}),
    "meta/llama3-2@llama-3.2-1b-instruct": ("hf://meta-llama/Llama-3.2-1B-Instruct", 8192, {"FULL"}),
    "meta/llama3-2@llama-3.2-3b-instruct": ("hf://meta-llama/Llama-3.2-3B-Instruct", 8192, {"FULL"}),
    "meta/llama3-3@llama-3.3-70b-instruct": ("hf://meta-llama/Llama-3.3-70B-Instruct", 8192, {"FULL", "PEFT_ADAPTER"}),
    "qwen/qwen3@qwen3-4b": ("hf://Qwen/Qwen3-4B", 8192, {"FULL"}),
    "qwen/qwen3@qwen3-8b": ("hf://Qwen/Qwen3-8B", 8192, {"FULL"}),
    "qwen/qwen3@qwen3-14b": ("hf://Qwen/Qwen3-14B", 8192, {"FULL"}),
    "qwen/qwen3@qwen3-32b": ("hf://Qwen/Qwen3-32B", 8192, {"FULL", "PEFT_ADAPTER"}),
    "meta/llama4@llama-4-scout-17b-16e-instruct": ("hf://meta-llama/Llama-4-Scout-17B-16E-Instruct", 2048, {"PEFT_ADAPTER"}),
}
HOSTED = [f"{kind}-bison{size}" for kind in ("text", "chat", "code", "codechat") for size in ("@001", "@002", "-32k@002")]
GEMINI = "gemini-1.0-pro-002"

STAND_IN = """
[[alias]]
reference = "code-bison@002"
model = "tuneline/tiny-code@001"
"""


def test_the_open_models_are_those_of_the_documentation() -> None:
    models = load_catalog().models
    assert {name: (row.uri, row.max_sequence_length, set(row.modes)) for name, row in models.items() if name != "tuneline/tiny-code@001"} == OPEN_MODELS


def test_the_embedded_model_needs_no_download_and_has_no_limits() -> None:
    base = resolve_base_model(load_catalog(), "tuneline/tiny-code@001")
    assert base.resolved.uri == "embedded:tiny-code-001"
    assert base.resolved.max_sequence_length == 1024
    assert not base.resolved.legacy
    assert not base.resolved.stands_in
    assert (base.limits.max_training_examples, base.limits.max_evaluation_examples, base.limits.max_author_fields) == (0, 0, 0)
    assert base.row.local_batch_size == 8


@pytest.mark.parametrize("reference", HOSTED)
def test_each_hosted_reference_has_a_stand_in_that_reads_its_length(reference: str) -> None:
    base = resolve_base_model(load_catalog(), reference)
    assert base.resolved.legacy
    assert base.resolved.stands_in in OPEN_MODELS
    assert base.resolved.uri == OPEN_MODELS[base.resolved.stands_in][0]
    assert base.resolved.max_sequence_length == (32768 if "32k" in reference else 8192)
    assert base.kind == reference.split("-")[0]
    assert any(f"a stand-in for {reference}" in reason for reason in base.reasons)
    limits = base.limits
    assert (limits.min_training_examples, limits.min_evaluation_examples, limits.max_evaluation_examples) == (10, 10, 250)
    expected = (0, 10_000) if "chat" in reference else (10_000, 0)
    assert (limits.max_training_examples, limits.max_author_fields) == expected


def test_the_gemini_reference_has_a_stand_in_and_its_own_limits() -> None:
    base = resolve_base_model(load_catalog(), GEMINI)
    assert base.resolved.legacy
    assert base.resolved.stands_in in OPEN_MODELS
    assert base.kind == "any"
    assert (base.limits.min_training_examples, base.limits.max_training_examples, base.limits.max_evaluation_examples) == (1, 0, 256)


def test_there_are_no_other_hosted_references() -> None:
    assert sorted(load_catalog().aliases) == sorted([*HOSTED, GEMINI])


def test_another_spelling_is_the_model_itself_and_no_stand_in() -> None:
    resolved = resolve_base_model(load_catalog(), "google/gemma-3-27b-it").resolved
    assert resolved.uri == "hf://google/gemma-3-27b-it"
    assert not resolved.stands_in


def test_every_built_in_row_has_a_source_and_a_date() -> None:
    catalog = load_catalog()
    rows = [row for table in vars(catalog).values() for row in table.values()]
    assert len(rows) > 50
    assert all(row.source and row.date for row in rows)


@pytest.mark.parametrize(("found", "words"), [("code-bison@02", "Did you mean 'code-bison@002'?"), ("zzz", "Known: chat-bison-32k@002, "), ("", "Known: ")])
def test_an_unknown_reference_is_refused_with_the_nearest_one_or_all(found: str, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        resolve_base_model(load_catalog(), found)
    assert str(caught.value).startswith(f"large_model_reference: found {found!r}, which is not in the model catalogue. {words}")


@pytest.mark.parametrize(
    ("reference", "asked", "length"),
    [
        ("code-bison@002", "", 8192), ("code-bison@002", "8k", 8192), ("code-bison-32k@002", "", 32768), ("code-bison-32k@002", "8k", 8192),
        ("code-bison-32k@002", "32k", 32768), ("qwen/qwen3@qwen3-8b", "8k", 8192), ("tuneline/tiny-code@001", "", 1024),
    ],
)  # fmt: skip
def test_the_context_length_is_the_asked_one_or_the_references_own(reference: str, asked: str, length: int) -> None:
    assert resolve_base_model(load_catalog(), reference, max_context_length=asked).resolved.max_sequence_length == length


@pytest.mark.parametrize(
    ("reference", "asked", "words"),
    [
        ("code-bison@002", "32k", ["8192", "large_model_reference='code-bison-32k@002'"]),
        ("chat-bison@001", "32k", ["large_model_reference='chat-bison-32k@002'"]),
        ("qwen/qwen3@qwen3-8b", "32k", ["8192", "Leave it out."]),
        ("tuneline/tiny-code@001", "8k", ["1024"]),
        ("code-bison@002", "16k", ["'16k'", "'8k', '32k'"]),
    ],
)
def test_a_context_length_that_the_model_does_not_have_is_refused(reference: str, asked: str, words: list[str]) -> None:
    with pytest.raises(ParameterError, match=r"^max_context_length: found") as caught:
        resolve_base_model(load_catalog(), reference, max_context_length=asked)
    assert all(word in str(caught.value) for word in words)


def test_the_batch_size_class_changes_above_8192_tokens() -> None:
    assert [context_of(length) for length in (1, 8192, 8193, 32768, 100_000)] == ["8k", "8k", "32k", "32k", "32k"]


def test_own_weights_replace_the_uri_and_nothing_else() -> None:
    own = resolve_base_model(load_catalog(), "code-bison@002", base_model_uri="gs://bucket/mine")
    assert own.resolved.uri == "gs://bucket/mine"
    assert own.resolved.stands_in == "qwen/qwen3@qwen3-8b"
    assert any("gs://bucket/mine" in reason for reason in own.reasons)


# Strictness


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("models.toml", "learning_rate = 5e-4", "learing_rate = 1e-3", ["[[model]] tuneline/tiny-code@001", "unknown key 'learing_rate'", "Did you mean"]),
        ("models.toml", "local_batch_size = 8\n", "", ["[[model]] tuneline/tiny-code@001", "key 'local_batch_size' is missing"]),
        ("models.toml", "context_window = 1_024", 'context_window = "1024"', ["context_window is '1024'", "a whole number, 1 or more"]),
        ("models.toml", "context_window = 1_024", "context_window = true", ["context_window is True"]),
        ("models.toml", "context_window = 1_024", "context_window = 0", ["context_window is 0"]),
        ("models.toml", "context_window = 1_024", "context_window = 1_000", ["max_sequence_length 1024 is above context_window 1000"]),
        ("models.toml", "learning_rate = 5e-4", "learning_rate = nan", ["learning_rate is nan", "above 0"]),
        ("models.toml", "learning_rate = 5e-4", "learning_rate = -1.0", ["learning_rate is -1.0"]),
        ("models.toml", "learning_rate = 5e-4", "learning_rate = inf", ["learning_rate is inf"]),
        ("models.toml", "learning_rate = 5e-4", "learning_rate = true", ["learning_rate is True"]),
        ("models.toml", 'kind = "any"', 'kind = "poem"', ["kind is 'poem'", "'codechat'"]),
        ("models.toml", 'modes = ["FULL"]', 'modes = ["FUL"]', ["modes is ['FUL']", "'FULL'"]),
        ("models.toml", 'modes = ["FULL"]', 'modes = "FULL"', ["modes is 'FULL'", "a list"]),
        ("models.toml", 'uri = "embedded:tiny-code-001"', 'uri = ""', ["uri is ''", "not empty"]),
        ("models.toml", 'source = "Tuneline"', "source = 3", ["source is 3"]),
        ("models.toml", "date = 2026-11-22", 'date = "2026-11-22"', ["date is '2026-11-22'"]),
        ("models.toml", "legacy = true", 'legacy = "yes"', ["legacy is 'yes'", "true or false"]),
        ("models.toml", "min_training_examples = 10\n", "min_training_examples = -1\n", ["[[limits]] hosted", "min_training_examples is -1", "0 or more"]),
        ("models.toml", 'reference = "tuneline/tiny-code@001"', 'reference = "code-bison@002"', ["'code-bison@002' is already the name of [[model]]"]),
        ("models.toml", 'reference = "text-bison@001"', 'reference = "google/gemma-3-27b-it"', ["'google/gemma-3-27b-it' is already the name"]),
        ("models.toml", 'reference = "tuneline/tiny-code@001"\n', "", ["[[model]] number 1", "key 'reference' is missing"]),
        ("models.toml", 'limits = "none"', 'limits = "nine"', ["limits names 'nine', which no row has. Did you mean 'none'"]),
        ("models.toml", 'model = "qwen/qwen3@qwen3-8b"', 'model = "qwen/qwen3@qwen3-9b"', ["[[alias]] text-bison@001", "'qwen/qwen3@qwen3-9b'"]),
        ("models.toml", 'model = "qwen/qwen3@qwen3-8b"', 'model = "text-bison@001"', ["leads back to this row"]),
        ("models.toml", "[[model]]", "[[modle]]", ["unknown table 'modle'", "Did you mean 'model'"]),
        ("models.toml", "[[limits]]\nid", "[limits]\nid", ["models.toml", "not TOML"]),
        ("machines.toml", 'accelerator = "GPU"', 'accelerator = "NPU"', ["[[machine]] vertex-gpu", "accelerator is 'NPU'"]),
        ("machines.toml", "accelerator_count = 8", "accelerator_count = 8.0", ["accelerator_count is 8.0"]),
        ("machines.toml", 'region = "us-central1"', 'region = "us-central"', ["region names 'us-central'", "Did you mean 'us-central1'"]),
        ("machines.toml", 'region = "us-central1"', 'region = "us-west4"', ["'us-west4' does not have 'GPU' among its tuning_accelerators"]),
        ("machines.toml", 'region = "us-central1"\naccelerator = "GPU"', 'region = "europe-west4"\naccelerator = "TPU"', ["as well. Keep one", "GPU"]),
        ("machines.toml", 'id = "vertex-tpu"', 'id = "vertex-gpu"', ["'vertex-gpu' is already the name"]),
        ("regions.toml", 'backend = "local"', 'backend = "slurm"', ["[[region]] local", "backend is 'slurm'"]),
        ("regions.toml", 'name = "us-west1"', 'name = "us-west4"', ["'us-west4' is already the name"]),
        ("regions.toml", 'context = "32k"', 'context = "8k"', ["machines.toml: [[machine]] vertex-gpu: no [[batch_size]] row", "'32k'"]),
        ("regions.toml", 'context = "32k"', 'context = "64k"', ["context is '64k'"]),
        ("regions.toml", "batch_size = 24", "batch_size = 0", ["batch_size is 0"]),
    ],
)  # fmt: skip
def test_a_wrong_row_is_refused_by_file_row_and_key(file: str, old: str, new: str, words: list[str]) -> None:
    assert old in TEXTS[file]
    with pytest.raises(CatalogError) as caught:
        assemble({**TEXTS, file: TEXTS[file].replace(old, new, 1)})
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_table_that_is_no_list_of_rows_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"mine.toml: 'machine' must be a list of rows; begin each with \[\[machine\]\]"):
        load_catalog('[machine]\nid = "x"', "mine.toml")


def test_all_problems_of_all_files_are_raised_at_once() -> None:
    texts = {
        **TEXTS,
        "machines.toml": TEXTS["machines.toml"].replace("accelerator_count = 8", "accelerator_count = -8", 1),
        "regions.toml": TEXTS["regions.toml"].replace("batch_size = 24", "batch_size = 2.4"),
    }
    with pytest.raises(CatalogError) as caught:
        assemble(texts, "[[pet]]\nid = 1", "mine.toml")
    assert len(caught.value.problems) == 3
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["mine.toml", "machines.toml", "regions.toml"]
    assert caught.value.exit_code == 1


# A user's rows


def test_an_overlay_row_needs_only_the_keys_that_it_changes() -> None:
    catalog = load_catalog(STAND_IN, "mine.toml")
    base = resolve_base_model(catalog, "code-bison@002")
    assert base.resolved.uri == "embedded:tiny-code-001"
    assert base.resolved.stands_in == "tuneline/tiny-code@001"
    assert base.resolved.max_sequence_length == 1024
    assert base.resolved.legacy
    assert base.limits.max_training_examples == 10_000
    assert base.kind == "code"
    assert catalog.aliases["code-bison@002"].source == "mine.toml"
    assert resolve_base_model(catalog, "text-bison@002").resolved.stands_in == "qwen/qwen3@qwen3-8b"


def test_a_stand_in_takes_the_length_of_the_reference_as_far_as_it_reads() -> None:
    base = resolve_base_model(load_catalog(STAND_IN), "code-bison@002", max_context_length="8k")
    assert base.resolved.max_sequence_length == 1024
    assert "An example may have 1024 tokens: tuneline/tiny-code@001 reads no more." in base.reasons


def test_an_alias_over_a_model_moves_all_that_it_stood_in_for() -> None:
    catalog = load_catalog(STAND_IN.replace("code-bison@002", "qwen/qwen3@qwen3-8b"))
    for reference in ("qwen/qwen3@qwen3-8b", "chat-bison@002"):
        assert resolve_base_model(catalog, reference).resolved.stands_in == "tuneline/tiny-code@001"
    assert "qwen/qwen3@qwen3-8b" not in catalog.models
    assert not resolve_base_model(catalog, "qwen/qwen3@qwen3-8b").resolved.legacy


def test_a_model_over_an_alias_is_the_model_itself() -> None:
    row = """[[model]]
    reference = "code-bison@002"
    uri = "gs://models/code"
    architecture = "LlamaForCausalLM"
    modes = ["FULL"]
    context_window = 8192
    learning_rate = 1e-4
    local_batch_size = 4"""
    resolved = resolve_base_model(load_catalog(row), "code-bison@002").resolved
    assert (resolved.uri, resolved.stands_in, resolved.max_sequence_length, resolved.legacy) == ("gs://models/code", "", 8192, False)


def test_a_changed_model_row_keeps_its_other_spellings() -> None:
    catalog = load_catalog('[[model]]\nreference = "google/gemma3@gemma-3-27b-it"\nlearning_rate = 1e-6')
    assert catalog.model("google/gemma-3-27b-it").learning_rate == 1e-6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[alias]]\nreference = "mine@1"\nmodel = "tuneline/tiny-code@001"', ["mine.toml: [[alias]] mine@1: the key 'kind' is missing"]),
        (STAND_IN.replace("tiny-code@001", "tiny-code@002"), ["model names 'tuneline/tiny-code@002'", "Did you mean 'tuneline/tiny-code@001'"]),
        (STAND_IN + STAND_IN, ["'code-bison@002' is already the name of [[alias]] code-bison@002"]),
        (STAND_IN.replace("tuneline/tiny-code@001", "code-bison@002"), ["leads back to this row"]),
        (STAND_IN + "batch_size = 4", ["unknown key 'batch_size'"]),
        ("reference = ", ["mine.toml: not TOML"]),
    ],
)
def test_an_overlay_is_read_as_strictly(text: str, words: list[str]) -> None:
    with pytest.raises(CatalogError) as caught:
        load_catalog(text, "mine.toml")
    assert [word for word in words if word not in str(caught.value)] == []
    assert all(problem.startswith("mine.toml") for problem in caught.value.problems)


def test_an_overlay_may_change_a_machine_and_a_batch_size() -> None:
    catalog = load_catalog('[[machine]]\nid = "vertex-gpu"\naccelerator_count = 16\n[[batch_size]]\nid = "europe-west4-8k"\nbatch_size = 12')
    assert catalog.machine("vertex", "GPU").accelerator_count == 16
    row = catalog.batch_size("europe-west4", "8k")
    assert row is not None
    assert row.batch_size == 12


# Documentation


def machine_row(accelerator: str) -> str:
    catalog = load_catalog()
    machine = catalog.machine("vertex", accelerator)
    sizes = [row.batch_size for context in ("8k", "32k") if (row := catalog.batch_size(machine.region, context))]
    cells = (accelerator, machine.region, machine.machine_type, f"{machine.accelerator_count} x {machine.accelerator_type}", *sizes)
    return f"| {' | '.join(map(str, cells))} |"


def model_row(model: ModelRow) -> str:
    can_be_tuned = model.architecture in ARCHITECTURES and "FULL" in model.modes
    cells = (f"`{model.reference}`", f"`{model.uri}`", f"{model.max_sequence_length:,}", f"{model.learning_rate:g}", "yes" if can_be_tuned else "not yet")
    return f"| {' | '.join(cells)} |"


def test_the_documentation_has_every_region_machine_batch_size_and_model() -> None:
    text = (Path(__file__).parents[1] / "docs/regions-and-machines.md").read_text(encoding="utf-8")
    catalog = load_catalog()
    expected = [machine_row("GPU"), machine_row("TPU"), *map(model_row, catalog.models.values())]
    assert [line for line in text.splitlines() if line.startswith(("| GPU", "| TPU")) or "://" in line or "embedded:" in line] == expected
    hosted = catalog.region_names("vertex", hosted=True)
    assert f"any of: {', '.join(hosted)}." in text
    own = {row.region: row.machine_type for row in catalog.machines.values() if row.models == "open"}
    assert len(own) == 5
    for region, machine_type in own.items():
        assert f"{region} ({machine_type})" in text
    assert [name for name in catalog.region_names("vertex") if name not in hosted] == ["us-east5"]


def test_the_documentations_example_row_can_be_loaded() -> None:
    text = (Path(__file__).parents[1] / "docs/regions-and-machines.md").read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert resolve_base_model(load_catalog(example), "code-bison@002").resolved.stands_in == "tuneline/tiny-code@001"
