"""``segdex.open`` finds out by itself that a service is at an address."""

import asyncio

import pytest
from tests.loopback import Service

import segdex
from segdex.client import AsyncClient, Client
from segdex_core.errors import UsageError


def test_the_address_of_a_service_is_a_client_that_has_no_settings(service: Service) -> None:
    with segdex.open(service.url) as client:
        assert isinstance(client, Client)
        assert client.stats().images == 2
    with segdex.open(service.url + "/") as client:
        assert client.search("blue", limit=1)[0].image.path.endswith("a.png")
    with pytest.raises(UsageError, match="profile, device cannot be set"):
        segdex.open(service.url, profile="offline", device="cpu")


def test_a_service_is_opened_for_an_event_loop(service: Service) -> None:
    async def ask() -> int:
        async with segdex.open_async(service.url) as client:
            assert isinstance(client, AsyncClient)
            return (await client.stats()).images

    assert asyncio.run(ask()) == 2
