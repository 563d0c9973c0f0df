"""Results: of one task, of many, of a group, of a task that ran here, and the form in which
exceptions are stored."""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING, Any, Iterator


class ResultBase:
    """What every result is: of one task, of a set, or of a group."""

    __slots__ = ()
    if TYPE_CHECKING:
        parent: Any
    parent = None
    """The result of what came before, in a chain."""

    def _before(self) -> Iterator[Any]:
        """The results of the tasks before this in its chain, the last one first; of groups among
        them the members are left out, because their end is told by what follows them."""
        node = self.parent
        while node is not None:
            if hasattr(node, "_document"):
                yield node
            node = node.parent
