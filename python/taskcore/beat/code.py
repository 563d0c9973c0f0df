"""The entries of the code, `beat_schedule`: what is made of them, and what the store is to change
for them. Pure but for the schedules of the user's own classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any, NamedTuple

from taskcore.beat import definition, slots


class Changes(NamedTuple):
    """What makes the entries of the store those of the code, beside those that were added to it."""

    gone: list[str]
    """To be removed: they are not in the code any more."""
    put: list[tuple[str, str, int, bool]]
    """To be written: name, text, where it begins, whether one that exists begins there too."""


def copied(app: Any) -> dict[str, Any]:
    """The entries as they are said now; what the program changes later changes no copy."""
    # First a copy in one step, because other threads change it.
    code = dict(app.conf["beat_schedule"])
    return {n: dict(said) if type(said) is dict else said for n, said in code.items()}


def is_as_copied(app: Any, copy: Mapping[str, Any]) -> bool:
    """Whether the entries hold the same objects as when they were copied. These are not compared:
    what they are is the user's affair, and so is how they compare."""
    code = dict(app.conf["beat_schedule"])
    if code.keys() != copy.keys():
        return False
    for name, said in code.items():
        known = copy[name]
        if type(said) is not dict:
            if said is not known:
                return False
        elif said.keys() != known.keys() or not all(map(is_, said.values(), known.values())):
            return False
    return True


def made(code: Mapping[str, Any], entry: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The entries that the code says.

    Args:
        entry: makes one of its name and what is said of it.
    Raises:
        ValueError: one has an interval of nothing.
    """
    entries = {name: entry(name, fields) for name, fields in code.items()}
    for name, one in entries.items():
        if slots.is_known(one.schedule):
            try:
                slots.next_due(one.schedule, 0)
            except ValueError as exc:
                raise ValueError(f"schedule of entry `{name}`: {exc}") from None
    return entries


def changes(entries: Mapping[str, Any], found: Iterable[tuple[Any, ...]], now: int) -> Changes:
    """What the store is to change.

    Args:
        entries: those of the code.
        found: those of the store.
        now: where those begin that are new, or have another schedule.
    """
    before = {name: definition.load(text) for name, text, *_ in found}
    gone = [name for name, said in before.items() if said["code"] and name not in entries]
    put = []
    for name, entry in entries.items():
        text = definition.dump(entry, code=True)
        said, known = definition.load(text), before.get(name)
        if said != known:
            restart = known is None or known["schedule"] != said["schedule"]
            put.append((name, text, now, restart))
    return Changes(gone, put)
