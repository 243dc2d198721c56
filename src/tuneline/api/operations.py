"""Long-running operations. The Google clients poll `/ui/<operation name>`; one that is done at once is never polled."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from tuneline.api.faults import Fault, job_error
from tuneline.api.store import Body, Store
from tuneline.errors import TunelineError
from tuneline.local.run_record import now
from tuneline.registry import resource_id

LOG = logging.getLogger(__name__)
KIND = "operations"
DONE = "DONE"
"""State, in the store only, of an operation that nobody has to look after."""
TYPE = "type.googleapis.com/google.cloud.aiplatform"


def done(store: Store, version: str, resource: str, response: str, content: Body, metadata: str = "GenericOperationMetadata") -> Body:
    """An operation that has ended well. `version` is that of the request; `response` names the type, e.g. `Model`."""
    operation = _new(store, version, resource, metadata)
    return store.update(operation["name"], lambda body: {**body, "done": True, "state": DONE, "response": _typed(version, response, content)}, touch=False)


def start(store: Store, version: str, resource: str, response: str, work: Callable[[], Body], metadata: str = "GenericOperationMetadata") -> Body:
    """Begin work that takes a while; the operation as it is now. What the work raises becomes the operation's error."""
    operation = _new(store, version, resource, metadata)

    def run() -> None:
        outcome: Body
        try:
            outcome = {"response": _typed(version, response, work())}
        except Fault as fault:
            outcome = {"error": job_error("INVALID_ARGUMENT" if fault.http_status < 500 else "INTERNAL", [str(fault)])}
        except TunelineError as error:
            told = [*error.problems, *([error.next_action] if error.next_action else [])]
            outcome = {"error": job_error("INVALID_ARGUMENT" if error.attribution == "user" else "UNAVAILABLE", told)}
        except Exception:
            LOG.exception("operation %s", operation["name"])
            outcome = {"error": job_error("INTERNAL", ["This is a bug of Tuneline; the service's log has it."])}
        store.update(operation["name"], lambda body: {**body, "done": True, "state": DONE, **outcome}, touch=False)

    threading.Thread(target=run, name="operation", daemon=True).start()
    return operation


def fail_interrupted(store: Store) -> None:
    """At the start of the service: operations whose thread died with the last one will not end by themselves."""
    for body in store.in_states(KIND, ""):
        if not body.get("done"):
            error = job_error("UNAVAILABLE", ["The service was stopped while this went on. Send the request again."])
            store.update(body["name"], lambda found, error=error: {**found, "done": True, "error": error, "state": DONE}, touch=False)  # type: ignore[misc]


def answer(body: Body) -> Body:
    """The operation as clients read it."""
    return {key: body[key] for key in ("name", "metadata", "done", "response", "error") if key in body}


def _new(store: Store, version: str, resource: str, metadata: str) -> Body:
    moment = now()
    generic: dict[str, Any] = {"createTime": moment, "updateTime": moment}
    content = generic if metadata == "GenericOperationMetadata" else {"genericMetadata": generic}
    return store.insert(
        KIND,
        {
            "name": f"{resource}/operations/{resource_id(resource, moment, str(threading.get_ident()), str(id(content)))}",
            "metadata": {"@type": f"{TYPE}.{version}.{metadata}", **content},
            "done": False,
        },
    )


def _typed(version: str, kind: str, content: Body) -> Body:
    name = f"type.googleapis.com/{kind}" if "." in kind else f"{TYPE}.{version}.{kind}"
    return {"@type": name, **content}
