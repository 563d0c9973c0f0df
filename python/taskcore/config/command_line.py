"""Settings on a command line, behind `--`: `worker -- broker.url=redis://... .concurrency=4`.

A name is a setting's, in any case, with dots for underscores if one likes; one that begins with a
dot or an underscore is of the command. A value is text for the settings that are text or a choice,
otherwise JSON (`true`, `10`, `["a", "b"]`) or what it says in front: `(int)4`, `(json)[1]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from taskcore.config import settings
from taskcore.config.names import resembled
from taskcore.config.sources import new_name
from taskcore.exceptions import ImproperlyConfigured

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def _bool(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(f"expected one of {', '.join((*_TRUE, *_FALSE))}")
    return text.lower() in _TRUE


_CASTS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": _bool,
    "str": str,
    "string": str,
    **dict.fromkeys(("json", "tuple", "list", "dict"), json.loads),
}
_CAST = re.compile(r"\((\w+)\)(.*)", re.DOTALL)


def parse(words: Iterable[str], command: str) -> dict[str, Any]:
    """The settings that the words give.

    Args:
        words: each `name=value`.
        command: whose settings those without a family are, as `worker`.
    Raises:
        ImproperlyConfigured: a word that is no `name=value`, a slip of the pen, or a value that
            cannot be read.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip("._"):
            raise ImproperlyConfigured(
                f"`{word}` is no setting: expected `name=value`, as in `-- broker_url=redis://localhost`"
            )
        key = name.lower().replace(".", "_")
        key = command + key if key.startswith("_") else key
        # Elsewhere a name of somebody's own may be like a setting's; nobody types one of those here.
        known = key in settings.BY_NAME or new_name(key.upper())
        if not known and (meant := resembled(key)):
            raise ImproperlyConfigured(f"`{key}` is no setting{meant}")
        found[key] = _value(key, text)
    return found


def _value(name: str, text: str) -> Any:
    cast = _CAST.fullmatch(text)
    try:
        if cast and cast[1] in _CASTS:
            return _CASTS[cast[1]](cast[2])
        return _by_kind(new_name(name.upper()) or name, text)
    except ValueError as exc:
        raise ImproperlyConfigured(
            f"setting `{name}` is `{text}` on the command line: {exc}"
        ) from exc


def _by_kind(name: str, text: str) -> Any:
    setting = settings.BY_NAME.get(name)
    kind = "str" if setting is None else setting.kind.rstrip("?")
    if kind == "bool":
        return _bool(text)
    if kind in ("names", "queues") and not text.startswith("["):
        return [each.strip() for each in text.split(",")]
    if kind in ("str", "url", "zone", "scheduler") or "|" in kind:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # a rate, a protocol, the name of an annotation: the setting's check says
