"""``Library``: the use cases of segdex on one index, in this process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack
from uuid import UUID

from segdex.answers import (
    Answer,
    Hit,
    Masks,
    Question,
    Segment,
    check_first,
    like,
)
from segdex.arguments import (
    ExportFields,
    Id,
    ImageArgument,
    IngestProgress,
    MaskChoices,
    PromptFields,
    QueryImage,
    QuestionFields,
    SearchFields,
    SomeIds,
    as_box,
    as_id,
    check_authors,
    check_idempotency_key,
    check_limit,
    check_side,
    clean_prefix,
    clean_tags,
    concept_request,
    export_request,
    import_request,
    job_request,
    label_request,
    mark_request,
    members_request,
    query_images,
    refine_request,
    search_request,
    segment_options,
    set_request,
)
from segdex.documents import Document, document_file
from segdex.jobs.allowed import check_paths
from segdex.jobs.watch import looks_at
from segdex.pictures import Picture, picture_file, picture_pixels
from segdex.render.results import (
    image_out,
    ingested_out,
    refinement_out,
    segment_out,
)
from segdex.sources import list_files
from segdex.usecases.backup import back_up, restore
from segdex.usecases.concepts import Concepts, find_concept
from segdex.usecases.erase import Eraser
from segdex.usecases.ids import find_ids
from segdex.usecases.images import ImageReader
from segdex.usecases.ingest import (
    build_graph,
    generator_of,
    ingest_listing,
    noted,
    quality_of,
    rehearse_listing,
    require_outside,
)
from segdex.usecases.manage import delete_images, forget_places, sync_index
from segdex.usecases.models import Models
from segdex.usecases.opening import Lazy, LazyIndex
from segdex.usecases.reembed import reembed, rehearse
from segdex.usecases.search import SentImage, answer_search, part_of
from segdex.usecases.sets import Sets
from segdex.usecases.uploads import KeptUpload, keep_picture
from segdex_core.errors import NotFoundError
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.not_pictures import NotPictures
from segdex_core.media.uris import canonical_uri
from segdex_core.patience import patient
from segdex_core.ports.backup import BackupFormat
from segdex_core.ports.decoder import Decoder
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Listing, Source
from segdex_core.records import RGBImage
from segdex_core.settings import Settings
from segdex_core.wire.concepts import ConceptDetails, ConceptOut, ConceptsOut
from segdex_core.wire.doctor import Examined
from segdex_core.wire.export import Exported, ExportOptions, MaskExportRequest
from segdex_core.wire.ids import FoundIds
from segdex_core.wire.images import (
    BackedUp,
    Deleted,
    DroppedVectors,
    ImageOut,
    Ingested,
    IngestReportOut,
    Reembedded,
    Restored,
    Stats,
    Synced,
)
from segdex_core.wire.imports import ImportReport, ImportRequest
from segdex_core.wire.jobs import Job
from segdex_core.wire.labels import LabelCounts, LabelReport, LabelRequest, LabelsCleared
from segdex_core.wire.limits import (
    DEFAULT_MIN_IOU,
    DEFAULT_REFINED,
    ExportFormatName,
    ImportFormat,
    LabelAuthor,
)
from segdex_core.wire.search import Question as Terms
from segdex_core.wire.search import (
    RefinementOut,
    RefineRequest,
    SearchOptions,
    SearchResponse,
    WeightedText,
)
from segdex_core.wire.segments import MasksOut, PromptOptions
from segdex_core.wire.sets import SetChanged, SetDetails, SetOut, SetsOut
from segdex_ingest.analyse import Embedding, RecipeSource
from segdex_ingest.beside import Beside
from segdex_ingest.journal import Journal
from segdex_ingest.masks.generate import preset
from segdex_ingest.reembed import ReembedOptions
from segdex_ingest.report import IngestReport
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_search.answer import require_filled
from segdex_search.concepts import KnownSpreads, Learnt, learn
from segdex_search.stats import describe_index

if TYPE_CHECKING:
    from segdex.jobs.queue import Jobs
    from segdex.usecases.export.run import Export
    from segdex_search.refine.refiner import Refinement


class Library:
    """An index and the models that fill and search it. Create one with ``segdex.open``.

    The index is opened, and each model is loaded, on first use. Threads may share a library; calls that
    segment by a prompt or refine run one at a time. Call ``close`` when done, or use the library as a context
    manager.

    ``segdex.Client`` has equal methods, arguments and results for a library behind a service.

    Args:
        settings: Limits and folders.
        index: Index to fill and search, opened on first use.
        models: Models that segment, embed, judge and refine.
        source: Source of the image files.
        jobs: Job queue of the index.
        has_queue: Whether anybody has used it yet.
        backups: Returns the form of backups; called by the first backup.
        decoder: Decodes files; closed with the library.
        journal: Notes which images are open during an ingest.
        not_pictures: Remembers which files are no pictures.
        writing: Reentrant lock that all writers to the index in this process share; None creates one.
        calibrations: Folder of the calibrations of embedders; None if there is none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        index: LazyIndex,
        models: Models,
        source: Source,
        jobs: "Lazy[Jobs]",
        backups: Callable[[], BackupFormat],
        decoder: Decoder,
        journal: Journal,
        not_pictures: NotPictures,
        has_queue: Callable[[], bool] = lambda: True,
        writing: AbstractContextManager[object] | None = None,
        calibrations: Path | None = None,
    ) -> None:
        self.settings = settings
        self.models = models
        self.source = source
        self._index = index
        self.decoder = decoder
        self.journal = journal
        self._not_pictures = not_pictures
        self._jobs = jobs
        self._has_queue = has_queue
        self._backups = backups
        self._writing = RLock() if writing is None else writing
        self._calibrations = calibrations
        self._spreads = KnownSpreads()

    def __repr__(self) -> str:
        return f"Library({self.settings.index!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the index and the job queue, and end the processes that decode."""
        self.decoder.close()
        self._jobs.close()
        self._index.close()

    @property
    def location(self) -> str:
        """Location of the index, as given in the settings."""
        return self.settings.index

    def with_models(self, models: Models) -> "Library":
        """Return a library that shares this index and job queue but uses other models."""
        return Library(
            self.settings,
            index=self._index,
            models=models,
            source=self.source,
            jobs=self._jobs,
            backups=self._backups,
            decoder=self.decoder,
            journal=self.journal,
            not_pictures=self._not_pictures,
            has_queue=self._has_queue,
            writing=self._writing,
            calibrations=self._calibrations,
        )

    def create_index(self) -> SegmentIndex:
        """Return the index, and create it if it does not exist.

        Raises:
            SegmentIndexError: If the index cannot be used.
        """
        return self._index.get(create=True)

    @property
    def queue(self) -> "Jobs":
        """Job queue of the index.

        Raises:
            JobsUnavailableError: If the queue cannot be reached.
        """
        return self._jobs.get()

    @property
    def index(self) -> SegmentIndex:
        """The open index.

        Raises:
            IndexMissingError: If the index does not exist yet; ``ingest`` creates it.
        """
        return self._index.get()

    # Search and refine.

    def search(
        self, *texts: str | WeightedText, image: ImageArgument = None, **fields: Unpack[SearchFields]
    ) -> Answer:
        """Return the segments that match a query, best first.

        Args:
            texts: Texts to search for; several texts are averaged.
            image: Query image, or several: a path, bytes, a Pillow image, an array, or a ``QueryImage`` with
                a box and a weight.
            fields: ``segments`` (ids of segments to match), ``regions`` (parts of indexed images to match),
                ``negative`` (texts to exclude), ``view_weights``, ``filter``, ``limit`` (number of images),
                ``per_image`` (hits in one image), ``min_score``, ``matches_only``, ``level``, ``nms``,
                ``exact``, ``combine``, ``diversity``, ``collapse_duplicates``, ``explain``, ``cursor``; see
                ``segdex_core.wire.search.SearchOptions``.

        Raises:
            QueryError: If a value is not allowed, or the query is empty.
            SegmentIndexError: If the index is missing, or was filled by another embedder.
            ModelError: If a model cannot be downloaded or loaded.
        """
        images = query_images(image)
        request = search_request(texts, fields, images=images)
        response = self.answer(request, self._sent(images))
        return Answer(response, Question(texts, image, fields), self)

    def similar(
        self,
        segment_ids: SomeIds,
        *,
        unlike: SomeIds = (),
        **fields: Unpack[SearchFields],
    ) -> Answer:
        """Return the segments that look like some segments, and unlike others, best first.

        With several segments, hits look like any of them. Segments that look more like one of ``unlike`` are
        left out. ``combine="mean"`` looks for what is like all of them together instead.

        Args:
            segment_ids: ID of a segment to look like, or several.
            unlike: ID of a segment to be unlike, or several.
            fields: As in ``search``.

        Raises:
            QueryError: If an id is not valid, or there is none to look like.
        """
        return self.search(**like(segment_ids, unlike, fields))

    def refine(
        self,
        *texts: str | WeightedText,
        segment_ids: Sequence[Id],
        image: ImageArgument = None,
        **fields: Unpack[QuestionFields],
    ) -> Iterator[RefinementOut]:
        """Yield a re-decoded mask for each segment, and whether it replaces the stored mask.

        Args:
            texts: Texts of the query.
            segment_ids: Ids of 1 to 100 segments of the index; they need not come from an answer.
            image: Query images, as in ``search``.
            fields: ``segments``, ``regions``, ``negative`` and ``view_weights``, as in ``search``.

        Raises:
            QueryError: If a value is not allowed, or the query is empty.
            NotFoundError: If a segment is not in the index.
            ImageError: If the file of an image is missing or has changed.
        """
        images = query_images(image)
        request = refine_request(texts, segment_ids, fields)
        return map(refinement_out, self.refinements(request, self._sent(images)))

    def explanations(
        self, answer: Answer, first: int = DEFAULT_REFINED
    ) -> "Iterator[tuple[Hit, Refinement]]":
        """Yield the first hits of an answer, each with its refinement, relevance map and prompt.

        Raises:
            QueryError: If ``first`` is out of range.
            ImageError: If the file of an image is missing or has changed.
        """
        hits = {hit.id: hit for hit in answer.hits[: check_first(first)]}
        if not hits:
            return
        question = answer.question
        request = refine_request(question.texts, list(hits), question.terms)
        for one in self.refinements(request, self._sent(query_images(question.image))):
            yield hits[one.segment_id], one

    def segment(
        self,
        image: Picture | None = None,
        *,
        image_id: Id | None = None,
        **prompt: Unpack[PromptFields],
    ) -> Masks:
        """Segment one object from points, a box, an earlier mask or a text, and return its masks, best first.

        Args:
            image: Image to segment; it need not be in the index.
            image_id: Id of an image of the index, instead of ``image``.
            prompt: Prompt of the object; see ``segdex.arguments.PromptFields``.

        Raises:
            QueryError: If the prompt is empty, or does not fit the image.
            ImageError: If the image cannot be read.
        """
        options = segment_options(image, image_id, prompt)
        if image is None:
            return Masks(self.masks_in(options, as_id(image_id or "")))
        pixels = picture_pixels(image, max_pixels=self.settings.max_pixels, decode=self.decoder)
        return Masks(self.masks(options, pixels, image_id=None))

    # Show.

    def show(self, segment_id: Id) -> Segment:
        """Return a segment of the index with its image.

        Raises:
            NotFoundError: If the segment is not in the index.
        """
        [(record, image)] = self._images.segments_with_images([as_id(segment_id)])
        return Segment(segment_out(record), image_out(image), self)

    def image(self, image_id: Id) -> ImageOut:
        """Return the metadata of an image of the index.

        Raises:
            NotFoundError: If the image is not in the index.
        """
        return image_out(self._images.image(as_id(image_id)))

    def image_file(self, image_id: Id, max_px: int = 1_024) -> bytes:
        """Return an image of the index as upright JPEG, its longer side at most ``max_px`` (16 to 4,096).

        Raises:
            QueryError: If ``max_px`` is out of range.
            NotFoundError: If the image is not in the index.
            ImageGoneError: If the file is missing or has changed.
        """
        max_px = check_side(max_px)
        from segdex.render.drawing import jpeg_of

        return jpeg_of(self._images.pixels(as_id(image_id)), max_px)

    def require_unchanged(self, image_id: Id) -> None:
        """Check that a file of an image still has the bytes that were ingested; the service calls it.

        Raises:
            NotFoundError: If the image is not in the index.
            ImageGoneError: If the file is missing or has changed.
        """
        self._images.require_unchanged(self._images.image(as_id(image_id)))

    def image_segments(self, image_id: Id) -> list[Segment]:
        """Return all segments of an image, largest first.

        Raises:
            NotFoundError: If the image is not in the index.
        """
        image = self._images.image(as_id(image_id))
        shown = image_out(image)
        return [Segment(segment_out(record), shown, self) for record in self._images.segments_of(image)]

    def find_ids(self, prefix: str) -> FoundIds:
        """Return the segments and images whose ids start with some digits: the first few of each.

        Args:
            prefix: The first 4 or more hexadecimal digits of an id; dashes do not count.

        Raises:
            QueryError: If it is too short or too long, or has other characters.
            IndexMissingError: If nothing was ingested yet.
        """
        return find_ids(self.index, clean_prefix(prefix))

    def pixels(self, image_id: Id, box_xyxy: tuple[int, int, int, int] | None = None) -> RGBImage:
        """Return the pixels of an image, or of a box in it, upright, as (H, W, 3) uint8.

        Raises:
            NotFoundError: If the image is not in the index.
            ImageGoneError: If the file is missing or has changed.
            QueryError: If the box does not overlap the image.
        """
        box_xyxy = as_box(box_xyxy)
        return part_of(self._images.pixels(as_id(image_id)), box_xyxy)

    def stats(self) -> Stats:
        """Return the size of the index and the models that filled it.

        Raises:
            IndexMissingError: If nothing was ingested yet.
        """
        return describe_index(self.index)

    def labels(self) -> LabelCounts:
        """Return how many segments carry each label.

        Raises:
            IndexMissingError: If nothing was ingested yet.
        """
        require_filled(self.index)
        return LabelCounts(counts=dict(self.index.label_counts()))

    # Change.

    def label(
        self,
        *labels: str,
        several: bool = False,
        min_score: float | None = None,
        segments: Sequence[Id] = (),
        by: str = "me",
        dry_run: bool = False,
    ) -> LabelReport:
        """Label all segments of the index with words, or some segments as a person.

        All segments are compared with the words in one pass over the stored vectors; no picture is read. An
        object gets the label that fits best, or none. The labels that the same author gave before are
        replaced, those of other authors stay.

        Args:
            labels: Words, such as ``traffic light``, or one concept, ``concept:NAME``.
            several: Give an object every label that fits, not only the best one.
            min_score: Lowest score of a label that fits; None for that of the embedder's calibration.
            segments: These alone get all the labels, from a person.
            by: Name of that person.
            dry_run: Count, and write nothing.

        Raises:
            QueryError: If a value is not allowed, or the embedder cannot read a label.
            NotFoundError: If a segment is not there.
            IndexMismatchError: If another embedder filled the index.
        """
        return self.label_as(
            label_request(
                labels, several=several, min_score=min_score, segments=segments, by=by, dry_run=dry_run
            )
        )

    def label_as(
        self, request: LabelRequest, on_batch: Callable[[int], None] = lambda _: None
    ) -> LabelReport:
        """Label segments as a request says; see ``label``."""
        from segdex.usecases.labels import label_index  # which imports scipy

        return label_index(
            request,
            index=self.index,
            models=self.models,
            learnt=self._learnt,
            writing=self._writing,
            on_batch=on_batch,
        )

    def clear_labels(self, *labels: str, authors: Sequence[LabelAuthor] = ("model",)) -> LabelsCleared:
        """Remove labels from all segments.

        Args:
            labels: These alone; none of them removes all.
            authors: Kinds of authors whose labels go: ``model``, ``concept``, ``person``.

        Raises:
            QueryError: If a label has no word, or a kind is not known.
        """
        from segdex_search.labels import clear_labels
        from segdex_search.queries import clean_labels

        names, kinds = clean_labels(labels), check_authors(authors)
        require_filled(self.index)
        with self._writing:
            return LabelsCleared(counts=clear_labels(self.index, self.index, names=names, authors=kinds))

    def import_labels(
        self,
        document: Document,
        *,
        format: ImportFormat,  # noqa: A002 - the name that the command line and JSON have
        by: str = "me",
        min_iou: float = DEFAULT_MIN_IOU,
        overrule: bool = False,
        remove_missing: bool = False,
        dry_run: bool = False,
    ) -> ImportReport:
        """Take the annotations of another tool back as labels of segments, as a person.

        An annotation is the segment that it was exported from, if their masks are still similar, or else the
        segment with the most similar mask. Annotations that are like no segment, and pictures that are not in
        the index, are counted and named. Labels of other authors stay.

        Args:
            document: File that another tool exported: its path or its bytes.
            format: ``coco`` or ``label-studio``.
            by: Name of the person whose labels these become.
            min_iou: Lowest IoU of an annotation and a segment that it was not exported from.
            overrule: Remove a label that was changed or removed there whoever gave it, also a model.
            remove_missing: Remove this person's labels from segments of these pictures that have no
                annotation.
            dry_run: Match and count, and write nothing.

        Raises:
            UsageError: If the document cannot be read, or a value is not allowed; nothing is written.
            IndexMissingError: If nothing was ingested yet.
        """
        request = import_request(
            format=format,
            by=by,
            min_iou=min_iou,
            overrule=overrule,
            remove_missing=remove_missing,
            dry_run=dry_run,
        )
        return self.import_as(request, document)

    def import_as(
        self,
        request: ImportRequest,
        document: Document,
        on_image: Callable[[int], None] = lambda _: None,
    ) -> ImportReport:
        """Take annotations back as a request says; see ``import_labels``."""
        from segdex.usecases.import_labels import import_labels  # which imports pycocotools

        name, data = document_file(document)
        return import_labels(
            request, data, name=name, index=self.index, writing=self._writing, on_image=on_image
        )

    def ingest(
        self,
        *paths: str | Path,
        exclude: Sequence[str] = (),
        include_hidden: bool = False,
        tags: Sequence[str] = (),
        quality: str | None = None,
        masks: MaskChoices | None = None,
        limit: int | None = None,
        redo_outdated: bool = False,
        dry_run: bool = False,
        progress: IngestProgress | None = None,
    ) -> IngestReportOut:
        """Bring the index up to date with files: segment, embed and store new or changed images.

        A repeated ingest skips images that are already indexed. Ctrl-C stops it; images that are already
        stored are kept. A Qdrant server that is away is waited for, 10 minutes at most.

        Args:
            paths: Files, folders, or patterns such as ``photos/**/*.jpg``.
            exclude: Patterns of names to exclude.
            include_hidden: Whether to include names that start with a dot.
            tags: Tags for every image.
            quality: ``fast``, ``balanced`` or ``best``; None for the quality of the index, or ``balanced``
                for a new one.
            masks: Further options for the masks.
            limit: Maximum number of images to segment.
            redo_outdated: Whether to re-segment images that were ingested with other models or settings.
            dry_run: Only report what would happen.
            progress: Callbacks that report the progress.

        Raises:
            UsageError: If no file is found, a value is not allowed, or images would be segmented again
                without ``redo_outdated``.
            SegmentIndexError: If the index fails; stored images are kept, and the next run continues.
            ModelError: If a model cannot be downloaded or loaded.
        """
        choices = masks or MaskChoices()
        if quality is not None:
            choices = replace(choices, quality=quality)
        generator_of(choices, choices.quality or "balanced")  # fails before anything is opened
        limit, tags = check_limit(limit), clean_tags(tags)
        listing = list_files(
            self.source, list(map(str, paths)), include_hidden=include_hidden, exclude=exclude
        )
        require_outside(self.settings.index, listing)
        progress = progress or IngestProgress()
        if dry_run:
            return rehearse_listing(
                listing,
                self._options(tags, limit),
                source=self.source,
                index=self._index,
                recipes=lambda index: self._recipes(choices, choices.quality or quality_of(index)),
                progress=progress,
                not_pictures=self._not_pictures,
            ).to_document()
        with patient(progress.on_note):
            report = self.ingest_files(
                listing,
                choices=choices,
                tags=tags,
                limit=limit,
                redo_outdated=redo_outdated,
                progress=progress,
            )
            if report.segments and not report.interrupted:
                build_graph(self.index, progress)
        return report.to_document()

    def ingest_files(
        self,
        listing: Listing,
        *,
        choices: MaskChoices,
        tags: tuple[str, ...],
        limit: int | None,
        redo_outdated: bool,
        progress: IngestProgress,
    ) -> IngestReport:
        """Ingest the files of a listing without building the search graph; ``ingest`` and jobs call it."""
        index = self.create_index()
        quality = choices.quality or quality_of(index)
        return ingest_listing(
            listing,
            index,
            self._recipes(choices, quality),
            replace(self._options(tags, limit), analysis_threads=self.models.analysis_threads),
            source=self.source,
            profile=self.models.profile,
            quality=quality,
            redo_outdated=redo_outdated,
            progress=progress,
            lock=self._writing,
            journal=self.journal,
            not_pictures=self._not_pictures,
        )

    def upload(
        self,
        image: Picture,
        *,
        tags: Sequence[str] = (),
        wait: bool = True,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Ingested:
        """Store an image in the upload folder and ingest it; equal files are stored once.

        Args:
            image: Image to upload.
            tags: Tags for the image.
            wait: Whether to wait for the ingest; False queues a job and returns at once.
            name: File name given by the sender; None for the name of the path.
            idempotency_key: Text that is new for each new upload: the same upload with the same key has the
                same result, for a day.

        Raises:
            UsageError: If ``SEGDEX_UPLOADS`` names no folder, or the key came with another upload.
            ImageError: If the image cannot be decoded, or is too large.
            StorageError: If the upload folder cannot be written.
        """
        from segdex.jobs.storages import JobsUnavailableError

        tags = clean_tags(tags)
        file_name, data = picture_file(image)
        digest, key = sha256_hex(data), check_idempotency_key(idempotency_key)
        claim = None
        if key is not None:
            with suppress(JobsUnavailableError):  # without the queue an upload is still stored once
                claim = self.queue.once.claim(key, ["upload", digest, list(tags), wait])
        if claim is not None and claim.answer is not None:
            done = _told(claim.answer, digest)
            if self._is_as_answered(done):
                return done
        done = self._upload(data, tags=tags, wait=wait, name=name or file_name)
        if claim is not None and done.image_id is not None:
            # Deleting the picture leaves nothing of it: neither its id nor a path is stored.
            mine = done.model_copy(update={"image_id": None, "detail": ""}).model_dump_json()
            with suppress(JobsUnavailableError):
                told = self.queue.once.finish(claim, mine)
                return done if told == mine else _told(told, digest)
        return done

    def _is_as_answered(self, done: Ingested) -> bool:
        """Return whether the index still has an upload, or its job is still kept."""
        if done.job_id is not None:
            return self.queue.get(done.job_id) is not None
        found = self.create_index().get_images([] if done.image_id is None else [done.image_id])
        return any(record.is_shown for record in found)

    def _upload(self, data: bytes, *, tags: tuple[str, ...], wait: bool, name: str) -> Ingested:
        kept = keep_picture(data, self.settings, name=name, decode=self.decoder)
        if not wait:
            job = self.queue.add(
                [str(kept.path)],
                tags=tags,
                redo_outdated=True,
                may_join=lambda job: (
                    job.status in ("waiting", "running") or (job.status == "done" and self._holds(kept))
                ),
            )
            return Ingested(outcome="queued", detail="", image_id=kept.image_id, job_id=job.id)
        index = self.create_index()
        uri = canonical_uri(kept.path)
        report = ingest_into(
            index,
            self.models.recipes(preset(quality_of(index))),
            [uri],
            source=self.source,
            profile=self.models.profile,
            known_ids=[kept.image_id],  # the path is made from the bytes: it holds no other image
            lock=self._writing,
            journal=self.journal,
            beside=Beside(named=frozenset({uri})),
            options=replace(self._options(tags), decode_threads=1),
        )
        [outcome] = report.files
        return ingested_out(outcome, kept.image_id)

    def delete(self, *targets: Id | Path) -> Deleted:
        """Delete images from the index, and all that was made of them: segments, labels, cached encodings.

        They leave the sets that they are in, their marks leave the concepts, and jobs forget their names.
        Uploaded files are deleted; all other files are kept.

        An id names an image with all its files. A file or folder names only itself: an image that also lies
        elsewhere keeps its other files and its segments, and is in ``kept``.

        Args:
            targets: Ids of images, files, or folders.

        Raises:
            UsageError: If a target matches no image; then nothing is deleted.
            StorageError: If a file cannot be deleted.
            JobsUnavailableError: If the job queue does not answer.
        """
        return delete_images(self.index, list(map(str, targets)), erase=self._eraser(), writing=self._writing)

    def forget_places(self, image_id: Id, places: Sequence[str]) -> Deleted:
        """Take files off one image, which is deleted with its last file; the service calls it.

        Raises:
            UsageError: If the image is not in the index, or a place is none of its files.
        """
        return forget_places(self.index, as_id(image_id), places, erase=self._eraser(), writing=self._writing)

    def sync(self, *, dry_run: bool = False, force: bool = False) -> Synced:
        """Remove images whose files are missing, and finish or remove what interrupted runs left behind.

        Files that were lost with their whole folder, as when a disk is not mounted, are not forgotten, and
        neither is any loss of half of the index; ``held`` names the folders. The rest is synchronized.

        Args:
            dry_run: Only report what would be removed.
            force: Forget also what may be out of reach.

        Raises:
            UsageError: If every image is missing, unless ``force`` or ``dry_run`` is set.
        """
        return sync_index(self.index, source=self.source, dry_run=dry_run, force=force)

    def doctor(self, *, fix: bool = False) -> Examined:
        """Examine the index, the uploads, the queue and the calibration, and name everything that is damaged.

        Args:
            fix: Mend what can be mended without losing anything: what was left half-written is deleted, so
                that the next ingest makes it anew, and fields that disagree are written again.

        Raises:
            IndexMissingError: If nothing was ingested yet.
            SegmentIndexError: If the index cannot be used at all.
        """
        from segdex.usecases.doctor import examine_library

        return examine_library(
            self.index,
            source=self.source,
            uploads=self.settings.uploads,
            jobs=self._jobs.get,
            calibrations=self._calibrations,
            writing=self._writing,
            fix=fix,
        )

    # Sets.

    def sets(self) -> SetsOut:
        """Return the named sets of segments and pictures, sorted by name."""
        return self._sets.all()

    def show_set(self, name: str) -> SetDetails:
        """Return a set with its members, oldest first.

        Members that one call added are in the order of their ids.

        Raises:
            NotFoundError: If there is no set of the name.
        """
        return self._sets.show(set_request(name).name)

    def create_set(self, name: str) -> SetOut:
        """Make an empty set.

        Raises:
            UsageError: If there is one of this name, or the name is not allowed.
        """
        return self._sets.create(set_request(name).name)

    def add_to_set(self, name: str, *ids: Id) -> SetChanged:
        """Add segments and pictures to a set, which is made if there is none of the name.

        A member stays when its picture is replaced or its file is gone, and is back when the same picture is
        ingested again and has the same mask. It goes when the picture is deleted with ``delete``.

        Raises:
            NotFoundError: If an id is none of the index; then nothing is added.
        """
        return self._sets.add(set_request(name).name, members_request(ids).ids)

    def remove_from_set(self, name: str, *ids: Id) -> SetChanged:
        """Remove segments and pictures from a set.

        Raises:
            NotFoundError: If there is no set of the name.
        """
        return self._sets.remove(set_request(name).name, members_request(ids).ids)

    def rename_set(self, name: str, new_name: str) -> SetOut:
        """Give a set another name.

        Raises:
            NotFoundError: If there is no set of the name.
            UsageError: If there is one of the new name, or it is not allowed.
        """
        return self._sets.rename(set_request(name).name, set_request(new_name).name)

    def delete_set(self, name: str) -> SetOut:
        """Delete a set; its segments and pictures stay.

        Raises:
            NotFoundError: If there is no set of the name.
        """
        return self._sets.delete(set_request(name).name)

    # Concepts.

    def concepts(self) -> ConceptsOut:
        """Return the saved concepts, sorted by name."""
        return self._concepts.all()

    def show_concept(self, name: str) -> ConceptDetails:
        """Return a concept with its marks, in the order in which they were made.

        Raises:
            NotFoundError: If there is no concept of the name.
        """
        return self._concepts.show(concept_request(name).name)

    def mark(
        self,
        name: str,
        *,
        right: Sequence[Id] = (),
        wrong: Sequence[Id] = (),
        neither: Sequence[Id] = (),
        text: str | None = None,
    ) -> ConceptOut:
        """Mark segments as right or wrong for a concept, which is made if there is none of the name.

        The query text ``concept:NAME`` then finds what is like the right segments and unlike the wrong ones.
        A concept without marks answers as its text does.

        Args:
            name: Letters, digits, ``.``, ``_`` and ``-``.
            right: Segments that show it.
            wrong: Segments that do not.
            neither: Segments whose marks are removed.
            text: Query text that it starts from; None leaves it as it is.

        Raises:
            QueryError: If a value is not allowed, or the concept would have neither a text nor a right mark.
            NotFoundError: If a segment that is right or wrong is not in the index; then nothing is changed.
        """
        request = mark_request(right=right, wrong=wrong, neither=neither, text=text)
        return self._concepts.mark(concept_request(name).name, request)

    def rename_concept(self, name: str, new_name: str) -> ConceptOut:
        """Give a concept another name.

        Raises:
            NotFoundError: If there is no concept of the name.
            UsageError: If there is one of the new name, or it is not allowed.
        """
        return self._concepts.rename(concept_request(name).name, concept_request(new_name).name)

    def delete_concept(self, name: str) -> ConceptOut:
        """Delete a concept; segments stay.

        Raises:
            NotFoundError: If there is no concept of the name.
        """
        return self._concepts.delete(concept_request(name).name)

    def reembed(
        self, *, skip_missing: bool = False, dry_run: bool = False, progress: IngestProgress | None = None
    ) -> Reembedded:
        """Embed all images again with the embedder and views of the settings, without segmenting again.

        Without ``embedder`` and ``profile``, the embedder stays; ``profile`` means the embedder that it has
        today. Colours that an earlier version did not measure are measured first.

        Searches continue meanwhile, and the new vectors replace the old ones in one step. A run that was
        stopped is resumed by the next one. Other open libraries and services then refuse writes, and have to
        be opened again; they search the old vectors until ``drop_old_vectors`` deletes these.

        Args:
            skip_missing: Leave images whose files are gone or have changed out of the new vectors. By
                default, the old vectors stay in use if there is such an image.
            dry_run: Only report how many images would be embedded, and how long it takes. This loads the
                embedder and embeds a few images.
            progress: Callbacks that report the progress.

        Raises:
            IndexMissingError: If nothing was ingested yet.
            UsageError: If no image can be read.
            ModelError: If the embedder cannot be fetched or loaded.
        """
        index, progress = self.index, progress or IngestProgress()
        require_filled(index)
        with noted("loading the embedder", progress.on_note):
            embedding = Embedding(self.models.new_embedder, self.settings.views)
            profile = self.models.profile
        options = ReembedOptions(
            max_pixels=self.settings.max_pixels,
            decode_threads=self.settings.decode_threads,
            skip_missing=skip_missing,
            decode=self.decoder,
        )
        if dry_run:
            return rehearse(index, embedding, source=self.source, profile=profile, options=options)
        with patient(progress.on_note):
            return reembed(
                index,
                embedding,
                source=self.source,
                profile=profile,
                options=options,
                replaced=self._index.replace,
                progress=progress,
            )

    def drop_old_vectors(self) -> DroppedVectors:
        """Delete vectors that are not in use: those before a re-embedding, and those of an unfinished one.

        Raises:
            IndexMissingError: If nothing was ingested yet.
        """
        require_filled(self.index)
        return DroppedVectors(sets=self.index.drop_unused())

    # Exports.

    def export(
        self,
        path: str | Path,
        *texts: str | WeightedText,
        format: ExportFormatName,  # noqa: A002 - its name in JSON and on the command line
        image: ImageArgument = None,
        progress: IngestProgress | None = None,
        **fields: Unpack[ExportFields],
    ) -> Exported:
        """Write segments with their masks for another tool; see docs/export.md for the formats.

        Give a question, ``segment_ids``, or ``everything``.

        Args:
            path: Folder, which must not exist or be empty; a file that ends in ``.zip``; or, for a format of
                one document, a file with its suffix. Files must not exist.
            texts: Texts to search for, as in ``search``; the hits are exported.
            format: ``coco``, ``coco-polygons``, ``yolo``, ``label-studio``, ``cvat``, ``fiftyone``, ``csv``,
                or ``zip`` for cut-outs.
            image: Query images, as in ``search``.
            progress: Callbacks that report the progress.
            fields: ``everything`` (every segment that meets ``filter``), ``segment_ids``, ``category`` (the
                one category), ``pictures`` (``copy`` or ``none``), ``tolerance_px`` (of polygons),
                ``url_prefix``, ``refine`` (number of hits whose masks are re-decoded), and all of ``search``
                but ``cursor``.

        Raises:
            UsageError: If ``path`` is taken, or nothing matches.
            QueryError: If a value is not allowed.
            StorageError: If ``path`` cannot be written.
        """
        from segdex.saving import check_target, save  # which import scipy

        images = query_images(image)
        options = export_request(texts, fields, format_name=format, images=images)
        target = check_target(Path(path), options)
        with closing(self.export_files(options, self._sent(images), progress)) as made:
            save(made.files(), target)
            return made.record().model_copy(update={"path": str(target.path)})

    # Backups.

    def back_up(self, path: str | Path, *, progress: IngestProgress | None = None) -> BackedUp:
        """Write the whole index into a folder of Parquet files: masks, vectors, labels, sets and concepts.

        Image files are not copied. Other processes may write to the index meanwhile.

        Args:
            path: Folder, which must not exist.
            progress: Callbacks that report the progress.

        Raises:
            UsageError: If ``path`` exists.
            SegmentIndexError: If nothing was ingested yet, or an image lacks segments.
            BackupStorageError: If the folder cannot be written.
        """
        return back_up(self.index, self._backups(), Path(path), progress=progress or IngestProgress())

    def restore(self, path: str | Path, *, progress: IngestProgress | None = None) -> Restored:
        """Restore a backup into this index, which must be new, or continue a restoration that was stopped.

        Args:
            path: Folder of the backup.
            progress: Callbacks that report the progress.

        Raises:
            BackupInvalidError: If the backup is damaged or incomplete, or another version of segdex wrote it.
            IndexConflictError: If the index holds pictures that the backup does not have.
        """
        with self._writing:
            return restore(
                self.create_index, self._backups(), Path(path), progress=progress or IngestProgress()
            )

    # Jobs.

    def jobs(self) -> list[Job]:
        """Return the last jobs, newest first."""
        return self.queue.all()

    def add_job(
        self,
        paths: Sequence[str | Path],
        *,
        tags: Sequence[str] = (),
        redo_outdated: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue an ingest of files or folders inside the folders that jobs may read.

        A job that would re-segment images that were ingested with other models or settings fails without
        ``redo_outdated``. The same job that still waits is not queued twice.

        Args:
            paths: Files and folders.
            tags: Tags for every file.
            redo_outdated: Segment images again that other models or settings made.
            idempotency_key: Text that is new for each new job: the same request with the same key returns the
                same job, for a day, also when it has ended.

        Raises:
            UsageError: If a path is outside the allowed folders, or the key came with another request.
        """
        request = job_request(paths, tags, redo_outdated=redo_outdated)
        check_paths(request.paths, self.settings.job_roots)
        key, queue = check_idempotency_key(idempotency_key), self.queue
        claim = None if key is None else queue.once.claim(key, ["add_job", request.model_dump()])
        if claim is not None and claim.answer is not None:
            known = queue.get(claim.answer)
            if known is not None:
                return known
        job = queue.add(
            request.paths,
            tags=request.tags,
            redo_outdated=redo_outdated,
            job_id=None if claim is None else claim.id,
        )
        if claim is not None:
            queue.once.finish(claim, job.id)
        return job

    def job(self, job_id: str) -> Job:
        """Return a job with its progress.

        Raises:
            NotFoundError: If the job does not exist, or is no longer kept.
        """
        found = self.queue.get(job_id)
        if found is None:
            raise NotFoundError(f"there is no job {job_id!r}")
        return found

    def stop_job(self, job_id: str) -> Job:
        """Stop a job after the image that is being written; finished images are kept.

        Raises:
            NotFoundError: If the job does not exist, or is no longer kept.
        """
        self.job(job_id)
        return self.queue.stop(job_id) or self.job(job_id)

    def watch_job(self, job_id: str) -> Iterator[Job]:
        """Yield a job whenever it changes, until it ends.

        Raises:
            NotFoundError: If the job does not exist, or is no longer kept.
        """
        self.job(job_id)
        jobs = self.queue
        return (job for job in looks_at(lambda: jobs.get(job_id)) if job is not None)

    # Entry points of the service: JSON records and pixels in, JSON records out.

    def answer(self, options: SearchOptions, sent: Sequence[SentImage] = ()) -> SearchResponse:
        """Return the answer to a search request; see ``answer_search``."""
        return answer_search(
            options,
            sent,
            index=self.index,
            models=self.models,
            images=self._images,
            learnt=self._learnt,
            index_key=self.settings.index_key(),
        )

    def export_files(
        self,
        options: ExportOptions,
        sent: Sequence[SentImage] = (),
        progress: IngestProgress | None = None,
    ) -> "Export":
        """Return the files of an export, made while they are read; see ``export``. The caller closes it."""
        from segdex.usecases.export.ask import choose
        from segdex.usecases.export.pictures import PictureFiles
        from segdex.usecases.export.run import Export

        pictures = PictureFiles(self.source, self.decoder, self.settings.max_pixels)

        def refined(_: ExportOptions, answer: SearchResponse) -> Iterator[RefinementOut]:
            """Yield the refinements of the first hits whose pictures are there."""
            hits = Answer(answer, Question(fields={"diversity": options.diversity}), self)
            first = hits.hits[: options.refine]
            records = self.index.get_images(list({hit.image.id for hit in first}))
            there = {record.image_id for record in records if pictures.is_there(record)}
            ids = [hit.id for hit in first if hit.image.id in there]
            if ids:
                terms = {name: getattr(options, name) for name in Terms.model_fields}
                request = RefineRequest(**terms, segment_ids=ids)
                yield from map(refinement_out, self.refinements(request, sent))

        choice = choose(
            options,
            self.index,
            is_question=bool(sent) or options.has_question(),
            search=lambda asked: self.answer(asked, sent),
            refine=refined,
        )
        return Export(self.index, choice, options, pictures=pictures, progress=progress or IngestProgress())

    def coco_document(
        self,
        segment_id: UUID | None = None,
        *,
        image_id: UUID | None = None,
        drawn: MaskExportRequest | None = None,
        asked: str | None = None,
    ) -> bytes:
        """Return a COCO data set of one segment, or of a mask that was drawn in an image; see ``coco_of``.

        Raises:
            NotFoundError: If the segment or the image is not in the index, or the segment not in the image.
        """
        from segdex.usecases.export.single import coco_of

        segment_id = drawn.segment_id if drawn is not None else segment_id
        if segment_id is None:
            return coco_of(self._images.image(as_id(image_id or "")), None, drawn=drawn, asked=asked)
        [(segment, image)] = self._images.segments_with_images([segment_id])
        if image_id is not None and image.image_id != image_id:
            raise NotFoundError(f"segment {segment_id} is of picture {image.image_id}, not of {image_id}")
        return coco_of(image, segment, drawn=drawn, asked=asked)

    def refinements(self, request: RefineRequest, sent: Sequence[SentImage] = ()) -> "Iterator[Refinement]":
        """Yield refinements with their relevance maps and prompts; see ``refine_each``."""
        from segdex.usecases.refine import refine_each

        return refine_each(
            request, sent, index=self.index, models=self.models, images=self._images, learnt=self._learnt
        )

    def masks(self, options: PromptOptions, pixels: RGBImage, *, image_id: UUID | None) -> MasksOut:
        """Return the masks of a prompt in an image; the encoded image is cached if it has an id."""
        from segdex.usecases.segment import segment_object

        size_hw = (pixels.shape[0], pixels.shape[1])
        return segment_object(
            options, models=self.models, size_hw=size_hw, read=lambda: pixels, image_id=image_id
        )

    def masks_in(self, options: PromptOptions, image_id: UUID) -> MasksOut:
        """Return the masks of a prompt in an image of the index."""
        from segdex.usecases.segment import segment_object

        image = self._images.image(image_id)
        self._images.require_unchanged(image)  # its encoding may be cached
        return segment_object(
            options,
            models=self.models,
            size_hw=image.size_hw,
            read=lambda: self._images.pixels_of(image),
            image_id=image_id,
        )

    def _eraser(self) -> Eraser:
        return Eraser(
            self.settings,
            self.index,
            self.models,
            queue=lambda: self.queue if self._has_queue() else None,
            writing=self._writing,
        )

    def _holds(self, kept: KeptUpload) -> bool:
        """Return whether the index has an upload."""
        uri = canonical_uri(kept.path)
        found = self.create_index().get_images([kept.image_id])
        return any(record.is_shown and file.uri == uri for record in found for file in record.files)

    def _recipes(self, choices: MaskChoices, quality: str) -> RecipeSource:
        return self.models.recipes(generator_of(choices, quality))

    def _options(self, tags: tuple[str, ...], limit: int | None = None) -> IngestOptions:
        return IngestOptions(
            max_pixels=self.settings.max_pixels,
            max_bytes=self.settings.max_bytes,
            decode_threads=self.settings.decode_threads,
            limit=limit,
            tags=tags,
            decode=self.decoder,
            uploads=None if self.settings.uploads is None else canonical_uri(self.settings.uploads),
        )

    @property
    def _sets(self) -> Sets:
        return Sets(self.index, self._writing)

    @property
    def _concepts(self) -> Concepts:
        return Concepts(self.index, self._writing)

    def _learnt(self, name: str) -> Learnt:
        """Return what a concept means in a query."""
        return learn(find_concept(self.index, name), self.index, self._spreads)

    @property
    def _images(self) -> ImageReader:
        return ImageReader(self.index, self.source, max_pixels=self.settings.max_pixels, decode=self.decoder)

    def _sent(self, images: Sequence[QueryImage]) -> list[SentImage]:
        return [
            SentImage(
                picture_pixels(one.image, max_pixels=self.settings.max_pixels, decode=self.decoder),
                one.box_xyxy,
                one.weight,
            )
            for one in images
        ]


def _told(answer: str, digest: str) -> Ingested:
    """Return the stored answer to an upload of some bytes."""
    return Ingested.model_validate_json(answer).model_copy(update={"image_id": make_image_id(digest)})
