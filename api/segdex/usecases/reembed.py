"""Re-embed an index with another embedder or other views, and delete vectors that are not in use."""

from collections.abc import Callable

from segdex.arguments import IngestProgress
from segdex.usecases.ingest import build_graph, noted
from segdex_core.choices import ProfileName
from segdex_core.media.uris import display_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord
from segdex_core.wire.images import IngestedFile, MissingPicture, Outcome, Reembedded
from segdex_ingest.analyse import Embedding
from segdex_ingest.recolour import images_without_colours, measure_colours
from segdex_ingest.reembed import MissingImage, ReembedOptions, reembed_index, rehearse_reembedding
from segdex_search.answer import require_filled


def reembed(
    index: SegmentIndex,
    embedding: Embedding,
    *,
    source: Source,
    profile: ProfileName,
    options: ReembedOptions,
    replaced: Callable[[SegmentIndex], None],
    progress: IngestProgress,
) -> Reembedded:
    """Embed all images of an index again, and switch to the new vectors.

    Args:
        index: Index to re-embed.
        embedding: New embedder and views.
        source: Source of the files.
        profile: Profile of the new embedder.
        options: Limits, threads, and what happens to images that cannot be read.
        replaced: Called with the index that has the new vectors.
        progress: Callbacks that report the progress.

    Raises:
        UsageError: If no image can be read at all.
    """
    former = require_filled(index).embedder

    def on_image(record: ImageRecord, problem: str) -> None:
        uri = record.files[0].uri
        progress.on_file(
            IngestedFile(
                uri=uri,
                path=display_path(uri),
                outcome=Outcome.UNREADABLE if problem else "reembedded",
                detail=problem,
                image_id=record.image_id,
                segments=0 if problem else record.segment_count,
            )
        )

    without, colored = images_without_colours(index), 0
    if without:
        with noted("measuring colors", progress.on_note):
            colored = measure_colours(
                index, without, source=source, max_pixels=options.max_pixels, decode=options.decode
            )
    report = reembed_index(
        index,
        embedding,
        source=source,
        profile=profile,
        options=options,
        on_start=progress.on_start,
        on_image=on_image,
    )
    if report.index is not None:
        replaced(report.index)
        build_graph(report.index, progress)
    return Reembedded(
        former=former,
        embedder=embedding.embedder.fingerprint,
        views=embedding.views,
        images=report.images,
        embedded=report.embedded,
        segments=report.segments,
        missing=[_missing(one) for one in report.missing],
        unknown=report.unknown,
        switched=report.index is not None,
        colored=colored,
        # pictures that cannot be read may have been left out by now
        uncolored=_uncolored(report.index or index) if sum(without.values()) > colored else 0,
        nothing_to_do=report.nothing_to_do,
        interrupted=report.interrupted,
        elapsed_s=round(report.elapsed_s, 3),
        dry_run=False,
    )


def rehearse(
    index: SegmentIndex,
    embedding: Embedding,
    *,
    source: Source,
    profile: ProfileName,
    options: ReembedOptions,
) -> Reembedded:
    """Return what ``reembed`` would do; it embeds a few images to measure the time, and writes nothing.

    Args:
        index: Index to re-embed.
        embedding: New embedder and views.
        source: Source of the files.
        profile: Profile of the new embedder.
        options: Limits and threads.
    """
    former = require_filled(index).embedder
    found = rehearse_reembedding(index, embedding, source=source, profile=profile, options=options)
    return Reembedded(
        former=former,
        embedder=embedding.embedder.fingerprint,
        views=embedding.views,
        images=found.images,
        embedded=0,
        segments=0,
        missing=[_missing(one) for one in found.missing],
        unknown=0,
        switched=False,
        colored=0,
        uncolored=_uncolored(index),
        nothing_to_do=found.nothing_to_do,
        interrupted=False,
        elapsed_s=0.0,
        dry_run=True,
        to_embed=found.to_embed,
        estimated_s=None if found.image_s is None else round(found.image_s * found.to_embed, 1),
    )


def _uncolored(index: SegmentIndex) -> int:
    return sum(images_without_colours(index).values())


def _missing(one: MissingImage) -> MissingPicture:
    uri = one.record.files[0].uri
    return MissingPicture(id=one.record.image_id, path=display_path(uri), uri=uri, reason=one.reason)
