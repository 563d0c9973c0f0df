"""Where settings come from: a module or its name, an object, a mapping, and Celery's old spellings
of names.

Pure but for the import of a module that is named, and for warnings about what it says. What a name
means, and whether its value fits, is `conf`'s.
"""

from __future__ import annotations

import sys

from taskcore.config import settings
from taskcore.exceptions import ImproperlyConfigured, SettingIgnored
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import is_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_FAMILIES = {
    "CELERYD_": ("worker_",),
    "CELERYBEAT_": ("beat_",),
    "BROKER_": ("broker_",),
    "CELERY_": ("", "task_", "result_", "worker_", "event_", "control_", "broker_"),
}
"""How old names begin, and how the new ones may."""
_RENAMED = {
    "CELERY_MAX_CACHED_RESULTS": "result_cache_max",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
    "CELERY_RESULT_DBURI": "database_url",
    "CELERY_RESULT_ENGINE_OPTIONS": "database_engine_options",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "database_short_lived_sessions",
    "CELERY_RESULT_DB_TABLENAMES": "database_table_names",
}
"""Old names that follow no rule, of settings that have no effect here or are refused."""


_CAPITALISED = (
    "CASSANDRA_",
    "S3_",
    "AZUREBLOCKBLOB_",
    "GCS_",
    "CONTROL_",
    "COSMOSDBSQL_",
    "RESULT_ACCEPT_CONTENT",
    "ENABLE_UTC",
    "DATABASE_ENGINE_CALLBACK",
    "DATABASE_TABLE_SCHEMAS",
    "DATABASE_CREATE_TABLES_AT_SETUP",
)
"""How old names begin that are the new ones in capitals."""


def new_name(name: str) -> str | None:
    """The setting that one of Celery's old, capitalised names means; None for any other name."""
    renamed = settings.BY_OLD_NAME.get(name) or _RENAMED.get(name)
    if renamed is not None or not name.isupper():
        return renamed
    for family, prefixes in _FAMILIES.items():
        if name.startswith(family):
            short = name[len(family) :].lower()
            candidates = [prefix + short for prefix in prefixes]
            return next((one for one in candidates if is_known(one)), None)
    if name.startswith(_CAPITALISED) and is_known(name.lower()):
        return name.lower()
    return None


def is_known(name: str) -> bool:
    """Whether a setting of that name exists, in taskcore or in Celery."""
    known = (settings.BY_NAME, settings.IGNORED, settings.REFUSED, settings.OF_STORES)
    return any(name in names for names in known)


class Written:
    """How names are written in the source that they come from, for what is said about them."""

    def __init__(self, where: str = "", names: Mapping[str, str] | None = None) -> None:
        """
        Args:
            where: names the source; empty: the program's own words.
            names: those in a namespace, by what they are without it.
        """
        self.namespaced = names is not None
        self._where = where
        self._names = names or {}

    def __call__(self, key: str) -> str:
        """A name, and where it is, where that is not where the error is raised."""
        return f"`{self._names.get(key, key)}`{f' in `{self._where}`' if self.namespaced else ''}"


def read(
    source: object, namespace: str | None = None, silent: bool = False
) -> tuple[dict[str, Any], Written]:
    """The settings in a module (or its name), an object, or a mapping, under the names that they
    have there, without the namespace.

    Raises:
        ImproperlyConfigured: the module does not exist.
    """
    where = (
        source if isinstance(source, str) else getattr(source, "__name__", type(source).__name__)
    )
    if isinstance(source, str):
        module = _import(source, silent)
        if module is None:
            return {}, Written()
        source = module
    if is_mapping(source):
        items = dict(source)
    else:
        items = {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    if namespace:
        prefix = namespace.upper().rstrip("_") + "_"
        names = {_without(name, prefix): name for name in items if name.upper().startswith(prefix)}
        return {key: items[name] for key, name in names.items()}, Written(where, names)
    if not is_mapping(source):
        items = {name: value for name, value in items.items() if _is_meant(name, value)}
    return items, Written()


def warn_about(source: object) -> Callable[[str, str], None] | None:
    """What warns about a setting at its line in a module; None for any other source."""
    module = sys.modules.get(source.partition(":")[0]) if isinstance(source, str) else source
    file = getattr(module, "__file__", None)
    if file is None:
        return None

    def say(key: str, text: str) -> None:
        import linecache
        import re
        import warnings

        lines = enumerate(linecache.getlines(file), 1)
        # A namespace may stand in front of the name, and any case be written.
        sets = re.compile(rf"\s*(\w+_)?{re.escape(key)}\b", re.IGNORECASE)
        line = next((number for number, line in lines if sets.match(line)), 1)
        said = vars(module).setdefault("__warningregistry__", {})
        warnings.warn_explicit(text, SettingIgnored, file, line, registry=said)

    return say


def _import(name: str, silent: bool) -> object | None:
    from importlib import import_module

    module, _, attribute = name.partition(":")
    try:
        target: object = import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (module == exc.name or module.startswith(exc.name + ".")):
            raise
        if "." in module and not attribute:  # Celery also takes `package.object`
            parent, _, last = module.rpartition(".")
            outer = _import(parent, True)
            if outer is not None and hasattr(outer, last):
                return getattr(outer, last)  # type: ignore[no-any-return]
        if silent:
            return None
        raise ImproperlyConfigured(
            f"no module `{module}` with settings: check the name and the import path"
        ) from exc
    for part in filter(None, attribute.split(".")):
        target = getattr(target, part)
    return target


def _without(name: str, prefix: str) -> str:
    short = name[len(prefix) :].lower()
    return name if not is_known(short) and new_name(name) else short


def _is_meant(name: str, value: object) -> bool:
    """Whether an attribute of a module or object is a setting, of taskcore or of the user's own: not
    an import, a function or a class."""
    if new_name(name) or name in settings.BY_NAME:
        return True
    return not (callable(value) or type(value).__name__ in ("module", "_Feature"))
