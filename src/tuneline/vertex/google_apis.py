"""Google's other APIs that a tuning job touches, and where they are. A tuning service has only one of them: Cloud Storage's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneline.errors import NotFoundError
from tuneline.vertex.rest import ENDPOINT, Caller, Json, is_google

STORAGE_HOST = "STORAGE_EMULATOR_HOST"
ADDRESSES = {
    "storage": "https://storage.googleapis.com/storage/v1",
    "resourcemanager": "https://cloudresourcemanager.googleapis.com/v1",
    "serviceusage": "https://serviceusage.googleapis.com",
    "kms": "https://cloudkms.googleapis.com/v1",
    "iam": "https://iam.googleapis.com/v1",
    "logging": "https://logging.googleapis.com/v2",
    "userinfo": "https://openidconnect.googleapis.com/v1",
}
"""Service -> where its methods begin."""
REGISTRIES = (".pkg.dev", ".gcr.io")
"""The domains of the image registries that get Google's credentials."""


def default_addresses() -> Mapping[str, str]:
    """The services that may be asked: with another address for Vertex AI, only the storage that answers there."""
    emulator = os.environ.get(STORAGE_HOST, "")
    if not is_google():
        storage = emulator or os.environ[ENDPOINT]
        return {"storage": f"{'' if '://' in storage else 'http://'}{storage.rstrip('/')}/storage/v1"}
    # Nobody's Google credentials go to an emulator.
    return {name: address for name, address in ADDRESSES.items() if not (emulator and name == "storage")}


@dataclass(kw_only=True)
class GoogleApis(Caller):
    """Calls by service and path. All of them only look, or ask what would be allowed, so each may be made twice."""

    addresses: Mapping[str, str] = field(default_factory=default_addresses)
    registries: Mapping[str, str] = field(default_factory=dict)
    """Host of an image registry -> address, where it is another one than https://HOST."""

    def has(self, service: str) -> bool:
        """Whether the service may be asked."""
        return service in self.addresses

    def get(self, service: str, path: str, **params: str | list[str]) -> Json:
        """The answer to a GET. Raises NotFoundError."""
        return self.call("GET", f"{self.addresses[service]}/{path}", params=params, is_repeatable=True)

    def find(self, service: str, path: str, **params: str | list[str]) -> Json | None:
        """The answer to a GET, if there is something."""
        try:
            return self.get(service, path, **params)
        except NotFoundError:
            return None

    def post(self, service: str, path: str, body: Mapping[str, Any]) -> Json:
        """The answer to a POST that changes nothing."""
        return self.call("POST", f"{self.addresses[service]}/{path}", body=body, is_repeatable=True)

    def manifest(self, registry: str, path: str, accept: str) -> Json:
        """An image's manifest or index. Raises NotFoundError."""
        address = self.registries.get(registry, f"https://{registry}")
        return self.call("GET", f"{address}/v2/{path}", headers={"Accept": accept}, is_repeatable=True)
