"""What only Python can answer of what a worker is asked by remote control: settings, memory,
commands of the user's own.

Called from a thread of the core's, one request at a time; what the core knows it answers itself.
"""

from __future__ import annotations

import json
import platform
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from taskcore import __version__
from taskcore.control import plain
from taskcore.control.panel import Panel
from taskcore.worker.memory import resident

_SAMPLES = 60
"""How many samples of memory are kept."""


class State:
    """What a command is given: the app, the worker's name, and the worker.

    Args:
        controller: the `WorkController`; also `consumer.controller`, as in Celery.
    """

    def __init__(self, controller: Any) -> None:
        self.app = controller.app
        self.hostname = controller.hostname
        self.controller = controller
        self.consumer = self
        self.tset = set


class Commands:
    """Answers requests.

    Args:
        controller: the worker.
    """

    def __init__(self, controller: Any) -> None:
        self._state = State(controller)
        self._app = controller.app
        self._samples: deque[str] = deque(maxlen=_SAMPLES)
        self._own: dict[str, Callable[..., Any]] = {
            "conf": self._conf,
            "dump_conf": self._conf,
            "report": self._report,
            "registered": self._registered,
            "dump_tasks": self._registered,
            "memsample": self._memsample,
            "memdump": self._memdump,
            "objgraph": self._objgraph,
            "pool_restart": self._pool_restart,
            "autoscale": self._autoscale,
        }

    def answer(self, method: str, arguments: str) -> bytes:
        """The reply to a request, as JSON; an exception is the reply too."""
        try:
            return plain.encode(self._call(method, json.loads(arguments)))
        except Exception as exc:
            return plain.encode({"error": repr(exc)})

    def _call(self, method: str, arguments: dict[str, Any]) -> Any:
        if method in Panel.data:
            return Panel.data[method](self._state, **arguments)
        if method not in self._own:
            raise KeyError(method)
        return self._own[method](**arguments)

    def _conf(self, with_defaults: Any = False, **_: Any) -> Any:
        return plain.settings(self._app.conf, bool(with_defaults))

    def _report(self, **_: Any) -> Any:
        conf = self._app.conf
        shown = plain.settings(conf, with_defaults=False)
        lines = [
            "",
            f"software -> taskcore:{__version__} py:{platform.python_version()}",
            f"platform -> system:{platform.system()} arch:{platform.machine()}",
            f"            kernel version:{platform.release()} imp:{platform.python_implementation()}",
            f"settings -> transport:{conf['broker_url'].partition(':')[0]} "
            f"results:{shown.get('result_backend') or 'disabled'}",
            "",
            *(f"{name}: {value!r}" for name, value in shown.items()),
        ]
        return {"ok": "\n".join(lines)}

    def _registered(self, taskinfoitems: Any = None, builtins: Any = False, **_: Any) -> Any:
        items = [item for item in taskinfoitems or () if item and not item.startswith("_")]
        return [
            described(task, items)
            for name, task in sorted(self._app.tasks.items())
            if builtins or not name.startswith(("celery.", "taskcore."))
        ]

    def _memsample(self, **_: Any) -> Any:
        size = resident()
        if size is None:
            return None
        sample = f"{size:.2f}MB"
        self._samples.append(f"{time.strftime('%H:%M:%S')}: {sample}")
        return sample

    def _memdump(self, samples: int = 10, **_: Any) -> Any:
        kept = list(self._samples)[-int(samples) :]
        return (
            "".join(f"- rss: {line}\n" for line in kept)
            or "- rss: (no samples: `memsample` first)\n"
        )

    def _objgraph(self, **_: Any) -> Any:
        raise NotImplementedError(
            "a worker of taskcore keeps its requests outside of Python, so there is no graph of them: "
            "use `memsample`, or look into a child with `py-spy`"
        )

    def _pool_restart(
        self, modules: Any = None, reload: Any = False, reloader: Any = None, **_: Any
    ) -> Any:
        if not self._app.conf["worker_pool_restarts"]:
            raise ValueError("Pool restarts not enabled")
        if reloader is not None:
            raise ValueError("`reloader` is not supported, expected `reload` alone")
        if modules is None:
            modules = [*self._app.conf["imports"], *self._app.conf["include"]]
        elif isinstance(modules, str):
            modules = [modules]
        self._state.controller.pool_restart(modules, bool(reload))
        return {"ok": "reload started"}

    def _autoscale(self, max: Any = None, min: Any = None, **_: Any) -> Any:
        core = self._state.controller.core
        if core.report()["autoscale"] is None:
            raise ValueError("Autoscale not enabled")
        most, fewest = core.autoscale(_count("max", max), _count("min", min))
        return {"ok": f"autoscale now max={most} min={fewest}"}


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or isinstance(value, bool | float):
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 0")
    return number


def described(task: Any, items: list[str]) -> str:
    """The name of a task, with those of these attributes that it has."""
    found = {item: getattr(task, item, None) for item in items}
    pairs = [f"{item}={value}" for item, value in found.items() if value is not None]
    return f"{task.name} [{' '.join(pairs)}]" if pairs else str(task.name)
