"""The service as a process: its files, its queue, its listener. Started by `tuneline serve`."""

import contextlib
import gc
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from tuneline.api import operations, run_scalars
from tuneline.api.app import create_app
from tuneline.api.gcs import Buckets
from tuneline.api.jobs import JobFolders, Runner
from tuneline.api.resources import custom_jobs, pipeline_jobs
from tuneline.api.scheduler import Scheduler
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.api.store import Store
from tuneline.errors import UserError
from tuneline.registry.files import try_lock
from tuneline.storage import GCS_FOLDER
from tuneline.vertex.rest import ENDPOINT, TOKEN

LOG = logging.getLogger(__name__)
GRACE_SECONDS = 5


@contextlib.contextmanager
def open_service(settings: Settings) -> Iterator[Service]:
    """The service over its folder, which it has for itself; jobs of an earlier service are taken up again."""
    lock = try_lock(settings.home / "service.lock")
    if lock is None:
        raise UserError(f"another service works in {settings.home}.", next_action="Stop it first, or set TUNELINE_HOME to another folder.")
    with lock, _buckets_in(settings.buckets):
        store = Store(settings.home / "service.db")
        operations.fail_interrupted(store)
        jobs = JobFolders(settings.home / "jobs", settings.runs_dir)
        queue = pipeline_jobs.create_queue(store, jobs, publish=lambda body, look: run_scalars.publish(service, body, look))
        runner = Runner(jobs, queue, max_running=settings.max_running)
        custom = Runner(jobs, custom_jobs.create_queue(store, jobs), max_running=settings.max_running)
        buckets = Buckets(settings.buckets, max_object_bytes=settings.max_upload_bytes)
        service = Service(settings=settings, store=store, jobs=jobs, runner=runner, custom_jobs=custom, buckets=buckets)
        scheduler = Scheduler(service)
        runner.start()
        custom.start()
        scheduler.start()
        try:
            yield service
        finally:
            scheduler.close()
            custom.close()
            runner.close()
            buckets.close()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Running jobs go on without the service, and the next one finds them. What they ask of Vertex AI, they ask here."""
    os.environ |= address_for_jobs(settings)
    with open_service(settings) as service:
        app = create_app(service)
        gc.freeze()  # what is there now stays; to look through it all for garbage would hold up requests for a tenth of a second
        uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)


def address_for_jobs(settings: Settings) -> dict[str, str]:
    """Environment in which Vertex AI is this service. The system chooses the port 0, so nobody knows it beforehand."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 (a comparison)
    return {ENDPOINT: f"http://{f'[{host}]' if ':' in host else host}:{settings.port}", TOKEN: settings.token} if settings.port else {}


@contextlib.contextmanager
def _buckets_in(folder: Path) -> Iterator[None]:
    """Let gs:// mean the service's own buckets in this process and those that it starts."""
    before = os.environ.get(GCS_FOLDER)
    os.environ[GCS_FOLDER] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[GCS_FOLDER]
        else:
            os.environ[GCS_FOLDER] = before


def token_in(home: Path) -> str:
    """The service's bearer token, made at the first start and readable by its owner only."""
    file = home / "token"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(secrets.token_urlsafe(32))
    return file.read_text(encoding="utf-8").strip()
