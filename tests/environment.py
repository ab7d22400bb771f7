"""What the environment says, for tests of what reads it."""

import pytest


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset what the environment may say of the service or the index."""
    for name in ("SERVER", "SERVER_KEY", "INDEX", "PROFILE"):
        monkeypatch.delenv(f"SEGDEX_{name}", raising=False)
