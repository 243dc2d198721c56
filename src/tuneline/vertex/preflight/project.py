"""Checks of the project: who asks, whether Vertex AI answers and is enabled, what the account may do, and the quota for the machine."""

from collections.abc import Iterator, Sequence
from functools import partial
from urllib.parse import quote

from tuneline.errors import NotFoundError
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.preflight import Check, Finding, Plan, ok, problem, unknown, warning
from tuneline.vertex.rest import Json, Refused, Vertex

API = "aiplatform.googleapis.com"
TO_SUBMIT = ("aiplatform.pipelineJobs.create", "aiplatform.pipelineJobs.get")
QUOTAS = {
    "NVIDIA_TESLA_T4": "nvidia_t4_gpus",
    "NVIDIA_TESLA_V100": "nvidia_v100_gpus",
    "NVIDIA_TESLA_A100": "nvidia_a100_gpus",
    "NVIDIA_A100_80GB": "nvidia_a100_80gb_gpus",
    "NVIDIA_H100_80GB": "nvidia_h100_gpus",
    "NVIDIA_L4": "nvidia_l4_gpus",
    "TPU_V3": "tpu_v3",
}
"""Accelerator -> the end of its quota's name for custom training jobs."""


def project_checks(plan: Plan, vertex: Vertex, apis: GoogleApis) -> list[Check]:
    """In the order in which they are told. Another service than Google's is asked for its jobs only."""
    answers = Check(name="vertex", run=partial(_answers, plan, vertex))
    if not plan.is_google:
        return [answers]
    return [
        Check(name="credentials", run=partial(_credentials, vertex, apis)),
        Check(name="api", run=partial(_api, plan, apis)),
        answers,
        Check(name="permissions", run=partial(_permissions, plan, apis)),
        Check(name="service account", run=partial(_service_account, plan, apis)),
        Check(name="quota", run=partial(_quota, plan, apis)),
    ]


def project_number(plan: Plan, apis: GoogleApis) -> str:
    """The project's number. Raises Refused or NotFoundError where this account may not know it."""
    return str(_service(plan, apis).get("parent", "")).rpartition("/")[2]


def _service(plan: Plan, apis: GoogleApis) -> Json:
    return apis.get("serviceusage", f"v1/projects/{quote(plan.options.project, safe=':')}/services/{API}")


def _credentials(vertex: Vertex, apis: GoogleApis) -> Iterator[Finding]:
    credentials = getattr(vertex.session, "credentials", None)
    email = str(getattr(credentials, "service_account_email", ""))
    if "@" not in email:
        try:
            email = str(apis.get("userinfo", "userinfo").get("email", ""))
        except Refused:  # a token may be good for the platform and not for this
            email = ""
    yield ok(f"you are {email}") if email else unknown("there are credentials; whose they are could not be told")


def _api(plan: Plan, apis: GoogleApis) -> Iterator[Finding]:
    if (state := _service(plan, apis).get("state")) == "ENABLED":
        yield ok(f"{API} is enabled in {plan.options.project}")
    else:
        yield problem(f"{API} is {str(state).lower()} in {plan.options.project}", f"gcloud services enable {API} --project {plan.options.project}")


def _answers(plan: Plan, vertex: Vertex) -> Iterator[Finding]:
    vertex.get(f"projects/{plan.options.project}/locations/{plan.options.region}/pipelineJobs", pageSize="1", readMask="name")
    yield ok(f"{vertex.address} answers for {plan.options.project} in {plan.options.region}")


def _permissions(plan: Plan, apis: GoogleApis) -> Iterator[Finding]:
    answer = apis.post("resourcemanager", f"projects/{quote(plan.options.project, safe=':')}:testIamPermissions", {"permissions": list(TO_SUBMIT)})
    missing = _missing(TO_SUBMIT, answer)
    if missing:
        yield problem(f"you lack {', '.join(missing)} in {plan.options.project}", "Give yourself roles/aiplatform.user on the project.")
    else:
        yield ok("you may create and watch pipeline jobs")


def _service_account(plan: Plan, apis: GoogleApis) -> Iterator[Finding]:
    account = plan.options.service_account
    if not account:
        account = f"{project_number(plan, apis)}-compute@developer.gserviceaccount.com"
        yield warning(f"the job will run as the default account {account}", "Give it one of its own with the least it needs: --service-account")
    act_as = ("iam.serviceAccounts.actAs",)
    try:
        answer = apis.post("iam", f"projects/-/serviceAccounts/{quote(account, safe='@')}:testIamPermissions", {"permissions": list(act_as)})
    except NotFoundError:
        yield problem(f"there is no service account {account}", "Create it, or check the spelling.")
        return
    if _missing(act_as, answer):
        yield problem(f"you may not act as {account}", "Give yourself roles/iam.serviceAccountUser on it.")
    else:
        yield ok(f"you may act as {account}")


def _quota(plan: Plan, apis: GoogleApis) -> Iterator[Finding]:
    """The limit alone: how much of it others use at this moment is known when the job starts."""
    resolved = plan.checked.resolved if plan.checked else None
    if resolved is None or not resolved.accelerator_count:
        yield unknown("the machine is not decided, so its quota was not looked up")
        return
    where = f"{resolved.accelerator_type} in {resolved.tuning_region}"
    if resolved.accelerator_type not in QUOTAS:
        yield unknown(f"the quota for {where} has no name that is known here")
        return
    metric = quote(f"{API}/custom_model_training_{QUOTAS[resolved.accelerator_type]}", safe="")
    found = apis.find("serviceusage", f"v1beta1/projects/{quote(plan.options.project, safe=':')}/services/{API}/consumerQuotaMetrics/{metric}")
    limit = _limit(found or {}, resolved.tuning_region)
    advice = f"Ask for more: https://console.cloud.google.com/iam-admin/quotas?project={plan.options.project}"
    if limit is None:
        yield unknown(f"the quota for {where} could not be told", "See https://console.cloud.google.com/iam-admin/quotas")
    elif 0 <= limit < resolved.accelerator_count:
        yield problem(f"the quota for {where} is {limit}; the job needs {resolved.accelerator_count}", advice)
    else:
        yield ok(f"the quota for {where} is {'unlimited' if limit < 0 else limit}; the job needs {resolved.accelerator_count}")


def _limit(metric: Json, region: str) -> int | None:
    """The effective limit of a region: its own, else that of all regions."""
    limits: dict[str, int] = {}
    for limit in metric.get("consumerQuotaLimits", []):
        for bucket in limit.get("quotaBuckets", []):
            if "effectiveLimit" in bucket:
                limits[str(bucket.get("dimensions", {}).get("region", ""))] = int(bucket["effectiveLimit"])
    return limits.get(region, limits.get(""))


def _missing(wanted: Sequence[str], answer: Json) -> list[str]:
    return [permission for permission in wanted if permission not in answer.get("permissions", [])]
