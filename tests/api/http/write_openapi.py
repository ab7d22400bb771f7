"""Write the document of the interface that is committed: ``python -m tests.api.http.write_openapi``."""

import json
from pathlib import Path

from segdex.http.app import build_app
from segdex.http.state import Loaded, ServiceState
from segdex.wiring import build_settings

COMMITTED = Path(__file__).with_name("openapi.json")


def openapi_text() -> str:
    """Return the document as text that is the same on every machine, without the version of the package."""

    def never() -> Loaded:
        raise AssertionError

    document = build_app(ServiceState(build_settings(), (), never)).openapi()
    del document["info"]["version"]
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    COMMITTED.write_text(openapi_text(), encoding="utf-8")
