"""Retries: how long to wait, and the message that runs the task again.

Pure. A retry is a new message with the same id and one more in `retries`; everything that the first message carried
(workflow, limits, stamps, headers, reply address, queue, encoding) is carried on, and only the parent becomes the task
itself. Jitter comes from the system and not from `random`, because children forked from one process share its state and
would all wait equally long.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from taskcore.publishing.call_options import timestamp

_CARRIED = [
    "root_id",
    "group",
    "group_index",
    "shadow",
    "stamps",
    "stamped_headers",
    "headers",
    "reply_to",
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "ignore_result",
    "replaced_task_nesting",
    "serializer",
]
_COMPRESSIONS = {
    "application/x-gzip": "gzip",
    "application/x-bz2": "bzip2",
    "application/zstd": "zstd",
}


def backoff(retries: int, factor: float, maximum: float, jitter: bool) -> float:
    """Seconds before retry number `retries` (from 0): doubling from `factor`, at most `maximum`; with jitter, evenly
    between 0 and that."""
    factor = max(1.0, float(factor))
    # 2.0 ** 1024 does not exist; long before that every maximum is reached.
    wait = min(float(maximum), factor * 2.0 ** min(retries, 64))
    if jitter:
        wait *= int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF
    return max(0.0, wait)


def carried(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the message that runs `request` again.

    Args:
        request: `Request.to_dict()`.
    """
    fields = {key: request[key] for key in _CARRIED if request.get(key)}
    if request.get("ignore_result") is not None:
        fields["ignore_result"] = request["ignore_result"]
    if request.get("group_index") is not None:
        fields["group_index"] = request["group_index"]
    fields["task_id"] = fields["parent_id"] = request["id"]
    fields["retries"] = int(request.get("retries") or 0) + 1
    info = request.get("delivery_info") or {}
    queue = request.get("queue") or info.get("routing_key")
    if queue:
        fields["queue"] = queue
    if info.get("priority"):
        fields["priority"] = info["priority"]
    hard, soft = request.get("timelimit") or (None, None)
    fields |= {k: v for k, v in (("time_limit", hard), ("soft_time_limit", soft)) if v}
    if compression := request.get("compression"):
        fields["compression"] = _COMPRESSIONS.get(compression, compression)
    if request.get("expires"):
        fields["expires"] = timestamp("expires", request["expires"], UTC)
    return fields


def protocol_of(request: Mapping[str, Any]) -> str:
    """The encoding in which the message of an execution came.

    A pool child gets every message in the compact encoding. Whoever writes Celery's also writes `origin`, and nobody
    else does, so that tells where the message does not.
    """
    return str(request.get("protocol") or ("celery" if request.get("origin") else "compact"))
