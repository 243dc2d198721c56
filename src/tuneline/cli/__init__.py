"""The command line: `tuneline COMMAND ...`. One module a command, imported only when it is called."""

import importlib
import json
import sys
import traceback
from collections.abc import Sequence

from tuneline import __version__
from tuneline.errors import TunelineError, UsageError, did_you_mean

COMMANDS = {
    "run": "run a compiled template on this machine, or go on with a stopped run",
    "runs": "list the runs of this machine",
    "submit": "run a compiled template on Vertex AI, a tuning service or Kubeflow",
    "jobs": "list, show and cancel jobs of Vertex AI, and read their logs",
    "schedule": "have a compiled template run again and again: create, list, show, pause, resume, delete",
    "doctor": "find out whether a job could run on Vertex AI",
    "validate": "check data files, all errors at once",
    "inspect": "show one example as the model sees it: tokens coloured by loss weight",
    "explain": "show the regions, machine and batch size that a job would get, and why",
    "template": "show, retarget, publish, pull and list templates",
    "dataset": "make a data set from a code base",
    "models": "list tuned models",
    "endpoints": "list or undeploy endpoints",
    "costs": "show what stands on Vertex AI and costs by the hour",
    "predict": "ask a deployed model",
    "serve": "answer Vertex AI's tuning requests on this machine",
}


def usage() -> str:
    """The help text of `tuneline` itself."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(["usage: tuneline COMMAND ...", "", "Tune a large language model with a pipeline.", "", *lines, "", "tuneline COMMAND --help tells more."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code of `tuneline.errors`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"tuneline {__version__}")
        return 0
    try:
        return _run(arguments[0], arguments[1:])
    except TunelineError as error:
        if "--json" in arguments and not error.is_told:
            failure = {"code": error.exit_code, "attribution": error.attribution, "cause": str(error), "next_action": error.next_action}
            print(json.dumps({"error": failure}))
        print(f"tuneline {arguments[0]}: {error}", *([error.next_action] if error.next_action else []), sep="\n", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `tuneline runs | head`
        sys.stderr.close()
        return 0
    except Exception:  # a bug must not look like the user's error (exit code 1)
        traceback.print_exc()
        return 70


def _run(command: str, arguments: Sequence[str]) -> int:
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r}.{did_you_mean(command, COMMANDS)}", next_action="tuneline --help lists the commands.")
    code: int = importlib.import_module(f"tuneline.cli.{command}").main(arguments)
    return code
