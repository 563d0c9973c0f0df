"""In which form an app stores results. Plain JSON needs nothing but the core: a program that only
calls tasks pays for no other form.
"""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from taskcore.results.encoding import Encoding

_JSON = frozenset({"json", "application/json"})


def to_write(conf: Any) -> Encoding | None:
    """How the tasks of an app store their results; None for plain JSON, which the core writes itself.

    Raises:
        SerializerNotInstalled: `result_serializer` is not known.
    """
    is_json = conf["result_serializer"] in _JSON and not conf["result_compression"]
    return None if is_json else to_read(conf)


def to_read(conf: Any) -> Encoding | None:
    """How a client of an app reads and stores results; None where all it opens is plain JSON.

    Raises:
        SerializerNotInstalled: `result_serializer` is not known.
    """
    serializer, compression = conf["result_serializer"], conf["result_compression"]
    accept = conf["result_accept_content"]
    if serializer in _JSON and not compression and _JSON.issuperset(accept or ()):
        return None
    from taskcore.results.encoding import Encoding

    return Encoding(serializer, compression, conf["accept_content"] if accept is None else accept)
