"""Submitting a run: everything is checked first, then kept, and recorded last.

An error leaves nothing behind. Once the catalog has the run, it is executed whatever becomes of the submitter: its copy of
the code and its environment lie in the home by then. Knows nothing of how experiments are executed.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gridkeep.errors import (
    ConfigError,
    GridError,
    NameTaken,
    NoCredentials,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from gridkeep.files import write_json
from gridkeep.model import Experiment, Run, RunSpec, State, new_ulid
from gridkeep.runs import dispatch, sweep
from gridkeep.runs.config import RunConfig, load
from gridkeep.runs.context import Context
from gridkeep.runs.inputs import Input, fetch_inputs, find_inputs
from gridkeep.runs.names import check_name, made_up_name
from gridkeep.runs.program import Program, resolve
from gridkeep.runs.values import readable
from gridkeep.supervisor import credentials, restart, workcopy
from gridkeep.supervisor.cleanup import submitting
from gridkeep.supervisor.copying import remove_tree
from gridkeep.supervisor.prepare import copy_file, environ_file
from gridkeep.supervisor.record import keep_submission
from gridkeep.supervisor.workcopy import WorkingCopy

_NAME_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asks for; None where nothing was said. `cwd` and `environ` are those of the submitter."""

    script: str
    args: Sequence[str] = ()
    cwd: str
    environ: Mapping[str, str]
    name: str | None = None
    cluster: str | None = None
    strategy: str | None = None
    num_trials: int | None = None
    seed: int | None = None
    parallel: int | None = None
    cpus: float | None = None
    gpus: int | None = None
    memory: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    auto_resume: bool | None = None
    timeout: float | None = None  # seconds
    exclude: Sequence[str] = ()
    in_place: bool = False
    capture: bool = True
    config: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was submitted, or would be. `notes` are for people."""

    run: Run
    experiments: list[Experiment]
    store: str  # its URI
    copy: WorkingCopy | None  # None in place
    notes: list[str]


def submit(context: Context, request: Request) -> Submission:
    """Checks, keeps and records a run, and wakes the engine; with `dry_run` only the first.

    Raises NameTaken, NotFound, ConfigError, UsageError, StoreDenied, HomeError or another GridError.
    """
    config = load(request.config) if request.config else RunConfig()
    notes = [f"`{key}` of {request.config} has no effect." for key in config.without_effect]
    if request.name is not None:
        _check_free(context, request.name)
    if request.in_place and request.inputs:
        raise UsageError("--input needs a working copy, and --in-place takes none.", "Leave one of them out.")
    combinations = _combinations(context, request, config)
    notes += combinations.notes
    root, workdir = workcopy.locate(request.cwd, context.home.path)
    program = resolve(request.script, cwd=request.cwd, root=root, environ=request.environ)
    spec = _spec(context, request, config, program, combinations.seed)
    inputs = find_inputs(context, request.inputs)
    cluster = request.cluster or context.settings.cluster
    place = context.cluster(cluster)
    try:
        context.check_store(place)
    except NoCredentials:
        raise  # nobody would give them to the run later
    except (StoreUnavailable, StoreFull) as error:
        notes.append(f"The store cannot be used now, and the run's files will wait for it: {error.message}")
    copy = None
    if not request.in_place:  # last, as it may take a while
        copy = workcopy.survey(root, workdir, context.settings, context.home.path)
        _check_copied(request.script, program, copy)
    spec = replace(spec, root=root, workdir=workdir, linked=copy.linked if copy else [])
    submission = _new_run(context, request, cluster, spec, combinations.combinations)
    submission = replace(submission, store=place.uri, copy=copy, notes=notes)
    if request.dry_run:
        return replace(submission, notes=[*notes, *(copy.warnings if copy else [])])
    with submitting(context.home, submission.run.ulid):
        submission = _keep_and_record(context, request, config, submission, inputs)
    dispatch.wake(context.home, context.catalog, request.environ)
    return submission


# ------------------------------------------------------------------------------------------------------- checking


def _check_free(context: Context, name: str) -> None:
    """Early, before anything is copied; the catalog has the last word when the run is recorded."""
    check_name(name)
    if context.catalog.run(name) is not None:
        raise NameTaken(
            f"A Run with the name {name} already exists", f"Try `--name {_free_name(context, name)}`."
        )


def _free_name(context: Context, name: str) -> str:
    for number in range(2, 1000):
        candidate = f"{name[:59].rstrip('-')}-{number}"
        if context.catalog.run(candidate) is None:
            return candidate
    return made_up_name()


def _combinations(context: Context, request: Request, config: RunConfig) -> sweep.Plan:
    strategy = request.strategy or config.strategy or "grid_search"
    arguments = sweep.read_arguments(request.args, sweep=strategy != "none")
    typed = {argument.name for argument in arguments}
    params = {name: value for name, value in config.params.items() if name.lstrip("-") not in typed}
    of_file = sweep.read_params(params, sweep=strategy != "none")
    end = next((at for at, argument in enumerate(arguments) if argument.words == ("--",)), len(arguments))
    return sweep.plan(
        [*arguments[:end], *of_file, *arguments[end:]],
        strategy=strategy,
        num_trials=request.num_trials if request.num_trials is not None else config.num_trials,
        seed=request.seed if request.seed is not None else config.seed,
        limit=context.settings.max_experiments,
    )


def _check_copied(script: str, program: Program, copy: WorkingCopy) -> None:
    if program.inside is None or any(entry.path == program.inside for entry in copy.entries):
        return
    if not any(program.inside.startswith(f"{folder}/") for folder in copy.linked):
        raise GridError(
            f"{script} is left out of the working copy.", "Mend .gridignore, or use `--in-place`."
        )


def _check_patterns(patterns: list[str]) -> list[str]:
    if patterns:
        from pathspec import GitIgnoreSpec  # slow to load, and few runs have any

        try:
            GitIgnoreSpec.from_lines(patterns)
        except ValueError as error:
            raise ConfigError(
                f"A pattern to exclude cannot be read: {error}.", "Patterns are those of .gitignore."
            ) from None
    return patterns


# --------------------------------------------------------------------------------------------------------- making


def _spec(
    context: Context, request: Request, config: RunConfig, program: Program, seed: int | None
) -> RunSpec:
    """The options of the command line, else those of the file, else the settings."""
    settings = context.settings
    return RunSpec(
        argv=program.argv,
        display=_command(request.script, request.args),
        workdir="",
        root="",
        umask=_umask(),
        in_place=request.in_place,
        capture=request.capture,
        exclude=_check_patterns([*settings.exclude, *config.exclude, *request.exclude]),
        env_names=sorted({*config.environment, *request.env}),
        inputs=list(request.inputs),
        cpus=request.cpus or config.cpus or 1,
        gpus=request.gpus if request.gpus is not None else config.gpus or 0,
        memory=request.memory or config.memory,
        parallel=request.parallel or config.parallel or settings.parallel,
        timeout=request.timeout or config.timeout,
        auto_resume=request.auto_resume if request.auto_resume is not None else bool(config.auto_resume),
        strategy=request.strategy or config.strategy or "grid_search",
        num_trials=request.num_trials if request.num_trials is not None else config.num_trials,
        seed=seed,
        on_build=config.on_build,
        on_experiment_start=config.on_experiment_start,
        on_experiment_end=config.on_experiment_end,
    )


def _new_run(
    context: Context,
    request: Request,
    cluster: str,
    spec: RunSpec,
    combinations: Sequence[sweep.Combination],
) -> Submission:
    now = time.time()
    run = Run(
        run_id=f"wr_{new_ulid(now)}",
        name=request.name or made_up_name(),
        kind="script",
        cluster=cluster,
        created_by=context.user,
        created_at=now,
        spec=spec,
        parent=request.environ.get("GRID_EXPERIMENT_ID"),
        counts={State.QUEUED: len(combinations)},
    )
    ulids = sorted(new_ulid(now) for _ in combinations)
    experiments = [
        Experiment(
            experiment_id=ulid,
            run_id=run.run_id,
            run=run.name,
            index=index,
            params=each.params,
            args=each.args,
            command=_command(request.script, each.args),
            created_at=now,
        )
        for index, (ulid, each) in enumerate(zip(ulids, combinations, strict=True))
    ]
    return Submission(run=run, experiments=experiments, store="", copy=None, notes=[])


def _command(script: str, args: Sequence[str]) -> str:
    return readable(shlex.join([script, *args]))


# -------------------------------------------------------------------------------------------------------- keeping


def _keep_and_record(
    context: Context, request: Request, config: RunConfig, submission: Submission, inputs: Sequence[Input]
) -> Submission:
    """Takes the working copy, writes the environment, and records the run; all of it or nothing. What was submitted is
    kept in the home as well, until the run has ended: the catalog may be lost."""
    run, copy, notes = submission.run, submission.copy, submission.notes
    work, journal = context.home.work(run.ulid), context.home.journal(run.ulid)
    try:
        if copy is not None:
            copy = workcopy.take(copy, work)
            notes = [*notes, *copy.warnings, *fetch_inputs(context, inputs, work)]
            workcopy.note(work, copy_file(context.home, run.ulid))
        environ = {**request.environ, **config.environment, **request.env}
        write_json(environ_file(context.home, run.ulid), environ)
        if credentials.needs_credentials(context.cluster(run.cluster)):
            credentials.keep(context.home, run.ulid, context.environ)
        restart.note(context.home, run.ulid)
        submission = _record(context, submission, may_rename=request.name is None)
    except BaseException:
        if context.catalog.run(run.run_id) is None:  # not interrupted just after it was recorded
            remove_tree(work)
            remove_tree(journal)
        raise
    return replace(submission, copy=copy, notes=notes)


def _record(context: Context, submission: Submission, *, may_rename: bool) -> Submission:
    cluster = context.cluster(submission.run.cluster)
    for attempt in range(_NAME_TRIES):
        keep_submission(
            context.home,
            submission.store,
            submission.run,
            submission.experiments,
            endpoint=cluster.endpoint,
            region=cluster.region,
        )
        try:
            context.catalog.create_run(submission.run, submission.experiments)
            context.catalog.add_cluster(cluster)  # if it was deleted in this moment
            break
        except NameTaken:
            if not may_rename or attempt == _NAME_TRIES - 1:
                raise
            name = made_up_name()
            submission = replace(
                submission,
                run=replace(submission.run, name=name),
                experiments=[replace(each, run=name) for each in submission.experiments],
            )
    return submission


def _umask() -> int:
    """This process's, which cannot be read without being set."""
    current = os.umask(0o077)
    os.umask(current)
    return current
