"""Errors as Cloud Storage reports them: `{"error": {"code", "message", "errors": [{"reason", "message", "domain"}]}}`."""

import errno


class StorageFault(Exception):
    """A request that is refused, or that failed."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    def to_json(self) -> dict[str, object]:
        detail = {"reason": self.reason, "message": str(self), "domain": "global"}
        return {"error": {"code": self.code, "message": str(self), "errors": [detail]}}


def invalid(message: str) -> StorageFault:
    """The request holds something that cannot be used."""
    return StorageFault(400, "invalid", message)


def no_bucket(bucket: str) -> StorageFault:
    return StorageFault(404, "notFound", f"The specified bucket does not exist: {bucket}")


def no_object(bucket: str, name: str) -> StorageFault:
    return StorageFault(404, "notFound", f"No such object: {bucket}/{name}")


def no_upload() -> StorageFault:
    return StorageFault(404, "notFound", "No such upload. It is finished, cancelled or too old; start it anew.")


def conflict(message: str) -> StorageFault:
    return StorageFault(409, "conflict", message)


def precondition_failed(message: str) -> StorageFault:
    return StorageFault(412, "conditionNotMet", f"At least one of the pre-conditions you specified did not hold: {message}")


def not_modified() -> StorageFault:
    return StorageFault(304, "notModified", "")


def too_large(limit: int) -> StorageFault:
    return StorageFault(413, "uploadTooLarge", f"found more than {limit} bytes; expected at most that many.")


def changed_meanwhile(bucket: str, name: str) -> StorageFault:
    """Somebody writes to the file without asking us. The same request may succeed later."""
    return StorageFault(503, "backendError", f"{bucket}/{name} changed while it was read; try again.")


def fault_of(error: OSError) -> StorageFault:
    """A disk that failed. A full one is not worth a second try, so it gets a code that clients do not repeat."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFault(507, "insufficientStorage", "The disk of the tuning service is full.")
    return StorageFault(503, "backendError", f"The disk of the tuning service failed: {error.strerror or type(error).__name__}.")
