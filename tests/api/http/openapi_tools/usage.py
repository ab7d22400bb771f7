"""What a program does with the generated Python client; a test checks its types, and runs it."""

import sys
from uuid import UUID

from segdex_client import AuthenticatedClient
from segdex_client.api.pictures import get_image_file, get_stats
from segdex_client.api.search import search
from segdex_client.models import Problem, SearchRequest, SearchResponse, Stats


def main(url: str) -> None:
    with AuthenticatedClient(base_url=url, token="segdex_...") as client:
        stats = get_stats.sync(client=client)
        assert isinstance(stats, Stats), stats
        answer = search.sync(client=client, body=SearchRequest(texts=["red"], limit=1))
        if isinstance(answer, Problem):
            sys.exit(answer.detail)
        assert isinstance(answer, SearchResponse)
        hit = answer.hits[0]
        image_id: UUID = hit.image.id
        box: list[int] = hit.segments[0].box_xyxy
        picture = get_image_file.sync(image_id, client=client, max_px=64)
        assert picture is not None
        assert not isinstance(picture, Problem)
        print(
            stats.segments, hit.image.path, hit.segments[0].score > 0, len(box), len(picture.payload.read())
        )


if __name__ == "__main__":
    main(sys.argv[1])
