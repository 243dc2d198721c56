"""Somebody who has Google's own client, google-cloud-aiplatform, and a cloud that fails: submits pipeline jobs, asks endpoints, takes them down.

The client itself gives up where an answer is refused or lost. Its user then does what one does in a notebook: calls again, and finds what the first call did.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from google.api_core import exceptions
from requests.exceptions import RequestException

Answer = TypeVar("Answer")
PASSING = (
    exceptions.ServiceUnavailable,
    exceptions.TooManyRequests,
    exceptions.RetryError,
    exceptions.FailedPrecondition,  # what the first call began is still under way
    RequestException,
)
MOST_CALLS, PAUSE_SECONDS = 60, 1.0
ENDED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED")
JOB_SECONDS = 1800.0


def patiently(call: Callable[[], Answer]) -> Answer:
    """What a call answers, made again while its failure may pass."""
    for _ in range(MOST_CALLS - 1):
        try:
            return call()
        except PASSING:
            time.sleep(PAUSE_SECONDS)
    return call()


class Customer:
    """Google's client, told the address of the cloud. It keeps that for the whole process, so there is one customer."""

    def __init__(self, address: str, *, project: str, pipeline_region: str, upload_region: str, bucket: str) -> None:
        os.environ["STORAGE_EMULATOR_HOST"] = address  # read when the client is imported
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import aiplatform
        from google.cloud.aiplatform.utils import resource_manager_utils

        self._sdk, self._pipeline_region, self._root = aiplatform, pipeline_region, f"gs://{bucket}/google"
        rest = {"api_endpoint": address, "api_transport": "rest", "credentials": AnonymousCredentials()}
        aiplatform.init(project=project, location=upload_region, staging_bucket=f"gs://{bucket}", **rest)
        logging.getLogger("google.cloud.aiplatform").setLevel(logging.WARNING)
        resource_manager_utils.get_project_number = lambda *_args, **_options: "123"

    def run(self, job_id: str, template: Path, parameters: Mapping[str, Any]) -> str:
        """Submit a pipeline job and wait for its end; its state."""
        job = self._sdk.PipelineJob(
            display_name=job_id, template_path=str(template), job_id=job_id, pipeline_root=self._root, parameter_values=dict(parameters),
            enable_caching=False, location=self._pipeline_region,
        )  # fmt: skip

        def submit() -> None:
            with contextlib.suppress(exceptions.AlreadyExists):  # the answer to an earlier call was lost
                job.submit()

        patiently(submit)
        until = time.monotonic() + JOB_SECONDS
        while time.monotonic() < until:
            state = patiently(lambda: self._sdk.PipelineJob.get(job_id, location=self._pipeline_region)).state.name
            if state in ENDED:
                return str(state)
            time.sleep(2 * PAUSE_SECONDS)
        return "not ended"

    def use_endpoint(self, display_name: str) -> list[str]:
        """Ask the model on the endpoint of this name and take both down; what is wrong with them."""
        found = self._endpoints(display_name)
        if len(found) != 1:
            return [f"{len(found)} endpoints of {display_name}"]
        [endpoint] = found
        models = patiently(endpoint.list_models)
        predictions = patiently(lambda: endpoint.predict(instances=[{"content": "x"}])).predictions
        wrong = [] if len(models) == 1 else [f"{len(models)} models on the endpoint of {display_name}"]
        wrong += [] if len(predictions) == 1 and "content" in predictions[0] else [f"no prediction of {display_name}"]
        patiently(endpoint.undeploy_all)

        def delete() -> None:
            with contextlib.suppress(exceptions.NotFound):  # the answer to an earlier call was lost
                endpoint.delete()

        patiently(delete)
        return wrong

    def _endpoints(self, display_name: str) -> list[Any]:
        """Lists may lack what is young."""
        for _ in range(MOST_CALLS):
            found: list[Any] = patiently(lambda: self._sdk.Endpoint.list(filter=f'display_name="{display_name}"'))
            if found:
                return found
            time.sleep(PAUSE_SECONDS)
        return []
