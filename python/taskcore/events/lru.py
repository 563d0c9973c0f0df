"""A dict that forgets what was not used for longest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LRUCache(MutableMapping[K, V]):
    """Keeps at most `limit` entries; None is without limit.

    `data` are the entries, the longest unused first; a look there counts as no use.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.data: OrderedDict[K, V] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        value = self.data[key]
        self.data.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self.data[key] = value
        self.data.move_to_end(key)
        if self.limit is not None and len(self.data) > self.limit:
            self.data.popitem(last=False)

    def __delitem__(self, key: K) -> None:
        del self.data[key]

    def __iter__(self) -> Iterator[K]:
        return iter(list(self.data))

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def __repr__(self) -> str:
        return f"LRUCache({dict(self.data)!r}, limit={self.limit})"
