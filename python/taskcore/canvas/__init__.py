"""What to run, as a value: signatures, and later the ways to compose them.

Chains, groups and chords are not part of this version and therefore not exported.
"""

from __future__ import annotations

from taskcore.canvas.signature import Signature, maybe_signature, signature, subtask
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Signature", "maybe_signature", "signature", "subtask"]


def __getattr__(name: str) -> NoReturn:
    from taskcore import unsupported

    raise unsupported.import_error(__name__, name)
