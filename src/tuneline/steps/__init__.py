"""What runs inside a container: `python -m tuneline.steps.<name>`, flags in, files out.

Every step is called through `run_step`, which gives it logging, SIGTERM as an `Interrupted` error, `error.json` and the exit
codes of `tuneline.errors`.
"""

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tuneline.errors import Interrupted, TunelineError
from tuneline.steps.outputs import OutputArtifact, artifact_uri, write_outputs, write_text
from tuneline.steps.skipping import is_skipped

__all__ = ["OutputArtifact", "artifact_uri", "labelled_by_run", "labels_of_run", "run_step", "write_outputs", "write_text"]

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
RUN_LABELS = "VERTEX_AI_PIPELINES_RUN_LABELS"
"""Environment variable in which Vertex hands a pipeline job's labels to its tasks, as a JSON object."""


def labels_of_run() -> dict[str, str]:
    """The labels of the pipeline job, which what it makes has, too."""
    labels: dict[str, str] = json.loads(os.environ.get(RUN_LABELS) or "{}")
    return labels


def labelled_by_run() -> dict[str, object]:
    """What a model that this run registers has from the run's labels; nothing without any."""
    labels = labels_of_run()
    return {"labels": labels} if labels else {}


def run_step(name: str, main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a step's `main` on the command line's arguments and exit with the code that its outcome has."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr, force=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if not is_skipped(sys.argv[1:]):
            main(sys.argv[1:])
    except TunelineError as error:
        print(f"{name}: {error}", *([error.next_action] if error.next_action else []), sep="\n", file=sys.stderr)
        _write_error(name, error.exit_code, error.attribution, str(error), error.next_action)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # the one place that must not let a bug look like the user's error (exit code 1)
        traceback.print_exc()
        _write_error(name, 70, "internal", traceback.format_exc(limit=1), "This is a bug of Tuneline. Please report it with the task's log.")
        sys.exit(70)
    sys.exit(0)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise Interrupted("Stopped by SIGTERM.", next_action="Go on with: tuneline run --resume RUN")


def _write_error(step: str, code: int, attribution: str, cause: str, next_action: str) -> None:
    path = os.environ.get("TUNELINE_ERROR_FILE")
    if path:
        error = {"code": code, "attribution": attribution, "step": step, "cause": cause, "next_action": next_action}
        Path(path).write_text(json.dumps(error, indent=2) + "\n", encoding="utf-8")
