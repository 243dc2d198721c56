"""Templates: found by name, path or hosted URI; values in their types; images from another registry, pinned; text to the byte."""

import copy
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tuneline import __version__, templates
from tuneline.errors import ParameterError, TemplateError, UsageError, UserError
from tuneline.templates import HOSTED, HOSTED_PREFIX, Template, coerce, images, load, read, text_of, with_image_digests, with_image_registry

REQUIRED = {"project": "p", "model_display_name": "m"}
SMALL = """
components: {}
deploymentSpec:
  executors:
    one: {container: {image: tuneline/base:0.1.0}}
    two: {container: {image: us-docker.pkg.dev/team/python:3.11}}
    three: {container: {image: 'localhost:5000/python'}}
    four: {container: {image: '{{$.inputs.parameters["image"]}}'}}
    five: {importer: {artifactUri: {constant: gs://b/o}}}
pipelineInfo: {name: small}
root:
  inputDefinitions:
    parameters:
      text: {parameterType: STRING}
      optional_text: {parameterType: STRING, isOptional: true}
      count: {parameterType: NUMBER_INTEGER, defaultValue: 3.0, isOptional: true, description: How many.}
      rate: {parameterType: NUMBER_DOUBLE, defaultValue: 1.0, isOptional: true}
      'on': {parameterType: BOOLEAN, defaultValue: true, isOptional: true}
      items: {parameterType: LIST, defaultValue: [], isOptional: true}
      members: {parameterType: STRUCT, defaultValue: {}, isOptional: true}
"""


@pytest.fixture(scope="module")
def small() -> Template:
    return read(SMALL, "small.yaml")


@pytest.fixture(scope="module")
def large() -> Template:
    return load("tune-large-model")


@pytest.mark.parametrize("name", ["tune-large-model", "tune-large-chat-model"])
def test_template_is_found_by_name_and_by_path(name: str) -> None:
    by_name = load(name)
    assert by_name.name == name
    assert load(str(templates.path(name))) == by_name


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v2.0.0", "tune-large-model"),
        ("https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v3.0.0", "tune-large-model"),
        ("https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-chat-model/v3.0.0", "tune-large-chat-model"),
    ],
)
def test_hosted_template_uris_are_built_in(uri: str, name: str) -> None:
    assert load(uri) == load(name)


def test_components_are_templates_too() -> None:
    assert load("components/tune_model").name == "tune-model"
    assert templates.path("components/tune_model").name == "tune_model.yaml"


def test_names_lists_the_pipelines_only() -> None:
    assert templates.names() == ("tune-large-chat-model", "tune-large-model")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("tune-large-modle", "Did you mean 'tune-large-model'?"),
        ("../../secrets", "There is no template"),
        ("/nowhere/template.yaml", "cannot be read"),
        ("https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v1.0.0", "Did you mean 'https://us-kfp"),
        ("gs://bucket/template.yaml", "is not built in"),
        ("https://example.com/template.yaml", "is not built in"),
    ],
)
def test_what_is_not_found_is_told_with_what_to_do(reference: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        load(reference)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not one YAML document"),
        ("a: 1\n---\nb: 2\n", "is not one YAML document"),
        ("!!python/object/apply:os.getcwd []", "is not one YAML document"),
        ("- 1", "is not a mapping"),
        ("", "is not a mapping"),
        ("1: 2", "is not a mapping"),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n", "expected the keys pipelineInfo, root"),
        (SMALL.replace("parameterType: STRING}", "parameterType: TEXT}"), "has the type 'TEXT'; expected one of STRING"),
        (SMALL.replace("defaultValue: 3.0", "defaultValue: 3.5"), "parameter 'count' has the default 3.5; expected a whole number"),
    ],
)
def test_what_is_no_template_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError) as caught:
        load(str(file))
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_inputs_have_types_defaults_and_descriptions(large: Template) -> None:
    steps = large.inputs["train_steps"]
    assert (steps.parameter_type, steps.default, steps.optional) == ("NUMBER_INTEGER", 300, True)
    assert type(steps.default) is int
    assert steps.description.startswith("Number of optimizer steps.")
    project = large.inputs["project"]
    assert (project.parameter_type, project.default, project.optional) == ("STRING", None, False)


def test_coerced_values_lie_over_the_defaults(large: Template) -> None:
    values = coerce(large, {**REQUIRED, "train_steps": 20.0})
    assert list(values) == list(large.inputs)
    assert values["train_steps"] == 20
    assert type(values["train_steps"]) is int
    assert values["evaluation_interval"] == 20
    assert values["project"] == "p"


def test_an_optional_input_without_default_may_be_left_out(small: Template) -> None:
    assert "optional_text" not in coerce(small, {"text": "x"})


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("text", "x", "x"),
        ("text", "", ""),
        ("text", "{{ jinja }} $(HOME) --x\n", "{{ jinja }} $(HOME) --x\n"),
        ("text", True, "true"),
        ("text", False, "false"),
        ("count", 20, 20),
        ("count", 20.0, 20),
        ("count", "20", 20),
        ("count", "20.0", 20),
        ("rate", 2, 2.0),
        ("rate", "1e-05", 1e-05),
        ("rate", 1e-05, 1e-05),
        ("on", False, False),
        ("on", "true", True),
        ("on", "False", False),
        ("items", [1, "a"], [1, "a"]),
        ("items", '[1, "a"]', [1, "a"]),
        ("members", {"a": 1}, {"a": 1}),
        ("members", ' {"a": 1}', {"a": 1}),
    ],
)
def test_values_take_the_templates_type(small: Template, name: str, given: object, expected: object) -> None:
    value = coerce(small, {"text": "x", name: given})[name]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("text", 3, "text is 3; expected text."),
        ("text", None, "text is None; expected text."),
        ("text", ["a"], "text is ['a']; expected text."),
        ("count", True, "count is True; expected a whole number."),
        ("count", 2.5, "count is 2.5; expected a whole number."),
        ("count", "", "count is ''; expected a whole number."),
        ("count", float("inf"), "count is inf; expected a whole number."),
        ("rate", float("nan"), "rate is nan; expected a number."),
        ("rate", "fast", "rate is 'fast'; expected a number."),
        ("on", 1, "on is 1; expected true or false."),
        ("on", "yes", "on is 'yes'; expected true or false."),
        ("items", {"a": 1}, "items is {'a': 1}; expected a list."),
        ("items", '{"a": 1}', "items is '{\"a\": 1}'; expected a list."),
        ("items", "a", "items is 'a'; expected a list."),
        ("members", "{", "members is '{'; expected an object."),
    ],
)
def test_a_wrong_type_is_named(small: Template, name: str, given: object, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        coerce(small, {"text": "x", name: given})
    assert caught.value.problems == (message,)


def test_an_unknown_parameter_is_a_usage_error_with_a_suggestion(large: Template) -> None:
    with pytest.raises(UsageError) as caught:
        coerce(large, {**REQUIRED, "evaluation_data_uri:": "gs://b/o"})
    assert caught.value.problems == ("unknown parameter 'evaluation_data_uri:'. Did you mean 'evaluation_data_uri'?",)


def test_all_problems_are_told_at_once(large: Template) -> None:
    with pytest.raises(UsageError) as caught:
        coerce(large, {"project": "p", "trian_steps": 3, "seed": "x", "upload_model": "maybe"})
    assert caught.value.problems == (
        "unknown parameter 'trian_steps'. Did you mean 'train_steps'?",
        "model_display_name is missing: Display name of the tuned model, up to 128 characters.",
        "seed is 'x'; expected a whole number.",
        "upload_model is 'maybe'; expected true or false.",
    )


def test_a_text_that_an_orchestrator_would_replace_is_refused(large: Template) -> None:
    with pytest.raises(ParameterError, match=r"default_context contains '\{\{\$\.'"):
        coerce(large, {**REQUIRED, "default_context": "Answer {{$.inputs.parameters['project']}}."})


def test_images_come_from_another_registry(small: Template) -> None:
    before = copy.deepcopy(small.spec)
    changed = with_image_registry(small.spec, "registry.example.com/team/")
    assert small.spec == before
    executors = yaml.safe_load(yaml.safe_dump(changed))["deploymentSpec"]["executors"]
    assert {name: executor["container"]["image"] for name, executor in executors.items() if "container" in executor} == {
        "one": "registry.example.com/team/tuneline/base:0.1.0",
        "two": "registry.example.com/team/team/python:3.11",
        "three": "registry.example.com/team/python",
        "four": '{{$.inputs.parameters["image"]}}',
    }


def test_a_moved_template_differs_in_its_images_only(large: Template) -> None:
    moved = yaml.safe_dump(with_image_registry(large.spec, "localhost:5000"))
    assert moved.count("localhost:5000/") == 11
    assert yaml.safe_load(moved.replace("localhost:5000/", "")) == large.spec


IN_ARGUMENTS = """
components: {}
deploymentSpec:
  executors:
    one:
      container:
        image: tuneline/base:0.1.0
        command: [python, -m, launch, --python-image, python, -image, kept]
        args: [--tuner-image, 'tuneline/tuner-gpu:0.1.0', --serving-image-uri, us-docker.pkg.dev/team/predictor, --name, 'tuneline/kept:1',
          --empty-image, '', --other-image, --flag, --open-image, '{{$.inputs.parameters[''image'']}}', --input-image, gs://bucket/cat.png, --last-image]
pipelineInfo: {name: in-arguments}
root: {}
"""


def test_images_in_arguments_come_from_another_registry_too() -> None:
    [executor] = with_image_registry(read(IN_ARGUMENTS, "given").spec, "registry.example.com/team")["deploymentSpec"]["executors"].values()
    assert executor["container"] == {
        "image": "registry.example.com/team/tuneline/base:0.1.0",
        "command": ["python", "-m", "launch", "--python-image", "registry.example.com/team/python", "-image", "kept"],
        "args": [
            *("--tuner-image", "registry.example.com/team/tuneline/tuner-gpu:0.1.0"),
            *("--serving-image-uri", "registry.example.com/team/team/predictor"),
            *("--name", "tuneline/kept:1", "--empty-image", "", "--other-image", "--flag"),
            *("--open-image", "{{$.inputs.parameters['image']}}", "--input-image", "gs://bucket/cat.png", "--last-image"),
        ],
    }


def test_images_are_listed_once_with_those_in_arguments(large: Template) -> None:
    spec = read(IN_ARGUMENTS, "given").spec
    assert images(spec) == ("tuneline/base:0.1.0", "python", "tuneline/tuner-gpu:0.1.0", "us-docker.pkg.dev/team/predictor")
    assert images(large.spec) == (f"tuneline/base:{__version__}", f"tuneline/tuner-gpu:{__version__}", f"tuneline/predictor:{__version__}")


A, B, C = (f"sha256:{digit * 64}" for digit in "abc")


def test_images_are_pinned_by_any_part_of_their_name_also_in_arguments() -> None:
    spec = with_image_registry(read(IN_ARGUMENTS, "given").spec, "localhost:5000/team")
    pinned = with_image_digests(spec, {"base": A, "tuneline/tuner-gpu:0.1.0": B, "localhost:5000/team/team/predictor": C})
    assert images(pinned) == (
        f"localhost:5000/team/tuneline/base@{A}",
        "localhost:5000/team/python",
        f"localhost:5000/team/tuneline/tuner-gpu@{B}",
        f"localhost:5000/team/team/predictor@{C}",
    )
    assert images(with_image_digests(pinned, {"base": B}))[0] == f"localhost:5000/team/tuneline/base@{B}"
    assert with_image_digests(spec, {}) == spec


def test_digests_that_fit_no_image_or_several_are_told_at_once() -> None:
    spec = read(IN_ARGUMENTS.replace("team/predictor", "team/base:1"), "given").spec
    with pytest.raises(UserError) as caught:
        with_image_digests(spec, {"base": A, "predictor": A, "tuner-gpu:0.2.0": A, "gpu": A, "tuner-gpu": "sha256:12", "tuneline/tuner-gpu": B})
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "tuner-gpu: 'sha256:12' is no digest",
        "'base' names 2 images of the template",
        "'predictor' names 0 images of the template",
        "'tuner-gpu:0.2.0' names 0 images of the template",
        "'gpu' names 0 images of the template",
        f"tuneline/tuner-gpu:0.1.0 has two digests: sha256:12 and {B}.",
    ]


@pytest.mark.parametrize("file", sorted(templates.FOLDER.rglob("*.yaml")), ids=lambda file: file.stem)
def test_a_template_written_again_is_the_same_to_the_byte(file: Path) -> None:
    template = load(str(file))
    assert text_of(template, template.spec) == template.text
    assert template.text.encode() == file.read_bytes()
    assert template.digest == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_lines_that_end_otherwise_count_for_the_digest(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_bytes(SMALL.replace("\n", "\r\n").encode())
    assert load(str(file)).digest == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def described(text: str, image: str = "python:3.11") -> Template:
    return read(SMALL.replace("{name: small}", f"{{name: small, description: '{text}'}}").replace("us-docker.pkg.dev/team/python:3.11", image), "given")


@pytest.mark.parametrize(
    ("template", "version"),
    [
        (described("Does this. Tuneline 0.2.0."), "0.2.0"),
        (described("Does this with Tuneline 1.0.0rc1, and that."), "1.0.0rc1"),
        (described("Tuneline 2.0+local"), "2.0+local"),
        (described("Does this."), "0.1.0"),
        (described("Made by Tuneline."), "0.1.0"),
        (described("Does this.", image="example.com/tuneline/tuner-gpu:0.2.0"), ""),
        (described("Does this.", image=f"example.com/tuneline/tuner-gpu@{A}"), "0.1.0"),
    ],
)
def test_the_version_is_the_descriptions_or_else_that_of_the_images(template: Template, version: str) -> None:
    assert template.version == version


def test_a_moved_and_pinned_template_still_tells_its_version(large: Template) -> None:
    spec = with_image_digests(with_image_registry(large.spec, "localhost:5000"), {"base": A, "tuner-gpu": B})
    assert read(text_of(large, spec), "moved").version == __version__


def test_other_uris_are_pulled_where_that_is_asked_for(large: Template) -> None:
    asked = []

    def pull(uri: str) -> bytes:
        asked.append(uri)
        return large.text.encode()

    uri = "https://europe-kfp.pkg.dev/project/repository/tune-large-model/0.1.0"
    assert load(uri, pull=pull) == large
    assert [load(hosted, pull=pull).name for hosted in HOSTED] == list(HOSTED.values())
    with pytest.raises(TemplateError, match="Did you mean"):
        load(f"{HOSTED_PREFIX}tune-large-model/v1.0.0", pull=pull)
    assert asked == [uri]


def test_templates_need_no_kfp() -> None:
    program = "import sys; from tuneline import templates; templates.load('tune-large-model'); sys.exit('kfp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
