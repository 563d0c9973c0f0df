"""Small helpers that any part may use; they know nothing of tasks.

`nearest` is what makes strict names bearable: every unknown name is answered with the one that was
probably meant. `uuid` is Celery's helper of that name. Both import what they need on use: neither
is on a hot path, and both modules cost more memory in each pool child than the helpers are worth.
"""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeGuard


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a dict, or like one; nearly always the first, and the abstract classes are
    loaded for any other value alone."""
    if isinstance(value, dict):
        return True
    from collections.abc import Mapping

    return isinstance(value, Mapping)


def symbol_by_name(name: str) -> Any:
    """What `package.module:name` names, or `package.module.name`.

    Raises:
        ImportError, AttributeError, ValueError: there is none.
    """
    from importlib import import_module

    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not (module and attribute):
        raise ValueError(f"`{name}` is no name: expected `module:name`")
    return getattr(import_module(module), attribute)


def uuid() -> str:
    """A fresh random task id."""
    from uuid import uuid4

    return str(uuid4())


def nearest(name: str, names: Iterable[str], alike: float = 0.6) -> str | None:
    """The one of `names` that was most likely meant by `name`, or None.

    Args:
        alike: the share of letters that a name has in common with it, at least.
    """
    from difflib import get_close_matches

    found = get_close_matches(name.lower(), list(names), n=1, cutoff=alike)
    return found[0] if found else None


def hint(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that proposes the nearest name; empty when none is near."""
    found = nearest(name, names)
    return f", did you mean `{found}`?" if found else ""


def warn(text: str, category: type[Warning]) -> None:
    """A warning that points at the line of the user's that leads here: the nearest that is not of
    taskcore, nor of an import."""
    import sys
    import warnings

    frame = sys._getframe(1)
    while frame.f_back is not None and _is_passed_over(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    said = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, category, frame.f_code.co_filename, frame.f_lineno, registry=said)


def _is_passed_over(module: str) -> bool:
    return module.partition(".")[0] in ("taskcore", "importlib", "click")


def shorten(value: object, size: int = 1024) -> str:
    """The `repr` of a value, at most `size` characters; a value that cannot be printed is named by
    its type."""
    try:
        # Text is cut first: the repr of a whole document would cost more than the task that
        # returned it.
        text = repr(value[: size + 1]) if isinstance(value, (str, bytes)) else repr(value)
    except Exception:
        return f"<unprintable {type(value).__name__}>"
    return text if len(text) <= size else text[: size - 3] + "..."


def utcoffset() -> float:
    """Hours that this machine's time is west of Greenwich now, as Celery's events say it."""
    import time

    return -time.localtime().tm_gmtoff / 3600
