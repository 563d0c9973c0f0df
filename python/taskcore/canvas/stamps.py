"""Stamps: headers that all messages of a workflow carry. How those of several sources become one
set. Pure; who carries them is said by `Signature.stamp` and its overrides."""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def merge(
    headers: Mapping[str, Any],
    more: dict[str, Any] | None = None,
    append: bool = False,
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """These headers, with those of a visitor and those that the signature has.

    Of a stamp that two have, the value that came first stays.

    Args:
        more: what the visitor says; None where there is no visitor. Where it names its stamps in
            `stamped_headers`, the rest is left out.
        append: collect all values of such a stamp in a list instead.
        own: the options of the signature.
    """
    merged = dict(headers)
    names = list(merged.get("stamped_headers", merged))
    if more is not None:
        said = more.get("stamped_headers", more)
        names += said
        _add(
            merged, {k: v for k, v in more.items() if k in said and k != "stamped_headers"}, append
        )
    if own is not None:
        names += own.get("stamped_headers") or ()
        _add(merged, {k: own[k] for k in dict.fromkeys(names) if k in own}, append)
    merged["stamped_headers"] = [k for k in dict.fromkeys(names) if k != "stamped_headers"]
    return merged


def _add(into: dict[str, Any], more: Mapping[str, Any], append: bool) -> None:
    for key, value in more.items():
        known = into.get(key)
        if key not in into:
            into[key] = value
        elif isinstance(known, dict) and isinstance(value, dict):
            known = into[key] = dict(known)
            _add(known, value, append)
        elif isinstance(known, list) and isinstance(value, list):
            into[key] = known + value
        elif append:
            known = [known] if isinstance(known, (int, float, str)) else list(known or ())
            into[key] = known + value if isinstance(value, list) else [*known, value]
