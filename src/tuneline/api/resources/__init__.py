"""One module a kind of resource: its messages, its routes, and what it does. Each has `create_router(service, version)`."""

from collections.abc import Callable

from fastapi import APIRouter

from tuneline.api.resources import (
    custom_jobs,
    endpoints,
    generate_content,
    model_copies,
    model_evaluations,
    model_garden,
    models,
    openai,
    pipeline_jobs,
    predictions,
    publishers,
    schedules,
    streaming_predictions,
    tensorboards,
    token_counts,
    tuning_jobs,
)
from tuneline.api.service import Service

ROUTERS: tuple[Callable[[Service, str], APIRouter], ...] = (
    pipeline_jobs.create_router,
    schedules.create_router,
    tensorboards.create_router,
    tuning_jobs.create_router,
    custom_jobs.create_router,
    models.create_router,
    model_copies.create_router,
    model_evaluations.create_router,
    endpoints.create_router,
    predictions.create_router,
    streaming_predictions.create_router,
    generate_content.create_router,
    token_counts.create_router,
    openai.create_router,
    publishers.create_router,
    model_garden.create_router,
)
