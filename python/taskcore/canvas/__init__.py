"""What to run, as a value: signatures, and later the ways to compose them.

Chains, groups and chords are not part of this version and therefore not exported.
"""

from typing import NoReturn

from taskcore import unsupported
from taskcore.canvas.signature import Signature, maybe_signature, signature, subtask

__all__ = ["Signature", "maybe_signature", "signature", "subtask"]


def __getattr__(name: str) -> NoReturn:
    raise unsupported.import_error(__name__, name)
