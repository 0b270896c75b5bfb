"""A new world for every test."""

import pytest

from devices.fakes import World


@pytest.fixture
def world() -> World:
    return World()
