"""Ask a server on this machine. No proxy is ever asked on the way, whatever the environment says."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tuneline.errors import InfrastructureError


def request(url: str, path: str, body: Mapping[str, object] | None = None, *, timeout_seconds: float) -> tuple[int, dict[str, Any]]:
    """Status and JSON answer of `GET url/path`, or of `POST` when there is a body."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_seconds)
    try:
        content = None if body is None else json.dumps(body).encode()
        connection.request("GET" if content is None else "POST", path, body=content, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InfrastructureError(f"{url}{path}: no answer ({error or type(error).__name__}).") from error
    finally:
        connection.close()
