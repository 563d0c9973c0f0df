"""What an app publishes: calls of its tasks, of tasks by name, and of signatures."""

from __future__ import annotations

from taskcore.app import pools
from taskcore.app.connections import Connection, Connections
from taskcore.publishing import call_options
from taskcore.publishing.producer import warn_eager
from taskcore.typed import TYPE_CHECKING, Any, Iterable, Mapping, Sequence, Unpack, later
from taskcore.utils import is_mapping

if TYPE_CHECKING:
    from taskcore.app.registry import TaskRegistry
    from taskcore.canvas import Signature
    from taskcore.config.conf import Config
    from taskcore.publishing.producer import Producer
    from taskcore.results.async_result import AsyncResult
    from taskcore.results.result_set import ResultSet
    from taskcore.task import Task
else:
    Signature = later("taskcore.canvas", "Signature")
    AsyncResult = later("taskcore.results.async_result", "AsyncResult")
    ResultSet = later("taskcore.results.result_set", "ResultSet")
    Task = later("taskcore.task", "Task")


class Sending:
    """The part of an app that publishes."""

    if TYPE_CHECKING:
        conf: Config
        producer: Producer
        _connections: Connections
        tasks: TaskRegistry

    @property
    def publisher(self) -> Any:
        """The core's publisher: publishing, and what can be asked of queues."""
        return self.producer.publisher

    def connection(self, url: str | None = None) -> Connection:
        """Stands for a connection to the broker in a `with` block of a monitor; what is sent and heard
        by it goes over the app's own connections.

        Args:
            url: of another broker.
        """
        return Connection(self._connections, url)

    connection_for_read = connection
    connection_for_write = connection
    broker_connection = connection

    def connection_or_acquire(self, connection: Any = None, pool: bool = True) -> Any:
        """A connection for a `with` block: the one that is given, or another."""
        return pools.or_given(connection, self.connection)

    default_connection = connection_or_acquire

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """A producer for a `with` block: the one that is given, or another. Calls take it as
        `producer=`, and are published as all others are."""
        return pools.or_given(producer, self._make_producer)

    default_producer = producer_or_acquire

    @property
    def pool(self) -> pools.Pool:
        """Stands for a pool of connections."""
        return pools.Pool(self.connection, None)

    @property
    def producer_pool(self) -> pools.Pool:
        """Stands for a pool of producers."""
        return pools.Pool(self._make_producer, None)

    def _make_producer(self) -> pools.Producer:
        return pools.Producer(self.connection())

    def send_task(
        self,
        name: str,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        *,
        task_type: Task[..., Any] | None = None,
        **options: Unpack[call_options.CallOptions],
    ) -> AsyncResult[Any]:
        """Publishes a call of a task that this process need not know.

        A class of apps may override it; the calls of all tasks then come through it.

        Args:
            task_type: the task, where it is the task that is called.
        Raises:
            TypeError: an unknown option, or arguments of the wrong kind.
            OperationalError: the broker did not confirm in time.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"task name is `{name!r}`: expected text that is not empty")
        fields: dict[str, Any] = {**options}
        if task_id is not None:
            fields["task_id"] = task_id
        if self.conf["task_always_eager"] and task_type is None:
            warn_eager(name)
        target = name if task_type is None or task_type.name != name else task_type
        positional, named = call_options.to_args(name, args), call_options.to_kwargs(name, kwargs)
        return self.producer.send(target, positional, named, fields)

    @property
    def has_own_send(self) -> bool:
        """Whether its class, or somebody for this app alone, has replaced `send_task`."""
        return type(self).send_task is not Sending.send_task or "send_task" in vars(self)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "send_task":
            self.producer.forget_short_paths()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if name == "send_task":
            self.producer.forget_short_paths()

    def send_signature(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> AsyncResult[Any]:
        """Publishes what a signature says, through the task if this process knows it."""
        task = self.tasks.get(name)
        if task is None:
            return self.send_task(name, args, kwargs, **options)
        return task.apply_async(args, kwargs, **options)

    async def asend_task(self, name: str, *args: Any, **options: Any) -> AsyncResult[Any]:
        """As `send_task`, awaited, without blocking the event loop."""
        result: AsyncResult[Any] = await self.producer.awaited.call(
            lambda: self.send_task(name, *args, **options)
        )
        return result

    async def asend_many(self, signatures: Iterable[Mapping[str, Any]]) -> ResultSet[Any]:
        """As `send_many`, awaited, without blocking the event loop."""
        result: ResultSet[Any] = await self.producer.awaited.call(
            lambda: self.send_many(signatures)
        )
        return result

    def send_many(self, signatures: Iterable[Mapping[str, Any]]) -> ResultSet[Any]:
        """Publishes many signatures, pipelined; gives their results in order."""
        own = self.has_own_send or any(task.has_own_call for task in self.tasks.values())
        if own or self.conf["task_always_eager"]:
            from taskcore.canvas import Signature
            from taskcore.results.result_set import ResultSet

            return ResultSet([Signature(sig, app=self).apply_async() for sig in signatures], self)
        return self.producer.send_each(self._calls(signatures))

    def _calls(self, signatures: Iterable[Mapping[str, Any]]) -> Any:
        from taskcore.canvas import Signature

        for sig in signatures:
            if not is_mapping(sig):
                raise TypeError(
                    f"send_many got `{sig!r}`: expected signatures, as made by `task.s()`"
                )
            args, kwargs, options = Signature(sig, app=self).merged()
            yield self.tasks.get(sig["task"]) or sig["task"], args, kwargs, options

    def signature(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature that is sent through this app."""
        from taskcore.canvas import signature

        return signature(*args, app=self, **kwargs)

    def cancel(self, task_id: str, queue: str | None = None) -> bool:
        """Takes a task back that is scheduled for later; whether there was one.

        Its result becomes REVOKED. Where callbacks, a chain or a chord wait for the task, a worker ends
        them too.
        """
        from taskcore.publishing import cancel

        return cancel.cancel(self, task_id, queue)
