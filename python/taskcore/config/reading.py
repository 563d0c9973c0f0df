"""What `app.conf` has of a mapping, as far as it is read.

The methods that change a dict are `Config`'s.
"""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class ReadAsMapping:
    """Names and values of the settings that `_resolved` gives."""

    if TYPE_CHECKING:

        def _resolved(self) -> dict[str, Any]: ...

    def __contains__(self, name: object) -> bool:
        return name in self._resolved()

    def __iter__(self) -> Iterator[str]:
        return iter(self._resolved())

    def __len__(self) -> int:
        return len(self._resolved())

    def first(self, *keys: str) -> Any:
        """The value of the first of these settings that exists and has one, else None."""
        values = self._resolved()
        return next((values[key] for key in keys if values.get(key) is not None), None)

    def keys(self) -> list[str]:
        """All names."""
        return list(self._resolved())

    def values(self) -> list[Any]:
        """All values."""
        return list(self._resolved().values())

    def items(self) -> list[tuple[str, Any]]:
        """All names with their values."""
        return list(self._resolved().items())

    def copy(self) -> dict[str, Any]:
        """All names with their values, as a dict of its own."""
        return dict(self._resolved())
