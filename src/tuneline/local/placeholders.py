"""Placeholders in a template's texts, `{{$.inputs.parameters['x']}}` and the like: pure, and resolved in a single pass.

Only texts of the template are searched. A value that is put in is never searched again, so a user's text may hold `{{$.` itself.
"""

import re
from collections.abc import Collection, Mapping

_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}", re.DOTALL)

RUN_PLACEHOLDERS = (
    "pipeline_job_name",
    "pipeline_job_uuid",
    "pipeline_job_resource_name",
    "pipeline_job_create_time_utc",
    "pipeline_job_schedule_time_utc",
    "pipeline_root",
    "pipeline_google_cloud_location",
    "pipeline_google_cloud_project_id",
    "pipeline_service_account",
    "pipeline_network",
    "pipeline_persistent_resource_id",
    "pipeline_encryption_key_name",
)
"""Known in every task and in the defaults of the pipeline's own parameters."""

TASK_PLACEHOLDERS = ("pipeline_task_name", "pipeline_task_uuid")
"""Known in a task."""

EXECUTOR_OUTPUT = "outputs.output_file"


def input_parameter(name: str) -> str:
    """What stands between `{{$.` and `}}` for an input parameter."""
    return f"inputs.parameters['{name}']"


def input_artifact(name: str, field: str) -> str:
    """The same for an input artifact; `field` is `path` or `uri`."""
    return f"inputs.artifacts['{name}'].{field}"


def output_artifact(name: str, field: str) -> str:
    """The same for an output artifact."""
    return f"outputs.artifacts['{name}'].{field}"


def output_parameter(name: str) -> str:
    """The same for the file of an output parameter."""
    return f"outputs.parameters['{name}'].output_file"


def unknown(text: str, known: Collection[str]) -> list[str]:
    """The placeholders of `text` that are not among `known`, as they are written."""
    return [match[0] for match in _PLACEHOLDER.finditer(text) if _content(match) not in known]


def resolve(text: str, values: Mapping[str, str]) -> str:
    """`text` with every placeholder replaced by its value."""
    return _PLACEHOLDER.sub(lambda match: values[_content(match)], text)


def _content(match: re.Match[str]) -> str:
    return match[1].removeprefix(".").replace('"', "'")
