"""What to run, as a value: signatures, and the ways to compose them."""

from __future__ import annotations

from taskcore.canvas.chain import chain
from taskcore.canvas.chord import chord
from taskcore.canvas.group import group
from taskcore.canvas.maps import chunks, xmap, xstarmap
from taskcore.canvas.signature import (
    Signature,
    maybe_signature,
    maybe_subtask,
    signature,
    subtask,
)
from taskcore.canvas.stamping import StampingVisitor
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = [
    "Signature",
    "signature",
    "maybe_signature",
    "chain",
    "group",
    "chord",
    "chunks",
    "xmap",
    "xstarmap",
    "StampingVisitor",
    "subtask",
    "maybe_subtask",
]


def __getattr__(name: str) -> NoReturn:
    from taskcore import unsupported

    raise unsupported.import_error(__name__, name)
