"""The URLs of the broker and of the result store, as the core takes them: from the settings that
Celery has for parts of them, with what says how to encrypt.

Pure: values of settings in, URLs out.
"""

from __future__ import annotations

from taskcore.exceptions import ImproperlyConfigured
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

IDLE_PARAMETERS = frozenset(
    [
        "client_name",
        "health_check_interval",
        "max_connections",
        "protocol",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "timeout",
    ]
)
"""Parameters of Redis URLs that tune a client which taskcore does not use."""

_SECURE = {"redis": "rediss", "amqp": "amqps", "pyamqp": "amqps"}


def complete(values: dict[str, Any]) -> None:
    """Puts together what several settings say about the servers.

    Args:
        values: all settings; the URLs among them are replaced.
    Raises:
        ImproperlyConfigured: two brokers, or encryption of what cannot be encrypted.
    """
    values["broker_url"] = _encrypted("broker_use_ssl", _broker(values), values["broker_use_ssl"])
    values["result_backend"] = _encrypted(
        "redis_backend_use_ssl", _results(values), values["redis_backend_use_ssl"]
    )


def without_idle_parameters(url: str) -> tuple[str, list[str]]:
    """A URL without the parameters that have no effect, and their names."""
    base, mark, query = url.partition("?")
    if not mark or base.partition(":")[0] not in ("redis", "rediss", "redis+socket", "unix"):
        return url, []
    parts = [part for part in query.split("&") if part]
    idle = [part for part in parts if part.partition("=")[0] in IDLE_PARAMETERS]
    kept = "&".join(part for part in parts if part not in idle)
    return f"{base}?{kept}" if kept else base, [part.partition("=")[0] for part in idle]


def _broker(values: Mapping[str, Any]) -> str | None:
    said = [values[f"broker_{name}"] for name in ("url", "read_url", "write_url")]
    url: str | None = said[0]
    read, write = said[1] or url, said[2] or url
    if read != write:
        raise ImproperlyConfigured(
            "`broker_read_url` and `broker_write_url` name two brokers: expected one, which `broker_url` names"
        )
    url = read
    if url is not None or not (values["broker_host"] or values["broker_transport"]):
        return url
    host = values["broker_host"] or ""
    if "://" in host:
        return str(host)
    parts = {
        name: values[f"broker_{name}"] for name in ("user", "password", "host", "port", "vhost")
    }
    return _url(
        values["broker_transport"] or "amqp",
        parts["user"],
        parts["password"],
        parts["host"],
        parts["port"],
        parts["vhost"],
    )


def _results(values: Mapping[str, Any]) -> str | None:
    backend: str | None = values["result_backend"]
    scheme = (backend or "").removesuffix("://")
    if scheme not in ("redis", "rediss"):
        return backend
    return _url(
        scheme,
        values["redis_username"],
        values["redis_password"],
        values["redis_host"],
        values["redis_port"],
        values["redis_db"],
    )


def _url(scheme: str, user: Any, password: Any, host: Any, port: Any, path: Any) -> str:
    from urllib.parse import quote

    login = quote(str(user), safe="") if user else ""
    if password:
        login += f":{quote(str(password), safe='')}"
    place = f"{login}@{host or 'localhost'}" if login else str(host or "localhost")
    place += f":{port}" if port else ""
    text = "" if path is None else str(path)
    return f"{scheme}://{place}" + (
        f"/{quote(text.removeprefix('/'), safe='')}" if text not in ("", "/") else ""
    )


def _encrypted(setting: str, url: str | None, ssl: Any) -> str | None:
    """The URL of an encrypted connection, with the files that it needs."""
    if not ssl or url is None:
        return url
    scheme, mark, rest = url.partition("://")
    secure = _SECURE.get(scheme, scheme)
    if secure not in _SECURE.values():
        raise ImproperlyConfigured(
            f"`{setting}` is set, and `{scheme}://` has no encryption: expected `rediss://` or `amqps://`"
        )
    options = _files(setting, ssl) if isinstance(ssl, dict) else []
    rest += ("&" if "?" in rest else "?") + "&".join(options) if options else ""
    return f"{secure}{mark}{rest}"


_SSL = ("ca_certs", "certfile", "keyfile", "cert_reqs")


def _files(setting: str, ssl: Mapping[str, Any]) -> list[str]:
    from urllib.parse import quote

    options = []
    for key, value in ssl.items():
        name = key.removeprefix("ssl_")
        if name not in _SSL:
            raise ImproperlyConfigured(
                f"`{setting}` has the key `{key}`: expected {', '.join(_SSL)}, with or without `ssl_` in front"
            )
        if name == "cert_reqs":
            value = _requirement(value)
        if value is not None:
            options.append(f"ssl_{name}={quote(str(value), safe='/')}")
    return options


def _requirement(value: Any) -> str | None:
    """`ssl.CERT_NONE` and its relatives, by their names or numbers, in the words of a URL."""
    name = str(getattr(value, "name", value)).removeprefix("CERT_").lower()
    return {"0": "none", "1": "optional", "2": "required"}.get(name, name)
