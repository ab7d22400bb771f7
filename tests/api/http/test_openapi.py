"""The document of the interface changes only where somebody means it to."""

from tests.api.http.write_openapi import COMMITTED, openapi_text


def test_the_document_is_the_committed_one() -> None:
    assert openapi_text() == COMMITTED.read_text(encoding="utf-8"), (
        "the interface changed: if that is meant, run python -m tests.api.http.write_openapi and commit"
    )
