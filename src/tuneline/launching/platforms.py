"""Which platform a launch runs on, with the credentials of the task."""

import os

from tuneline.launching.on_kubernetes import NAMESPACE_FILE, TrainJobs, open_client
from tuneline.launching.on_vertex import CustomJobs, project_of
from tuneline.launching.running import Platform
from tuneline.resolution import Launch
from tuneline.vertex.objects import Objects
from tuneline.vertex.rest import Vertex, open_session


def open_platform(launch: Launch) -> Platform:
    """The platform of a step that is not computed in place."""
    if launch == "train-job":
        client = open_client()
        return TrainJobs(client=client, namespace=NAMESPACE_FILE.read_text(encoding="utf-8").strip())
    project, session = project_of(os.environ), open_session()
    return CustomJobs(project=project, store=Objects(), region=lambda region: Vertex(region=region, session=session))
