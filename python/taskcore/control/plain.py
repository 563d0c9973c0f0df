"""Settings as plain data, without secrets, for whoever may ask a worker."""

from __future__ import annotations

import json
import re
from typing import Any

_SECRET = re.compile("API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE", re.IGNORECASE)
_HARMLESS = frozenset({"task_publish_retry_policy"})
_HIDDEN = "********"


def settings(conf: Any, with_defaults: bool) -> dict[str, Any]:
    """The settings that are set, or all, as JSON has them; what is none is its `repr`."""
    table: dict[str, Any] = conf.table(with_defaults=with_defaults)
    return {
        name: _HIDDEN if _SECRET.search(name) and name not in _HARMLESS else data(value)
        for name, value in table.items()
        if not name.startswith("__")
    }


def data(value: Any) -> Any:
    """Any value as plain data."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): data(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [data(one) for one in value]
    return repr(value)


def encode(reply: Any) -> bytes:
    """A reply as JSON; parts that JSON does not have are as `data` makes them."""
    return json.dumps(reply, default=data, skipkeys=True).encode()
