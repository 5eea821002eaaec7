"""Tables and numbers of the page."""

from collections.abc import Iterator, Sequence

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.words import enum_word

Cells = Sequence[str]


def table(caption: str, heading: Cells, rows: Iterator[Cells]) -> Iterator[str]:
    """A table whose first column names its rows; caption and cells are HTML."""
    yield f'<div class="wide"><table><caption>{caption}</caption><thead><tr>'
    for place, cell in enumerate(heading):
        first = "" if place else ' class="first"'
        yield f'<th scope="col"{first}>{cell}</th>'
    yield "</tr></thead><tbody>"
    for first, *cells in rows:
        others = "".join(f"<td>{cell}</td>" for cell in cells)
        yield f'<tr><th scope="row">{first}</th>{others}</tr>'
    yield "</tbody></table></div>"


def plain(estimate: pb.Estimate) -> str:
    """The number in short, or why there is none."""
    return _told(estimate, f"{estimate.value:.4g}")


def percent(estimate: pb.Estimate, *, sign: bool = True) -> str:
    """The number in percent, or why there is none."""
    return _told(estimate, f"{estimate.value:+.2%}" if sign else f"{estimate.value:.2%}")


def _told(estimate: pb.Estimate, number: str) -> str:
    if estimate.WhichOneof("result") == "value":
        return number
    return enum_word(estimate, "not_estimable").replace("_", " ")
