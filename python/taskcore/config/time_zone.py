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
    if name:
        # The zone database is read only for programs that name a zone.
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise ImproperlyConfigured(
                f"timezone is `{name}`: expected a name such as Europe/Oslo"
            ) from exc
    local = datetime.now(UTC).astimezone().tzinfo
    return UTC if utc or local is None else local
