"""The results of many tasks, in the order of their publishing.

Holds ids; an AsyncResult is made when one is looked at. Documents are fetched by the thousand, and
those that are final are kept, so a progress bar over a large batch costs one round trip per
thousand unfinished tasks and a finished batch costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, TypeVar, overload

from taskcore import current, states
from taskcore.results.async_result import AsyncResult
from taskcore.results.joining import assert_will_not_block

R = TypeVar("R")

_CHUNK = 1000


class ResultSet(Sequence[AsyncResult[R]]):
    """Results in the order of their publishing; each AsyncResult is made when it is looked at."""

    def __init__(
        self,
        ids: Sequence[Any],
        app: Any = None,
        reply_to: str | None = None,
        make: type[AsyncResult[Any]] = AsyncResult,
    ) -> None:
        """
        Args:
            ids: may hold AsyncResults as well.
            reply_to: the reply id that they were published with, when this process published them.
            make: the class of a result that is looked at.
        """
        self.ids = [getattr(item, "id", item) for item in ids]
        self.app = app
        self._reply_to = reply_to
        self._make = make
        self._results: dict[int, AsyncResult[R]] = {
            i: item for i, item in enumerate(ids) if isinstance(item, AsyncResult)
        }

    @classmethod
    def of(cls, results: Sequence[Any], app: Any) -> ResultSet[Any]:
        """A set of results that exist."""
        return cls(results, app)

    def _at(self, index: int) -> AsyncResult[R]:
        result = self._results.get(index)
        return (
            result if result is not None else self._make(self.ids[index], self.app, self._reply_to)
        )

    @overload
    def __getitem__(self, index: int) -> AsyncResult[R]: ...
    @overload
    def __getitem__(self, index: slice) -> ResultSet[R]: ...
    def __getitem__(self, index: int | slice) -> AsyncResult[R] | ResultSet[R]:
        if isinstance(index, slice):
            part = [self._results.get(i, self.ids[i]) for i in range(*index.indices(len(self.ids)))]
            return ResultSet(part, self.app, self._reply_to, self._make)
        position = index + len(self.ids) if index < 0 else index
        if not 0 <= position < len(self.ids):
            raise IndexError("result index out of range")
        return self._at(position)

    def __iter__(self) -> Iterator[AsyncResult[R]]:
        return (self._at(i) for i in range(len(self.ids)))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def results(self) -> list[AsyncResult[R]]:
        """All of them."""
        return list(self)

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **ignored: Any,
    ) -> list[R]:
        """Waits for all and returns the values in order.

        Args:
            timeout: seconds for all together.
            propagate: raise what the first failed task raised; otherwise its place holds the
                exception.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        end = None if timeout is None else monotonic() + timeout
        values: list[R] = []
        for one in self.iter_ready(end):
            values.append(one.get(propagate=propagate, disable_sync_subtasks=False))
        return values

    join = get
    join_native = get

    def iter_ready(self, end: float | None = None) -> Iterator[AsyncResult[R]]:
        """Each result in order, once it is ready; `end` is a time of the monotonic clock."""
        for start in range(0, len(self.ids), _CHUNK):
            indexes = range(start, min(start + _CHUNK, len(self.ids)))
            self._read(indexes)
            for i in indexes:
                one = self._at(i)
                if one._document is None:
                    left = None if end is None else max(0.0, end - monotonic())
                    one.get(left, propagate=False, disable_sync_subtasks=False)
                yield one

    def _read(self, indexes: Iterable[int]) -> None:
        """Fetches many documents at once and keeps those that are final."""
        wanted = [
            i
            for i in indexes
            if ((result := self._results.get(i)) is None and not self._make.ignored)
            or (result is not None and result._document is None and not result.ignored)
        ]
        if not wanted:
            return
        app = self.app or current.get_app()
        for i, document in zip(wanted, app.backend.get([self.ids[i] for i in wanted]), strict=True):
            if document is not None and document["status"] in states.READY_STATES:
                one = self._results[i] = self._at(i)
                one._document = document

    def _states(self) -> list[str | None]:
        for start in range(0, len(self.ids), _CHUNK):
            self._read(range(start, min(start + _CHUNK, len(self.ids))))
        return [
            result._document["status"]
            if (result := self._results.get(i)) is not None and result._document
            else None
            for i in range(len(self.ids))
        ]

    def completed_count(self) -> int:
        """How many have returned."""
        return self._states().count(states.SUCCESS)

    def ready_count(self) -> int:
        """How many have ended, however."""
        return sum(1 for state in self._states() if state is not None)

    def ready(self) -> bool:
        """Whether all have ended."""
        return None not in self._states()

    def waiting(self) -> bool:
        """Whether one has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all have returned."""
        return all(state == states.SUCCESS for state in self._states())

    def failed(self) -> bool:
        """Whether one has failed."""
        return states.FAILURE in self._states()

    def forget(self) -> None:
        """Deletes all from their store."""
        for one in self:
            one.forget()
        self._results.clear()

    def __eq__(self, other: object) -> bool:
        return self.ids == other.ids if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # as a list's: results can be added in Celery

    def __repr__(self) -> str:
        return f"<ResultSet: {len(self.ids)} results>"
