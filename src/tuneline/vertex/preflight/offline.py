"""Checks that need no network: parameters, placement, catalogue, key, TensorBoard, names, template, packages."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tuneline.image_references import registry_of
from tuneline.templates import images
from tuneline.vertex.job_request import option_problems, template_digest
from tuneline.vertex.preflight import Check, Finding, Plan, ok, problem, unknown, warning

_CHECKS = {
    "catalogue": ("large_model_reference", "max_context_length", "catalog_uri", "uri of the catalogue row"),
    "placement": ("pipeline region", "location", "accelerator_type"),
    "key": ("encryption_spec_key_name",),
    "tensorboard": ("tensorboard_resource_id",),
}
"""Check -> the beginnings of the problems that it tells; `parameters` tells all others."""
_PACKAGES = (("google.auth", "vertex"), ("requests", "vertex"), ("google.cloud.storage", "vertex"), ("gcsfs", "gcs"))


def offline_checks(plan: Plan, *, is_installed: Callable[[str], bool]) -> list[Check]:
    """In the order in which they are told."""
    return [
        Check(name="packages", run=partial(_packages, is_installed)),
        Check(name="names", run=partial(_names, plan)),
        template_check(plan),
        Check(name="parameters", run=partial(_parameters, plan)),
        Check(name="catalogue", run=partial(_catalogue, plan)),
        Check(name="placement", run=partial(_placement, plan)),
        Check(name="key", run=partial(_told, plan, "key", "encryption_spec_key_name")),
        Check(name="tensorboard", run=partial(_told, plan, "tensorboard", "tensorboard_resource_id")),
    ]


def template_check(plan: Plan) -> Check:
    """Which template it is, and whether its images name a registry."""
    return Check(name="template", run=partial(_template, plan))


def _packages(is_installed: Callable[[str], bool]) -> Iterator[Finding]:
    missing = {module: extra for module, extra in _PACKAGES if not is_installed(module)}
    if not missing:
        yield ok("everything that submitting needs is installed")
    for module, extra in missing.items():
        what = problem if extra == "vertex" else warning
        yield what(f"{module} is not installed", f"pip install 'tuneline[{extra}]'")


def _names(plan: Plan) -> Iterator[Finding]:
    problems = list(option_problems(plan.options, plan.template, is_google=plan.is_google))
    yield from (problem(text) for text in problems)
    if not problems:
        yield ok("project, region, job id, labels and accounts are well formed")


def _template(plan: Plan) -> Iterator[Finding]:
    if plan.template is None:
        yield unknown("no template was given", "Give the template and its parameters, to have them checked, too.")
        return
    digest = template_digest(plan.template)[:12]
    yield ok(f"{plan.template.name}, sha256 {digest}..., {len(plan.template.inputs)} parameters")
    if plan.options.template_uri:
        yield unknown(f"Vertex AI will read it from {plan.options.template_uri}: what is there was not compared")
        return
    for image in images(plan.template.spec):
        if plan.is_google and not registry_of(image):
            advice = "Build and push it (docs/images.md), and name your registry: --image-registry REGION-docker.pkg.dev/PROJECT/REPOSITORY"
            yield warning(f"image {image} names no registry, so it would come from Docker Hub", advice)


def _parameters(plan: Plan) -> Iterator[Finding]:
    if plan.checked is None:
        yield unknown("without a template there are none")
        return
    claimed = tuple(start for starts in _CHECKS.values() for start in starts)
    problems = [text for text in plan.checked.problems if not _begins(text, claimed)]
    problems += plan.checked.unbuilt if plan.is_google else ()
    yield from (problem(text) for text in problems)
    yield from (warning(text) for text in plan.checked.warnings)
    if not problems:
        yield ok(f"all {len(plan.checked.values)} that were given can be used")


def _catalogue(plan: Plan) -> Iterator[Finding]:
    problems = _problems(plan, "catalogue")
    yield from (problem(text) for text in problems)
    if not problems and plan.checked and plan.checked.resolved:
        model = plan.checked.resolved.base_model
        told = f"{model.reference}{f', for which {model.stands_in} stands in' if model.stands_in else ''}: {model.uri}"
        yield ok(told if plan.is_google else f"{told}, unless the tuning service has a catalogue of its own")


def _placement(plan: Plan) -> Iterator[Finding]:
    problems = _problems(plan, "placement")
    yield from (problem(text) for text in problems)
    resolved = plan.checked.resolved if plan.checked else None
    if resolved:
        here = "" if plan.is_google else "; a tuning service records this, and runs the job on its own machine"
        regions = f"pipeline in {resolved.pipeline_region}, model to {resolved.upload_region}, tuning in {resolved.tuning_region}"
        yield ok(f"{regions} on {resolved.machine_type}{here}")
    elif not problems:
        yield unknown("not decided, because the parameters have problems" if plan.checked else "not decided without a template")


def _told(plan: Plan, name: str, parameter: str) -> Iterator[Finding]:
    problems = _problems(plan, name)
    yield from (problem(text) for text in problems)
    if not problems and (value := plan.value(parameter)):
        yield ok(f"{value} is where the job needs it")


def _problems(plan: Plan, name: str) -> list[str]:
    return [text for text in (plan.checked.problems if plan.checked else ()) if _begins(text, _CHECKS[name])]


def _begins(text: str, starts: Sequence[str]) -> bool:
    return any(re.match(rf"{re.escape(start)}\b", text) for start in starts)
