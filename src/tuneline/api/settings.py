"""How the service is set up."""

from dataclasses import dataclass, field
from pathlib import Path

from tuneline.api.fault_injection import Faults
from tuneline.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that `tuneline serve` was told."""

    home: Path
    """The service's own files: its memory, the queue, the buckets."""
    runs_dir: Path
    host: str = LOOPBACK[0]
    port: int = 8080
    token: str = ""
    """Bearer token that every request must carry; empty on a loopback address unless one is asked for."""
    catalog: str = ""
    """Path of a catalogue overlay for jobs that bring none, or nothing."""
    max_running: int = 1
    """Jobs at a time: the quota of a new project on Vertex."""
    max_body_bytes: int = 10 << 20
    """Of a request that is no upload."""
    max_upload_bytes: int = 64 << 30
    requests_per_second: float = 500.0
    """Of one client address, in the long run."""
    burst: int = 1000
    """Requests that a client may send at once after a pause."""
    extra_hosts: tuple[str, ...] = field(default=())
    """Further names by which the service may be called."""
    faults: Faults | None = None
    """Faults on purpose, for tests."""

    def __post_init__(self) -> None:
        if self.faults is not None and not self.is_loopback:
            raise UsageError(f"found faults with the host {self.host!r}; expected one of {', '.join(LOOPBACK)}: they are for tests on one machine.")

    @property
    def buckets(self) -> Path:
        """What gs:// means here: a folder for each bucket."""
        return self.home / "buckets"

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names in Host and Origin that are answered; any, when the service is open to a network under names that it cannot know."""
        if self.host in ("0.0.0.0", "::"):  # noqa: S104 (a comparison)
            return None
        return frozenset((*LOOPBACK, self.host, *self.extra_hosts))
