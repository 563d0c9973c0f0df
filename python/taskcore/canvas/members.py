"""Members: the tasks of a group, in memory or still in the generator that gives them.

A group of a million tasks is published from its generator without ever being in memory; whoever
looks at such a group in any other way (its length, a member, its dict form) has it read as a whole
first.
"""

from __future__ import annotations

from taskcore.canvas.signature import as_signature
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


class Members:
    """Signatures that a generator gives; a sequence of them once one is asked for."""

    __slots__ = ("_app", "_read", "_source")

    def __init__(self, source: Iterable[Any], app: Any = None) -> None:
        self._source: Iterator[Any] | None = iter(source)
        self._read: list[Any] | None = None
        self._app = app

    def take(self) -> Iterator[Any]:
        """All of them, one after the other, without keeping them; once."""
        if self._read is not None:
            return iter(self._read)
        source, self._source = self._source, None
        if source is None:
            raise RuntimeError(
                "the members of this group came from a generator and have been published: pass a list "
                "to send or look at it again"
            )
        return (as_signature(one, self._app) for one in source)

    def first(self) -> Any:
        """The first of them, or None; it is not taken by this."""
        if self._read is not None or self._source is None:
            return self._read[0] if self._read else None
        for one in self._source:
            sig = as_signature(one, self._app)
            self._source = _with(sig, self._source)
            return sig
        return None

    def read(self) -> list[Any]:
        """All of them, kept from now on."""
        if self._read is None:
            self._read = list(self.take())
        return self._read

    @property
    def is_read(self) -> bool:
        """Whether they are in memory."""
        return self._read is not None

    __json__ = read

    def __iter__(self) -> Iterator[Any]:
        return iter(self.read())

    def __len__(self) -> int:
        return len(self.read())

    def __bool__(self) -> bool:
        return self.first() is not None

    def __getitem__(self, index: Any) -> Any:
        return self.read()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.read()[index] = value

    def __eq__(self, other: object) -> bool:
        return self.read() == (other.read() if isinstance(other, Members) else other)

    __hash__ = None  # type: ignore[assignment] # as a list's

    def __deepcopy__(self, memo: Any) -> list[Any]:
        from copy import deepcopy

        return deepcopy(self.read(), memo)

    def __reduce__(self) -> Any:
        return list, (self.read(),)

    def __repr__(self) -> str:
        return repr(self.read())


def _with(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
