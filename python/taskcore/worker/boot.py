"""Boots a worker: from the app and the options of the command line to the core's `Worker`.

Owns the order of things. Everything of the user's is imported first; then the zygote is forked,
while this process has neither threads nor connections; only then is the core's worker made, which
has both. What runs per task is not here at all: the loop is in the core.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from taskcore import _core, serialize, signals
from taskcore.config.validators import database_file, redact
from taskcore.entity import Queue, worker_direct
from taskcore.exceptions import ImproperlyConfigured, NotSupportedError
from taskcore.publishing.queues import Queues
from taskcore.publishing.routes import declaration, is_plain
from taskcore.utils import utcoffset
from taskcore.utils.pid_file import pid_in
from taskcore.worker import log_setup, output
from taskcore.worker.commands import Commands
from taskcore.worker.controller import WorkController
from taskcore.worker.description import describe
from taskcore.worker.memory import resident
from taskcore.worker.os_signals import OsSignals
from taskcore.worker.redirect import redirected
from taskcore.worker.reload import bring_in
from taskcore.worker.task_spec import TaskSpec, make_task_spec

_INFO = 20
MOST_SLOTS = 1_000
"""The core's bound on a pool."""
FORKING = ("prefork", "asyncio")
"""The pools that have child processes."""
HEARTBEAT = 2.0
"""Seconds between two heartbeats, as in Celery."""


class WorkerOptions(NamedTuple):
    """What the command line may say; None leaves it to the app's configuration."""

    concurrency: int | None = None
    pool: str | None = None
    queues: list[str] | None = None
    exclude_queues: list[str] | None = None
    hostname: str | None = None
    loglevel: int = 30
    logfile: str | None = None
    pidfile: str | None = None
    """A file that says the number of this process; the name of the worker may stand in it."""
    purge: bool = False
    """Drop what waits in the worker's queues before it starts."""
    prefetch_multiplier: int | None = None
    disable_prefetch: bool = False
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    """KiB."""
    autoscale: tuple[int, int] | None = None
    """The most and the fewest tasks at the same time."""
    coroutines: int | None = None
    """Calls at the same time in each process of the pool `asyncio`."""
    time_limit: float | None = None
    soft_time_limit: float | None = None
    beat: bool = False
    """Also run a beat, in a thread."""
    beat_schedule: str | None = None
    beat_scheduler: str | None = None
    task_events: bool | None = None
    http: str | None = None
    """Where health and metrics are served."""
    without_heartbeat: bool = False
    on_start: Callable[[WorkerConfig], object] | None = None
    """Called with what was decided, before the worker connects; for the banner."""
    on_ready: Callable[[WorkerConfig], object] | None = None
    """Called once the worker is connected and consumes."""


class WorkerConfig(NamedTuple):
    """What was decided; the core reads it by attribute name, see `_core.Worker`."""

    broker_url: str
    result_url: str | None
    broker_options: dict[str, Any]
    result_options: dict[str, Any]
    hostname: str
    queues: list[str]
    declarations: list[str]
    """The queues as they are declared, as far as somebody has said so; JSON."""
    pool: str
    concurrency: int
    prefetch: int | None
    prefetch_bytes: int
    accept_content: list[str]
    max_deliveries: int
    result_expires: float | None
    log_level: int
    log_file: str | None
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    autoscale: tuple[int, int, float] | None
    """The fewest and the most tasks at the same time, and after how many seconds without need the pool
    shrinks."""
    coroutines: int
    """Calls at the same time in each child; 1 where there is no event loop."""
    time_limit: float | None
    soft_time_limit: float | None
    shutdown_timeout: float | None
    disable_rate_limits: bool
    revokes_max: int
    revoke_expires: float
    event_exchange: str
    task_events: bool
    heartbeat: float | None
    """Seconds between two heartbeats; None: the worker tells none."""
    utcoffset: float
    """Hours west of Greenwich, as Celery's events have it."""
    http: str | None = None
    """Where health and metrics are served; once the worker is made, where they really are."""
    control: str | None = None
    """What the worker says of itself when it is asked; None: it is not to be asked."""

    @property
    def redacted_broker_url(self) -> str:
        """The broker's URL without its password, and with the whole path of a database."""
        return _shown(self.broker_url)

    @property
    def redacted_result_url(self) -> str | None:
        """The same of the result store's URL."""
        return None if self.result_url is None else _shown(self.result_url)


def _shown(url: str) -> str:
    file = database_file(url)
    return redact(url) if file is None else f"sqlite:///{file}"


def boot(app: Any, options: WorkerOptions | None = None) -> int:
    """Runs a worker for `app` until it is told to stop; gives the exit code.

    Raises:
        ImproperlyConfigured: a setting or option that can never work.
        OperationalError: the broker failed for good.
    """
    options = options or WorkerOptions()
    app.import_modules()
    app.finalize()
    name = options.hostname or f"taskcore@{app.node}"
    node = WorkController(app, name)
    signals.celeryd_init.send(name, instance=node, conf=app.conf, options=options)
    config = configure(app, options)
    specs = [make_task_spec(task) for task in app.tasks.values()]
    check_pool(config)
    app.hostname = config.hostname
    app.conf.freeze()
    signals.celeryd_after_setup.send(name, instance=node, conf=app.conf)
    path = log_setup.path_of(options.pidfile, config.hostname)
    with pid_in(path, log_setup.logger.name, ImproperlyConfigured), output.guarded():
        log_setup.set_up(app, config.log_level, config.log_file)
        with redirected(app.conf):
            return run(node, config, specs, options)


def run(
    node: WorkController, config: WorkerConfig, specs: list[TaskSpec], options: WorkerOptions
) -> int:
    """The worker to its end; gives the exit code."""
    app = node.app
    warn_of_misconfiguration(config, specs)
    if app.conf["worker_enable_remote_control"]:
        config = config._replace(control=describe(app, config))
        if config.broker_url.startswith(("amqp", "pyamqp")):
            log_setup.logger.warning(
                "remote control over RabbitMQ does not work yet: `worker_enable_remote_control=False` says that it is not needed"
            )
    signals.worker_init.send(node)
    zygote = fork_zygote(app, config) if config.pool in FORKING else None
    if options.on_start is not None:
        options.on_start(config)
    if options.purge:
        # Not earlier: this opens connections, which must not be there when the zygote is forked.
        dropped = sum(app.publisher.purge(name) for name in config.queues)
        log_setup.logger.warning(
            "purged %d messages from `%s`", dropped, "`, `".join(config.queues)
        )
    try:
        worker = _core.Worker(config, specs, app.executor, zygote=zygote, program=Commands(node))
    except ValueError as exc:
        raise ImproperlyConfigured(str(exc)) from exc
    if worker.http_address is not None:
        config = config._replace(http=worker.http_address)
        log_setup.logger.info("health and metrics at %s", config.http)
    node.attach(worker)
    asked = OsSignals(node, worker, zygote and zygote[1])
    with asked, embedded_beat(app, options) as start_beat:
        if worker.start():
            start_beat()
            if options.on_ready is not None:
                options.on_ready(config)
            signals.worker_ready.send(node)
        worker.wait()
    gc.unfreeze()  # by start_zygote
    signals.worker_shutdown.send(node)
    return asked.exit_code


@contextmanager
def embedded_beat(app: Any, options: WorkerOptions) -> Iterator[Callable[[], object]]:
    """What starts the beat of this worker, which ends with it; without one it does nothing."""
    if not options.beat:
        yield lambda: None
        return
    from taskcore.beat import EmbeddedService

    beat = EmbeddedService(
        app, schedule_filename=options.beat_schedule, scheduler_cls=options.beat_scheduler
    )
    try:
        yield beat.start
    finally:
        beat.stop()


def configure(app: Any, options: WorkerOptions) -> WorkerConfig:
    """Options over settings over defaults.

    Raises:
        ImproperlyConfigured: no queues, or serializers that do not exist.
    """
    conf = app.conf
    # Read now, so that a zone that does not exist is said at the start and not by the first naive
    # time.
    _ = app.timezone
    pool = options.pool or conf["worker_pool"]
    scale = scaling(conf, options.autoscale, pool)
    return WorkerConfig(
        broker_url=conf["broker_url"],
        result_url=conf["result_backend"],
        broker_options=conf.transport_options("broker_transport_options"),
        result_options=conf.transport_options("result_backend_transport_options"),
        hostname=options.hostname or f"taskcore@{app.node}",
        queues=queues_of(app, options),
        declarations=[json.dumps(declaration(queue)) for queue in declared(app)],
        pool=pool,
        concurrency=1
        if pool == "solo"
        else scale[0]
        if scale
        else options.concurrency or conf["worker_concurrency"] or cores(),
        autoscale=scale,
        prefetch=prefetch(conf, options),
        prefetch_bytes=conf["worker_prefetch_bytes"],
        accept_content=_content_types(conf["accept_content"]),
        max_deliveries=conf["worker_max_deliveries"],
        result_expires=conf["result_expires"] or None,
        log_level=options.loglevel,
        log_file=log_setup.path_of(options.logfile, options.hostname or f"taskcore@{app.node}"),
        max_tasks_per_child=options.max_tasks_per_child or conf["worker_max_tasks_per_child"],
        max_memory_per_child=options.max_memory_per_child or conf["worker_max_memory_per_child"],
        coroutines=(options.coroutines or conf["worker_coroutines"]) if pool == "asyncio" else 1,
        time_limit=options.time_limit or conf["task_time_limit"],
        soft_time_limit=options.soft_time_limit or conf["task_soft_time_limit"],
        shutdown_timeout=conf["worker_shutdown_timeout"],
        disable_rate_limits=conf["worker_disable_rate_limits"],
        revokes_max=conf["worker_revokes_max"],
        revoke_expires=conf["worker_revoke_expires"],
        event_exchange=conf["event_exchange"],
        task_events=conf["worker_send_task_events"]
        if options.task_events is None
        else options.task_events,
        heartbeat=None if options.without_heartbeat else HEARTBEAT,
        utcoffset=utcoffset(),
        http=options.http or conf["worker_http"],
    )


def scaling(
    conf: Any, autoscale: tuple[int, int] | None, pool: str
) -> tuple[int, int, float] | None:
    """The bounds of a pool that grows and shrinks by itself, and its patience.

    Raises:
        ImproperlyConfigured: bounds that cannot be.
        NotSupportedError: the pool is of one task at a time.
    """
    if autoscale is None:
        return None
    most, fewest = autoscale
    if not 0 <= fewest <= most or not 1 <= most <= MOST_SLOTS:
        raise ImproperlyConfigured(
            f"--autoscale `{most},{fewest}`, expected `MAX,MIN` of which MAX is 1 to {MOST_SLOTS} and MIN not above it"
        )
    if pool in ("solo", "asyncio"):
        raise NotSupportedError(
            f"pool `{pool}` does not scale: --autoscale needs `prefork` or `threads`"
        )
    # One is always left: somebody has to be there when a task comes.
    return max(1, fewest), most, conf["worker_autoscale_keepalive"]


def queues_of(app: Any, options: WorkerOptions) -> list[str]:
    """The queues to serve, in order.

    Raises:
        ImproperlyConfigured: none is left, or one is not defined and missing ones are not made.
    """
    queues = app.amqp.queues
    if options.queues is not None and not options.queues:
        raise ImproperlyConfigured("no queues: name at least one")
    try:
        queues.select(options.queues)
    except KeyError as exc:
        raise ImproperlyConfigured(str(queues.missing(exc.args[0]).args[0])) from exc
    if unknown := [name for name in options.exclude_queues or () if not _consumed(queues, name)]:
        log_setup.logger.warning(
            "queues `%s` are excluded, and are none of this worker's `%s`",
            "`, `".join(unknown),
            "`, `".join(queues.consume_from),
        )
    queues.deselect(options.exclude_queues)
    if not queues.consume_from:
        raise ImproperlyConfigured("no queues: name at least one that is not excluded")
    if app.conf["worker_direct"]:
        queues.select_add(worker_direct(options.hostname or f"taskcore@{app.node}"))
    return list(queues.consume_from)


def _consumed(queues: Queues, name: str) -> bool:
    known = queues.aliases.get(name)
    return (name if known is None else known.name) in queues.consume_from


def declared(app: Any) -> list[Queue]:
    """The queues whose declaration says more than their name."""
    return [queue for queue in app.amqp.queues.values() if not is_plain(queue)]


def warn_of_misconfiguration(config: WorkerConfig, specs: list[TaskSpec]) -> None:
    """Says at the start what a user would otherwise find out by waiting."""
    if not any(not spec.name.startswith(("celery.", "taskcore.")) for spec in specs):
        log_setup.logger.warning(
            "the app has no tasks, so every message will be parked: import the modules that define them, "
            'as in Taskcore(..., include=["proj.tasks"])'
        )
    if config.broker_url.startswith("memory:"):
        log_setup.logger.warning(
            "the broker `%s` lives in this process, where no other program can publish: it is for tests",
            config.redacted_broker_url,
        )
    most, has = config.max_memory_per_child, resident()
    if most is not None and has is not None and has * 1024 > most:
        log_setup.logger.warning(
            "each process has %d KiB of memory before its first task, so with a max_memory_per_child of %d each is replaced "
            "after every task: allow more",
            has * 1024,
            most,
        )


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prefetch(conf: Any, options: WorkerOptions) -> int | None:
    """As the core wants it: None adapts, 0 is without limit, -1 is off."""
    if options.disable_prefetch:
        return -1
    if options.prefetch_multiplier is not None:
        return options.prefetch_multiplier
    if conf["worker_disable_prefetch"]:
        return -1
    multiplier: int | None = conf["worker_prefetch_multiplier"]
    return multiplier


def _content_types(accept: Iterable[str]) -> list[str]:
    try:
        return serialize.content_types(accept)
    except Exception as exc:
        raise ImproperlyConfigured(f"accept_content: {exc}") from exc


def check_pool(config: WorkerConfig) -> None:
    """Refuses what a pool does not have; limits that it cannot keep are refused by the core.

    Raises:
        NotSupportedError: no fork on this system, or no child processes to replace.
    """
    if config.pool in FORKING and not hasattr(os, "fork"):
        raise NotSupportedError(
            f"pool `{config.pool}` needs fork, which this system does not have: use `threads`"
        )
    if config.pool not in FORKING and config.max_tasks_per_child is not None:
        raise NotSupportedError(
            f"pool `{config.pool}` has no child processes: max_tasks_per_child needs `prefork` or `asyncio`"
        )
    if config.pool != "prefork" and config.max_memory_per_child is not None:
        raise NotSupportedError(
            f"pool `{config.pool}` cannot tell which task has taken memory: max_memory_per_child needs `prefork`"
        )


def fork_zygote(app: Any, config: WorkerConfig) -> tuple[int, int]:
    """Makes the process that will fork the children; gives its control socket and its process id."""
    import threading

    from taskcore.worker.zygote import start_zygote  # it needs fork

    others = [
        thread.name for thread in threading.enumerate() if thread is not threading.current_thread()
    ]
    if others:
        log_setup.logger.warning(
            "threads `%s` were started while the app was imported: pool processes do not have them; start them in "
            "a receiver of worker_process_init",
            ", ".join(others),
        )

    def make_executor(modules: list[Any]) -> Any:
        bring_in(app, modules)
        _send(signals.worker_process_init)
        return app.executor

    def on_exit() -> None:
        _send(signals.worker_process_shutdown, pid=os.getpid(), exitcode=0)

    return start_zygote(
        make_executor,
        log_tasks=config.log_level <= _INFO or config.task_events,
        max_memory=config.max_memory_per_child,
        on_exit=on_exit,
        dumps=log_setup.descriptor(config.log_file),
        coroutines=config.coroutines if config.pool == "asyncio" else 0,
    )


def _send(signal: signals.Signal, **named: Any) -> None:
    """Sends a signal in a child; what a receiver that is a coroutine function has begun is run to its
    end, in the loop that runs the tasks."""
    for _, response in signal.send(None, **named):
        if inspect.iscoroutine(response):
            from taskcore.execution import coroutines

            coroutines.run_receiver(response)
