"""How a download is shown: two bars on a terminal, plain lines elsewhere, and its summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from gridkeep.cli.output import message
from gridkeep.runs.collect import Problem, Progress, Renamed, Report
from gridkeep.terminal import has_colours, is_terminal, many, printable, size

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


class _Lines(Progress):
    """Without a terminal: only what went wrong, when it does."""

    def failed(self, problem: Problem) -> None:
        message(_named(problem))


class _TwoBars(Progress):
    """Files, and bytes with rate and time left."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._files = bars.add_task("files", total=0, unit="files")
        self._bytes = bars.add_task("bytes", total=0, unit="bytes")
        self._total_files = self._total_bytes = 0

    def expect(self, files: int, size: int) -> None:
        self._total_files += files
        self._total_bytes += size
        self._bars.update(self._files, total=self._total_files)
        self._bars.update(self._bytes, total=self._total_bytes)

    def moved(self, size: int) -> None:
        self._bars.advance(self._bytes, size)

    def finished(self, files: int) -> None:
        self._bars.advance(self._files, files)

    def failed(self, problem: Problem) -> None:
        self._bars.console.print(_named(problem))


@contextmanager
def shown_progress(stream: TextIO) -> Iterator[Progress]:
    """What a download may tell while it goes on, shown on `stream`."""
    if not is_terminal(stream):
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: object) -> Text:
            done, total, unit = task.completed, task.total or 0, task.fields["unit"]  # type: ignore[attr-defined]
            if unit == "files":
                return Text(f"{int(done):,}/{int(total):,}")
            speed = task.speed  # type: ignore[attr-defined]
            rate = f"  {size(int(speed))}/s" if speed else ""
            return Text(f"{size(int(done))}/{size(int(total))}{rate}")

    console = Console(
        file=stream, no_color=not has_colours(stream), highlight=False, markup=False, emoji=False
    )
    columns = (TextColumn("{task.description:<5}"), BarColumn(), Amount(), TimeRemainingColumn(compact=True))
    with Bars(*columns, console=console, transient=True, refresh_per_second=8) as bars:
        yield _TwoBars(bars)


def summary(report: Report, directory: str) -> Iterator[str]:
    """What a download came to, in lines."""
    yield "Done downloading artifacts!"
    count, total = report.fetched + report.kept, report.fetched_bytes + report.kept_bytes
    kept = f" ({report.fetched:,} downloaded, {report.kept:,} were there already)" if report.kept else ""
    yield f"{many(count, 'file')}, {size(total)}{kept}, in {directory}"
    for name in sorted(report.shifted):
        yield f"Note: {name}/ is called {name.removesuffix('_work')}/ in the working directory."
    if report.renamed:
        yield f"{many(len(report.renamed), 'file')} cannot have their own name in this folder:"
        yield from (f"  {_renamed(each)}" for each in report.renamed)
    if report.failed:
        yield f"{many(len(report.failed), 'file')} could not be had, as said above."
    yield from _list(report.missing, "is missing", "are missing")
    if report.growing:
        yield from _list(report.growing, "is not finished yet", "are not finished yet")
    if report.active:
        more = len(report.active) - 1
        who = (
            f"{report.active[0]} and {many(more, 'more experiment')} go"
            if more
            else f"{report.active[0]} goes"
        )
        yield f"{who} on: run the same command again later, or with --follow."


def _renamed(each: Renamed) -> str:
    beside = f", beside {printable(each.place.beside)}" if each.place.beside else ""
    return f"{each.experiment}: {printable(each.path)} is called {printable(each.place.path)}{beside}"


def _list(problems: list[Problem], one: str, more: str) -> Iterator[str]:
    if problems:
        yield f"{many(len(problems), 'file')} {one if len(problems) == 1 else more}:"
        yield from (f"  {_named(problem)}" for problem in problems)


def _named(problem: Problem) -> str:
    path = "(path unknown)" if problem.path is None else printable(problem.path)
    return f"{problem.experiment}: {path}: {problem.reason}"
