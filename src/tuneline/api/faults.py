"""Errors as Google's services report them: `{"error": {"code", "message", "status"}}`, with the HTTP status of the code."""

from collections.abc import Sequence
from http import HTTPStatus

from tuneline.errors import InfrastructureError, NotFoundError, TunelineError, UserError

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
"""google.rpc.Code -> HTTP, as google/rpc/code.proto maps them."""

GRPC_CODES = {
    "CANCELLED": 1, "INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "INTERNAL": 13, "UNAVAILABLE": 14,
}  # fmt: skip
"""Numbers of google.rpc.Code, which the `error` of a job or an operation holds."""


class Fault(Exception):
    """A request that is refused, or that failed."""

    def __init__(self, status: str, *problems: str, http_status: int = 0) -> None:
        super().__init__("\n".join(problems))
        self.status = status
        self.http_status = http_status or HTTP_STATUS[status]

    def to_json(self) -> dict[str, object]:
        return {"error": {"code": self.http_status, "message": str(self), "status": self.status}}


def invalid(*problems: str) -> Fault:
    """The request holds something that cannot be used."""
    return Fault("INVALID_ARGUMENT", *problems)


def not_found(name: str, advice: str = "") -> Fault:
    """There is no such resource."""
    return Fault("NOT_FOUND", f"{name} does not exist.{f' {advice}' if advice else ''}")


def fault_of(error: TunelineError) -> Fault:
    """An error of the library, as the answer to a request. Only what people can mend is told in full."""
    told = [*error.problems, *([error.next_action] if error.next_action else [])]
    match error:
        case NotFoundError():
            return Fault("NOT_FOUND", *told)
        case UserError():
            return Fault("INVALID_ARGUMENT", *told)
        case InfrastructureError():
            return Fault("UNAVAILABLE", *told)
        case _:
            return Fault("INTERNAL", "This is a bug of Tuneline; the service's log has it.")


def status_name(http_status: int) -> str:
    """The name for an HTTP status that the framework chose."""
    names = {number: name for name, number in reversed(HTTP_STATUS.items())}
    return {405: "UNIMPLEMENTED", 413: "INVALID_ARGUMENT"}.get(http_status, names.get(http_status, HTTPStatus(http_status).name))


def job_error(code: str, problems: Sequence[str]) -> dict[str, object]:
    """`error` of a job or an operation: a google.rpc.Status."""
    return {"code": GRPC_CODES[code], "message": "\n".join(problems)}
