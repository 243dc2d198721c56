"""Calls of Vertex AI's REST API in one region: who asks, what is tried again, and what a failure means.

`TUNELINE_VERTEX_ENDPOINT` stands in the place of every region's own address (a tuning service, a proxy). Google's credentials never go there;
`TUNELINE_VERTEX_TOKEN` does, when it is set.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneline.errors import CapacityError, InfrastructureError, NotFoundError, TunelineError, UserError
from tuneline.vertex.backoff import Backoff, Clock

if TYPE_CHECKING:
    import requests

Json: TypeAlias = dict[str, Any]
Params: TypeAlias = Mapping[str, str | Sequence[str]]

ENDPOINT = "TUNELINE_VERTEX_ENDPOINT"
TOKEN = "TUNELINE_VERTEX_TOKEN"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TIMEOUT_SECONDS = (10.0, 60.0)
"""For the connection, and for the answer: short enough that a call with all its tries ends within the lease of a claim."""
POLL_SECONDS = 5.0
GIVE_TOKEN = f"Set {TOKEN} to the tuning service's token: TUNELINE_HOME/service/token on its machine has it."
LOG_IN = "Log in: gcloud auth application-default login; in a job, give it a service account."

_PASSING = {408, 429, 500, 502, 503, 504}
"""Answers that may be different the next time."""
_UNTOUCHED = {429}
"""Answers after which nothing can have happened, also for a call that must not be made twice."""


class Refused(UserError):
    """The API will not do this, whenever it is asked. `status` is its name in google.rpc.Code, like ALREADY_EXISTS."""

    def __init__(self, *problems: str, status: str, next_action: str = "") -> None:
        super().__init__(*problems, next_action=next_action)
        self.status = status


class OutcomeUnknown(InfrastructureError):
    """A call that must not be made twice was sent, and its answer never came: it may have been carried out."""


def open_session() -> "requests.Session":
    """A session that may call Google's APIs, as the account of this machine or job."""
    try:
        import requests

        if not is_google():
            session = requests.Session()
            if token := os.environ.get(TOKEN):
                session.headers["Authorization"] = f"Bearer {token}"
            session.trust_env = False  # no proxy stands between this machine and its own service
            return session
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import AuthorizedSession
    except ModuleNotFoundError as error:
        raise UserError(f"Vertex AI needs the package {error.name}, which is not installed.", next_action="pip install 'tuneline[vertex]'") from None
    try:
        credentials, _project = google.auth.default(scopes=SCOPES)
    except DefaultCredentialsError as error:
        raise UserError(f"There are no Google credentials on this machine: {str(error).splitlines()[0]}", next_action=LOG_IN) from None
    authorized: requests.Session = AuthorizedSession(credentials)
    return authorized


def is_google() -> bool:
    """Whether Google's own services are asked; else a tuning service or a proxy."""
    return not os.environ.get(ENDPOINT)


def address_of(region: str) -> str:
    """Where requests for a region go. A region is a part of Google's host name, and must not make another host of it."""
    if not is_google():
        return os.environ[ENDPOINT].rstrip("/")
    if not REGION.fullmatch(region):
        raise UserError(f"region: found {region!r}; expected a name such as us-central1.")
    return f"https://{region}-aiplatform.googleapis.com"


@dataclass(kw_only=True)
class Caller:
    """Calls of any Google API as one account, again where that is safe and may help."""

    session: "requests.Session" = field(default_factory=open_session)
    backoff: Backoff = field(default_factory=Backoff)
    clock: Clock = field(default_factory=Clock)

    def call(
        self,
        method: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool,
    ) -> Json:
        """The JSON answer. Unless the call may be made twice, an answer that never comes raises OutcomeUnknown."""
        for seconds in (*self.backoff.waits(), None):
            try:
                return self._send(method, url, {"json": body, "params": params, "headers": headers}, is_repeatable=is_repeatable)
            except _MayPass as passing:
                if seconds is None:
                    raise passing.error from passing.__cause__
            self.clock.sleep(seconds)
        raise AssertionError("the last try either answers or raises")

    def _send(self, method: str, url: str, content: Mapping[str, Any], *, is_repeatable: bool) -> Json:
        """One call. Raises _MayPass where the same call may be made again."""
        import requests

        where = f"{method} {url}"
        try:
            # A redirect would make a GET of a POST, and is never what an API answers.
            response = self.session.request(method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **content)
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
            raise UserError(f"{where}: {error}", next_action=f"Set {ENDPOINT} to an address such as http://127.0.0.1:8080, or to nothing.") from error
        except requests.exceptions.RequestException as error:
            problem = f"{where}: {type(error).__name__}: {error}".rstrip(".") + "."
            if is_repeatable or _was_never_sent(error):
                advice = "Try again." if is_google() else f"Look whether a tuning service runs there ({ENDPOINT}), and try again."
                raise _MayPass(InfrastructureError(problem, next_action=advice)) from error
            raise OutcomeUnknown(problem) from error
        except Exception as error:
            if not type(error).__module__.startswith("google.auth"):  # its errors share no class with those of requests
                raise
            if _is_passing(error):
                raise _MayPass(InfrastructureError(f"{where}: {error}")) from error
            raise UserError(f"{where}: {error}", next_action=LOG_IN) from error
        if response.status_code < 300:
            return _json(response.content, where)
        if response.status_code < 400:
            raise UserError(f"{where}: this is not the API's own address; it leads to {response.headers.get('Location', 'another one')}.")
        answer = error_of(_error(response.content, response.status_code), where)
        if response.status_code in (_PASSING if is_repeatable else _UNTOUCHED):
            raise _MayPass(answer)
        raise OutcomeUnknown(*answer.problems) if response.status_code in _PASSING else answer


@dataclass(kw_only=True)
class Vertex(Caller):
    """The API of one region. Names are resource names: `projects/P/locations/L/...`."""

    region: str
    version: str = "v1"

    @property
    def address(self) -> str:
        """Where requests go."""
        return address_of(self.region)

    def get(self, name: str, **params: str) -> Json:
        """The resource. Raises NotFoundError."""
        return self._call("GET", name, params=params, is_repeatable=True)

    def find(self, name: str, **params: str) -> Json | None:
        """The resource, if there is one."""
        try:
            return self.get(name, **params)
        except NotFoundError:
            return None

    def list(self, collection: str, *, key: str = "", **params: str) -> Iterator[Json]:
        """All resources of `projects/P/locations/L/KIND`, page by page. An answer has its resources under `key`, or the last word of the path."""
        key = key or collection.rpartition("/")[2].partition(":")[0]
        while True:
            page = self.get(collection, **params)
            yield from page.get(key, [])
            if not page.get("nextPageToken"):
                return
            params = {**params, "pageToken": page["nextPageToken"]}

    def post(self, name: str, body: Mapping[str, Any], *, params: Mapping[str, str] | None = None, is_repeatable: bool = False) -> Json:
        """Make something. Unless the call is one that may be made twice, an answer that never comes raises OutcomeUnknown."""
        return self._call("POST", name, body=body, params=params, is_repeatable=is_repeatable)

    def patch(self, name: str, body: Mapping[str, Any], *, update_mask: str) -> Json:
        """Set the fields of the mask; twice is as once."""
        return self._call("PATCH", name, body=body, params={"updateMask": update_mask}, is_repeatable=True)

    def delete(self, name: str) -> Json:
        """Delete. Raises NotFoundError, also when an earlier try has deleted it."""
        return self._call("DELETE", name, is_repeatable=True)

    def ended(self, operation: Mapping[str, Any], *, each_time: Callable[[], None] = lambda: None) -> Json:
        """A long-running operation once it has ended, well or not. `each_time` is called before each look."""
        state = dict(operation)
        while not state.get("done"):
            self.clock.sleep(POLL_SECONDS)
            each_time()
            state = self.get(str(state["name"]))
        return state

    def wait(self, operation: Mapping[str, Any], *, each_time: Callable[[], None] = lambda: None) -> Json:
        """What a long-running operation made in the end."""
        state = self.ended(operation, each_time=each_time)
        if "error" in state:
            raise error_of(state["error"], f"operation {state['name']}")
        response: Json = state.get("response", {})
        return response

    def _call(self, method: str, name: str, *, body: Mapping[str, Any] | None = None, params: Params | None = None, is_repeatable: bool) -> Json:
        return self.call(method, f"{self.address}/{self.version}/{name}", body=body, params=params, is_repeatable=is_repeatable)


class _MayPass(Exception):
    """The call may be made again; `error` is raised when that has been done often enough."""

    def __init__(self, error: TunelineError) -> None:
        super().__init__(str(error))
        self.error = error


def _was_never_sent(error: Exception) -> bool:
    """Whether no connection came about, so that nothing can have happened."""
    from requests.exceptions import ConnectTimeout
    from urllib3.exceptions import MaxRetryError, NewConnectionError

    cause = error.args[0] if error.args else None
    return isinstance(error, ConnectTimeout) or (isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError))


def _is_passing(error: BaseException | None) -> bool:
    """Whether google-auth could not get a token for a reason that passes: it says so, or no answer came."""
    while error is not None:
        if getattr(error, "retryable", False) or type(error).__name__ == "TransportError":
            return True
        error = error.__cause__
    return False


def error_of(status: Mapping[str, Any], where: str) -> TunelineError:
    """The error that a google.rpc.Status is: the user's, a lack of capacity, or a failure that passes."""
    name, message = _status_name(status), str(status.get("message", "no message"))
    problem = f"{where}: {name}: {message}"
    match name:
        case "NOT_FOUND":
            return NotFoundError(problem)
        case "RESOURCE_EXHAUSTED":
            return CapacityError(problem, next_action="Ask for quota, wait, or name other machines or regions in tuning_fallbacks.")
        case "UNAUTHENTICATED":
            return Refused(problem, status=name, next_action=LOG_IN if is_google() else GIVE_TOKEN)
        case "PERMISSION_DENIED":
            return Refused(problem, status=name, next_action="Give the account the role that docs/images.md names for this step, and enable the API.")
        case "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "ALREADY_EXISTS" | "OUT_OF_RANGE" | "UNIMPLEMENTED" | "ABORTED":
            return Refused(problem, status=name)
        case "UNKNOWN" if 400 <= int(status.get("code", 13)) < 500:  # like 405, which no name stands for
            return Refused(problem, status=name)
        case _:
            return InfrastructureError(problem)


_NAMES = {
    1: "CANCELLED", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 6: "ALREADY_EXISTS", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION", 10: "ABORTED", 11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED",
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS", 429: "RESOURCE_EXHAUSTED",
    408: "DEADLINE_EXCEEDED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
"""Operations and jobs carry google.rpc.Code, answers the HTTP status."""


def _status_name(status: Mapping[str, Any]) -> str:
    return str(status.get("status") or _NAMES.get(int(status.get("code", 13)), "UNKNOWN"))


def _error(content: bytes, http_status: int) -> Json:
    try:
        error = json.loads(content)["error"]
        return {**error, "code": http_status}
    except (ValueError, KeyError, TypeError):  # a proxy's page
        return {"code": http_status, "message": " ".join(content.decode(errors="replace").split())[:200] or "no message"}


def _json(content: bytes, where: str) -> Json:
    try:
        value = json.loads(content or b"{}")
    except ValueError:
        raise InfrastructureError(f"{where}: the answer is no JSON: {content[:100]!r}.") from None
    if not isinstance(value, dict):
        raise InfrastructureError(f"{where}: the answer is no JSON object.")
    return value
