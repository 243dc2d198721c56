"""The request that creates a pipeline job: its names, its body, and what is wrong with them before anything is sent. Pure."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tuneline import __version__
from tuneline.overrides import NETWORK
from tuneline.templates import Json, Template, with_caching_options
from tuneline.vertex.labels import label_problems
from tuneline.vertex.rest import REGION

TEMPLATE_URI = re.compile(r"https://[a-z0-9-]+-kfp\.pkg\.dev/[^/\s?#]+/[^/\s?#]+/[^/\s?#]+/[^/\s?#]+")
VERSION_LABEL, TEMPLATE_LABEL = "tuneline-version", "tuneline-template"
_JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]*")
_BUCKET_URI = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?")
_SERVICE_ACCOUNT = re.compile(r"[^@\s/]+@[^@\s/]+\.gserviceaccount\.com")
_LONGEST_NAME, _DIGEST_LENGTH = 128, 32


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What a job is told beside its template's parameters. Empty: left to Vertex AI."""

    project: str
    region: str
    """Where the pipeline runs."""
    pipeline_root: str = ""
    job_id: str = ""
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    network: str = ""
    template_uri: str = ""
    """Vertex AI gets the template from here, instead of with the request."""
    has_caching: bool = True


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A job to be created: `POST PARENT/pipelineJobs?pipelineJobId=JOB_ID`."""

    parent: str
    job_id: str
    body: Mapping[str, Any]

    @property
    def collection(self) -> str:
        return f"{self.parent}/pipelineJobs"

    @property
    def name(self) -> str:
        """Resource name of the job."""
        return f"{self.collection}/{self.job_id}"


def new_job_id(pipeline: str, moment: datetime) -> str:
    """Pipeline, time in UTC and a random part, so that jobs of one second have different ids."""
    slug = re.sub(r"[^a-z0-9]+", "-", pipeline.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"job-{slug}"
    return f"{slug[:100].strip('-')}-{moment:%Y%m%d%H%M%S}-{secrets.token_hex(4)}"


def template_digest(template: Template) -> str:
    """SHA-256 of the pipeline spec, the same for every spelling of one document."""
    return hashlib.sha256(json.dumps(template.spec, sort_keys=True).encode()).hexdigest()


def job_request(template: Template, values: Mapping[str, Json], options: JobOptions, *, moment: datetime) -> JobRequest:
    """The request. The order of the body's keys is that of the hosted templates' documentation."""
    job_id = options.job_id or new_job_id(template.name, moment)
    root = {"gcsOutputDirectory": options.pipeline_root} if options.pipeline_root else {}
    key = str(values.get("encryption_spec_key_name", ""))
    labels = {**options.labels, VERSION_LABEL: re.sub(r"[^a-z0-9]+", "-", __version__.lower()), TEMPLATE_LABEL: template_digest(template)[:_DIGEST_LENGTH]}
    body: dict[str, Any] = {
        "displayName": options.display_name or job_id,
        "runtimeConfig": {**root, "parameterValues": dict(values)},
        **({"encryptionSpec": {"kmsKeyName": key}} if key else {}),
        "labels": labels,
        **({"serviceAccount": options.service_account} if options.service_account else {}),
        **({"network": options.network} if options.network else {}),
    }
    if options.template_uri:
        body["templateUri"] = options.template_uri
    else:
        body["pipelineSpec"] = dict(template.spec) if options.has_caching else with_caching_options(template.spec, {"enableCache": False})
    return JobRequest(parent=f"projects/{options.project}/locations/{options.region}", job_id=job_id, body=body)


def option_problems(options: JobOptions, template: Template | None, *, is_google: bool) -> Iterator[str]:
    """What Vertex AI would refuse, each with the flag that it came from. A tuning service also takes the region `local`, where paths are as good as URIs."""
    if not _PROJECT.fullmatch(options.project):
        yield f"--project: found {options.project!r}; expected a project's id or number."
    if not REGION.fullmatch(options.region) or options.region == "kubernetes" or (options.region == "local" and is_google):
        yield f"--pipeline-region: found {options.region!r}; expected a region such as us-central1."
    if options.job_id and not _JOB_ID.fullmatch(options.job_id):
        yield f"--job-id: found {options.job_id!r}; expected up to 128 lower-case letters, digits and dashes, a letter first."
    if len(options.display_name) > _LONGEST_NAME:
        yield f"--display-name: has {len(options.display_name)} characters; expected at most {_LONGEST_NAME}."
    is_folder_there = options.region == "local" and not is_google and options.pipeline_root.startswith("/")
    if options.pipeline_root and not _BUCKET_URI.fullmatch(options.pipeline_root) and not is_folder_there:
        yield f"--pipeline-root: found {options.pipeline_root!r}; expected gs://BUCKET or gs://BUCKET/FOLDER."
    elif not options.pipeline_root and template is not None and not template.spec.get("defaultPipelineRoot"):
        yield "--pipeline-root is missing; expected gs://BUCKET/FOLDER, where the job keeps what its tasks hand on."
    if options.service_account and not _SERVICE_ACCOUNT.fullmatch(options.service_account):
        yield f"--service-account: found {options.service_account!r}; expected an address such as NAME@PROJECT.iam.gserviceaccount.com."
    if options.network and not NETWORK.fullmatch(options.network):
        yield f"--network: found {options.network!r}; expected projects/NUMBER/global/networks/NAME."
    if options.template_uri and not TEMPLATE_URI.fullmatch(options.template_uri):
        yield f"--template-uri: found {options.template_uri!r}; expected https://REGION-kfp.pkg.dev/PROJECT/REPOSITORY/TEMPLATE/TAG."
    if options.template_uri and not options.has_caching:
        yield "--no-cache: with --template-uri the template is not sent, and cannot be changed. Leave one of them out."
    yield from (f"--labels: {key} is set by Tuneline. Take another name." for key in options.labels if key in (VERSION_LABEL, TEMPLATE_LABEL))
    yield from label_problems(options.labels, where="--labels")
