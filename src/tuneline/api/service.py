"""What the routes share."""

from collections import Counter
from dataclasses import dataclass, field

from tuneline.api.gcs import Buckets
from tuneline.api.jobs import JobFolders, Runner
from tuneline.api.settings import Settings
from tuneline.api.store import Store


@dataclass(frozen=True, kw_only=True)
class Service:
    """One running service."""

    settings: Settings
    store: Store
    jobs: JobFolders
    runner: Runner
    """Of pipeline jobs."""
    custom_jobs: Runner
    buckets: Buckets
    """What gs:// means here."""
    injected: Counter[str] = field(default_factory=Counter)
    """Faults on purpose that have happened, by kind."""


@dataclass(frozen=True)
class Place:
    """`projects/P/locations/L`: the parent of most resources. The two path parameters of a route."""

    project: str
    location: str

    @property
    def name(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"
