"""What is registered on this machine: models and endpoints, as files under `TUNELINE_HOME`. Standard library only."""

import hashlib
import os
from pathlib import Path


def home() -> Path:
    """The folder of everything that outlives a run: `TUNELINE_HOME`, or `~/.tuneline`."""
    return Path(os.environ.get("TUNELINE_HOME") or Path.home() / ".tuneline").absolute()


def resource_id(*names: str) -> str:
    """The 19 digits that always stand for these names. As a number they are below 2^63: clients keep some of Vertex's ids as int64."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return str(10**18 + int.from_bytes(digest[:16]) % (8 * 10**18))
