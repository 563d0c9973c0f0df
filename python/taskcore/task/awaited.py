"""Calling a task from a coroutine."""

from __future__ import annotations

from taskcore import context, signals
from taskcore.publishing import call_options
from taskcore.typed import (
    TYPE_CHECKING,
    Any,
    Generic,
    Iterable,
    Mapping,
    P,
    R,
    Unpack,
    later,
)

if TYPE_CHECKING:
    from taskcore.results.async_result import AsyncResult
else:
    AsyncResult = later("taskcore.results.async_result", "AsyncResult")


class AwaitedCalls(Generic[P, R]):
    """`delay` and `apply_async` that do not block an event loop."""

    async def adelay(self: Any, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As `delay`, awaited: returns when the broker has confirmed.

        Many calls at the same moment, by `asyncio.gather` for example, travel together.

        Raises:
            TypeError: the arguments do not fit the function.
            OperationalError: the broker did not confirm in time.
            EncodeError: an argument cannot be written by the serializer.
        """
        result: AsyncResult[R] = await self.aapply_async(args, kwargs)
        return result

    async def aapply_async(
        self: Any,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Unpack[call_options.CallOptions],
    ) -> AsyncResult[R]:
        """As `apply_async`, awaited. Cancelled, it returns at once, and the call may have been sent.

        Args:
            args, kwargs, task_id, options: as of `apply_async`.
        Raises:
            As `apply_async`.
        """
        producer = self.app.producer
        plain = (
            producer.has_short_path(self)
            and context.get_request() is None
            and not signals.before_task_publish.receivers
            and not signals.after_task_publish.receivers
        )
        result: AsyncResult[R]
        if plain:
            from taskcore.publishing.awaiting import send_call

            call = self._checked_call(args, kwargs, task_id, options)
            result = await send_call(producer, self, *call)
        else:
            result = await producer.awaited.call(
                lambda: self.apply_async(args, kwargs, task_id, **options)
            )
        return result
