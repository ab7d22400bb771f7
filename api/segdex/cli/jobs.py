"""``segdex jobs``: ingests of folders on the machine of a service."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    JsonOption,
    ServerOption,
    YesOption,
    client_of,
    console_err,
    console_out,
    in_words,
    print_json,
    settings_from,
)
from segdex.cli.lines import Form, JsonLinesOption, json_form, print_line
from segdex_core.errors import UsageError
from segdex_core.media.uris import display_path

if TYPE_CHECKING:
    from segdex.client import Client
    from segdex_core.wire.jobs import Job

JobArgument = Annotated[str, typer.Argument(help="Id of a job, as `segdex jobs list` prints it.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="Tag for every file; repeatable.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    jobs = typer.Typer(help="Manage ingests of folders on the machine of a service.", no_args_is_help=True)
    jobs.command("add")(add_command)
    jobs.command("list")(list_command)
    jobs.command("watch")(watch_command)
    jobs.command("stop")(stop_command)
    app.add_typer(jobs, name="jobs")


def add_command(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Folders or files on the machine of the service.")],
    tag: TagOption = None,
    yes: YesOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress until the job ends.")] = False,
    as_json: JsonOption = False,
    as_lines: JsonLinesOption = False,
    server: ServerOption = None,
) -> int:
    """Queue an ingest of folders or files on the machine of the service."""
    form = json_form(as_json=as_json, as_lines=as_lines)
    with _service(context, server) as client:
        job = client.add_job(paths, tags=tag or [], redo_outdated=yes)
        if watch:
            return _watch(client.watch_job(job.id), form)
        return _show(job, form)


def list_command(context: typer.Context, as_json: JsonOption = False, server: ServerOption = None) -> int:
    """List the last jobs, newest first."""
    from segdex.cli.tables import print_table

    with _service(context, server) as client:
        jobs = client.jobs()
    if as_json:
        print_json([job.model_dump(mode="json") for job in jobs])
        return 0
    if not jobs:
        console_out().print("no jobs")
        return 0
    heads = ("job", "status", "files", "segments", "asked for (UTC)", "worker", "since (UTC)", "paths")
    print_table(console_out(), heads, [_row(job) for job in jobs])
    return 0


def _row(job: "Job") -> tuple[str, ...]:
    total = "?" if job.total is None else f"{job.total:,}"
    files, paths = f"{job.done:,} of {total}", ", ".join(job.paths)
    worker = (job.worker or "").rpartition(":")[0]  # host and process; its own number tells people nothing
    times = _utc(job.created_s), worker, _utc(job.started_s)
    return job.id, job.status, files, f"{job.segments:,}", *times, paths


def _utc(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def watch_command(
    context: typer.Context,
    job: JobArgument,
    as_json: JsonOption = False,
    as_lines: JsonLinesOption = False,
    server: ServerOption = None,
) -> int:
    """Show the progress of a job until it ends; Ctrl-C does not stop the job."""
    form = json_form(as_json=as_json, as_lines=as_lines)
    with _service(context, server) as client:
        return _watch(client.watch_job(job), form)


def stop_command(
    context: typer.Context, job: JobArgument, as_json: JsonOption = False, server: ServerOption = None
) -> int:
    """Stop a job after the file that is being written; finished files are kept."""
    with _service(context, server) as client:
        stopped = client.stop_job(job)
    _show(stopped, "json" if as_json else "text")
    return 0


def _service(context: typer.Context, server: str | None) -> "Client":
    """Return the client of the service that runs the jobs.

    Raises:
        UsageError: If no service is named.
    """
    settings = settings_from(context, server=server)
    if settings.server is None:
        raise UsageError("jobs are carried out by a service: name it with --server URL, or SEGDEX_SERVER")
    return client_of(settings.server, settings)


def _watch(states: "Iterable[Job]", form: Form) -> int:
    """Show the progress of a job, then its result; return the exit code."""
    from segdex.cli.job_pace import JobPace
    from segdex.cli.progress import Reporter

    last: Job | None = None
    pace = JobPace()
    with Reporter(console_err(), pace) as reporter:
        for last in states:
            if form == "lines":
                print_line(last)
            is_found = pace.total is None and last.total is not None
            pace.follow(last)
            if is_found:
                reporter.begin(last.total)
            reporter.note(last.detail if last.status == "running" else last.status)
            reporter.follow(_newest(last))
    if last is None:
        raise UsageError("the service keeps this job no longer; see `segdex jobs list`")
    return int(_has_failed(last)) if form == "lines" else _show(last, form)


def _newest(job: "Job") -> str:
    if not job.last:
        return ""
    newest = job.last[-1]
    return f"{display_path(newest.uri).rsplit('/', 1)[-1]}: {in_words(newest.outcome)}"


def _has_failed(job: "Job") -> bool:
    from segdex_core.wire.images import FAILED

    return job.status == "failed" or any(job.counts.get(outcome) for outcome in FAILED)


def _show(job: "Job", form: Form) -> int:
    """Print a job and return the exit code: 1 if the job or some of its files failed."""
    from rich.text import Text

    from segdex_core.wire.images import kinds_in_words

    failed = _has_failed(job)
    if form != "text":
        (print_line if form == "lines" else print_json)(job)
        return int(failed)
    console = console_out()
    for one in job.failures:
        console.print(Text(f"{in_words(one.outcome)}: {one.detail}", style="yellow"))
    counts = ", ".join(f"{count:,} {in_words(outcome)}" for outcome, count in job.counts.items() if count)
    if job.kinds:
        counts += f" ({kinds_in_words(job.kinds)})"
    console.print(f"job {job.id}  {job.status}  {counts or 'nothing yet'}", markup=False)
    if job.detail:
        console.print(Text(job.detail, style="yellow"))
    return int(failed)
