"""Results: of one task, of many, of a group, of a task that ran here, and the form in which
exceptions are stored."""


class ResultBase:
    """What every result is: of one task, of a set, or of a group."""

    __slots__ = ()
    parent = None
    """The result of what came before, in a chain."""
