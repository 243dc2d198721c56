"""Google Cloud as one task sees it: its account, its clock, Cloud Storage, and Vertex AI's regions."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuneline.vertex.backoff import Backoff, Clock
from tuneline.vertex.objects import Objects
from tuneline.vertex.once import Action, Once
from tuneline.vertex.rest import Vertex, open_session

if TYPE_CHECKING:
    import requests


@dataclass(kw_only=True)
class Cloud:
    """What the parts of a task share."""

    objects: Objects = field(default_factory=Objects)
    session: "requests.Session" = field(default_factory=open_session)
    clock: Clock = field(default_factory=Clock)
    backoff: Backoff = field(default_factory=Backoff)

    def vertex(self, region: str) -> Vertex:
        """The API of a region."""
        return Vertex(region=region, session=self.session, backoff=self.backoff, clock=self.clock)

    def once(self, claim: str, action: Action, *, settle_seconds: float = Once.settle_seconds) -> str:
        """The result of the action, carried out once for all that use the claim."""
        return Once(store=self.objects, clock=self.clock, settle_seconds=settle_seconds).do(claim, action)
