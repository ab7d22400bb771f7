"""Examine an index: find everything that is not as a run without faults leaves it.

Other processes may write meanwhile. What was found wrong is therefore read once more before it is reported,
until the record of the picture stays the same while its segments are read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from segdex_core.concepts import Concept
from segdex_core.errors import ImageError, IndexMissingError
from segdex_core.masks import rle_area_px
from segdex_core.media.uris import display_path
from segdex_core.ports.examination import Found, IndexExamination
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.records import ImageFile, ImageRecord, IndexFingerprint, MaskRecipe, SegmentRecord
from segdex_core.sets import SegmentSet, SetMember
from segdex_core.wire.doctor import FindingKind
from segdex_core.wording import count_of
from segdex_ingest.again import is_unchanged
from segdex_ingest.checks import StoredPicture, is_labelled, loses_labels, of_segment, problems_of
from segdex_ingest.earlier import is_of_embedder

_IMAGES_AT_ONCE = 64
_TRIES = 10

FIX = "segdex doctor --fix"

_REDONE: frozenset[FindingKind] = frozenset(
    {
        "unreadable_segment",
        "missing_segments",
        "extra_segments",
        "damaged_mask",
        "damaged_vector",
        "object_score",
        "wrong_id",
        "ancestors",
    }
)
"""Damage of a picture that the next ingest mends if the picture is marked as not written completely."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: Kind of the damage.
        what: Id or name of what is damaged.
        detail: What is wrong, in one line.
        mend: What mends it: a command, or words.
        fixable: Whether ``fix`` mends it, without losing anything that an ingest does not make anew.
        path: File of the picture; None if it is not known.
        image_id: The picture; None if it belongs to none.
    """

    kind: FindingKind
    what: str
    detail: str
    mend: str
    fixable: bool = False
    path: str | None = None
    image_id: UUID | None = None


def examine(
    index: SegmentIndex,
    *,
    source: Source,
    on_images: Callable[[Sequence[UUID]], None] = lambda _: None,
) -> Iterator[Finding]:
    """Yield what is wrong in an index. Nothing is changed.

    Everything is read once, some pictures at a time. A damaged point is a finding, and never an error.
    A file is read only if its time of change differs from that in the index, and its size does not.

    Args:
        index: Index to examine.
        source: Source of the files.
        on_images: Called with the ids of the pictures that were examined since the last call.

    Raises:
        SegmentIndexError: If the index does not answer.
    """
    found = index.fingerprint()
    if found is None:
        raise IndexMissingError(f"{index.location} is empty; fill it with: segdex ingest FOLDER")
    stored = index.examination()
    known: set[UUID] = set()
    examined = _Pictures(stored, _Files(source), found, index.recipes())
    images = stored.images()
    while some := list(islice(images, _IMAGES_AT_ONCE)):
        ids = [one.point_id for one in some]
        known.update(ids)
        yield from examined.findings(some)
        on_images(ids)
    if index.counts().segments != examined.segments:
        yield from _without_picture(stored, known)
    yield from _saved(stored)
    yield from _leftovers(stored)


class _Pictures:
    """Examines the pictures of an index with their segments.

    Attributes:
        segments: Number of segments that were read so far.
    """

    def __init__(
        self,
        stored: IndexExamination,
        files: "_Files",
        fingerprint: IndexFingerprint,
        recipes: Mapping[str, MaskRecipe],
    ) -> None:
        self._stored = stored
        self._files = files
        self._fingerprint = fingerprint
        self._recipes = recipes
        self.segments = 0

    def findings(self, images: list[Found[ImageRecord]]) -> Iterator[Finding]:
        """Yield the findings of some pictures, in their order."""
        ids = [one.point_id for one in images]
        segments: dict[UUID, list[Found[SegmentRecord]]] = {key: [] for key in ids}
        for segment in self._stored.segments(ids):
            if segment.image_id in segments:
                self.segments += 1
                segments[segment.image_id].append(segment)
        members: dict[UUID, list[Found[SetMember]]] = {key: [] for key in ids}
        for member in self._stored.members(ids):
            if member.image_id in members:
                members[member.image_id].append(member)
        for one in images:
            if problems_of(StoredPicture(one, segments[one.point_id], members[one.point_id])):
                yield from self._confirmed(one.point_id)
            elif one.record is not None:
                yield from self._of_files(one.record)

    def _confirmed(self, image_id: UUID) -> Iterator[Finding]:
        for _ in range(_TRIES):
            image = self._stored.image(image_id)
            if image is None:
                return  # deleted in the meantime
            segments = list(self._stored.segments([image_id]))
            members = list(self._stored.members([image_id]))
            again = self._stored.image(image_id)
            if again is not None and _revision(again) == _revision(image):
                break
        else:
            return  # it changes all the time
        picture, record = StoredPicture(image, segments, members), image.record
        path = None if record is None else display_path(record.files[0].uri)
        there = record is None or self._files.intact(record) is not None
        for problem in problems_of(picture):
            fixable, mend = _mend(problem.kind, picture, path, there=there)
            yield Finding(problem.kind, str(image_id), problem.detail, mend, fixable, path, image_id)
        if record is not None:
            yield from self._of_files(record)

    def _of_files(self, record: ImageRecord) -> Iterator[Finding]:
        if not is_of_embedder(record.recipe, self._fingerprint, self._recipes):
            yield Finding(
                "other_embedder",
                str(record.image_id),
                f"its vectors were not made by {self._fingerprint.embedder}, as those of the index",
                "segdex reembed",
                path=display_path(record.files[0].uri),
                image_id=record.image_id,
            )
        yield from self._files.findings(record)


class _Files:
    """Compares pictures with their files."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def findings(self, record: ImageRecord) -> Iterator[Finding]:
        """Yield what is wrong with the files of a picture."""
        by_kind: dict[FindingKind, list[str]] = {}
        for file in record.files:
            kind = self._state(record, file)
            if kind is not None:
                by_kind.setdefault(kind, []).append(display_path(file.uri))
        for kind, (path, *more) in by_kind.items():
            detail = "is missing" if kind == "missing_file" else "holds something else by now"
            others = f", and {count_of(len(more), 'other file')} of this picture" if more else ""
            mend = "segdex sync" if kind == "missing_file" else f"segdex ingest {path}"
            what = str(record.image_id)
            yield Finding(kind, what, f"{path} {detail}{others}", mend, path=path, image_id=record.image_id)

    def intact(self, record: ImageRecord) -> ImageFile | None:
        """Return a file that still holds the picture; None if there is none."""
        return next((file for file in record.files if self._state(record, file) is None), None)

    def _state(self, record: ImageRecord, file: ImageFile) -> FindingKind | None:
        try:
            return None if is_unchanged(record, file, source=self._source) else "replaced_file"
        except ImageError:  # or not readable for this user
            return "missing_file"


def _mend(kind: FindingKind, picture: StoredPicture, path: str | None, *, there: bool) -> tuple[bool, str]:
    """Return whether a problem of a picture can be mended without loss, and what mends it."""
    image_id, record = picture.image.point_id, picture.image.record
    ingest = f"segdex ingest {path or 'PATH'}"
    if kind == "unfinished_picture":
        is_ingests = record is not None and record.pending is not None and record.pending.kind == "write"
        return not is_ingests, ingest if is_ingests else FIX
    if kind not in _REDONE and kind != "unreadable_picture":
        return True, FIX
    if loses_labels(picture):
        return False, f"segdex delete {image_id}, which deletes its labels, and {ingest}"
    if not there:
        return False, f"put its file back and {ingest}, or segdex delete {image_id}"
    return True, f"{FIX}, and {ingest}"


def _without_picture(stored: IndexExamination, known: set[UUID]) -> Iterator[Finding]:
    """Yield the segments whose picture has no record."""
    counts: dict[UUID, int] = {}
    for one in stored.all_segments():
        if one.image_id is None:
            [(kind, detail), *_] = of_segment(one)
            yield Finding(kind, str(one.point_id), detail, FIX, fixable=True)
        elif one.image_id not in known:
            counts[one.image_id] = counts.get(one.image_id, 0) + 1
    for image_id in sorted(counts):
        segments = list(stored.segments([image_id]))
        if stored.image(image_id) is not None or not segments:
            continue  # written or deleted in the meantime
        detail = f"{count_of(len(segments), 'segment')} without a record of their picture"
        labelled = any(is_labelled(one) for one in segments)
        mend = (
            "segdex ingest PATH, which keeps their labels" if labelled else f"{FIX}, and segdex ingest PATH"
        )
        yield Finding("orphans", str(image_id), detail, mend, fixable=not labelled, image_id=image_id)


def _saved(stored: IndexExamination) -> Iterator[Finding]:
    """Yield what is wrong with sets, members and concepts."""
    names: dict[str, UUID] = {}
    sets: set[UUID] = set()
    members: dict[UUID, int] = {}
    for one in stored.saved():
        match one.record:
            case None:
                yield Finding("unreadable_set", str(one.point_id), one.problem, "restore a backup")
            case SegmentSet(set_id, name):
                sets.add(set_id)
                if names.setdefault(name, set_id) != set_id:
                    detail = f"two sets have the name {name!r}"
                    yield Finding("same_name", str(set_id), detail, f"segdex set rename {name!r} NEW")
            case SetMember(set_id):
                members[set_id] = members.get(set_id, 0) + 1
            case Concept() as concept:
                yield from _of_concept(concept)
    for set_id in sorted(members.keys() - sets):
        detail = f"{count_of(members[set_id], 'member')} of a set that does not exist"
        yield Finding("members_without_set", str(set_id), detail, FIX, fixable=True)


def _of_concept(concept: Concept) -> Iterator[Finding]:
    for mark in concept.marks:
        try:
            rle_area_px(mark.mask)
        except ValueError as error:
            detail = f"the mark of segment {mark.segment_id}: {error}"
            mend = f"segdex concept mark {concept.name} --neither {mark.segment_id}"
            yield Finding("unreadable_set", f"concept {concept.name}", detail, mend)


def _leftovers(stored: IndexExamination) -> Iterator[Finding]:
    """Yield what re-embeddings left behind."""
    found = stored.leftovers()
    for name in found.parts:
        yield Finding("leftover_collection", name, "a collection without its other half", FIX, fixable=True)
    resume = "segdex reembed goes on with it, segdex reembed --drop-old gives it up"
    for key in found.unfinished:
        yield Finding("unfinished_reembedding", key, "vectors of a re-embedding that is not done", resume)
    if found.is_fenced:
        detail = "writes are refused: a re-embedding is at its end, or was stopped there"
        yield Finding("unfinished_reembedding", "fence", detail, resume)


def _revision(image: Found[ImageRecord]) -> int | None:
    return None if image.record is None else image.record.revision
