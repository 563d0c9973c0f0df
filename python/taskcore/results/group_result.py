"""The result of a group: the results of its members under one id, which can be stored under that
id and found again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, TypeVar

from taskcore import current
from taskcore.results.async_result import result_from_tuple
from taskcore.results.result_set import ResultSet

R = TypeVar("R")


class GroupResult(ResultSet[R]):
    """The result of a group."""

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = None,
        parent: Any = None,
        *,
        app: Any = None,
        **options: Any,
    ) -> None:
        """
        Args:
            id: the id of the group.
            results: its members: results, groups of results, or ids.
            parent: the result of what came before the group.
            app: default: that of the results, or the current one.
            options: as of `ResultSet`.
        """
        super().__init__(() if results is None else results, app, **options)
        self.id = id
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The members."""
        return self.results

    def as_tuple(self) -> Any:
        """The form that is stored: its id, its parents, and the same of its members."""
        parent = self.parent and self.parent.as_tuple()
        return (self.id, parent), [one.as_tuple() for one in self.results]

    # Kept under its id

    def save(self, backend: Any = None) -> Self:
        """Stores which results belong to the group, for `restore`; not their values.

        Args:
            backend: default: the app's results.
        """
        (self.backend if backend is None else backend).save_group(self.id, self.as_tuple())
        return self

    def delete(self, backend: Any = None) -> None:
        """Deletes what `save` stored; the results of the members stay.

        Args:
            backend: default: the app's results.
        """
        (self.backend if backend is None else backend).forget_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> Any:
        """The group that was saved under this id, or None.

        Args:
            backend: default: the app's results.
            app: default: the current one.
        """
        app = app or cls._app or current.get_app()
        saved = (app.backend if backend is None else backend).saved_group(id)
        return None if saved is None else result_from_tuple(saved["result"], app)

    # Being compared and copied

    def __bool__(self) -> bool:
        return bool(self.id or self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return (self.id, self._items, self.parent) == (other.id, other._items, other.parent)
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override] # has an id
        return hash(self.id)

    def __reduce__(self) -> Any:
        return GroupResult, (self.id, self.results, self.parent)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id} [{', '.join(self.ids)}]>"


def bound_to(app: Any) -> type[GroupResult[Any]]:
    """The class of the groups of one app, under Celery's name."""
    return type("GroupResult", (GroupResult,), {"_app": app, "__module__": __name__})
