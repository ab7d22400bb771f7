"""What crosses HTTP is light: a client loads neither the service nor the libraries of pixels."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "PIL", "pycocotools", "scipy", "torch", "fastapi", "segdex_search", "segdex.http")


@pytest.mark.parametrize("module", ["segdex_core.wire.search", "segdex_core.wire.jobs", "segdex.client"])
def test_loading_it_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
