"""Whether the server of this container answers: `python -m tuneline.serving.health` ends with 0 or 1. For HEALTHCHECK; standard library only."""

import http.client
import os
import sys
from collections.abc import Mapping

from tuneline.errors import UsageError
from tuneline.serving.vertex_environment import VertexEnvironment

TIMEOUT_SECONDS = 3


def main(environment: Mapping[str, str]) -> int:
    """0 when the health route answers 200."""
    try:
        vertex = VertexEnvironment.read(environment)
    except UsageError as error:
        return _unhealthy(str(error))
    where = f"http://127.0.0.1:{vertex.http_port}{vertex.health_route}"
    connection = http.client.HTTPConnection("127.0.0.1", vertex.http_port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", vertex.health_route)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _unhealthy(f"{where}: no answer ({error or type(error).__name__}).")
    finally:
        connection.close()
    return 0 if status == 200 else _unhealthy(f"{where}: found status {status}; expected 200.")


def _unhealthy(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
