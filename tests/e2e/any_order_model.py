"""A model of an index: what each picture may be after several processes changed the index at once.

The state of a picture is None where it is not in the index, and else the names of its files, its tags and its
labels. Revisions, times and recipes are left out. An operation changes one picture by steps, each of which is
atomic:

- an ingest or an upload notes the picture at each file that has its content, in the order of the names, and
  lets it leave each other file. A new picture has no labels. A picture that is noted at a new file loses
  files that are gone. A picture without files is deleted;
- ``delete`` deletes the picture, or lets it leave the file that is named;
- ``sync`` removes the files that are gone, and deletes a picture without files;
- ``reembed`` deletes a picture none of whose files has its content any more, at the moment of the switch;
- ``label`` replaces the labels of one author, if the picture is there.

A set has a picture or not; a membership stays when the picture is deleted. What was refused does nothing.
What was done half-way, or was done again after the vectors were replaced, may have done each of its steps or
none.

The steps of one process keep their order, and those of several processes come in any order: ``outcomes``
returns the states that all these serial orders lead to. Files change only while no process runs. Operations
touch pictures one by one, so that each picture is compared for itself, and each pair of a set and a picture.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

StateT = TypeVar("StateT", bound=Hashable)
Step = Callable[[StateT], StateT]

UPLOAD = "upload:"
"""Before the content of an uploaded file, in names of files."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What an index says of a picture that it has."""

    files: frozenset[str]
    tags: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()


State = Picture | None


@dataclass(frozen=True)
class Files:
    """The files of the folder, by name, with their content; uploads are there for ever."""

    contents: Mapping[str, str] = field(default_factory=dict)

    def exists(self, name: str) -> bool:
        """Return whether there is a file of the name."""
        return name.startswith(UPLOAD) or name in self.contents

    def holds(self, name: str, content: str) -> bool:
        """Return whether the file of a name has a content."""
        return (self.contents.get(name) or name.removeprefix(UPLOAD)) == content


def noted(file: str, tags: Iterable[str], files: Files) -> Step[State]:
    """Note a picture at a file."""

    def step(state: State) -> State:
        if state is None:
            return Picture(frozenset({file}), frozenset(tags))
        here = state.files
        if file not in here:
            here = frozenset(other for other in here if files.exists(other)) | {file}
        return Picture(here, state.tags | frozenset(tags), state.labels)

    return step


def left(file: str) -> Step[State]:
    """Let a picture leave a file."""
    return lambda state: None if state is None else _at(state, state.files - {file})


def deleted(_: State) -> State:
    """Delete a picture."""
    return None


def synced(files: Files) -> Step[State]:
    """Remove the files of a picture that are gone."""
    return lambda state: None if state is None else _at(state, frozenset(filter(files.exists, state.files)))


def reembedded(content: str, files: Files) -> Step[State]:
    """Leave a picture out whose files have no more its content."""

    def step(state: State) -> State:
        if state is None or not any(files.holds(file, content) for file in state.files):
            return None
        return state

    return step


def labelled(author: str, name: str) -> Step[State]:
    """Replace the label of an author."""

    def step(state: State) -> State:
        if state is None:
            return None
        others = frozenset(one for one in state.labels if one[0] != author)
        return Picture(state.files, state.tags, others | {(author, name)})

    return step


def _at(state: Picture, files: frozenset[str]) -> State:
    return Picture(files, state.tags, state.labels) if files else None


def outcomes(start: StateT, processes: Sequence[Sequence[tuple[Step[StateT], bool]]]) -> set[StateT]:
    """Return the states after all steps in every order that keeps the order of each process.

    Args:
        start: State before.
        processes: Steps of each process, each with whether it may be left out.
    """
    here: dict[tuple[int, ...], set[StateT]] = {(0,) * len(processes): {start}}
    for _ in range(sum(map(len, processes))):
        there: dict[tuple[int, ...], set[StateT]] = {}
        for places, states in here.items():
            for process, place in enumerate(places):
                if place == len(processes[process]):
                    continue
                step, may_be_left_out = processes[process][place]
                moved = (*places[:process], place + 1, *places[process + 1 :])
                reached = there.setdefault(moved, set())
                reached.update(step(state) for state in states)
                if may_be_left_out:
                    reached |= states
        here = there
    [reached] = here.values()
    return reached
