"""The arguments that say which job is to be submitted where: of `tuneline submit` and of `tuneline doctor`."""

from dataclasses import replace
from datetime import datetime

from tuneline.catalog import Catalog, load_catalog
from tuneline.catalog_file import read_catalog
from tuneline.cli.template_arguments import Arguments, Syntax, model_display_name
from tuneline.errors import UsageError, UserError
from tuneline.image_references import A_REGISTRY, REGISTRY
from tuneline.kubeflow.pipelines import RunOptions
from tuneline.submission import Checked, check_parameters
from tuneline.templates import Template, with_image_registry
from tuneline.vertex.job_request import JobOptions
from tuneline.vertex.rest import is_google

KUBERNETES = "kubernetes"
"""The pipeline's region in a cluster."""
JOB_OPTIONS = {
    "--project": ("PROJECT", "project that owns the job and the model"),
    "--pipeline-region": ("REGION", "where the pipeline runs on Vertex AI"),
    "--pipeline-root": ("URI", "gs://BUCKET/FOLDER for what tasks hand on; required on Vertex AI unless the template names one"),
    "--job-id": ("ID", "id of the job; default: the pipeline's name, the time and a random part"),
    "--display-name": ("TEXT", "name of the job for people; default: its id"),
    "--labels": ("KEY=VALUE", "labels of the job, several with commas between"),
    "--service-account": ("ACCOUNT", "account that the job runs as"),
    "--network": ("NETWORK", "network that the job is peered with, projects/NUMBER/global/networks/NAME"),
    "--template-uri": ("URI", "send this https://REGION-kfp.pkg.dev/... instead of the template itself; default: TEMPLATE"),
    "--image-registry": ("REGISTRY", "take the template's images from here, like REGION-docker.pkg.dev/PROJECT/REPOSITORY"),
}
SUBMIT = Syntax(
    command="submit",
    usage=(
        "tuneline submit TEMPLATE --project PROJECT --pipeline-region REGION --pipeline-root URI [--PARAMETER VALUE ...] [OPTION ...]",
        "tuneline submit TEMPLATE --kubeflow HOST [--PARAMETER VALUE ...] [OPTION ...]",
    ),
    summary="Submit a compiled template to Vertex AI, to a tuning service (TUNELINE_VERTEX_ENDPOINT), or to Kubeflow.",
    options={
        **JOB_OPTIONS,
        "--kubeflow": ("HOST", "submit to this Kubeflow Pipelines instead of Vertex AI; token: TUNELINE_KUBEFLOW_TOKEN"),
        "--experiment": ("NAME", "with --kubeflow: experiment of the run; default: Default"),
        "--namespace": ("NAME", "with --kubeflow: namespace of the experiment, where there are several users"),
    },
    switches={
        "--no-cache": "run every task, also when an earlier job had the same inputs",
        "--dry-run": "print the request and send nothing",
        "--skip-preflight": "do not look at the job's buckets before the job is created",
        "--no-wait": "end once the job is created",
        "--wait": "show the job's tasks until it has ended; the default",
        "--quiet": "show nothing while the job goes on",
        "--json": "print one JSON object on standard output",
        "--help": "show this text; after a template also its parameters",
    },
    optional_values=frozenset({"--template-uri"}),
    filled_in={"model_display_name": "base model, data and day; no day when retraining"},
)
DOCTOR = Syntax(
    command="doctor",
    usage=("tuneline doctor [TEMPLATE] --project PROJECT --pipeline-region REGION [--PARAMETER VALUE ...] [OPTION ...]",),
    summary="Find out whether a job could run on Vertex AI, and submit nothing.",
    options=JOB_OPTIONS,
    switches={"--json": "print one JSON object on standard output", "--help": "show this text; after a template also its parameters"},
    optional_values=SUBMIT.optional_values,
    filled_in=SUBMIT.filled_in,
)
_ONLY_VERTEX = ("--pipeline-region", "--job-id", "--labels", "--network", "--template-uri")
_ONLY_KUBEFLOW = ("--experiment", "--namespace")


def check_usage(arguments: Arguments, template: Template | None) -> Template:
    """The template; raises UsageError with all that is missing, too much, or does not go together."""
    given = arguments.options
    problems = [f"unexpected argument {extra!r}." for extra in arguments.templates[1:]]
    if template is None:
        problems += [f"unexpected argument {extra!r}; the template comes first." for extra in arguments.templates[:1]]
        problems += [] if arguments.templates else ["TEMPLATE is missing; expected a template's name or a .yaml file."]
    if "--kubeflow" in given:
        problems += [f"{option} is for Vertex AI; leave out {option} or --kubeflow." for option in _ONLY_VERTEX if option in given]
    else:
        problems += [f"{option} is missing." for option in ("--project", "--pipeline-region") if option not in given]
        problems += [f"{option} is for Kubeflow; give --kubeflow HOST, too." for option in _ONLY_KUBEFLOW if option in given]
    registry = given.get("--image-registry", "")
    problems += [] if not registry or REGISTRY.fullmatch(registry) else [f"--image-registry is {registry!r}; expected {A_REGISTRY}."]
    if {"--wait", "--no-wait"} <= arguments.switches:
        problems.append("--wait and --no-wait exclude each other.")
    if problems or template is None:
        raise UsageError(*problems, next_action="tuneline submit --help tells more.")
    return template


def job_options(arguments: Arguments) -> JobOptions:
    """What the job is told beside its template's parameters."""
    given = arguments.options
    return JobOptions(
        project=given.get("--project", KUBERNETES),
        region=given.get("--pipeline-region", KUBERNETES),
        pipeline_root=given.get("--pipeline-root", ""),
        job_id=given.get("--job-id", ""),
        display_name=given.get("--display-name", ""),
        labels=_labels(given.get("--labels", "")),
        service_account=given.get("--service-account", ""),
        network=given.get("--network", ""),
        template_uri=(given["--template-uri"] or arguments.templates[0]) if "--template-uri" in given else "",
        has_caching="--no-cache" not in arguments.switches,
    )


def run_options(arguments: Arguments, options: JobOptions, name: str) -> RunOptions:
    """What a run, or a recurring run, of Kubeflow is told instead."""
    given = arguments.options
    return RunOptions(
        host=given["--kubeflow"],
        name=name,
        experiment=given.get("--experiment", RunOptions.experiment),
        namespace=given.get("--namespace", ""),
        pipeline_root=options.pipeline_root,
        service_account=options.service_account,
        has_caching=options.has_caching,
    )


def chosen_template(arguments: Arguments, template: Template) -> Template:
    """The template with its images where the arguments say that they are."""
    registry = arguments.options.get("--image-registry")
    return replace(template, spec=with_image_registry(template.spec, registry)) if registry else template


def checked_parameters(arguments: Arguments, template: Template, options: JobOptions) -> Checked:
    """The parameters, with what a person need not say. No network is asked, but for a catalogue in a bucket."""
    given = {**({"project": options.project} if "project" in template.inputs else {}), **arguments.parameters}
    if "model_display_name" in template.inputs and "model_display_name" not in given:
        given["model_display_name"] = model_display_name(given, template, datetime.now().astimezone())
    catalog, problems = _catalog(given.get("catalog_uri", ""))
    runs_here = "--kubeflow" not in arguments.options and not is_google()
    checked = check_parameters(template, given, pipeline_location=options.region, catalog=catalog, runs_here=runs_here)
    return replace(checked, problems=(*problems, *checked.problems), resolved=None) if problems else checked


def _catalog(uri: str) -> tuple[Catalog, tuple[str, ...]]:
    """The catalogue with the rows of an overlay, or the built-in one and why those cannot be used."""
    try:
        return read_catalog(uri), ()
    except UserError as error:
        return load_catalog(), tuple(f"catalog_uri: {problem}" for problem in error.problems)


def _labels(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if wrong := [key for key, sign, _ in pairs if not sign]:
        raise UsageError(*(f"--labels: found {key!r}; expected KEY=VALUE." for key in wrong))
    return {key.strip(): value.strip() for key, _, value in pairs}
