"""Which platform a launch runs on, with the credentials of the task."""

import os

from tuneline.kubernetes.api import open_client, own_namespace
from tuneline.launching.on_kubernetes import TrainJobs
from tuneline.launching.on_vertex import CustomJobs, project_of
from tuneline.launching.running import Platform
from tuneline.resolution import Launch
from tuneline.vertex.objects import Objects
from tuneline.vertex.rest import Vertex, open_session


def open_platform(launch: Launch) -> Platform:
    """The platform of a step that is not computed in place."""
    if launch == "train-job":
        return TrainJobs(client=open_client("A TrainJob"), namespace=own_namespace())
    project, session = project_of(os.environ), open_session()
    return CustomJobs(project=project, store=Objects(), region=lambda region: Vertex(region=region, session=session))
