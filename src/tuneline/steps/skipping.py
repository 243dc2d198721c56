"""A task of a run that has nothing to do: it puts out nothing, at once, and says why. The same for every step."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tuneline.resolution import Resolved
from tuneline.steps.outputs import OutputArtifact, artifact_uri, write_outputs, write_text

LOG = logging.getLogger(__name__)
PARAMETERS = ("--output-gcp-resources", "--output-model-resource-name", "--output-endpoint-resource-name")
"""Outputs that are parameters; all others are artifacts."""


def skip_metadata(resolved: Resolved) -> dict[str, object]:
    """What an artifact of a skipped run says of it."""
    return {"skipped": resolved.skip_reason} if resolved.skip_reason else {}


def is_skipped(argv: Sequence[str]) -> bool:
    """Whether validate-parameters found that there is nothing to do; the outputs are then written. Every artifact is an empty JSON object."""
    flags = dict(zip(argv[::2], argv[1::2], strict=False))
    path = Path(flags.get("--resolved", ""))
    if "--resolved" not in flags or not path.is_file():
        return False
    resolved = Resolved.read(path)
    if not resolved.skip_reason:
        return False
    LOG.info("skipped: %s", resolved.skip_reason)
    outputs = {name: Path(value) for name, value in flags.items() if name.startswith("--output-")}
    artifacts = {name.removeprefix("--output-").replace("-", "_"): output for name, output in outputs.items() if name not in PARAMETERS}
    for output in artifacts.values():
        write_text(output, "{}\n")
    write_outputs(
        Path(flags["--executor-output"]),
        artifacts={name: OutputArtifact(uri=artifact_uri(output), metadata=skip_metadata(resolved)) for name, output in artifacts.items()},
        parameters={output: "" for name, output in outputs.items() if name in PARAMETERS},
    )
    return True
