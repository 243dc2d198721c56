"""The folder in Cloud Storage through which a launched job and its launcher speak: progress, error, and what the step says of its artifacts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tuneline.errors import CapacityError, InfrastructureError, Interrupted, TunelineError, UsageError, UserError
from tuneline.progress import Progress
from tuneline.storage import Storage, join

VARIABLE = "TUNELINE_JOB_FOLDER"
"""Environment variable with the folder's URI. A process that has it is a launched job, and computes in place."""
_PROGRESS, _ERROR, _EXECUTOR_OUTPUT = "progress.json", "error.json", "executor_output.json"
_INTERRUPTED = (75, 130)


@dataclass(frozen=True, kw_only=True)
class JobFolder:
    """One launched job's folder."""

    uri: str
    storage: Storage = field(default_factory=Storage)

    def clear(self) -> None:
        """Forget what an attempt on a machine that was lost has said. Also shows, before anything is computed, that the job may write here."""
        self.tell_progress(Progress("starting", 0, 1))
        for name in (_ERROR, _EXECUTOR_OUTPUT):
            self.storage.remove(join(self.uri, name))

    def tell_progress(self, progress: Progress) -> None:
        self.storage.write_text(join(self.uri, _PROGRESS), json.dumps(asdict(progress)))

    def tell_error(self, step: str, error: TunelineError) -> None:
        record = {"code": error.exit_code, "attribution": error.attribution, "step": step, "cause": str(error), "next_action": error.next_action}
        self.storage.write_text(join(self.uri, _ERROR), json.dumps(record, indent=2) + "\n")

    def tell_executor_output(self, text: str) -> None:
        self.storage.write_text(join(self.uri, _EXECUTOR_OUTPUT), text)

    def progress(self) -> Progress | None:
        """The last report."""
        text = self._read(_PROGRESS)
        return Progress(**json.loads(text)) if text else None

    def error(self) -> TunelineError | None:
        """Why the step failed, if it could tell."""
        text = self._read(_ERROR)
        return error_of(json.loads(text)) if text else None

    def metadata(self) -> dict[str, dict[str, object]] | None:
        """What the step says of each of its artifacts; nothing before it has succeeded."""
        text = self._read(_EXECUTOR_OUTPUT)
        return {name: entry["artifacts"][0]["metadata"] for name, entry in json.loads(text)["artifacts"].items()} if text else None

    def _read(self, name: str) -> str:
        uri = join(self.uri, name)
        return self.storage.read_text(uri) if self.storage.exists(uri) else ""


def error_of(record: Mapping[str, object]) -> TunelineError:
    """The error that an `error.json` tells of: the same text, and a class with the same exit code and attribution."""
    code, attribution = record["code"], record["attribution"]
    kind: type[TunelineError] = TunelineError
    if code in _INTERRUPTED:
        kind = Interrupted
    elif code == UsageError.exit_code:
        kind = UsageError
    elif attribution in (UserError.attribution, CapacityError.attribution, InfrastructureError.attribution):
        kind = next(kind for kind in (UserError, CapacityError, InfrastructureError) if kind.attribution == attribution)
    return kind(*str(record["cause"]).splitlines(), next_action=str(record["next_action"]))
