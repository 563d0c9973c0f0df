"""Replies of many workers, put together."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from taskcore.exceptions import DuplicateNodenameWarning


def flatten_reply(reply: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Replies of many workers as one dict, by node name.

    Warns:
        DuplicateNodenameWarning: several workers have one name.
    """
    nodes: dict[str, Any] = {}
    twice: set[str] = set()
    for item in reply:
        twice.update(name for name in item if name in nodes)
        nodes.update(item)
    if twice:
        listed = ", ".join(f"`{name}`" for name in sorted(twice))
        warnings.warn(
            f"several workers are called {listed}, expected a name of its own for each: name them with `worker -n`",
            DuplicateNodenameWarning,
            stacklevel=2,
        )
    return nodes
