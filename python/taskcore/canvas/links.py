"""What a signature is followed by, and the headers that it and they carry: the part of `Signature`
that knows its links."""

from __future__ import annotations

from taskcore.canvas import stamps
from taskcore.typed import TYPE_CHECKING, Any, later

if TYPE_CHECKING:
    from typing import TypeVar

    L = TypeVar("L", bound="Linked")
else:
    L = later("taskcore.typed", "variable('L')")


class Linked(dict[str, "Any"]):
    """A signature as far as it is followed by others."""

    def _as_signature(self, one: Any) -> Any:
        """One that it links to, which may be a plain dict, as a signature."""
        raise NotImplementedError

    # What follows it

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Adds to an option that is a list, unless it is there; gives it back."""
        items = self._list_option(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Adds one or several to an option that is a list."""
        self._list_option(key).extend(listed(value))

    def _list_option(self, key: str) -> list[Any]:
        items = listed(self["options"].get(key))
        self["options"] = {**self["options"], key: items}
        return items

    def link(self, callback: Any) -> Any:
        """Adds what runs with the result after success; gives it back."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Adds what runs after failure; gives it back."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self: L, errback: Any) -> L:
        """As `link_error`, giving back this signature."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Any]:
        """It, and all that it links to, with what those link to."""
        linked = map(self._as_signature, listed(self["options"].get("link")))
        return [self, *(sig for one in linked for sig in one.flatten_links())]

    # Stamps

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Adds headers that all messages of it carry, and those of what it links to.

        Args:
            visitor: a `StampingVisitor` that says which.
            append_stamps: collect the values of a stamp that is there already in a list.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        more = None if visitor is None else visitor.on_signature(self, **headers) or {}
        self["options"] = {
            **self["options"],
            **stamps.merge(headers, more, append_stamps, self["options"]),
        }
        return self

    def stamp_links(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        """Adds headers to what it links to alone."""
        for option, hook in (("link", "on_callback"), ("link_error", "on_errback")):
            linked = listed(self["options"].get(option))
            said = dict(headers)
            for index, one in enumerate(linked):
                sig = linked[index] = self._as_signature(one)
                more = None if visitor is None else getattr(visitor, hook)(sig, **said) or {}
                said = stamps.merge(said, more, append_stamps)
                sig.stamp(visitor, append_stamps, **said)
            if linked:
                self["options"] = {**self["options"], option: linked}


def listed(value: Any) -> list[Any]:
    """What an option of one or several holds, as a fresh list."""
    if not value:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
