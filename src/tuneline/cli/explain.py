"""`tuneline explain TEMPLATE ...`: the regions, machine and batch size that a job would get, and why."""

import argparse
import json
import sys
from collections.abc import Sequence

from tuneline.errors import ParameterError

SHOWN = ("pipeline_region", "upload_region", "tuning_region", "machine_type", "accelerator_type", "accelerator_count", "batch_size")


def parser() -> argparse.ArgumentParser:
    """The flags are those of the template, as far as they decide where a job runs."""
    parser = argparse.ArgumentParser(
        prog="tuneline explain", description="Show the regions, machine and batch size that a job would get, and why.", allow_abbrev=False
    )
    parser.add_argument("template", metavar="TEMPLATE", help="a template's name, file or URI, e.g. tune-large-model")
    parser.add_argument("--pipeline-region", metavar="R", required=True, help="region of the pipeline job, or 'local' for this machine")
    parser.add_argument("--location", metavar="L", default="", help="region that the model is uploaded to; default: the pipeline's")
    parser.add_argument("--accelerator-type", metavar="GPU|TPU", default="", help="default: GPU on Vertex, the best that this machine has")
    parser.add_argument("--large-model-reference", metavar="M", help="base model; default: the template's")
    parser.add_argument("--max-context-length", metavar="8k|32k", default="", help="default: the base model's own")
    parser.add_argument("--encryption-spec-key-name", metavar="K", default="", help="customer-managed encryption key")
    parser.add_argument("--tensorboard-resource-id", metavar="T", default="", help="Vertex TensorBoard")
    parser.add_argument("--catalog", metavar="FILE", help="TOML file (path or gs:// URI) with catalogue rows laid over the built-in ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    from tuneline.catalog import load_catalog
    from tuneline.cli.template_source import load_template
    from tuneline.hardware import has_gpu
    from tuneline.parameters import TuningParameters
    from tuneline.validation import check, not_built_yet

    template, _ = load_template(given.template)
    reference = given.large_model_reference
    if reference is None and "large_model_reference" in template.inputs:
        reference = str(template.inputs["large_model_reference"].default)
    if reference is None:
        raise ParameterError(f"{given.template}: has no parameter large_model_reference; expected a tuning template. Give --large-model-reference.")
    # The same check as the first task's, with something in the parameters that do not decide where a job runs.
    parameters = TuningParameters(
        project="any", model_display_name="any", dataset_uri="gs://any/any.jsonl", large_model_reference=reference, location=given.location,
        accelerator_type=given.accelerator_type, max_context_length=given.max_context_length,
        encryption_spec_key_name=given.encryption_spec_key_name, tensorboard_resource_id=given.tensorboard_resource_id,
    )  # fmt: skip
    catalog = load_catalog(_read(given.catalog), given.catalog) if given.catalog else load_catalog()
    findings = check(parameters, template=template.name, catalog=catalog, pipeline_location=given.pipeline_region, has_gpu=has_gpu())
    if findings.resolved is None:
        raise ParameterError(*findings.problems)
    for warning in (*findings.warnings, *not_built_yet(parameters, findings.resolved)):
        print(warning, file=sys.stderr)
    answer = {name: getattr(findings.resolved, name) for name in SHOWN}
    if given.json:
        print(json.dumps({**answer, "reasons": findings.resolved.reasons}))
    else:
        width = max(map(len, SHOWN))
        print(*(f"{name:<{width}}  {value}".rstrip() for name, value in answer.items()), "", *findings.resolved.reasons, sep="\n")
    return 0


def _read(uri: str) -> str:
    from tuneline.storage import Storage

    return Storage().read_text(uri)
