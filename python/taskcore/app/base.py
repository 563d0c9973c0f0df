"""The app: configuration, registry of tasks, and the way to the broker and the results.

`Taskcore` ties the other parts together and does little itself: tasks are made here, sent by the
producer, executed by `Executor`. Everything that needs the core is made on first use, so that
defining tasks costs nothing and a program that only imports them opens no connection. What was
made from the configuration is dropped when it changes.
"""

from __future__ import annotations

from taskcore import _core, context, current, states
from taskcore.app import registry
from taskcore.app.connections import Connections
from taskcore.app.periodic import Periodic
from taskcore.app.program import Program
from taskcore.app.sending import Sending
from taskcore.config.conf import Config
from taskcore.exceptions import NotSupportedError, Reject
from taskcore.publishing.producer import Producer
from taskcore.results.async_result import AsyncResult
from taskcore.signals import SetupSignal
from taskcore.task import Task
from taskcore.typed import (
    TYPE_CHECKING,
    Any,
    Callable,
    Coroutine,
    Iterable,
    Literal,
    Mapping,
    NoReturn,
    P,
    R,
    Sequence,
    datetime,
    later,
    tzinfo,
)

if TYPE_CHECKING:
    from typing import TypeVar, overload

    from taskcore.app.amqp import AMQP
    from taskcore.app.events import Events
    from taskcore.control.control import Control
    from taskcore.execution.call import Call
    from taskcore.execution.executor import Executor
    from taskcore.results.eager_result import EagerResult
    from taskcore.results.group_result import GroupResult
    from taskcore.results.result_set import ResultSet

    T = TypeVar("T", bound=Task[..., Any])
else:
    AMQP = later("taskcore.app.amqp", "AMQP")
    Events = later("taskcore.app.events", "Events")
    Control = later("taskcore.control.control", "Control")
    Call = later("taskcore.execution.call", "Call")
    Executor = later("taskcore.execution.executor", "Executor")
    EagerResult = later("taskcore.results.eager_result", "EagerResult")
    GroupResult = later("taskcore.results.group_result", "GroupResult")
    ResultSet = later("taskcore.results.result_set", "ResultSet")
    T = later("taskcore.typed", "variable('T')")

_CONSTRUCTOR = {"config_source": None, "namespace": None, "task_cls": Task, "strict_typing": True}
"""Arguments of Celery's constructor that are not settings."""


class Taskcore(Periodic, Sending, Program):
    """An application: `app = Taskcore("proj", broker="redis://...")`."""

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Iterable[str] = (),
        set_as_current: bool = True,
        **values: Any,
    ) -> None:
        """
        Args:
            main: name of the main module, for the names of tasks that are defined in it.
            broker: URL; default: a database file in the current directory.
            backend: URL of the result store; default: beside the tasks, if no broker is named
                either.
            include: modules that a worker imports.
            set_as_current: let `shared_task` and `current_app` mean this app.
            values: settings by name; also `config_source`, `namespace`, `task_cls`,
                `strict_typing`.
        Raises:
            ImproperlyConfigured: an unknown setting or a wrong value.
        """
        special = {key: values.pop(key, default) for key, default in _CONSTRUCTOR.items()}
        self.main = main
        self.tasks = registry.TaskRegistry()
        self.has_own_tasks = False
        """Whether there are tasks beside the built-in ones; set by the registry."""
        self.hostname: str | None = None
        """Node name of the worker that this process belongs to; set at its start."""
        self.finalized = False
        self._incomplete = True
        self._zone: tzinfo | None = None
        self._node: str | None = None
        self._discover: list[tuple[Any, str | None]] = []
        self.strict_typing = bool(special["strict_typing"])
        self.Task: Any = type(
            "Task",
            (registry.base_class(special["task_cls"]),),
            {"_app": self, "__module__": "taskcore.app"},
        )
        self.on_after_configure = SetupSignal("on_after_configure")
        self.on_after_finalize = SetupSignal("on_after_finalize")
        self._executor: Executor | None = None
        self.conf = Config(self._changed)
        self._connections = Connections(self.conf)
        self.producer = Producer(self, self._connections.make_publisher, _core.Template)
        named = {"broker_url": broker, "result_backend": backend, "include": tuple(include) or None}
        self.conf.update(
            values, **{key: value for key, value in named.items() if value is not None}
        )
        if special["config_source"] is not None:
            self.config_from_object(special["config_source"], namespace=special["namespace"])
        if set_as_current:
            current.set_app(self)
        current.add_app(self)

    # Configuration

    def config_from_object(
        self,
        source: object,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> None:
        """Takes settings from a module (or its name), an object or a dict; a name is imported on
        first use, or now with `force`."""
        self.conf.load(source, namespace, silent)
        if force:
            self.conf.keys()

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False
    ) -> bool:
        """The same from the module that an environment variable names."""
        loaded = self.conf.load_environment(variable_name, silent)
        if force:
            self.conf.keys()
        return loaded

    def add_defaults(self, values: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Sets values that any other source overrides; a function that gives them is called now."""
        self.conf.add_defaults(values() if callable(values) else values)

    def _changed(self) -> None:
        self._zone = None
        self._connections.close()
        self.producer.invalidate()
        self.invalidate_plans()
        for task in self.tasks.values():
            task._fast_path = None
            registry.annotate(self, task)
        self._show_periodic()

    @property
    def executor(self) -> Executor:
        """What executes calls of the app's tasks in this process; made on first use, because a
        producer has none."""
        if self._executor is None:
            from taskcore.execution.executor import Executor

            self._executor = Executor(self, Task, _core.invalidate_tasks)
        return self._executor

    def invalidate_plans(self) -> None:
        """Drops what the executor has derived from tasks and settings that have changed."""
        if self._executor is not None:
            self._executor.invalidate()

    @property
    def timezone(self) -> tzinfo:
        """The zone of naive times."""
        if self._zone is None:
            from taskcore.config.time_zone import zone

            self._zone = zone(self.conf["timezone"], self.conf["enable_utc"])
        return self._zone

    def now(self) -> datetime:
        """The time in the app's zone."""
        from datetime import datetime

        return datetime.now(self.timezone)

    @property
    def node(self) -> str:
        """Name of this machine."""
        if self._node is None:
            from socket import gethostname

            self._node = gethostname()
        return self._node

    # Tasks

    if TYPE_CHECKING:

        @overload
        def task(
            self, fun: Callable[P, Coroutine[Any, Any, R]], /
        ) -> registry.CoroutineTask[P, R]: ...
        @overload
        def task(self, fun: Callable[P, R], /) -> Task[P, R]: ...
        @overload
        def task(self, /, *, bind: Literal[True], **options: Any) -> registry.BoundDecorator: ...
        @overload
        def task(
            self, /, *, bind: Literal[False] = False, **options: Any
        ) -> registry.Decorator: ...

    def task(self, fun: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Makes a task of a function; with or without options.

        Args:
            options: `bind` (the task is the first argument), `base` (a class), `name`, any option of
                `Task`, and attributes of one's own. `shared`: every other app gets it too. `filter`:
                called with the task, gives what the decorator gives. `lazy` is accepted.
        Raises:
            TypeError: an option of Celery's that is not here.
        Warns:
            TaskcoreWarning: an attribute of one's own that reads like an option.
            DuplicateTaskNameWarning: another function has that name, and its task is given.
        """
        registry.check_options(options, self.Task)
        if fun is None:
            return lambda function: registry.make(self, function, options)
        if not callable(fun):
            raise TypeError(
                f"@app.task got `{fun!r}`: options are keywords, as in @app.task(name=...)"
            )
        return registry.make(self, fun, options)

    def register_task(self, task: T | type[T], **options: Any) -> T:
        """Registers a class-based task, given as an instance or as its class."""
        instance: T = task() if isinstance(task, type) else task
        registry.register(self, instance, options)
        return instance

    def gen_task_name(self, name: str, module: str | None) -> str:
        """`module.name`; for the main module the app's `main`, or the name of its file."""
        return registry.automatic_name(name, module, self.main)

    @property
    def current_task(self) -> Task[..., Any] | None:
        """The task that runs now."""
        request = context.get_request()
        return None if request is None else self.tasks.get(request.task)

    def autodiscover_tasks(
        self, packages: Any = None, related_name: str | None = "tasks", force: bool = False
    ) -> None:
        """Has a worker import `tasks` of each package, where it exists.

        Args:
            packages: names of packages, of classes in them (as Django's INSTALLED_APPS has them),
                or a function that gives these; default: the applications of a Django project.
            related_name: the module to import; None: the packages themselves.
            force: import now.
        """
        if force:
            from taskcore.app.discovery import import_all

            import_all((), [(packages, related_name)])
        else:
            self._discover.append((packages, related_name))

    def import_modules(self) -> None:
        """Imports what the configuration names and what is to be discovered."""
        from taskcore.app.discovery import import_all

        import_all((*self.conf["imports"], *self.conf["include"]), self._discover)

    def finalize(self) -> None:
        """Says that configuration and tasks are complete; a worker does it after its imports, any
        other program with its first call of a task.

        Raises:
            NotSupportedError: a receiver asks for what this version does not have.
        """
        # Taken out in one step, and first: other threads, and receivers, call tasks meanwhile.
        if vars(self).pop("_incomplete", False):
            try:
                self._complete()
            except NotSupportedError:
                self._incomplete, self.finalized = True, False
                raise

    def _complete(self) -> None:
        self.conf.keys()
        self._show_periodic()
        self.on_after_configure.send(self, source=self.conf)
        from taskcore.app.builtin import register

        register(self)
        self.finalized = True
        self.on_after_finalize.send(self)

    # Results

    @property
    def results_or_none(self) -> Any:
        """The core's results; None when the app keeps none."""
        return self._connections.results

    @property
    def backend(self) -> Any:
        """The core's results.

        Raises:
            ImproperlyConfigured: the app keeps none.
        """
        return self._connections.required_results()

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[Any]:  # noqa: N802 - Celery's name
        """The result of an earlier call, by its id; ValueError when there is none."""
        if not task_id:
            raise ValueError(f"task_id is `{task_id!r}`: expected the id of a task")
        return AsyncResult(task_id, app=self, **kwargs)

    def ResultSet(self, results: Sequence[Any]) -> ResultSet[Any]:  # noqa: N802 - Celery's name
        """A set of results, or of ids."""
        from taskcore.results.result_set import ResultSet

        return ResultSet(results, self)

    @property
    def GroupResult(self) -> type[GroupResult[Any]]:  # noqa: N802 - Celery's name
        """The class of results of groups that belong to this app, for `GroupResult.restore`."""
        made = vars(self).get("_group_result")
        if made is None:
            from taskcore.results.group_result import bound_to

            made = self._group_result = bound_to(self)
        group_result: type[GroupResult[Any]] = made
        return group_result

    def eager_result(self, task_id: str, call: Call, name: str) -> EagerResult[Any]:
        """The result of a call that ran here."""
        from taskcore.results.eager_result import EagerResult

        retval = call.retval if call.exc is None else call.exc
        # To those who wait for a message that is refused, it has failed; here nobody waits.
        state = states.REJECTED if isinstance(call.exc, Reject) else call.outcome.state
        return EagerResult(task_id, retval, state, call.outcome.traceback, name)

    def store_state(self, task_id: str, state: str, meta: Any, request: Any = None) -> None:
        """Stores a state of the user's own; nothing when the app keeps no results."""
        if self.results_or_none is not None:
            from taskcore.results import user_state

            user_state.store(self, task_id, state, meta, request)

    # Other processes

    @property
    def control(self) -> Control:
        """Tells workers what to do, and asks them."""
        made = vars(self).get("_control")
        if made is None:
            from taskcore.control.control import Control

            made = self._control = Control(self)
        control: Control = made
        return control

    @property
    def events(self) -> Events:
        """Events: receivers, dispatchers and states of this app."""
        made = vars(self).get("_events")
        if made is None:
            from taskcore.app.events import Events

            made = self._events = Events(self)
        events: Events = made
        return events

    @property
    def amqp(self) -> AMQP:
        """The queues, exchanges and routes of this app."""
        made = vars(self).get("_amqp")
        if made is None:
            from taskcore.app.amqp import AMQP

            made = self._amqp = AMQP(self)
        amqp: AMQP = made
        return amqp

    # Being the app that is meant

    def set_current(self) -> None:
        """Makes this the app that `shared_task` and `current_app` mean."""
        current.set_app(self)

    set_default = set_current

    def close(self) -> None:
        """Drops connections; the app can be used again."""
        self._changed()

    def __getattr__(self, name: str) -> NoReturn:
        from taskcore import unsupported

        raise unsupported.attribute_error(self, name, unsupported.APP)

    def __enter__(self) -> Taskcore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Taskcore {self.main or '__main__'}: {len(self.tasks)} tasks>"


def _make_default_app() -> Taskcore:
    """The app of a program that made none."""
    app = Taskcore("default")
    app._connections.must_be_named = True
    return app


current.set_app_factory(_make_default_app)
