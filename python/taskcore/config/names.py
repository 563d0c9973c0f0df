"""Whether settings may be set: their names, and the types of their values."""

from __future__ import annotations

from taskcore.config import settings
from taskcore.config.sources import Written, new_name
from taskcore.config.validators import CHECKS, redact
from taskcore.exceptions import ImproperlyConfigured, SettingIgnored
from taskcore.typed import Any, Callable, Mapping
from taskcore.utils import nearest, warn

_OF_A_STORE = "has no effect in taskcore: it is of a result store, or of signing, that taskcore does not have; remove it"
_NO_EFFECT = "has no effect in taskcore: it tunes machinery that taskcore does not have; remove it"


def check(
    values: Mapping[str, Any],
    written: Written | None = None,
    say: Callable[[str, str], None] | None = None,
) -> dict[str, Any]:
    """Translates old names, checks types, keeps settings of the user's own.

    Args:
        values: the settings.
        written: how they are written where they come from.
        say: called with the name of a setting and a sentence about it; otherwise the caller's line is
            warned about.

    Raises:
        ImproperlyConfigured: an unsupported setting, a wrong type, or two spellings that disagree.
    Warns:
        SettingIgnored: a setting without effect, or one of the user's own that reads like a slip of the
            pen.
    """
    say, written = say or _ignored, written or Written()
    accepted: dict[str, Any] = {}
    for key, value in values.items():
        name = new_name(key) or key
        if name not in settings.BY_NAME:
            lower = name.lower()
            if lower in settings.IGNORED or lower in settings.OF_STORES:
                if value != settings.OF_STORES.get(lower, _UNSET):
                    say(key, f"setting `{lower}` {_why_ignored(lower)}")
                accepted[lower] = value  # for those who read it back
            elif lower in settings.REFUSED:
                _refuse(lower, value, written(key))
            else:
                if near := resembled(name):
                    say(key, f"{written(key)} is no setting of taskcore{near}")
                accepted[name] = value
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


_UNSET = object()
_ALIKE = 0.85
"""The share of letters from which on a name is taken for a slip of the pen."""


def _why_ignored(name: str) -> str:
    return _OF_A_STORE if name in settings.OF_STORES else _NO_EFFECT


def resembled(name: str) -> str:
    """The end of a sentence that proposes the setting that was probably meant; empty for a name of
    the user's own."""
    if name.isupper() and not name.startswith(settings.OLD_FAMILIES):
        return ""
    names = [*settings.BY_NAME, *settings.REFUSED, *settings.IGNORED]
    found = nearest(name, names, _ALIKE) or nearest(new_name(name.upper()) or name, names, _ALIKE)
    if found is None and name.isupper():
        spelt = {old.lower(): new for old, new in settings.BY_OLD_NAME.items()}
        found = spelt.get(nearest(name, spelt, _ALIKE) or "")
    return f", did you mean `{found}`?" if found else ""


def _refuse(name: str, value: Any, shown: str) -> None:
    if value is not None and value != settings.REFUSED[name]:
        raise ImproperlyConfigured(
            f"setting {shown} is not supported in this version of taskcore: {settings.REMEDIES.get(name, 'remove it')}"
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
