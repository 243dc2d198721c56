"""One job's process: `python -m tuneline.api.job_process JOB_FOLDER RUNS_DIR`. Runs the job to its end, or goes on with it; see `jobs`.

However often it is started, one process at a time has the job, and an ended job is not begun again.
"""

import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tuneline.api.checkpoint_export import export_checkpoints
from tuneline.api.jobs import CANCEL, LOCK, OUTCOME, PROCESS, Job, JobFolders, JobState
from tuneline.errors import TunelineError
from tuneline.local import engine
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import RunRecord, RunState
from tuneline.registry.files import try_lock, write_json
from tuneline.registry.processes import ProcessIdentity
from tuneline.templates import load

LOG = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Do the job; the exit code is 0 once its outcome is written, or another process has it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    folder, runs_dir = Path(argv[0]), Path(argv[1])
    lock = try_lock(folder / LOCK)
    if lock is None or (folder / OUTCOME).exists():
        return 0
    with lock:
        identity = ProcessIdentity.of(os.getpid())
        if identity is not None:
            write_json(folder / PROCESS, asdict(identity))
        if (folder / CANCEL).exists():
            write_json(folder / OUTCOME, {"state": JobFolders(folder.parent, runs_dir).end_of_cancelled(folder.name)})
            return 0
        try:
            record = _run(Job.read(folder), runs_dir)
        except TunelineError as error:
            problem = "\n".join([*error.problems, *([error.next_action] if error.next_action else [])])
            write_json(folder / OUTCOME, {"state": JobState.FAILED, "problem": problem, "attribution": error.attribution})
            return 0
        except Exception:  # without an outcome the job would be started for ever
            LOG.exception("job=%s", folder.name)
            write_json(folder / OUTCOME, {"state": JobState.FAILED, "problem": f"This is a bug of Tuneline; {folder / 'process.log'} has it."})
            return 70
        state = _state(record, is_cancelled=(folder / CANCEL).exists())
        if state is None:  # stopped from outside, as when the machine shuts down: the next process goes on
            return 75
        write_json(folder / OUTCOME, {"state": state})
    return 0


def _run(job: Job, runs_dir: Path) -> RunRecord:
    os.environ.update(job.environment)
    folder = RunFolder(runs_dir / job.id)
    options = engine.Options(max_parallel_tasks=job.max_parallel_tasks) if job.max_parallel_tasks else None
    if (folder.path / "run.json").exists():
        record = folder.read()
        if record.state != RunState.FAILED:  # an earlier process was killed before it could tell of the failure
            record = engine.resume(folder.path, options=options)
    else:
        if folder.path.exists():  # an earlier process was killed before its first record
            shutil.rmtree(folder.path)
        record = engine.run(load(job.template), job.parameters, runs_dir=runs_dir, name=job.id, source=job.template, options=options)
    if job.output_uri and record.state == RunState.SUCCEEDED:
        export_checkpoints(record, job.output_uri, only_last=job.only_last_checkpoint)
    return record


def _state(record: RunRecord, *, is_cancelled: bool) -> JobState | None:
    match record.state:
        case RunState.SUCCEEDED:
            return JobState.SUCCEEDED
        case RunState.FAILED:
            return JobState.FAILED
        case _:
            return JobState.CANCELLED if is_cancelled else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
