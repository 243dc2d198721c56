"""What the first task of a job decided: regions, machine, batch size, base model, as it left them in its `resolved` artifact."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tuneline.errors import TunelineError
from tuneline.resolution import Resolved
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.pipeline_jobs import task_details

_TASK, _OUTPUT = "validate-parameters", "resolved"


def read_decisions(job: Mapping[str, Any], apis: GoogleApis) -> Resolved | None:
    """The decisions, if they have been made and can be read from here."""
    uri = _uri(job)
    try:
        if uri.startswith("gs://") and apis.has("storage"):
            parts = urlsplit(uri)
            found = apis.get("storage", f"b/{quote(parts.netloc, safe='')}/o/{quote(parts.path.removeprefix('/'), safe='')}", alt="media")
            return Resolved.from_json(json.dumps(found))
        if uri.startswith("/") and Path(uri).is_file():  # of a tuning service on this machine
            return Resolved.read(Path(uri))
    except (TunelineError, ValueError, TypeError, KeyError, OSError):  # gone, not for this account, or of another version
        return None
    return None


def _uri(job: Mapping[str, Any]) -> str:
    for task in task_details(job):
        if task.get("taskName") == _TASK:
            for artifact in task.get("outputs", {}).get(_OUTPUT, {}).get("artifacts", []):
                return str(artifact.get("uri", ""))
    return ""
