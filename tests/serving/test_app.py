import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request

from tuneline.errors import InfrastructureError
from tuneline.serving.app import Refusal, until_disconnected
from tuneline.serving.service import Service


def request_that(receive: Callable[[], Awaitable[dict[str, object]]]) -> Request:
    return Request({"type": "http", "method": "POST", "headers": [], "path": "/"}, receive)


def test_work_is_given_up_when_its_client_has_gone() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def gone() -> dict[str, object]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def run() -> None:
        with pytest.raises(Refusal, match="the client has gone"):
            await until_disconnected(request_that(gone), work())
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == ["cancelled"]


def test_work_that_ends_is_answered_whether_it_succeeds_or_not() -> None:
    async def waits() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    async def succeeds() -> int:
        return 7

    async def fails() -> int:
        raise InfrastructureError("lost")

    async def run() -> None:
        assert await until_disconnected(request_that(waits), succeeds()) == 7
        with pytest.raises(InfrastructureError, match="lost"):
            await until_disconnected(request_that(waits), fails())

    asyncio.run(run())


def service() -> Service:
    return Service(endpoint_id="77", deployed_model_id="8", model_resource_name="projects/p/locations/local/models/5@1", display_name="demo")


def test_nobody_is_idle_while_somebody_is_served() -> None:
    one = service()
    one.last_active -= 100
    assert one.idle_seconds > 99
    with one.busy(), one.busy():
        one.last_active -= 100
        assert one.idle_seconds == 0
    assert one.idle_seconds < 50


def test_until_the_model_is_loaded_it_is_not_healthy() -> None:
    with pytest.raises(InfrastructureError, match="being loaded"):
        service().check_health()


def test_a_service_is_known_by_all_its_names() -> None:
    assert service().model_names == ["demo", "projects/p/locations/local/models/5@1", "77"]
    assert Service(endpoint_id="", deployed_model_id="", model_resource_name="", display_name="").model_names == ["model"]
