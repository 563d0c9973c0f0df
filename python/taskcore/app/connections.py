"""How an app reaches its broker and its result store: the core's publisher and results, as the
configuration names them.

Both are made on first use. The app that exists where a program made none runs tasks but sends
nowhere unless a broker is named, so that nothing is published to a place that nobody chose.
"""

from __future__ import annotations

from taskcore import _core
from taskcore.config import settings
from taskcore.config.conf import Config
from taskcore.config.validators import redact
from taskcore.exceptions import ImproperlyConfigured, NotConfigured
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class Connection:
    """What `app.connection()` gives.

    `publisher` is None where it is the app's own.
    """

    def __init__(self, connections: Connections, url: str | None = None) -> None:
        self._connections = connections
        self._url = url
        self.publisher = None if url is None else connections.make_publisher(url)

    def as_uri(self) -> str:
        """The URL with its password hidden."""
        return redact(self._connections.broker_url if self._url is None else self._url)

    def ensure_connection(self, errback: Any = None, **options: Any) -> Connection:
        """Itself: connections are made when they are needed."""
        return self

    def clone(self) -> Connection:
        """Another one to the same broker."""
        return Connection(self._connections, self._url)

    def close(self) -> None:
        """Lets go of it."""
        self.publisher = None

    release = close

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Connections:
    """What one app has opened."""

    def __init__(self, conf: Config) -> None:
        self._conf = conf
        self._results: Any = None
        self.must_be_named = False
        """Whether the URLs' defaults are not good enough: nobody made this app."""

    def close(self) -> None:
        """Drops the results; the next use makes them again."""
        self._results = None

    @property
    def broker_url(self) -> str:
        """Where tasks are queued."""
        return str(self._conf["broker_url"])

    def make_publisher(self, url: str | None = None) -> Any:
        """The core's publisher: publishing, and what can be asked of queues.

        Args:
            url: of another broker than the app's.
        Raises:
            NotConfigured: nobody made the app, and no broker is named.
        """
        if url is None:
            self._require("broker_url")
        conf = self._conf
        policy = {**settings.RETRY_POLICY, **conf["task_publish_retry_policy"]}
        return _core.Publisher(
            url or conf["broker_url"],
            timeout=conf["task_publish_timeout"],
            max_retries=policy["max_retries"] if conf["task_publish_retry"] else 0,
            interval_start=float(policy["interval_start"] or 0),
            interval_step=float(policy["interval_step"] or 0),
            interval_max=float(policy["interval_max"] or 0),
            max_body=conf["task_max_body"],
            options=conf.transport_options("broker_transport_options"),
        )

    @property
    def results(self) -> Any:
        """The core's results; None when the app keeps none."""
        if self._results is None and (url := self._conf["result_backend"]):
            self._require("result_backend")
            from taskcore.results.choose_encoding import to_read

            options = self._conf.transport_options("result_backend_transport_options")
            self._results = _core.Results(
                url,
                expires=self._conf["result_expires"] or None,
                options=options,
                encoding=to_read(self._conf),
            )
        return self._results

    def required_results(self) -> Any:
        """The core's results.

        Raises:
            ImproperlyConfigured: the app keeps none.
        """
        results = self.results
        if results is None:
            raise ImproperlyConfigured(
                "no result store is configured: pass backend= to Taskcore or set result_backend, "
                "for example to the URL of the broker"
            )
        return results

    def _require(self, setting: str) -> None:
        conf = self._conf
        if self.must_be_named and not (conf.is_set(setting) or conf.is_set("broker_url")):
            raise NotConfigured(
                "no app was made, so there is no broker: import the module that makes it, "
                "`app = Taskcore(..., broker=...)`, before tasks are called, or name the broker "
                "in TASKCORE_BROKER_URL"
            )
