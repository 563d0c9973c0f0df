"""What a worker says of itself when it is asked by remote control, as far as it does not change: the
core answers with it and needs no Python.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

from taskcore.control.panel import Panel
from taskcore.control.plain import data

_SHOWN = ("exchange", "routing_key", "rate_limit")
"""Attributes of a task that `registered` shows where they are set, as in Celery."""


def describe(app: Any, config: Any) -> str:
    """The description of a worker that is about to start, as JSON."""
    return json.dumps(
        {
            "hostname": config.hostname,
            "mailbox": app.conf["control_exchange"],
            "tasks": {task.name: _attributes(task) for task in app.tasks.values()},
            "broker": _broker(app, config.broker_url),
            "pool": _pool(config),
            "revoke_expires": config.revoke_expires,
            "overridden": list(Panel.data),
        }
    )


def _attributes(task: Any) -> dict[str, str]:
    found = {name: getattr(task, name, None) for name in _SHOWN}
    return {name: str(value) for name, value in found.items() if value is not None}


def _broker(app: Any, url: str) -> dict[str, Any]:
    """The shape of Celery's; without the password."""
    conf = app.conf
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    return {
        "hostname": parts.hostname,
        "userid": unquote(parts.username) if parts.username else None,
        "virtual_host": parts.path.lstrip("/") or "/",
        "port": port,
        "insist": False,
        "ssl": parts.scheme.endswith("s") and parts.scheme != "redis",
        "transport": parts.scheme,
        "connect_timeout": conf["broker_connection_timeout"],
        "transport_options": data(conf["broker_transport_options"]),
        "login_method": None,
        "uri_prefix": None,
        "heartbeat": 0,
        "failover_strategy": "round-robin",
        "alternates": [],
        "credential_provider": None,
    }


def _pool(config: Any) -> dict[str, Any]:
    return {
        "implementation": f"taskcore.pool:{config.pool}",
        "max-tasks-per-child": config.max_tasks_per_child or "N/A",
        "max-memory-per-child": config.max_memory_per_child or "N/A",
        "put-guarded-by-semaphore": False,
        "timeouts": [config.soft_time_limit or 0, config.time_limit or 0],
        "writes": "N/A",
    }
