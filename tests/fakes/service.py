"""What the service loads, over the fakes of ``parts``, and how its tests ask it."""

from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient
from tests.fakes.parts import parts

from segdex.http.state import Loaded
from segdex.wiring import load_service
from segdex_core.settings import Settings

HERE = "http://127.0.0.1:8600"

Make = Callable[..., TestClient]
"""Makes a service of given keys and settings, and returns who asks it."""


def load(folder: Path, *, settings: Settings) -> Loaded:
    """Return what a service of these settings answers from, over the parts above; its jobs are beside it."""
    jobs = {"jobs_file": folder.parent / "jobs.sqlite"}
    return load_service(settings.model_copy(update=jobs), parts(folder))


def refused(response: object, status: int, *words: str) -> None:
    """Check that an answer is a problem of one line."""
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    problem = response.json()  # type: ignore[attr-defined]
    assert problem["status"] == status
    assert "\n" not in problem["detail"]
    for word in words:
        assert word in problem["detail"], problem["detail"]
