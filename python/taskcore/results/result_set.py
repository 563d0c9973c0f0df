"""The results of many tasks, in the order of their publishing.

Holds ids; an AsyncResult is made when one is looked at or asked for. Documents are fetched by the
hundred, and those that are final are kept, so a progress bar over a large batch asks only for what
has not ended, and a finished batch costs nothing more. Waiting is by push for all members at once
(`arrivals`). A member may be a set itself; it counts as one, which has ended when all of its own
have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from taskcore import current, states
from taskcore.results import ResultBase, arrivals
from taskcore.results.async_result import AsyncResult, check_options
from taskcore.results.joining import assert_will_not_block
from taskcore.typed import later

if TYPE_CHECKING:
    from taskcore.results.promise import Promise
else:
    Promise = later("taskcore.results.promise", "Promise")

R = TypeVar("R")


class ResultSet(ResultBase, Generic[R]):
    """Results in the order of their publishing; each AsyncResult is made when it is looked at."""

    if TYPE_CHECKING:
        _app: Any
    _app = None

    def __init__(
        self,
        results: Iterable[Any],
        app: Any = None,
        *,
        reply_to: str | None = None,
        make: type[AsyncResult[Any]] = AsyncResult,
    ) -> None:
        """
        Args:
            results: results, sets of results, or ids.
            app: default: that of the results, or the current one.
            reply_to: the reply id that they were published with, when this process published them.
            make: the class of a result that is looked at.
        """
        self._items: list[Any] = list(results)
        if app is not None:
            self._app = app
        self._reply_to = reply_to
        self._make = make

    # The members

    def _at(self, index: int) -> Any:
        item = self._items[index]
        if isinstance(item, str):
            item = self._items[index] = self._make(
                item, None, None, self._app, None, self._reply_to
            )
        return item

    @property
    def ids(self) -> list[str]:
        """The ids of the members; of a plain set among them, those of its own."""
        found: list[str] = []
        for item in self._items:
            one = item if isinstance(item, str) else getattr(item, "id", None)
            found.extend(item.ids if one is None else (one,))
        return found

    @property
    def results(self) -> list[Any]:
        """The members, in the list that the set itself uses."""
        for index, item in enumerate(self._items):
            if isinstance(item, str):
                self._at(index)
        return self._items

    @overload
    def __getitem__(self, index: int) -> AsyncResult[R]: ...
    @overload
    def __getitem__(self, index: slice) -> ResultSet[R]: ...
    def __getitem__(self, index: int | slice) -> AsyncResult[R] | ResultSet[R]:
        if isinstance(index, slice):
            return ResultSet(
                self._items[index], self._app, reply_to=self._reply_to, make=self._make
            )
        result: AsyncResult[R] = self._at(index)
        return result

    def __iter__(self) -> Iterator[AsyncResult[R]]:
        return (self._at(index) for index in range(len(self._items)))

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, result: object) -> bool:
        return result in self._items

    def add(self, result: Any) -> None:
        """Adds a member, a result or an id, unless it is one."""
        if result not in self._items:
            self._items.append(result)

    def update(self, results: Iterable[Any]) -> None:
        """Adds those of `results` that are no members."""
        known = {str(item) for item in self._items}
        for result in results:
            if str(result) not in known:
                known.add(str(result))
                self._items.append(result)

    def remove(self, result: Any) -> None:
        """Takes a member out, given as a result or an id.

        Raises:
            KeyError: it is no member.
        """
        try:
            self._items.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Takes a member out, if it is one."""
        if result in self._items:
            self._items.remove(result)

    def clear(self) -> None:
        """Takes all members out."""
        self._items.clear()

    # Waiting

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], object] | None = None,
        **options: Any,
    ) -> list[R]:
        """Waits for all and returns the values in order; of a set among the members, its list.

        Args:
            timeout: seconds for all together; default: for ever.
            propagate: raise what a task raised, as soon as it is known; otherwise its place holds
                the exception.
            interval: seconds between two calls of `on_interval`.
            callback: called with the id and value of each, in the order in which they come; the
                list is empty then.
            options: as for `AsyncResult.get`; `on_message` is called with the documents. With
                `follow_parents=False` the failure of a task before a group does not end the wait.
        Raises:
            TimeoutError: not all were ready in time.
            RuntimeError: called inside a task.
        """
        check_options(options)
        if options.get("disable_sync_subtasks", True):
            assert_will_not_block()
        follows = propagate and options.get("follow_parents", True)
        before = self._before() if follows else ()
        waiting = arrivals.Waiting(timeout, interval, options)
        for one in arrivals.arriving(self._leaves(), waiting, before):
            value = one._value(one._document, propagate)
            if callback is not None:
                callback(one.id, value)
        return [] if callback is not None else self._values(propagate)

    join = get
    join_native = get

    def iter_native(
        self, timeout: float | None = None, interval: float = 0.5, **options: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each member's id and document, with the exception in its place, as soon as it is there;
        arguments as for `get`. Members of sets come one by one."""
        check_options(options)
        waiting = arrivals.Waiting(timeout, interval, options)
        for one in arrivals.arriving(self._leaves(), waiting):
            yield one.id, one._get_task_meta()

    def iter_ready(self, timeout: float | None = None) -> Iterator[AsyncResult[R]]:
        """Each result, of sets among the members theirs, as soon as it is ready.

        Args:
            timeout: seconds for all together; default: for ever.
        """
        return arrivals.arriving(self._leaves(), arrivals.Waiting(timeout))

    def __aiter__(self) -> AsyncIterator[AsyncResult[R]]:
        """Each result as soon as it is ready, of sets among the members theirs."""
        from taskcore.results.awaiting import arriving

        assert_will_not_block()
        return arriving(self._leaves())

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._awaited().__await__()

    async def _awaited(self) -> list[R]:
        from taskcore.results.awaiting import all_of

        assert_will_not_block()
        await all_of(self._leaves(), self._before())
        return self._values(True)

    def _values(self, propagate: bool) -> list[Any]:
        """The values of members that are all known."""
        return [
            one._values(propagate)
            if isinstance(one, ResultSet)
            else None
            if one.ignored
            else one._value(one._document, propagate)
            for one in self.results
        ]

    def then(
        self,
        callback: Callable[..., Any],
        on_error: Callable[[BaseException], Any] | None = None,
        weak: bool = False,
    ) -> Promise:
        """Has `callback` called with this set when all have ended; arguments as for
        `AsyncResult.then`."""
        from taskcore.results.promise import when_ended

        return when_ended(self, list(self._leaves()), weak).then(callback, on_error)

    @property
    def on_ready(self) -> Promise:
        """The promise behind `then`: fulfilled with this set when all have ended."""
        from taskcore.results.promise import when_ended

        return when_ended(self, list(self._leaves()), False)

    # Asking

    def _leaves(self) -> Iterator[AsyncResult[Any]]:
        """The results of single tasks whose end can be waited for."""
        for one in self.results:
            if isinstance(one, ResultSet):
                yield from one._leaves()
            elif not one.ignored:
                yield one

    def _refresh(self) -> None:
        """Asks for the members whose end is not known, and keeps what is final."""
        unknown = [one for one in self._leaves() if one._document is None]
        for one, document in zip(unknown, arrivals.read(unknown), strict=True):
            if document is not None and document["status"] in states.READY_STATES:
                one._document = document

    def _known(self) -> Iterator[str | None]:
        """The state of each single task that has ended; None of one that has not, as far as is
        known."""
        for item in self._items:
            if isinstance(item, ResultSet):
                yield from item._known()
            else:
                yield None if item._document is None else item._document["status"]

    def _count(self, ended: Callable[[str | None], bool]) -> int:
        """How many members have ended so, a set when all of its own have."""
        self._refresh()
        return sum(
            all(map(ended, item._known()))
            if isinstance(item, ResultSet)
            else item._document is not None and ended(item._document["status"])
            for item in self._items
        )

    def completed_count(self) -> int:
        """How many have returned. Asks only for those whose end is not known."""
        return self._count(lambda state: state == states.SUCCESS)

    def ready_count(self) -> int:
        """How many have ended, however. Asks only for those whose end is not known."""
        return self._count(lambda state: state is not None)

    def ready(self) -> bool:
        """Whether all have ended."""
        self._refresh()
        return None not in self._known()

    def waiting(self) -> bool:
        """Whether one has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all have returned."""
        self._refresh()
        return all(state == states.SUCCESS for state in self._known())

    def failed(self) -> bool:
        """Whether one has failed."""
        self._refresh()
        return states.FAILURE in self._known()

    def maybe_throw(
        self, callback: Callable[[str, Any], object] | None = None, propagate: bool = True
    ) -> None:
        """Raises what the first failed task raised, if one has.

        Args:
            callback: called with the id and the value of each that has not failed.
        """
        self._refresh()
        for one in self._leaves():
            one.maybe_throw(propagate=propagate, callback=callback)

    maybe_reraise = maybe_throw

    # Changing

    def forget(self) -> None:
        """Deletes all from their store."""
        for one in self:
            one.forget()

    def revoke(self, **options: Any) -> None:
        """Cancels all; options and errors as of `AsyncResult.revoke`."""
        for one in self:
            one.revoke(**options)

    # Where it belongs

    @property
    def app(self) -> Any:
        """The app: the one it was made with, that of the first result, or the current one."""
        first = self._items[0] if self._items else None
        return self._app or getattr(first, "app", None) or current.get_app()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def backend(self) -> Any:
        """The app's results."""
        return self.app.backend

    supports_native_join = True
    """Whether all are waited for at once."""

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # as a list's: results can be added

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__, _items=list(self._items))
        return made

    def __reduce__(self) -> Any:
        return ResultSet, (self.results,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(self.ids)}]>"
