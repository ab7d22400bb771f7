"""An answer and its refinements in the form that was asked for: text, one JSON document, or JSON Lines."""

from dataclasses import dataclass, field

from rich.console import Console

from segdex.cli.answers import print_answer, print_refined
from segdex.cli.common import print_json
from segdex.cli.lines import Form, print_line
from segdex_core.wire.search import RefinementOut, SearchResponse


@dataclass(slots=True)
class SearchOutput:
    """Prints what is there as soon as its form allows.

    Attributes:
        form: One document is printed at the end; text and lines at once.
        console: Console for text.
        matches_only: Whether weaker matches were left out.
        is_refined: Whether refinements were asked for; only then the document has them.
    """

    form: Form
    console: Console
    matches_only: bool
    is_refined: bool
    _refinements: list[RefinementOut] = field(default_factory=list)

    def answer(self, response: SearchResponse) -> None:
        """Print the answer."""
        if self.form == "lines":
            print_line(response)
        elif self.form == "text":
            print_answer(response, self.console, matches_only=self.matches_only)

    def refined(self, one: RefinementOut) -> None:
        """Print a refinement."""
        if self.form == "lines":
            print_line(one)
        elif self.form == "text":
            print_refined(one, self.console)
        else:
            self._refinements.append(one)

    def end(self, response: SearchResponse) -> None:
        """Print the one document: the answer of the service, with the refinements that were asked for."""
        if self.form != "json":
            return
        document = response.model_dump(mode="json")
        if self.is_refined:
            document["refinements"] = [one.model_dump(mode="json") for one in self._refinements]
        print_json(document)
