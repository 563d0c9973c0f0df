"""Booting a worker: what is decided from options and settings, in which order things happen, and
what is refused."""

import logging
import os
import signal
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskcore import Taskcore, signals
from taskcore.context import reset_request, set_request
from taskcore.exceptions import ImproperlyConfigured, NotSupportedError
from taskcore.utils.log import get_task_logger
from taskcore.worker import log_setup
from taskcore.worker.boot import (
    WorkerOptions,
    boot,
    configure,
    cores,
)
from taskcore.worker.controller import WorkController
from taskcore.worker.os_signals import OsSignals
from taskcore.worker.task_spec import make_task_spec


def test_settings_and_options(app: Any) -> None:
    app.conf.update(
        worker_concurrency=3,
        task_queues=["a", "b"],
        accept_content=["json", "yaml"],
        task_time_limit=9,
        worker_prefetch_multiplier=2,
        broker_url="redis://:secret@h",
        result_expires=0,
    )
    config = configure(app, WorkerOptions())
    assert (config.concurrency, config.queues, config.pool, config.prefetch) == (
        3,
        ["a", "b"],
        "prefork",
        2,
    )
    assert config.accept_content == ["application/json", "application/x-yaml"]
    assert (config.time_limit, config.result_expires) == (9.0, None)
    assert "secret" not in config.redacted_broker_url and config.hostname.startswith("taskcore@")
    config = configure(
        app,
        WorkerOptions(
            concurrency=1, queues=["c", "c"], disable_prefetch=True, time_limit=1.5, hostname="x@y"
        ),
    )
    assert (
        config.concurrency,
        config.queues,
        config.prefetch,
        config.time_limit,
        config.hostname,
    ) == (
        1,
        ["c"],
        -1,
        1.5,
        "x@y",
    )
    assert configure(app, WorkerOptions(prefetch_multiplier=0)).prefetch == 0
    assert configure(app, WorkerOptions(pool="solo")).concurrency == 1


def test_defaults(app: Any) -> None:
    config = configure(app, WorkerOptions())
    assert (config.prefetch, config.concurrency, config.queues) == (
        None,
        cores(),
        ["taskcore"],
    )


def test_what_cannot_be_is_refused(app: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="queues"):
        configure(app, WorkerOptions(queues=[]))
    app.conf.accept_content = ["jsn"]
    with pytest.raises(ImproperlyConfigured, match="accept_content"):
        configure(app, WorkerOptions())
    app.conf.update(accept_content=["json"], timezone="Mars/Olympus")
    with pytest.raises(ImproperlyConfigured, match="Mars/Olympus"):
        configure(app, WorkerOptions())


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_without_children_replaces_none(app: Any, pool: str) -> None:
    with pytest.raises(NotSupportedError, match=f"`{pool}`"):
        boot(app, WorkerOptions(pool=pool, max_tasks_per_child=1))


def test_what_the_loop_knows_of_a_task(app: Any) -> None:
    app.conf.update(task_default_rate_limit="60/m", task_acks_late=True)
    plain = make_task_spec(app.task(lambda: 0, name="a"))
    own = make_task_spec(
        app.task(name="b", rate_limit="2/s", time_limit=3, acks_late=False, ignore_result=True)(
            lambda: 0
        )
    )
    assert (plain.rate_limit, plain.acks_late, plain.reject_on_worker_lost, plain.time_limit) == (
        1.0,
        True,
        True,
        None,
    )
    assert (own.rate_limit, own.acks_late, own.ignore_result, own.time_limit) == (
        2.0,
        False,
        True,
        3,
    )


def test_the_order_of_things(app: Any, core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    module = types.ModuleType("proj_more")
    monkeypatch.setitem(sys.modules, "proj_more", module)
    app.conf.include = ["proj_more"]
    child = types.ModuleType("taskcore.worker.zygote")

    def start_zygote(make: Any, **options: Any) -> tuple[int, int]:
        order.append("zygote")
        assert make([]) is app.executor and not core.Worker.made
        return 7, 8

    child.__dict__["start_zygote"] = start_zygote
    monkeypatch.setitem(sys.modules, "taskcore.worker.zygote", child)
    keep = []
    for name in (
        "import_modules",
        "worker_init",
        "worker_process_init",
        "worker_ready",
        "worker_shutdown",
    ):

        def note(name: str = name, sender: Any = None, **_: Any) -> None:
            order.append(name)
            if name in ("worker_init", "worker_ready", "worker_shutdown"):
                assert (sender.app, sender.hostname) == (app, app.hostname)

        keep.append((getattr(signals, name), note))
        getattr(signals, name).connect(note)
    app.on_after_finalize.connect(lambda **_: order.append("finalized"), weak=False)
    try:
        assert (
            boot(app, WorkerOptions(concurrency=2, on_start=lambda config: order.append("banner")))
            == 0
        )
    finally:
        for sig, note in keep:
            sig.disconnect(note)
    assert order == [
        "import_modules",
        "finalized",
        "worker_init",
        "zygote",
        "worker_process_init",
        "banner",
        "worker_ready",
        "worker_shutdown",
    ]
    (made,) = core.Worker.made
    assert made.started and made.zygote == (7, 8)
    assert app.hostname == made.config.hostname == app.executor.hostname
    with pytest.raises(ImproperlyConfigured, match="frozen"):
        app.conf.task_acks_late = True


def test_the_configuration_can_be_changed_just_before_the_worker_takes_it(
    app: Any, core: Any
) -> None:
    def change(sender: str, conf: Any, **_: Any) -> None:
        conf.worker_concurrency = 5

    signals.celeryd_init.connect(change, sender="here@host")
    try:
        boot(app, WorkerOptions(pool="threads", hostname="here@host"))
    finally:
        signals.celeryd_init.disconnect(change, sender="here@host")
    assert core.Worker.made[-1].config.concurrency == 5


def test_an_include_that_does_not_exist_is_said(app: Any) -> None:
    app.conf.include = ["no_such_module_here"]
    with pytest.raises(ImproperlyConfigured, match="no_such_module_here"):
        boot(app)


def test_discovery(app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "with_tasks").mkdir()
    (tmp_path / "with_tasks" / "__init__.py").write_text("")
    (tmp_path / "with_tasks" / "tasks.py").write_text("found = True")
    (tmp_path / "without.py").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("")
    (tmp_path / "broken" / "tasks.py").write_text("import no_such_thing_either")
    monkeypatch.syspath_prepend(str(tmp_path))
    app.autodiscover_tasks(lambda: ["with_tasks", "without"])
    app.import_modules()
    assert sys.modules["with_tasks.tasks"].found
    app.autodiscover_tasks(["broken"])
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_either"):
        app.import_modules()


def test_the_first_signal_is_warm_the_second_cold(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def wait(self: Any) -> int:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    monkeypatch.setattr(core.Worker, "wait", wait)
    boot(app, WorkerOptions(pool="solo"))
    assert core.Worker.made[-1].stops == [True, False]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_quit_is_cold_at_once(app: Any, core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.Worker, "wait", lambda self: os.kill(os.getpid(), signal.SIGQUIT) or 0)
    boot(app, WorkerOptions(pool="solo"))
    assert core.Worker.made[-1].stops == [False]


@contextmanager
def unconfigured() -> Iterator[None]:
    """Loggers as in a program that has configured none; pytest's own handlers are away."""
    levels = {logging.root: logging.WARNING, logging.getLogger("taskcore"): logging.NOTSET}
    before = [(logger, logger.level, logger.handlers) for logger in levels]
    try:
        for logger, level in levels.items():
            logger.handlers = []
            logger.setLevel(level)
        yield
    finally:
        for logger, level, handlers in before:
            logger.handlers = handlers
            logger.setLevel(level)


@pytest.mark.parametrize("hijack", [None, True, False])
def test_loggers_are_heard_where_none_is_configured(
    core: Any, tmp_path: Any, hijack: bool | None
) -> None:
    path = tmp_path / "log"
    app = Taskcore("p", worker_hijack_root_logger=hijack)
    with unconfigured():
        log_setup.set_up(app, logging.INFO, str(path))
        token = set_request(core.Request(id="i", task="t"))
        get_task_logger("proj.tasks").info("hello")
        logging.getLogger("proj.views").info("of the user's")
        logging.getLogger("proj.views").debug("below the level")
        reset_request(token)
        assert (logging.root.handlers == []) is (hijack is False)
    lines = [line[line.index("t[i]") :] for line in path.read_text().splitlines()]
    assert lines == ["t[i]: hello", *([] if hijack is False else ["t[i]: of the user's"])]


def test_handlers_of_the_root_logger_are_left_alone(tmp_path: Any) -> None:
    mine = logging.NullHandler()
    with unconfigured():
        logging.root.handlers.append(mine)
        log_setup.set_up(Taskcore("p"), logging.INFO, str(tmp_path / "log"))
        assert (logging.root.handlers, logging.root.level) == ([mine], logging.WARNING)
        assert logging.getLogger("taskcore").handlers == []


def test_a_task_logger_has_a_name_of_its_own() -> None:
    with pytest.raises(RuntimeError, match="reserved"):
        get_task_logger("taskcore.task")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("%n%I.log", "w1.log"),
        ("/var/log/%h-%d-%i.log", "/var/log/box.example.org-example.org-0.log"),
        ("100%%-%p", "100%-w1@box.example.org"),
        ("plain.log", "plain.log"),
        (None, None),
    ],
)
def test_the_name_of_the_log_file_may_name_the_node(pattern: str | None, path: str | None) -> None:
    assert log_setup.path_of(pattern, "w1@box.example.org") == path


def test_sigterm_is_cold_where_the_environment_says_so(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, warm in ((None, True), ("SIGQUIT", False)):
        if value is not None:
            monkeypatch.setenv("REMAP_SIGTERM", value)
        worker = core.Worker(None, [], None)
        with OsSignals(WorkController(app, "w@h"), worker, None):
            os.kill(os.getpid(), signal.SIGTERM)
        assert worker.stops == [warm]
