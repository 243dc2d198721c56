"""Parameters against template and catalogue: each refusal by name, all at once, and settings without effect."""

from dataclasses import fields, replace

import pytest

from tuneline.catalog import Catalog, load_catalog
from tuneline.parameters import TuningParameters
from tuneline.resolution import Resolved
from tuneline.validation import Findings, check, not_built_yet

CATALOG = load_catalog()
GOOD = TuningParameters(
    project="p", model_display_name="mine", dataset_uri="gs://b/train.jsonl", large_model_reference="code-bison@002", location="us-west1"
)  # fmt: skip
EVALUATED = replace(GOOD, evaluation_data_uri="gs://b/evaluation.jsonl")
PLACEHOLDER = "{{$.pipeline_job_name}}"


def found(
    parameters: TuningParameters, *, template: str = "tune-large-model", location: str = "us-central1", catalog: Catalog = CATALOG, root: str = ""
) -> Findings:
    return check(parameters, template=template, catalog=catalog, pipeline_location=location, has_gpu=False, root=root)


def resolved(findings: Findings) -> Resolved:
    assert findings.problems == ()
    assert findings.resolved is not None
    return findings.resolved


def test_good_parameters_are_resolved_without_a_word() -> None:
    findings = found(EVALUATED)
    assert findings.warnings == ()
    choices = resolved(findings)
    assert (choices.pipeline_region, choices.upload_region, choices.tuning_region) == ("us-central1", "us-west1", "us-central1")
    assert choices.base_model.stands_in == "qwen/qwen3@qwen3-8b"
    assert choices.limits.max_evaluation_examples == 250
    assert Resolved.from_json(choices.to_json()) == choices
    assert len(choices.reasons) == 7


def test_the_templates_defaults_need_only_names_and_data() -> None:
    least = TuningParameters(project="p", model_display_name="m", dataset_uri="gs://b/x")
    for template in KINDS:
        assert resolved(found(least, template=template)).base_model.reference == "text-bison@001"


REFUSALS = [
    ({"project": ""}, "project: is empty"),
    ({"model_display_name": ""}, "model_display_name: has 0 characters; expected 1 to 128"),
    ({"model_display_name": "x" * 129}, "model_display_name: has 129 characters"),
    ({"dataset_uri": ""}, "dataset_uri: is empty"),
    ({"train_steps": 0}, "train_steps: found 0; expected 1 or more. The default is 300."),
    ({"evaluation_interval": 0}, "evaluation_interval: found 0; expected 1"),
    ({"evaluation_num_prompts": -1}, "evaluation_num_prompts: found -1; expected 0"),
    ({"evaluation_max_tokens": 0}, "evaluation_max_tokens: found 0; expected 1"),
    ({"batch_size": -1}, "batch_size: found -1; expected 0"),
    ({"seed": -1}, "seed: found -1; expected 0"),
    ({"learning_rate": 0.0}, "learning_rate: found 0.0; expected a number above 0, or -1"),
    ({"learning_rate": -2.0}, "learning_rate: found -2.0"),
    ({"learning_rate": float("inf")}, "learning_rate: found inf"),
    ({"learning_rate": float("nan")}, "learning_rate: found nan"),
    ({"learning_rate_multiplier": 0.0}, "learning_rate_multiplier: found 0.0; expected a number above 0"),
    ({"learning_rate_multiplier": float("inf")}, "learning_rate_multiplier: found inf"),
    ({"enable_checkpoint_selection": "True"}, "enable_checkpoint_selection: found 'True'; expected one of 'default', 'true', 'false'. Did you mean 'true'?"),
    ({"selection_metric": "rouge"}, "selection_metric: found 'rouge'"),
    ({"overlength_policy": "cut"}, "overlength_policy: found 'cut'; expected one of 'error', 'drop', 'truncate'"),
    ({"max_context_length": "16k"}, "max_context_length: found '16k'"),
    ({"max_context_length": "32k"}, "max_context_length: found '32k' (32768 tokens); 'code-bison@002' takes 8192"),
    ({"large_model_reference": "codebison@002"}, "large_model_reference: found 'codebison@002'"),
    ({"large_model_reference": "codechat-bison@002"}, "large_model_reference: found 'codechat-bison@002', a codechat model; tune-large-model takes"),
    ({"large_model_reference": "meta/llama4@llama-4-scout-17b-16e-instruct"}, "large_model_reference: found 'meta/llama4@"),
    ({"dataset_name": "projects/p/datasets/1"}, "dataset_name: found 'projects/p/datasets/1'; managed datasets are not available"),
    ({"tuning_method": "tune_v1"}, "tuning_method: found 'tune_v1'; only 'tune_v2'"),
    ({"tpu_training_skip_cmek": True}, "tpu_training_skip_cmek: found True; only False"),
    ({"api_endpoint": "example.com"}, "api_endpoint: found 'example.com'; only 'aiplatform.googleapis.com/ui'"),
    ({"deploy_model": True, "upload_model": False}, "deploy_model: found true with upload_model false"),
    ({"accelerator_type": "CPU"}, "accelerator_type: found 'CPU'"),
    ({"location": "us-east1"}, "location: found 'us-east1'"),
    ({"tensorboard_resource_id": "7"}, "tensorboard_resource_id: found '7'"),
    ({"encryption_spec_key_name": "k"}, "encryption_spec_key_name: found 'k'"),
    ({"dataset_uri": "https://example.com/x.jsonl"}, "dataset_uri: found 'https://example.com/x.jsonl'; https:// is not read"),
    ({"dataset_uri": "s3://b/x.jsonl"}, "dataset_uri: found 's3://b/x.jsonl'; expected gs:// or a path"),
    ({"dataset_uri": "/data/x.jsonl"}, "dataset_uri: found the path '/data/x.jsonl'; a job on Vertex reads gs:// only"),
    ({"catalog_uri": "mine.toml"}, "catalog_uri: found the path 'mine.toml'"),
    ({"evaluation_output_root_dir": "http://x/y"}, "evaluation_output_root_dir: found 'http://x/y'"),
    ({"base_model_uri": "/models/x"}, "base_model_uri: found the path '/models/x'; a job on Vertex reads gs:// and hf:// only"),
    ({"base_model_uri": "owner/name"}, "base_model_uri: found the path 'owner/name'"),
    ({"base_model_uri": "s3://b/m"}, "base_model_uri: found 's3://b/m'; expected gs:// or hf:// or a path"),
    ({"evaluation_data_uri": "gs://b/train.jsonl"}, "evaluation_data_uri: found the training examples"),
    ({"evaluation_data_uri": "/gcs/b/./train.jsonl"}, "evaluation_data_uri: found the training examples"),
    ({"champion_gate": True}, "champion_gate: found true without evaluation_data_uri"),
    ({"champion_margin": -0.1}, "champion_margin: found -0.1; expected 0 or more"),
    ({"champion_margin": float("nan")}, "champion_margin: found nan; expected 0 or more"),
    ({"max_general_loss_increase": float("inf")}, "max_general_loss_increase: found inf; expected 0 or more. The default is 0.1."),
    ({"general_data_uri": "s3://b/x.jsonl"}, "general_data_uri: found 's3://b/x.jsonl'; expected gs:// or a path"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSALS, ids=[words[:50] for _, words in REFUSALS])
def test_a_value_that_cannot_be_used_is_refused_by_name(change: dict[str, object], words: str) -> None:
    findings = found(replace(GOOD, **change))
    assert len(findings.problems) == 1
    assert findings.problems[0].startswith(words)
    assert findings.problems[0].rstrip(".?") != findings.problems[0]
    assert findings.resolved is None


def test_all_problems_are_found_at_once() -> None:
    changes = {name: value for change, _ in REFUSALS[:20] for name, value in change.items()}
    assert len(found(replace(GOOD, **changes)).problems) == len(changes)
    assert len(changes) > 12


@pytest.mark.parametrize("name", [field.name for field in fields(TuningParameters) if field.type in (str, "str")])
def test_a_placeholder_in_any_text_is_refused(name: str) -> None:
    problems = found(replace(GOOD, **{name: f"x {PLACEHOLDER}"})).problems
    assert any(problem.startswith(f"{name}: contains '{{{{$.'") for problem in problems)


def test_a_context_is_never_shown() -> None:
    secret = f"the secret context {PLACEHOLDER}"
    assert "secret" not in "".join(found(replace(GOOD, default_context=secret)).problems)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": -1.0}, {"learning_rate": 1e-6}, {"learning_rate_multiplier": 0.1}, {"train_steps": 1}, {"seed": 0}, {"batch_size": 64},
        {"model_display_name": "ü" * 128}, {"model_display_name": "x"}, {"dataset_uri": "/gcs/b/x.jsonl"}, {"max_context_length": "8k"},
        {"evaluation_num_prompts": 0, "evaluation_data_uri": "gs://b/e"}, {"base_model_uri": "hf://owner/name"}, {"base_model_uri": "gs://b/model"},
        {"enable_checkpoint_selection": "false"}, {"overlength_policy": "drop"}, {"large_model_reference": "google/gemma-3-27b-it"},
        {"deploy_model": True}, {"upload_model": False},
    ],
    ids=str,
)  # fmt: skip
def test_values_at_the_border_are_taken(change: dict[str, object]) -> None:
    assert found(replace(GOOD, **change)).problems == ()


# Template and kind of model


KINDS = {
    "tune-large-model": ["text-bison@001", "code-bison@002", "code-bison-32k@002", "tuneline/tiny-code@001", "qwen/qwen3@qwen3-4b"],
    "tune-large-chat-model": [
        "text-bison@001",
        "chat-bison@001",
        "codechat-bison@002",
        "codechat-bison-32k@002",
        "tuneline/tiny-code@001",
        "qwen/qwen3@qwen3-4b",
    ],
}


@pytest.mark.parametrize("template", KINDS)
def test_a_template_takes_its_kinds_of_models_and_names_the_other_template(template: str) -> None:
    other = next(name for name in KINDS if name != template)
    for reference in {*KINDS[template], *KINDS[other]}:
        problems = found(replace(GOOD, large_model_reference=reference), template=template).problems
        if reference in KINDS[template]:
            assert problems == ()
        else:
            assert len(problems) == 1
            assert problems[0].endswith(f"Use {other}.")


def test_another_template_takes_all_kinds() -> None:
    for reference in {*KINDS["tune-large-model"], *KINDS["tune-large-chat-model"], "meta/llama4@llama-4-scout-17b-16e-instruct"}:
        assert found(replace(GOOD, large_model_reference=reference), template="tune-open-model").problems == ()


# This machine


LOCAL = replace(GOOD, location="", dataset_uri="data/train.jsonl", large_model_reference="tuneline/tiny-code@001")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_model_uri": "owner/name"}, "base_model_uri: found 'owner/name', which may be two things. Write hf://owner/name for"),
        ({"evaluation_data_uri": "./data/../data/train.jsonl"}, "evaluation_data_uri: found the training examples"),
        ({"evaluation_data_uri": "file://data/train.jsonl"}, "evaluation_data_uri: found the training examples"),
        ({"dataset_uri": "s3://b/x"}, "dataset_uri: found 's3://b/x'"),
        ({"accelerator_type": "GPU"}, "accelerator_type: found 'GPU'; this machine has no GPU"),
        ({"max_context_length": "8k"}, "max_context_length: found '8k' (8192 tokens); 'tuneline/tiny-code@001' takes 1024"),
    ],
    ids=str,
)
def test_what_this_machine_cannot_do_is_refused(change: dict[str, object], words: str) -> None:
    problems = found(replace(LOCAL, **change), location="local").problems
    assert len(problems) == 1
    assert problems[0].startswith(words)


@pytest.mark.parametrize("uri", ["/models/x", "./owner/name", "../name", "models/deep/er", "model", "hf://owner/name", "gs://b/m", "file:///m/n"])
def test_own_weights_may_lie_in_many_places_here(uri: str) -> None:
    assert resolved(found(replace(LOCAL, base_model_uri=uri), location="local")).base_model.uri == uri


def test_a_catalogue_row_is_held_to_the_same_rules() -> None:
    catalog = load_catalog('[[model]]\nreference = "tuneline/tiny-code@001"\nuri = "owner/name"', "mine.toml")
    problems = found(LOCAL, location="local", catalog=catalog).problems
    assert problems[0].startswith("uri of the catalogue row 'tuneline/tiny-code@001': found 'owner/name', which may be two things")


def test_tpu_is_explained_but_not_run() -> None:
    asked = replace(LOCAL, accelerator_type="TPU")
    assert "tuning on TPU is not built yet" in not_built_yet(resolved(found(asked, location="local")))[0]
    assert not_built_yet(resolved(found(LOCAL, location="local"))) == []


@pytest.mark.parametrize(("location", "upload"), [("us-central1", "us-west1"), (PLACEHOLDER, "kubernetes"), ("local", "local")])
def test_every_back_end_registers_and_deploys(location: str, upload: str) -> None:
    asked = replace(GOOD if location == "us-central1" else LOCAL, location="" if upload == location else upload, deploy_model=True)
    assert not_built_yet(resolved(found(asked, location=location))) == []


RETRAINING = {"champion_gate": True, "continue_from_champion": True, "skip_unchanged": True}


@pytest.mark.parametrize("location", ["local", "us-central1", PLACEHOLDER])
def test_earlier_models_are_looked_up_everywhere(location: str) -> None:
    asked = replace(EVALUATED, location="us-west1" if location == "us-central1" else "", upload_model=False, **RETRAINING)
    assert not_built_yet(resolved(found(asked, location=location))) == []


def test_in_a_cluster_the_champion_has_to_be_where_a_pod_can_read_it() -> None:
    asked = replace(EVALUATED, location="", upload_model=False, **RETRAINING)
    for root in ("minio://mlpipeline/v2/x", "s3://bucket/x"):
        told = found(asked, location=PLACEHOLDER, root=root).problems
        assert [problem.partition(":")[0] for problem in told] == ["champion_gate", "continue_from_champion"]
        assert f"artifacts are at {root}; later runs read the champion from gs:// only" in told[0]
        assert found(replace(asked, champion_gate=False, continue_from_champion=False), location=PLACEHOLDER, root=root).problems == ()
    assert found(asked, location=PLACEHOLDER, root="gs://bucket/x").problems == ()


def test_a_metric_of_answers_needs_answers_also_when_it_only_compares_with_the_champion() -> None:
    asked = replace(EVALUATED, selection_metric="chrf", enable_checkpoint_selection="false", evaluation_num_prompts=0)
    assert found(asked).problems == ()
    assert "is measured on answers" in found(replace(asked, champion_gate=True)).problems[0]


# Settings without effect


@pytest.mark.parametrize(
    ("parameters", "location", "words"),
    [
        (replace(GOOD, evaluation_interval=5), "us-central1", "evaluation_interval has no effect: there is no evaluation_data_uri."),
        (replace(GOOD, selection_metric="loss"), "us-central1", "selection_metric has no effect"),
        (replace(GOOD, evaluation_num_prompts=5), "us-central1", "evaluation_num_prompts has no effect"),
        (replace(GOOD, evaluation_max_tokens=5), "us-central1", "evaluation_max_tokens has no effect"),
        (replace(GOOD, enable_checkpoint_selection="true"), "us-central1", "enable_checkpoint_selection has no effect"),
        (replace(EVALUATED, evaluation_interval=500), "us-central1", "evaluation_interval is more than train_steps"),
        (replace(EVALUATED, selection_metric="loss", enable_checkpoint_selection="false"), "us-central1", "selection_metric has no effect"),
        (replace(GOOD, general_data_uri="gs://b/general.jsonl"), "us-central1", "general_data_uri has no effect: champion_gate is false."),
        (replace(GOOD, champion_margin=0.1), "us-central1", "champion_margin has no effect: champion_gate is false."),
        (replace(GOOD, max_general_loss_increase=0.2), "us-central1", "max_general_loss_increase has no effect: champion_gate is false."),
        (replace(GOOD, learning_rate=1e-5, learning_rate_multiplier=2.0), "us-central1", "learning_rate_multiplier has no effect"),
        (replace(LOCAL, tensorboard_resource_id="projects/p/locations/us-west1/tensorboards/1"), "local", "tensorboard_resource_id has no effect"),
    ],
)  # fmt: skip
def test_a_setting_without_effect_is_a_warning(parameters: TuningParameters, location: str, words: str) -> None:
    findings = found(parameters, location=location)
    assert findings.problems == ()
    assert len(findings.warnings) == 1
    assert findings.warnings[0].startswith(words)


def test_a_metric_that_decides_about_the_champion_has_an_effect() -> None:
    assert found(replace(EVALUATED, selection_metric="loss", enable_checkpoint_selection="false", champion_gate=True)).warnings == ()


def test_defaults_are_no_reason_for_a_warning() -> None:
    assert found(GOOD).warnings == ()


@pytest.mark.parametrize("metric", ["exact_match", "rouge_l", "chrf"])
def test_a_generation_metric_needs_answers_to_choose_by(metric: str) -> None:
    asked = replace(EVALUATED, selection_metric=metric, evaluation_num_prompts=0)
    assert found(asked).problems[0].startswith(f"selection_metric: {metric!r} is measured on answers")
    assert found(replace(asked, enable_checkpoint_selection="false")).problems == ()
