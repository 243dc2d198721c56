"""One module a kind of resource: its messages, its routes, and what it does. Each has `create_router(service, version)`."""

from collections.abc import Callable

from fastapi import APIRouter

from tuneline.api.resources import pipeline_jobs, schedules, tensorboards
from tuneline.api.service import Service

ROUTERS: tuple[Callable[[Service, str], APIRouter], ...] = (pipeline_jobs.create_router, schedules.create_router, tensorboards.create_router)
