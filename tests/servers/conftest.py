"""Worlds that several tests of the gateway live in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from servers.amqp_world import AmqpWorld, amqp_world


@pytest.fixture
async def amqp(tmp_path: Path) -> AsyncIterator[AmqpWorld]:
    """A hub with AMQP at its door."""
    async with amqp_world(tmp_path) as world:
        yield world
