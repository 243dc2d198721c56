from tuneline.local.placeholders import input_artifact, input_parameter, output_artifact, output_parameter, resolve, unknown


def test_every_form_is_replaced_also_within_a_longer_text() -> None:
    values = {
        input_parameter("n"): "300",
        input_artifact("data", "path"): "/runs/data",
        output_artifact("model", "uri"): "gs://bucket/model",
        output_parameter("name"): "/runs/name",
        "pipeline_job_name": "run-1",
    }
    text = (
        "--n={{$.inputs.parameters['n']}} {{$.inputs.artifacts['data'].path}}/x {{$.outputs.artifacts[\"model\"].uri}}"
        " {{$.outputs.parameters['name'].output_file}} {{$.pipeline_job_name}} {{ n }}"
    )
    assert resolve(text, values) == "--n=300 /runs/data/x gs://bucket/model /runs/name run-1 {{ n }}"


def test_a_value_that_looks_like_a_placeholder_is_not_replaced_again() -> None:
    values = {input_parameter("a"): "{{$.inputs.parameters['b']}}", input_parameter("b"): "secret"}
    assert resolve("{{$.inputs.parameters['a']}}|{{$.inputs.parameters['b']}}", values) == "{{$.inputs.parameters['b']}}|secret"


def test_unknown_placeholders_are_named_as_they_are_written() -> None:
    text = "{{$.inputs.parameters['n']}} {{$.inputs.artifacts['a'].metadata['x']}} {{$}} {{$.inputs.parameters['n'].json_escape[1]}}"
    assert unknown(text, {input_parameter("n")}) == ["{{$.inputs.artifacts['a'].metadata['x']}}", "{{$}}", "{{$.inputs.parameters['n'].json_escape[1]}}"]
