"""Task: a function that can be called elsewhere, later, and again.

Owns what a user calls and overrides: options, `delay` and its relatives, `retry`, the hooks. It
does not own how a message is sent (the app's producer) nor how a call is executed (`execution`).
Options that were not set on the task are read from the configuration at the moment they are used,
so a task can be defined before the app is configured. `delay` has a short path of its own: about a
microsecond of Python between the call and the core.
"""

from __future__ import annotations

from taskcore import context, current, signals
from taskcore.publishing import call_options
from taskcore.task.as_signature import AsSignature
from taskcore.task.awaited import AwaitedCalls
from taskcore.task.body import TaskBody
from taskcore.task.hooks import Hooks
from taskcore.task.on_commit import OnCommit
from taskcore.typed import (
    TYPE_CHECKING,
    Any,
    Generic,
    Iterable,
    Mapping,
    NoReturn,
    P,
    R,
    Sequence,
    Unpack,
    datetime,
    later,
)

if TYPE_CHECKING:
    from taskcore.canvas import Signature
    from taskcore.exceptions import Retry
    from taskcore.results.async_result import AsyncResult
    from taskcore.results.eager_result import EagerResult
    from taskcore.results.result_set import ResultSet
else:
    Signature = later("taskcore.canvas", "Signature")
    Retry = later("taskcore.exceptions", "Retry")
    AsyncResult = later("taskcore.results.async_result", "AsyncResult")
    EagerResult = later("taskcore.results.eager_result", "EagerResult")
    ResultSet = later("taskcore.results.result_set", "ResultSet")


class Task(TaskBody, Hooks, AsSignature, AwaitedCalls[P, R], OnCommit[P, R], Generic[P, R]):
    """A registered task. Made by `app.task`; subclass it for hooks and class-based tasks."""

    if TYPE_CHECKING:
        _fast_path: Any
    _fast_path = None
    """Everything that `delay` needs, or None; made by the producer, dropped when the configuration
    or an option changes."""

    @property
    def app(self) -> Any:
        """The app it is registered with."""
        return self._app or current.get_app()

    @property
    def request(self) -> context.Context:
        """The execution that runs now; an empty one outside of it."""
        return context.get_context(self.name, self.app)

    def push_request(self, *args: Any, **fields: Any) -> None:
        """Makes a request with these fields the current one, as a test of the body wants it:
        `task.push_request(id="1", retries=2)`.

        Args:
            args: mappings of fields.
        """
        context.push_request(self.name, {**dict(*args), **fields})

    def pop_request(self) -> None:
        """Takes the request away that was pushed last."""
        context.pop_request()

    @property
    def backend(self) -> Any:
        """The app's results."""
        return self.app.backend

    @property
    def _has_plain_delay(self) -> bool:
        """Whether every call of `delay` is published alike, so that what it needs can be made once."""
        return not self.has_own_call and self.expires is None

    @property
    def has_own_call(self) -> bool:
        """Whether each call goes through `apply_async`: its class, or somebody for this task alone, has
        replaced that, or it looks at the arguments."""
        return (
            type(self).apply_async is not _APPLY_ASYNC
            or "apply_async" in vars(self)
            or self._models is not None
            or self._has_shadow_name
        )

    @property
    def _has_shadow_name(self) -> bool:
        return type(self).shadow_name is not Task.shadow_name or "shadow_name" in vars(self)

    # Calling

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the body here and now, without a message."""
        outer = context.get_request()
        if (
            outer is not None
            and (
                (type(self).__call__ is not Task.__call__ and outer.id)
                or isinstance(outer, context.PushedRequest)
            )
            and outer.task == self.name
        ):
            # An override of `__call__` that the worker runs calls on, or the request was pushed for
            # this call: this is still that execution.
            result: R = self.run(*args, **kwargs)
            return result
        token = context.set_request(
            context.LocalRequest(
                outer, task=self.name, args=args, kwargs=kwargs, called_directly=True
            )
        )
        try:
            result = self.run(*args, **kwargs)
            return result
        finally:
            context.reset_request(token)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Publishes a call with these arguments; `apply_async` without options.

        Raises:
            TypeError: the arguments do not fit the function.
            OperationalError: the broker did not confirm in time.
            EncodeError: an argument cannot be written by the serializer.
        """
        fast_path = self._fast_path
        if (
            fast_path is None
            or context.get_request() is not None
            or signals.before_task_publish.receivers
            or signals.after_task_publish.receivers
        ):
            return self.apply_async(args, kwargs)
        check, publish, template, replies, make, app = fast_path
        if check is not None:
            check(*args, **kwargs)
        if replies is None:
            result: AsyncResult[R] = make(publish(template, args, kwargs, None), None, None, app)
            return result
        reply_to = replies.reply_to
        result = make(
            publish(template, args, kwargs, {"reply_to": reply_to}), None, None, app, None, reply_to
        )
        return result

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Unpack[call_options.CallOptions],
    ) -> AsyncResult[R]:
        """Publishes a call.

        Args:
            args: positional arguments, a list or tuple.
            kwargs: keyword arguments.
            task_id: default: a fresh one.
            options: see `CallOptions`; they override the task's own.
        Raises:
            TypeError: an unknown option, or arguments that do not fit the function.
            OperationalError, EncodeError: as `delay`.
        """
        positional, named, fields = self._checked_call(args, kwargs, task_id, options)
        app = self.app
        if app.conf["task_always_eager"]:
            eager: AsyncResult[R] = self._apply_eagerly(positional, named, fields)
            return eager
        result: AsyncResult[R]
        if app.has_own_send:
            result = app.send_task(self.name, positional, named, task_type=self, **fields)
        else:
            result = app.producer.send(self, positional, named, fields)
        return result

    def _checked_call(
        self, args: Any, kwargs: Any, task_id: str | None, options: Mapping[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any], dict[str, Any]]:
        """Arguments as they are sent, and the options of a call."""
        fields: dict[str, Any] = {**options}
        if task_id is not None:
            fields["task_id"] = task_id
        positional, named = (
            call_options.to_args(self.name, args),
            call_options.to_kwargs(self.name, kwargs),
        )
        if self._check_arguments is not None:
            self._check_arguments(*positional, **named)
        if self._models is not None:
            positional, named = self._models.dump(positional, named)
        if self._has_shadow_name and not fields.get("shadow"):
            fields["shadow"] = self.shadow_name(positional, named, fields)
        return positional, named, fields

    def _apply_eagerly(
        self, args: Sequence[Any], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> Any:
        self.app.producer.fields(options)  # refuses what could not be sent
        from taskcore import serialize

        # Through the serializer and back, so that what could not be sent fails here as well.
        name = options.get("serializer") or self.serializer
        content_type, encoding, data = serialize.dumps([list(args), kwargs], name)
        args, kwargs = serialize.loads(data, content_type, encoding)
        return self.apply(args, kwargs, **options)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        throw: bool | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Executes the task here and now as a worker does: hooks, signals, retries, callbacks, but
        no broker.

        Args:
            throw: raise what the task raises; default: the setting `task_eager_propagates`.
            options: as for `apply_async`; those about sending have no effect.
        """
        from taskcore.task import eager

        result: EagerResult[R] = eager.apply(self, args, kwargs, task_id, throw, options)
        return result

    def apply_many(
        self, calls: Iterable[Sequence[Any]], **options: Unpack[call_options.CallOptions]
    ) -> ResultSet[R]:
        """Publishes one call per item, each the positional arguments of that call, in few round
        trips.

        Raises:
            As `apply_async`. The exception's attribute `published` holds the ids of what was sent
            before.
        """
        result: ResultSet[R] = self.app.producer.send_calls(self, calls, {**options})
        return result

    # Inside an execution

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | type[BaseException] | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        **options: Any,
    ) -> Retry:
        """Publishes this call again, to run later, and ends the execution by raising `Retry`.

        The worker publishes it together with the outcome. With `throw=False` the execution goes on,
        so it is published at once, and confirmed, before this returns.

        Args:
            args, kwargs: other arguments; default: the same.
            exc: why; raised instead when there are no retries left.
            throw: False gives the Retry back instead of raising it.
            eta: when; or `countdown` seconds from now. Default: `default_retry_delay` seconds.
            options: `countdown`, `max_retries`, and the options of `apply_async`.
        Raises:
            Retry: published; let it through.
            MaxRetriesExceededError: no retries left and `exc` not given.
            OperationalError: with `throw=False`, the broker did not take it, and the message was
                acknowledged already.
            TypeError: `exc` is no exception.
            RuntimeError: the execution has ended; this runs in a thread or a context that it left.
        """
        from taskcore.task import retrying

        try:
            return retrying.retry(self, (args, kwargs), exc, throw, {"eta": eta, **options})
        finally:
            del exc  # or this frame and its exception would keep each other

    def send_event(
        self, type_: str, retry: bool = True, retry_policy: Any = None, **fields: Any
    ) -> None:
        """Tells monitors something about the running execution.

        Args:
            type_: `task-` and a name of your own, which becomes the state that monitors show.
            fields: plain data.
        Raises:
            OperationalError: the broker is away.
        """
        request = context.get_request()
        if request is None:
            raise TypeError("send_event outside of an execution: use `app.events.Dispatcher`")
        with self.app.events.default_dispatcher(getattr(request, "hostname", None)) as dispatcher:
            dispatcher.send(type_, uuid=request.id, **fields)

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Stores a state of your own, such as PROGRESS, for the running execution or for `task_id`."""
        request = context.get_request()
        task_id = task_id or (request.id if request is not None else None)
        if task_id is None:
            raise TypeError("update_state outside of an execution needs a task_id")
        if state is None:
            raise TypeError("update_state needs a state, for example `PROGRESS`")
        if not (request is not None and isinstance(request, context.LocalRequest)):
            self.app.store_state(
                task_id,
                state,
                meta,
                request if request is not None and request.id == task_id else None,
            )

    def replace(self, sig: Any) -> Any:
        """Runs a signature in place of the rest of this execution: under its id, and with what
        follows it. Raises `Ignore`; write `return self.replace(...)`.

        Args:
            sig: a task, chain, group or chord; of a group, the value is the list of its values.
        Raises:
            Ignore: it is published; let it through.
            ImproperlyConfigured: the signature belongs to a chord, or is an empty chain.
        """
        from taskcore.task import replacing

        return replacing.replace(self, sig)

    def on_replace(self, sig: Any) -> Any:
        """Publishes what replaces this execution, and ends it; for subclasses."""
        from taskcore.task import replacing

        return replacing.publish(self, sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Adds a member to the header of the chord that this execution belongs to.

        Args:
            lazy: do not send it; the caller does, by its `delay()`.
        Raises:
            ValueError: it belongs to none.
        """
        from taskcore.task import replacing

        return replacing.add_to_chord(self, sig, lazy)

    def add_trail(self, result: Any) -> Any:
        """Records a result as one of the `children` of the running execution, unless `trail` is off;
        gives it back."""
        request = context.get_request()
        if self.trail and request is not None and request.id is not None:
            request.add_child(result.id)
        return result

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[R]:  # noqa: N802 - Celery's name
        """The result of an earlier call of this task."""
        result: AsyncResult[R] = self.app.AsyncResult(task_id, **kwargs)
        return result

    def __getattr__(self, name: str) -> NoReturn:
        from taskcore import unsupported

        raise unsupported.attribute_error(self, name, unsupported.TASK)

    def __reduce__(self) -> Any:
        # By name: whoever reads it has the same task in its own app.
        return _find_task, (self.name, self.__module__)

    def __repr__(self) -> str:
        return f"<@task: {self.name or type(self).__name__}>"


_APPLY_ASYNC = Task.apply_async


def _find_task(name: str, module: str) -> Task[..., Any]:
    """The task `name` of the current app, or of whichever has it; pickles of tasks name it and its
    module."""
    if module != "__main__":
        from importlib import import_module

        import_module(module)
    apps = [current.get_app(), *reversed(current.all_apps())]
    task: Task[..., Any] = next((app for app in apps if name in app.tasks), apps[0]).tasks[name]
    return task
