"""Whether settings may be set: their names, and the types of their values."""

from __future__ import annotations

from taskcore.config import settings
from taskcore.config.sources import Written, is_known, new_name
from taskcore.config.validators import CHECKS, redact
from taskcore.exceptions import ImproperlyConfigured, SettingIgnored
from taskcore.typed import Any, Callable, Mapping
from taskcore.utils import hint, nearest, warn

_NO_EFFECT = "has no effect in taskcore: it tunes machinery that taskcore does not have; remove it"
_FOREIGN = (
    "is no setting of taskcore, and ignored: name another namespace if it is another program's"
)


def check(
    values: Mapping[str, Any],
    written: Written | None = None,
    say: Callable[[str, str], None] | None = None,
) -> dict[str, Any]:
    """Translates old names, refuses unknown ones, checks types.

    Args:
        values: the settings.
        written: how they are written where they come from.
        say: called with the name of a setting without effect and a sentence about it; otherwise the
            caller's line is warned about.

    Raises:
        ImproperlyConfigured: an unknown or unsupported name, a wrong type, or two spellings that
            disagree.
    """
    say, written = say or _ignored, written or Written()
    accepted: dict[str, Any] = {}
    for key, value in values.items():
        name = new_name(key) or key
        if name not in settings.BY_NAME:
            if name.lower() in settings.IGNORED:
                say(key, f"setting `{name.lower()}` {_NO_EFFECT}")
                accepted[name.lower()] = value  # for those who read it back
            elif written.namespaced and _is_foreign(name):
                say(key, f"{written(key)} {_FOREIGN}")
            else:
                _refuse(name, value, written(key))
            continue
        checked = check_value(settings.BY_NAME[name], written(key), value)
        if accepted.get(name, checked) != checked:
            raise ImproperlyConfigured(
                f"setting `{name}` is given twice with different values, once as {written(key)}"
            )
        accepted[name] = checked
        if name.endswith("_transport_options"):
            for option in checked.keys() & settings.TRANSPORT_OPTIONS_IGNORED:
                say(key, f"`{option}` in {name} has no effect in taskcore: remove it")
    return accepted


def _ignored(_key: str, text: str) -> None:
    warn(text, SettingIgnored)


def _is_foreign(name: str) -> bool:
    """Whether an unknown name of a namespace is no slip of the pen either: programs beside Celery, such
    as django-celery-email, use its prefix."""
    return not is_known(name.lower()) and nearest(name, _all_names(), alike=0.8) is None


def _all_names() -> list[str]:
    return [*settings.BY_NAME, *settings.REFUSED, *settings.IGNORED]


def _refuse(name: str, value: Any, shown: str) -> None:
    lower = name.lower()
    if lower in settings.REFUSED or lower.startswith(settings.REFUSED_PREFIXES):
        if value is None or (lower in settings.REFUSED and value == settings.REFUSED[lower]):
            return
        raise ImproperlyConfigured(
            f"setting {shown} is not supported in this version of taskcore: {settings.REMEDIES.get(lower, 'remove it')}"
        )
    names = _all_names()
    near = hint(name, names) or hint(new_name(name.upper()) or name, names)
    raise ImproperlyConfigured(
        f"unknown setting {shown}{near or ': see taskcore.config.settings for all names'}"
    )


def check_value(setting: settings.Setting, shown: str, value: Any) -> Any:
    """The value as it is kept.

    Args:
        shown: the name for the reader of an error.
    Raises:
        ImproperlyConfigured: it is not of the setting's kind.
    """
    kind = setting.kind.rstrip("?")
    if value is None:
        if setting.kind.endswith("?"):
            return None
        return setting.default
    if kind in CHECKS:
        expected, convert = CHECKS[kind]
        try:
            return convert(value)
        except (TypeError, ValueError) as exc:
            detail = f" ({exc})" if str(exc) else ""
            text = redact(value) if isinstance(value, str) else value
            raise ImproperlyConfigured(
                f"setting {shown} is `{text!r}`: expected {expected}{detail}"
            ) from exc
    if value in kind.split("|"):
        return value
    choices = ", ".join(kind.split("|"))
    raise ImproperlyConfigured(
        f"setting {shown} is `{value!r}`: expected one of {choices}, in this version"
    )
