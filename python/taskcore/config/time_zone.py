"""Time zones, by the two settings that name them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from taskcore.exceptions import ImproperlyConfigured


def zone(name: str | tzinfo | None, utc: bool) -> tzinfo:
    """The zone of naive times: the one that is named, else UTC, else this machine's.

    Raises:
        ImproperlyConfigured: there is no zone of that name.
    """
    if isinstance(name, tzinfo):
        return name
    if name == "UTC":
        return UTC  # also where no other zone is known
    if name:
        # The zone database is read only for programs that name a zone.
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise _unknown(name) from exc
    local = datetime.now(UTC).astimezone().tzinfo
    return UTC if utc or local is None else local


def _unknown(name: str) -> ImproperlyConfigured:
    from zoneinfo import available_timezones

    if available_timezones():
        return ImproperlyConfigured(f"timezone is `{name}`: expected a name such as Europe/Oslo")
    return ImproperlyConfigured(
        f"timezone is `{name}`, and this machine knows no zones: install the package `tzdata`, of Python or of the system"
    )
