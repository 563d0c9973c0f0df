"""What a report of an error should say: versions, system, settings."""

from __future__ import annotations

import platform
from typing import Any

from taskcore import _core
from taskcore.config import settings
from taskcore.config.validators import redact


def bugreport(app: Any) -> str:
    """Versions, system and settings of an app, without passwords."""
    conf = app.conf
    idle = sorted(
        name for name in conf.table() if name in settings.IGNORED or name in settings.OF_STORES
    )
    lines = [
        "",
        f"software -> taskcore:{_core.__version__} py:{platform.python_version()}",
        f"platform -> system:{platform.system()} arch:{', '.join(filter(None, platform.architecture()))}",
        f"            kernel version:{platform.release()} imp:{platform.python_implementation()}",
        f"settings -> transport:{conf['broker_url'].partition(':')[0]} "
        f"results:{redact(conf['result_backend'] or 'disabled')}",
        *([f"            without effect:{', '.join(idle)}"] if idle else []),
        "",
        conf.humanize(),
        "",
    ]
    return "\n".join(lines)
