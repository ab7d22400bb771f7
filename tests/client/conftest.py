"""A service on loopback, and an environment that says nothing of another."""

import pytest
from tests.environment import no_variables
from tests.loopback import Serve, Service, serve_here, service_here

__all__ = ["Serve", "Service", "no_variables", "serve_here", "service_here"]


@pytest.fixture(autouse=True)
def _clean(no_variables: None) -> None: ...
