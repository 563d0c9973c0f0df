"""The configuration of an app: from keyword, dict, module, object or environment to one checked
set of values.

Owns names, types, defaults and precedence: what was set on the app wins over what an object or
module says, that over the environment, that over the default. Names are strict; the nearest is
proposed. Nobody else reads the environment. Values stay changeable until a worker starts, as tests
want; every change is checked at once and announced to the app, which drops what it had derived
from the old values.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock, get_ident

from taskcore.config import servers, settings
from taskcore.config.names import check
from taskcore.config.reading import ReadAsMapping
from taskcore.config.sources import new_name, read, warn_about
from taskcore.config.validators import redact
from taskcore.exceptions import ImproperlyConfigured
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_ENVIRONMENT = {
    "broker_url": ("TASKCORE_BROKER_URL", "CELERY_BROKER_URL"),
    "result_backend": ("TASKCORE_RESULT_BACKEND", "CELERY_RESULT_BACKEND"),
    "worker_autoscale_keepalive": ("AUTOSCALE_KEEPALIVE",),
    "broker_read_url": ("CELERY_BROKER_READ_URL",),
    "broker_write_url": ("CELERY_BROKER_WRITE_URL",),
    "worker_revokes_max": ("CELERY_WORKER_REVOKES_MAX",),
    "worker_revoke_expires": ("CELERY_WORKER_REVOKE_EXPIRES",),
    # Not a setting: the module with them, of an app that names no source.
    "config_module": ("TASKCORE_CONFIG_MODULE", "CELERY_CONFIG_MODULE"),
}


_NUMBERS: dict[str, Callable[[str], Any]] = {
    "worker_autoscale_keepalive": float,
    "worker_revokes_max": int,
    "worker_revoke_expires": float,
}
"""Those that are no text."""


class Config(ReadAsMapping):
    """`app.conf`: read as attributes or as a mapping; set as attributes, items, or with `update`."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called after each change."""
        self.__dict__.update(
            _set={},
            _loaded={},
            _pending=(),
            _named=False,
            _values=None,
            _defaults={},
            _changed=changed,
            _frozen=False,
            _lock=RLock(),
            _readers=set(),
        )

    # Setting

    def update(self, *sources: Mapping[str, Any], **values: Any) -> None:
        """Sets several values; either all are accepted or none. A name that is no setting is the
        user's own.

        Raises:
            ImproperlyConfigured: a setting that is not supported, or a value of the wrong type.
        """
        accepted: dict[str, Any] = {}
        for source in (*sources, values):
            accepted.update(check(source))
        self._accept(self._set, accepted)

    def add_defaults(self, values: Mapping[str, Any]) -> None:
        """Sets values that anything else overrides."""
        self._accept(
            self._loaded, {k: v for k, v in check(values).items() if k not in self._loaded}
        )

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of a setting, all of which have one; a name of the user's own is set to `default`
        where it has none."""
        try:
            return self[name]
        except _UnknownSetting:
            self.update({name: default})
            return default

    def pop(self, name: str, *default: Any) -> Any:
        """Takes back what the program itself has set; what a module says, or the default, applies.

        Returns:
            what was set, or `default`.
        Raises:
            KeyError: nothing was set, and there is no `default`.
        """
        known = new_name(name) or name
        with self._lock:
            if known not in self._set:
                if default:
                    return default[0]
                raise KeyError(
                    f"setting `{name}` was not set by the program itself: nothing to take back"
                )
            self._check_not_frozen(known)
            value = self._set.pop(known)
            self._accept(self._set, {})
        return value

    def load(self, source: object, namespace: str | None = None, silent: bool = False) -> None:
        """Takes values from a module (or its name), an object or a dict. A name is imported on the
        first look at a value.

        Args:
            namespace: take only names that begin with it and an underscore, whatever their case.
            silent: a module that does not exist is no error.
        """
        with self._lock:
            pending = (*self._pending, (source, namespace, silent))
            self.__dict__.update(_pending=pending, _named=True, _values=None)
        if not isinstance(source, str):
            self._load_pending()
        self._changed()

    def load_environment(self, variable: str, silent: bool = False) -> bool:
        """As `load`, from the module that an environment variable names.

        Raises:
            ImproperlyConfigured: the variable is not set.
        """
        name = os.environ.get(variable)
        if not name:
            if silent:
                return False
            raise ImproperlyConfigured(
                f"environment variable `{variable}` is not set: it must name the module with the settings"
            )
        self.load(name, silent=silent)
        return True

    def freeze(self) -> None:
        """Refuses changes from now on; called when a worker starts."""
        self._resolved()
        self.__dict__["_frozen"] = True

    # Reading

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a setting, or `default` for an unknown name."""
        return self._resolved().get(name, default)

    @property
    def waits(self) -> bool:
        """Whether a module is still to be imported for its settings."""
        unread = not self._named and _from_environment("config_module") is not None
        return bool(self._pending) or unread

    def is_set(self, name: str) -> bool:
        """Whether anything but the default applies."""
        self._load_pending()
        return self._has(name)

    def default_serializer(self, protocol: str) -> str:
        """How arguments in messages of a protocol are written when nothing else says."""
        return str(
            self._explicit("task_serializer") or ("json" if protocol == "celery" else "msgpack")
        )

    def default_queue(self, protocol: str) -> str:
        """The queue for messages of a protocol when nothing else names one."""
        return str(
            self._explicit("task_default_queue")
            or ("celery" if protocol == "celery" else "taskcore")
        )

    def transport_options(self, setting: str) -> dict[str, Any]:
        """The transport options that mean something here; others of Celery's were named in a
        warning when they were set."""
        dropped = settings.TRANSPORT_OPTIONS_IGNORED | settings.TRANSPORT_OPTIONS_ACCEPTED
        return {key: value for key, value in self[setting].items() if key not in dropped}

    @property
    def protocol(self) -> str:
        """`compact` or `celery`, as the core calls them."""
        return "celery" if self._resolved()["task_protocol"] == 2 else "compact"

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """The settings that are set, or all; passwords in URLs hidden."""
        shown = {k: v for k, v in self._resolved().items() if with_defaults or self.is_set(k)}
        return {k: redact(v) if censored and isinstance(v, str) else v for k, v in shown.items()}

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """`table` as lines of text."""
        return "\n".join(f"{k}: {v!r}" for k, v in self.table(with_defaults, censored).items())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except _UnknownSetting:
            from taskcore import unsupported

            if name in unsupported.CONF:
                raise unsupported.attribute_error(self, name, unsupported.CONF) from None
            raise

    def __getitem__(self, name: str) -> Any:
        values = self._resolved()
        if name in values:
            return values[name]
        new = new_name(name)
        if new is not None and new in values:
            return values[new]
        name = new or name
        if name in settings.REFUSED:
            return settings.REFUSED[name]
        if name in settings.OF_STORES:
            return settings.OF_STORES[name]
        if name in settings.IGNORED:
            raise _UnknownSetting(f"setting `{name}` of Celery's has no effect here, and no value")
        # Both, because attribute and item access share this path and `hasattr` must work.
        raise _UnknownSetting(f"unknown setting `{name}`{hint(name, values)}")

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({name: value})

    __setitem__ = __setattr__

    def __repr__(self) -> str:
        return f"<Config: {self.table()}>"

    # Inside

    def _accept(self, layer: dict[str, Any], accepted: dict[str, Any]) -> None:
        if accepted:
            self._check_not_frozen(", ".join(accepted))
        with self._lock:
            layer.update(accepted)
            self.__dict__["_values"] = None
            self._changed()

    def _check_not_frozen(self, names: str) -> None:
        if self._frozen:
            raise ImproperlyConfigured(
                f"cannot set `{names}`: the configuration is frozen once a worker has started"
            )

    def _load_pending(self) -> None:
        """Takes over what was named and not yet read. Whoever needs a value first imports, and so
        does every other thread that needs one meanwhile: none goes on with defaults, and a module
        that cannot be read is an error each time.

        Importing under the lock would wait for ever for a module that is being imported elsewhere
        and asks for a value here.
        """
        if not self._named and (module := _from_environment("config_module")):
            self.load(module)
        reader = get_ident()
        if reader in self._readers:
            return  # a module with settings asks for one while it is imported
        while pending := self._pending:
            self._readers.add(reader)
            try:
                loaded = [check(*read(*source), warn_about(source[0])) for source in pending]
            finally:
                self._readers.discard(reader)
            with self._lock:
                if self._pending is pending:
                    for values in loaded:
                        self._loaded.update(values)
                    self.__dict__.update(_pending=(), _values=None)
                    self._changed()

    def _has(self, name: str) -> bool:
        return name in self._set or name in self._loaded or _from_environment(name) is not None

    def _explicit(self, name: str) -> Any:
        for layer in (self._set, self._loaded):
            if name in layer:
                return layer[name]
        return _from_environment(name)

    def _resolved(self) -> dict[str, Any]:
        values: dict[str, Any] | None = self._values
        if values is not None:
            return values
        self._load_pending()
        with self._lock:
            values = {}
            for setting in settings.TABLE:
                value = self._explicit(setting.name)
                values[setting.name] = self._default(setting) if value is None else value
            for name in self._set.keys() | self._loaded.keys():
                if name not in settings.BY_NAME or self._explicit(name) is None:
                    values[name] = self._explicit(name)  # None said aloud is not the default
            self._derive(values)
            if not self._pending:
                self.__dict__["_values"] = values
        return values

    def _default(self, setting: settings.Setting) -> Any:
        if type(setting.default) is not dict:
            return setting.default
        # A copy that is kept: what is put into it is this app's.
        return self._defaults.setdefault(setting.name, dict(setting.default))

    def _derive(self, values: dict[str, Any]) -> None:
        """Fills the defaults that depend on other settings."""
        celery = values["task_protocol"] == 2
        values["task_default_queue"] = values["task_default_queue"] or (
            "celery" if celery else "taskcore"
        )
        for name in ("task_default_exchange", "task_default_routing_key"):
            values[name] = values[name] or values["task_default_queue"]
        values["task_serializer"] = values["task_serializer"] or ("json" if celery else "msgpack")
        servers.complete(values)
        if not values["broker_url"]:
            values["broker_url"] = settings.DEFAULT_URL
            if not self._has("result_backend"):
                values["result_backend"] = settings.DEFAULT_URL
        if values["result_backend"] in ("", "disabled", "disabled://"):
            values["result_backend"] = None


class _UnknownSetting(ImproperlyConfigured, AttributeError, KeyError):
    """A setting that does not exist was read."""

    __str__ = Exception.__str__


def sigterm_is_cold() -> bool:
    """Whether the environment asks that SIGTERM means what SIGQUIT means."""
    return os.environ.get("REMAP_SIGTERM") == "SIGQUIT"


def no_color() -> bool:
    """Whether the environment asks for no colours; see https://no-color.org."""
    return bool(os.environ.get("NO_COLOR"))


def uses_django() -> bool:
    """Whether the program configures Django, by the environment or by itself."""
    conf = sys.modules.get("django.conf")
    return bool(os.environ.get("DJANGO_SETTINGS_MODULE")) or bool(
        conf is not None and conf.settings.configured
    )


def _from_environment(name: str) -> Any:
    for key in _ENVIRONMENT.get(name, ()):
        if value := os.environ.get(key):
            try:
                return _NUMBERS.get(name, str)(value)
            except ValueError as exc:
                raise ImproperlyConfigured(
                    f"environment variable `{key}` is `{value}`: expected a number"
                ) from exc
    return None
