"""The states of a task, with Celery's names and sets.

PENDING is never stored: it is what a reader sees when there is no document. RECEIVED and REJECTED
exist in events only. Any other text is a state of the user's own (`update_state`), which is
neither ready nor an exception.
"""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

PENDING: Final = "PENDING"
RECEIVED: Final = "RECEIVED"
STARTED: Final = "STARTED"
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"
REJECTED: Final = "REJECTED"
RETRY: Final = "RETRY"
IGNORED: Final = "IGNORED"

READY_STATES: Final = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES: Final = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES: Final = frozenset({FAILURE, REVOKED})
ALL_STATES: Final = READY_STATES | UNREADY_STATES

PRECEDENCE: Final = (SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING)
"""The later in the life of a task, the earlier here; None is a state of the user's own."""


def precedence(state: str | None) -> int:
    """Where a state stands in `PRECEDENCE`."""
    return PRECEDENCE.index(state if state in PRECEDENCE else None)
