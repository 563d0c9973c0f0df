"""The Rust core behind taskcore: publishing, results, the worker, and the child that runs user
code.

Only the packages `app`, `beat`, `publishing`, `results`, `schedules` and `worker` and the module
`serialize` import it.
Every call that may block releases the interpreter lock and lets Python signal handlers run.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, final

__all__ = [
    "Crontab",
    "Publisher",
    "Request",
    "Results",
    "Schedule",
    "Steps",
    "Subscriber",
    "Template",
    "Worker",
    "__version__",
    "dumps",
    "invalidate_tasks",
    "loads",
    "read_message",
]

if sys.platform != "win32":
    # Where there is `fork`.
    __all__ += ["LoopChild", "end_due", "run_child", "soft_limit_due"]

__version__: str

@final
class Template:
    """What all messages of one task share; made once per task, frozen."""

    def __new__(
        cls,
        task: str,
        *,
        queue: str,
        serializer: str = "msgpack",
        protocol: str = "compact",
        priority: int = 0,
        compression: str | None = None,
        ignore_result: bool | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        exchange: str = "",
        routing_key: str | None = None,
        route: str | None = None,
    ) -> Self:
        """
        Args:
            task: registered name.
            queue: queue (and, for `protocol="celery"`, routing key) to publish to.
            serializer: `json`, `msgpack`, `pickle`, `yaml` or a name registered in
                `taskcore.serialize`.
            protocol: `compact`, or `celery` (protocol 2 in kombu's envelope).
            priority: 0 to 9; 0 is served first.
            compression: `gzip`, `bzip2`, `zstd` or None.
            exchange: where to publish instead of to the queue by its name.
            routing_key: default: the queue's name.
            route: how the exchange routes and which queues are declared before, as JSON: `type`,
                `declares`.
        Raises:
            ValueError: an unknown serializer, protocol or compression, a priority out of range, or a
                route that is none.
        """

@final
class Publisher:
    """The producer's side of a broker. Thread-safe; reconnects in a forked process."""

    def __new__(
        cls,
        url: str,
        *,
        timeout: float = 5.0,
        max_retries: int | None = 3,
        interval_start: float = 0.0,
        interval_step: float = 0.2,
        interval_max: float = 1.0,
        max_body: int = 16777216,
        options: dict[str, Any] | None = None,
    ) -> Self:
        """Parses the URL; connects on first use.

        Args:
            url: `sqlite:///path`, `memory://`, `redis://`, `rediss://`, `redis+socket://`,
                `unix://`.
            timeout: seconds that one publish may take in all, connecting and retrying included; in
                a bulk publish, one chunk.
            max_retries: attempts after the first, None for as many as the timeout allows. The waits
                before them are `interval_start`, then `interval_step` more each time, up to
                `interval_max` (seconds).
            max_body: bytes of encoded arguments, before compression, above which a publish is
                refused.
            options: `broker_transport_options`: `global_keyprefix`, `durability` (sqlite: `full` or
                `normal`), `queue_order_strategy`.
        Raises:
            ValueError: a malformed URL or an unknown option.
        """

    @property
    def url(self) -> str:
        """The URL with its password hidden."""

    def publish(
        self,
        template: Template,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        fields: dict[str, Any] | None = None,
    ) -> str:
        """Publishes one message, confirmed, and returns its task id. Blocks up to `timeout`.

        Args:
            fields: what differs from the template: `task_id`, `queue`, `exchange`, `routing_key`
                (default: the queue's name), `route` (as of a template; empty: none), `priority`, `serializer`, `compression`, `eta` and `expires` (Unix seconds, float), `retries`, `time_limit`,
                `soft_time_limit`, `ignore_result`, `root_id`, `parent_id`, `group`, `group_index`,
                `shadow`, `origin`, `argsrepr`, `kwargsrepr`, `reply_to`, `headers` (dict, merged),
                `stamps`, `stamped_headers`, `replaced_task_nesting`, `callbacks`, `errbacks`,
                `chain` (lists of signature dicts), `chord` (signature dict), `delivery_mode`,
                `timeout`, `retry` (bool), `retry_policy` (dict). None values mean absent.
        Raises:
            OperationalError: the broker could not be reached or did not confirm within the
                deadline.
            UnroutableError: no queue receives the message.
            EncodeError: an argument cannot be written with the serializer, or is nested too deeply.
            ValueError: the body is larger than `max_body`; an unknown field.
        """

    def follow(
        self,
        request: Request,
        template: Template,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        fields: dict[str, Any] | None = None,
    ) -> str:
        """Encodes one message as `publish` does and leaves it to the worker, which publishes it
        with the outcome of `request`; returns its task id. Does not block.

        Raises:
            RuntimeError: the execution has ended.
            EncodeError, ValueError, TypeError: as `publish`.
        """

    def publish_many(
        self,
        template: Template,
        calls: Iterable[Sequence[Any]],
        fields: dict[str, Any] | None = None,
        check: Callable[..., object] | None = None,
    ) -> list[str]:
        """Publishes one message per item of `calls` (each the positional arguments), pipelined in
        chunks; returns the task ids in order.

        Args:
            check: called with the arguments of each item, spread, before it is encoded; raises
                TypeError when they do not fit.
        Raises:
            As `publish`, and whatever `calls` and `check` raise. The exception's attribute
            `published` holds the ids that were published for certain; of the chunk that failed some
            may be, when the connection broke while it was sent. UnroutableError: no queue receives
            some messages of a chunk; their ids are in its attribute `unroutable`, the others of the
            chunk are published. Likewise `refused`, of messages whose queue the broker cannot write to.
        """

    def publish_each(
        self,
        messages: Iterable[tuple[Template, Sequence[Any], dict[str, Any], dict[str, Any] | None]],
    ) -> list[str]:
        """As `publish_many`, each item with its own template, args, kwargs and fields. Neighbours
        with the same `timeout`, `retry` and `retry_policy` share a chunk."""

    def broadcast(
        self,
        exchange: str,
        kind: str,
        routing_key: str,
        body: bytes,
        headers: str = "{}",
        content_type: str = "application/json",
        timeout: float = 5.0,
    ) -> None:
        """Says something to all who hear it now; nobody hearing is no error. Blocks.

        Args:
            kind: how the exchange routes: `direct`, `fanout` or `topic`.
            headers: a JSON map.
            timeout: seconds.
        Raises:
            OperationalError: the broker is away.
            NotSupportedError: it carries no broadcasts.
        """
    def subscribe(self, bindings: Sequence[tuple[str, str, str]]) -> Subscriber:
        """Hears what is said from when this returns. Blocks.

        Args:
            bindings: exchange, how it routes (as of `broadcast`), routing key or pattern.
        Raises:
            OperationalError: the broker is away.
            NotSupportedError: it carries no broadcasts.
        """
    def revoke(self, ids: list[str], expires: float, timeout: float = 5.0) -> None:
        """Remembers ids as revoked for so many seconds, for workers that start later. Blocks at most
        `timeout` seconds.

        Raises:
            OperationalError: the broker is away.
            NotSupportedError: it remembers nothing.
        """
    def revoked(self, timeout: float = 5.0) -> list[str]:
        """What is remembered as revoked, in the order in which it will be forgotten."""
    def stats(self, queue: str) -> dict[str, int]:
        """`depth`, `in_flight`, `scheduled`, `dead` of a queue."""

    def queues(self) -> list[str]:
        """Names of the queues that exist at the broker."""

    def purge(self, queue: str) -> int:
        """Drops what is ready or scheduled; how many."""

    def cancel(self, queue: str, task_id: str) -> bool:
        """Takes a scheduled message back; one that others wait for comes to a worker, which revokes it."""

    def dead(self, queue: str, limit: int = 100) -> list[dict[str, Any]]:
        """Newest dead letters: `key`, `id`, `task` (None when it cannot be read), `reason`, `at`
        (Unix seconds), `redeliveries`, `raw` (bytes)."""

    def replay(self, queue: str, keys: list[str] | None = None) -> int:
        """Puts dead letters back; how many."""

    def discard(self, queue: str, keys: list[str] | None = None) -> int:
        """Drops dead letters; how many."""

@final
class Crontab:
    """A crontab expression; frozen."""

    def __new__(
        cls,
        minutes: list[int],
        hours: list[int],
        weekdays: list[int],
        days: list[int],
        months: list[int],
    ) -> Self:
        """
        Raises:
            ValueError: a field is empty or has a number out of range, or no month has such days.
        """

    def next_after(self, after: int, offset: Callable[[int], int]) -> int | None:
        """When it is due first after a Unix time; None when it never is.

        Args:
            offset: gives how many seconds the clock is ahead of UTC at a Unix time.
        """

    @staticmethod
    def parse(spec: str, count: int, first: int) -> tuple[list[int], list[str]]:
        """The numbers of a field that has so many from the first on, and a sentence about each part
        that hardly means what it says; ValueError when it cannot be read."""

@final
class Schedule:
    """The periodic tasks of an app in the broker's store. Every method may block and raises
    OperationalError when the broker cannot be reached."""

    def __new__(cls, publisher: Publisher, name: str) -> Self:
        """
        Args:
            publisher: of the broker.
            name: what those who share the entries know them by.
        """

    def lead(self, beat: str, lease: float) -> tuple[str, int]:
        """Takes the lead for a beat, or keeps it, for so many seconds; who leads, and a number that
        is another one when entries were changed."""

    def resign(self, beat: str) -> None:
        """Gives up the lead, if that beat has it."""

    def entries(self) -> tuple[int, list[tuple[str, str, int, int, float | None, bool]]]:
        """The number of `lead`, and each entry: its name, what it says, the due time that it is done
        with (microseconds since 1970), how often it was sent and when last, whether it is paused."""

    def put(
        self,
        definitions: list[tuple[str, str, int, bool]],
        *,
        leader: str | None = None,
        revision: int | None = None,
    ) -> bool:
        """Adds entries or changes what they say: name, text, the due time that a new one is done
        with, whether one that exists begins there too unless it is further on.

        Args:
            leader: only while this beat leads.
            revision: only if the number of `entries` is still this one.
        Returns:
            Whether that was so.
        Raises:
            ValueError: both are given.
        """

    def remove(
        self, names: list[str], *, leader: str | None = None, revision: int | None = None
    ) -> int | None:
        """Removes entries; how many there were. On a condition, as `put`: None when it does not hold."""

    def pause(self, entry: str, paused: bool) -> bool:
        """Pauses an entry or lets it go on; whether there is one."""

    def fire(
        self,
        firings: Iterable[
            tuple[
                str,
                int,
                int,
                tuple[Template, Sequence[Any], dict[str, Any], dict[str, Any] | None] | None,
            ]
        ],
    ) -> list[str | None]:
        """Publishes the message of each entry that is done with the first time and not paused, and
        moves it to the second, in one step.

        Args:
            firings: name, the two times, and a message as `Publisher.publish` takes it, or None to
                move the entry and send nothing.
        Returns:
            The id of each message, empty where there was none; None for what was not done.
        """

@final
class Subscriber:
    """One who hears what is said to all; see `Publisher.subscribe`. It belongs to the process that made
    it."""

    def receive(
        self, timeout: float | None = None
    ) -> tuple[list[tuple[str, str, str, str, bytes]], int]:
        """What was said since the last call, and how many messages were lost before it because this
        subscriber did not keep up. Waits while there is nothing, at most `timeout` seconds; Python's
        signal handlers run meanwhile. Each message is exchange, routing key, headers (a JSON map),
        content type, body.

        Raises:
            OperationalError: the link is gone, and with it what was said since: subscribe again.
        """

@final
class Results:
    """The client's side of a result store. Thread-safe; reconnects in a forked process."""

    def __new__(
        cls,
        url: str,
        *,
        expires: float | None = 86400.0,
        options: dict[str, Any] | None = None,
        encoding: Any = None,
    ) -> Self:
        """
        Args:
            expires: seconds that a result is kept; None: for ever.
            options: `result_backend_transport_options`.
            encoding: a `taskcore.results.encoding.Encoding`; None: documents are JSON.
        Raises:
            ValueError: an unknown URL, option or compression, or an encoding in whose bytes the
                state of a task is not seen.
        """
    @property
    def url(self) -> str: ...
    @property
    def reply_to(self) -> str:
        """Reply id of this process, to be sent in `reply_to`."""
    def get(self, task_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """The result documents as dicts, None where nothing is stored."""
    def wait(
        self, task_id: str, timeout: float | None = None, foreign: bool = False
    ) -> dict[str, Any] | None:
        """Blocks until the document is in a ready state, then returns it.

        Raises:
            TimeoutError: `timeout` seconds passed (taskcore.exceptions.TimeoutError).
            OperationalError: the store went away.
        """
    def watch(
        self,
        task_id: str,
        done: Callable[[dict[str, Any] | None, BaseException | None], object],
        foreign: bool = False,
    ) -> int:
        """Has `done` called once, in a thread of the core's, with the document when it is in a
        ready state, or with the error that ended the wait. Does not block; one thread serves all
        watches. Returns the key for `unwatch`.

        Raises:
            RuntimeError: no thread can be started.
        """
    def unwatch(self, key: int) -> None:
        """Takes a `watch` back, after which `done` is not called any more; no error when it was
        called already."""
    def put(
        self,
        task_id: str,
        state: str,
        result: Any,
        *,
        traceback: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Writes and announces a document. `fields` adds top-level keys."""
    def declare_join(self, group_id: str, size: int) -> None:
        """Says of how many members the chord `group_id` consists, so that the worker that stores the
        last of their results publishes what follows. Blocks.

        To be called before the last member is published; a chord that has all its members then waits
        for one of them to be stored once more. A chord of that id that has been completed begins
        anew.

        Args:
            size: members, 1 or more. What follows a chord without any is published at once instead.
        Raises:
            ValueError: a size of 0.
            OverflowError: a negative size.
            OperationalError: the store is away.
        """
    def extend_join(self, group_id: str, more: int) -> None:
        """Has the chord `group_id` wait for so many members more. Blocks.

        To be called by a member while it runs, before it publishes the others. Nothing happens when
        the chord is complete.

        Raises:
            OverflowError: a negative number.
            OperationalError: the store is away.
        """
    def save_group(self, group_id: str, structure: Any) -> None:
        """Writes which results belong to a group, in the form of result tuples."""
    def saved_group(self, group_id: str) -> dict[str, Any] | None:
        """What `save_group` wrote, as `result` of a dict; None where nothing is stored."""
    def forget_group(self, group_id: str) -> None: ...
    def forget(self, task_id: str) -> None: ...
    def cleanup(self) -> int:
        """Deletes expired documents where the store does not do it itself."""

@final
class Steps:
    """The rest of a chain as a message carries it: signatures in reverse order. `steps[-1]`, the next
    to run, is decoded; `steps[:-1]` are the others as they came, without decoding them. Whatever
    else is asked of it decodes all of them, once."""

    def decoded(self) -> list[dict[str, Any]]:
        """The list of all of them; the same one every time. What is changed in it counts.

        Raises:
            DecodeError: one of them cannot be decoded.
        """
    def __json__(self) -> list[dict[str, Any]]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def __reversed__(self) -> Iterator[dict[str, Any]]: ...
    def __getitem__(self, key: Any, /) -> Any: ...

@final
class Request:
    """One execution as the child sees it; behind `self.request`. Attributes are read-only and
    decoded on access."""

    @property
    def id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def retries(self) -> int: ...
    @property
    def root_id(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def ignore_result(self) -> bool | None: ...
    @property
    def children(self) -> list[Any]:
        """Result tuples of the tasks published during this execution."""
    @property
    def has_embed(self) -> bool:
        """Whether the message carries callbacks, errbacks, a chain or a chord."""
    @property
    def only_chain(self) -> Steps | list[Any] | None:
        """The rest of a chain, where the message carries nothing else that follows, and is none of a
        stock client's."""
    def to_dict(self) -> dict[str, Any]:
        """Everything that Celery's `self.request` shows: id, task, args, kwargs, retries, eta and
        expires (ISO text or None), group, group_index, root_id, parent_id, reply_to,
        correlation_id, timelimit ([hard, soft]), callbacks, errbacks, chain (`Steps`, or a list), chord, headers
        (unknown ones), stamps, stamped_headers, shadow, origin, ignore_result,
        replaced_task_nesting, argsrepr, kwargsrepr, delivery_info (exchange, routing_key, priority,
        redelivered), properties (dict), redeliveries, serializer (name), compression, queue,
        protocol (`compact` or `celery`)."""
    def add_child(self, task_id: str, parent: Any = None, members: Any = None) -> None:
        """Records what was published during this execution, for the `children` of the result.

        Args:
            task_id: of the task, or of the group.
            parent: result tuple of what came before it.
            members: result tuples of a group.
        """
    def end(
        self,
        task_id: str,
        state: str,
        result: Any,
        *,
        traceback: str | None = None,
        fields: dict[str, Any] | None = None,
        group: str | None = None,
        group_index: int | None = None,
    ) -> None:
        """Ends another task, which will not run because of this execution: the worker stores it with
        the outcome. Does not block.

        Args:
            state: FAILURE or REVOKED.
            result: the exception, as in a result document.
            fields: further top-level keys of the document.
            group: the group in which it counts as a member of a chord.
            group_index: its place there.
        Raises:
            RuntimeError: the execution has ended.
            ValueError: another state.
        """
    def drop_following(self) -> list[str]:
        """Drops the messages that were to follow this execution, and what `children` says of them;
        returns their task ids."""

if sys.platform != "win32":
    def run_child(
        fd: int, memory: int, executor: object, log_tasks: bool, max_memory: int | None
    ) -> int:
        """The life of a pool child: receive, execute, reply, until the parent closes the socket or says
        stop. Takes over both descriptors. Returns the exit code.

        Args:
            fd: the socket to the worker.
            memory: what the child shares with it.
            executor: `taskcore.execution.executor.Executor`.
            log_tasks: whether outcomes carry the printable result.
            max_memory: after a task that has left it with more KiB than this it begins no other."""

    @final
    class LoopChild:
        """A pool child whose calls overlap in one event loop; used in the loop's thread alone."""

        def __new__(
            cls, fd: int, memory: int, executor: object, log_tasks: bool, lanes: int
        ) -> LoopChild:
            """Takes over both descriptors and tells the worker that this child is ready.

            Args:
                fd: the socket to the worker.
                memory: what the child shares with it.
                executor: `taskcore.execution.executor.Executor`.
                log_tasks: whether outcomes carry the printable result.
                lanes: how many calls run at once.

            Raises:
                OperationalError: the worker is gone.
            """
        def fileno(self) -> int:
            """The socket, which the loop watches."""
        def receive(self) -> bool:
            """Reads what has come, without blocking. False when the worker has closed the socket."""
        def start(
            self,
            start: Callable[[int, Any, Request, tuple[Any, ...], dict[str, Any], bool], object],
        ) -> bool:
            """Begins calls that have come, as far as there are lanes: `start` is called for each with
            lane, plan, request, arguments, and whether the task has neither hooks, receivers nor
            links. Whether some wait for a lane."""
        def returned(self, lane: int, value: Any) -> None:
            """The call in this lane returned `value`; for tasks without hooks, receivers and links.

            Raises:
                KeyError: the lane runs nothing.
            """
        def told(self, lane: int, ended: Any) -> None:
            """The call in this lane ended as `ended` says, a `taskcore.execution.outcome.Outcome`."""
        def raised(self, lane: int, raised: BaseException) -> None:
            """The call in this lane raised."""
        def cancelled(self, lane: int) -> None:
            """The call in this lane was cancelled because the worker asked for it, and has ended."""
        def asked(self) -> tuple[list[int], list[int]]:
            """What the worker asks, each once: lanes whose soft time limit is due, and lanes that are
            to be cancelled. Nothing while another method is on the stack, as in a signal handler: ask
            again."""
        @staticmethod
        def raise_in(ident: int, class_: type[BaseException]) -> None:
            """Has an exception of this class raised in a thread, at its next instruction."""
        def ring(self) -> None:
            """Tells the worker of outcomes that it was not told of."""

    def soft_limit_due() -> bool:
        """In a child's handler of SIGUSR1: whether the signal is meant for the call that runs now."""

    def end_due() -> bool:
        """In a child's handler of a signal that ends a process: whether the call that runs now is to
        end."""

@final
class Worker:
    """Parent of the pool: consumes, triages, dispatches, settles."""

    def __new__(
        cls,
        config: object,
        tasks: Sequence[object],
        executor: object,
        *,
        zygote: tuple[int, int] | None = None,
        program: object | None = None,
    ) -> Self:
        """
        Args:
            config: attributes `broker_url`, `result_url` (or None), `broker_options`,
                `result_options` (dicts), `hostname`, `queues` (list of str),
                `declarations` (list of str: queues as JSON), `pool` (`prefork`,
                `threads`, `solo`), `concurrency`, `prefetch` (None = auto, 0 = no limit, n = per
                slot, -1 = disabled), `prefetch_bytes`, `accept_content` (list of MIME types),
                `max_deliveries`, `result_expires` (seconds or None), `log_level` (int, as in
                logging), `log_file` (str or None), `max_tasks_per_child` (int or None),
                `autoscale` (least and most slots, and seconds; or None),
                `time_limit`, `soft_time_limit` (seconds or None), `shutdown_timeout` (seconds or
                None), `disable_rate_limits`, `revokes_max`, `revoke_expires` (seconds),
                `event_exchange`, `task_events`, `heartbeat` (seconds or None for none), `utcoffset`
                (hours west of Greenwich), `http` (where health and metrics are served: `host:port`, a
                port, `unix:path`, or None), `control` (see `taskcore.worker.description`, or None for
                no remote control).
            tasks: objects with `name`, `acks_late`, `acks_on_failure_or_timeout`,
                `reject_on_worker_lost`, `ignore_result`, `store_errors_even_if_ignored`,
                `track_started`, `rate_limit` (per second or None), `time_limit`, `soft_time_limit`
                (seconds or None), `has_failure_handlers`.
            executor: `taskcore.execution.executor.Executor`, used by pools that run in this
                process.
            zygote: file descriptor of the control socket of the zygote, and its process id, for
                `prefork`.
            program: `taskcore.worker.commands.Commands`, which answers what only Python can.
        """
    @property
    def http_address(self) -> str | None:
        """Where the worker listens for HTTP, with the port that it has; None when it does not."""
    def start(self) -> bool:
        """Connects and starts the loop on its own thread. Returns true when the first connection
        stands, false when the worker was stopped before that; raises when the configuration can
        never work."""
    def wait(self) -> int:
        """Blocks until the worker has stopped; the `solo` pool runs its tasks in here. Python
        signal handlers run meanwhile. Returns the number of tasks processed.

        Raises:
            OperationalError: the broker failed for good."""
    def stop(self, warm: bool = True) -> None:
        """Asks the worker to stop: warm lets running tasks finish, cold kills them. Callable from a
        signal handler; returns at once."""
    def stats(self) -> dict[str, Any]:
        """`processed`, `active`, `reserved`, `scheduled`, `prefetch`, `connected`, `children`
        (pids), `succeeded`, `failed`, `retried`, `revoked`, as of the last turn of the loop. Does
        not block."""
    def revoke(self, ids: Sequence[str], signal: int | None = None) -> dict[str, list[str]]:
        """Drops tasks wherever they wait here, and when they come within three hours; at most
        `revokes_max` ids are remembered. This and the methods below wait for the loop to carry out the command,
        which takes a moment; Python's signal handlers run meanwhile.

        Args:
            ids: task ids.
            signal: sent to the process of each that runs; None lets them finish.

        Returns:
            Ids by what became of them: `dropped`, `terminated`, `running`; those that are not here
            are in none.

        Raises:
            ValueError: no such signal.
            NotSupportedError: the pool cannot end a task that way, or no worker runs in this
                process.
        """
    def rate_limit(self, task: str, per_second: float | None) -> float | None:
        """Changes how many executions of a task may begin in a second; None is without limit. Returns
        the limit before.

        Raises:
            ValueError: no such task, with the nearest name; a rate below 0.
            NotSupportedError: rate limits are off in this worker.
        """
    def time_limit(
        self, task: str, soft: float | None = None, hard: float | None = None
    ) -> tuple[float | None, float | None]:
        """Changes the limits of a task, in seconds, for executions that have not begun; limits that
        came with a message stay. Returns soft and hard limit before.

        Raises:
            ValueError: no such task, or a limit that is not above 0.
            NotSupportedError: a hard limit, and the pool cannot kill.
        """
    def consume(self, queue: str) -> list[str]:
        """Consumes from another queue. Nothing that is held is lost; the connection takes it up a
        moment later. Returns the queues from now on."""
    def cancel(self, queue: str) -> list[str]:
        """Consumes from a queue no longer; what was claimed from it still runs here. Without the last
        one the worker claims nothing. Returns the queues from now on.

        Raises:
            ValueError: it is not consumed here.
        """
    def grow(self, n: int = 1) -> int:
        """Runs so many more tasks at a time; returns how many from now on."""
    def shrink(self, n: int = 1) -> int:
        """Runs so many fewer tasks at a time; idle processes end first, busy ones when their task
        ends. Returns how many from now on.

        Raises:
            ValueError: none would be left.
        """
    def autoscale(self, most: int | None = None, least: int | None = None) -> tuple[int, int]:
        """Changes between what the pool grows and shrinks by itself; None leaves a bound. Returns the
        most and the least from now on.

        Raises:
            ValueError: the most is below the least.
            NotSupportedError: the pool does not scale by itself.
        """
    def restart(self, tasks: Sequence[object], modules: str) -> None:
        """Replaces the processes of the pool, each when what it runs has ended. Returns when that has
        begun.

        Args:
            tasks: as for `__new__`; those that are new are accepted from now on.
            modules: JSON, a list of pairs: what the new processes import first, and whether anew.

        Raises:
            NotSupportedError: the pool has no processes.
        """
    def revoked(self) -> list[str]:
        """Ids that are dropped when they come, the oldest first."""
    def report(self) -> dict[str, Any]:
        """Everything that the worker holds and has done: `stats` (as above), `slots`, `active`,
        `reserved`, `scheduled` (lists of dicts of `id`, `name`, `queue`, `redeliveries`,
        `acknowledged`, `time_start`, `worker_pid`, `message`), `total` (executions by task), `rate_limits` (per
        second, by task), `queues`, `autoscale` (most and least, or None)."""

def invalidate_tasks() -> None:
    """Says that hooks, receivers of signals or settings have changed: every thread that runs tasks
    in this process looks them up again before its next call. Does not block."""

def dumps(value: Any, serializer: str) -> bytes:
    """Encodes with the native `json` (kombu's, byte for byte) or `msgpack`. Both write datetime,
    date, time, Decimal and UUID as `{"__type__": ..., "__value__": ...}`, and an object with
    `__json__` as what that returns.

    Raises:
        EncodeError: a value that has no form, with its place; nesting deeper than 512 levels, or a
            cycle.
        ValueError: another serializer.
    """

def loads(data: bytes, serializer: str) -> Any:
    """Decodes native `json` or `msgpack`, typed values included.

    Raises:
        DecodeError: with the position of the byte.
        ValueError: another serializer.
    """

def read_message(raw: bytes) -> dict[str, Any]:
    """A task message in either encoding as a dict of `Request.to_dict` keys, for the CLI and tests.

    `args` and `kwargs` are None when the body was written by a serializer of Python's: nothing
    foreign is opened here.

    Raises:
        DecodeError: not a task message.
    """
