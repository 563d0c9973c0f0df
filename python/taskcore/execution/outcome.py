"""Outcome: how the execution of one call ended, as handed from Python to the core.

It holds what only Python can know: the verdict, the value or the exception in the form in which it
is stored, and the text for the log. It does not hold the result document; the core writes that,
because it knows the message. A tuple rather than an object with methods: it is read field by field
on the other side of the language border.
"""

from typing import Any, Final, NamedTuple

# As `pool::Verdict` in the core.
SUCCESS: Final = 0
FAILURE: Final = 1
RETRY: Final = 2
IGNORE: Final = 3
REJECT: Final = 4
REQUEUE: Final = 5
EXPECTED: Final = 7
"""A failure that the task declared by `throws`: logged at INFO, without its traceback. To the core
it is a FAILURE."""


class Outcome(NamedTuple):
    """The end of one call."""

    verdict: int
    """One of the constants of this module."""
    state: str
    """The state that the document gets, as in `taskcore.states`."""
    result: Any
    """The return value, or the exception as `exc_type`, `exc_message`, `exc_module`."""
    traceback: str | None
    """The formatted traceback of a failure or a retry, without the frames of taskcore itself."""
    note: str
    """The printable result or exception, for the log."""
