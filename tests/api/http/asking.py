"""What the tests of the service ask it."""

from fastapi.testclient import TestClient


def first_hit(client: TestClient, text: str = "red") -> tuple[dict[str, object], dict[str, object]]:
    """Return the picture and the segment that match a text best."""
    answer = client.post("/v1/search", json={"texts": [text], "limit": 1, "per_image": 1}).json()
    hit = answer["hits"][0]
    return hit["image"], hit["segments"][0]
