"""A schedule in a file: for one beat, and brokers that keep no schedules.

The file is written whole and put in the place of the last one, so that no crash leaves half of it.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from taskcore.beat.scheduler import Scheduler, logger

_FORMAT = "taskcore-beat-1"


class PersistentScheduler(Scheduler):
    """Keeps in a file when its entries were sent.

    Args:
        schedule_filename: the file; default: the setting `beat_schedule_filename`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.schedule_filename: str | None = kwargs.get("schedule_filename")
        self._store: dict[str, Any] | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Reads the file."""
        if self.schedule_filename is None:
            self.schedule_filename = self.app.conf["beat_schedule_filename"]
        zone, utc = str(self.app.timezone), self.app.conf["enable_utc"]
        self._store = self._read()
        if self._store and (self._store["tz"], self._store["utc_enabled"]) != (zone, utc):
            logger.warning("the time zone is another than before, so the schedule begins anew")
            self._store = {}
        self._store = {
            "format": _FORMAT,
            "tz": zone,
            "utc_enabled": utc,
            "entries": self._store.get("entries", {}),
        }
        for entry in self.schedule.values():
            entry.app = self.app
        self.merge_inplace(self.app.conf["beat_schedule"])
        self.install_default_entries(self.schedule)
        self.sync()

    def _read(self) -> dict[str, Any]:
        path = str(self.schedule_filename)
        try:
            with open(path, "rb") as file:
                store = pickle.load(file)  # noqa: S301 - the beat's own file
            if isinstance(store, dict) and store.get("format") == _FORMAT:
                return store
            reason = "it is of another program"
        except FileNotFoundError:
            return {}
        except OSError:
            raise
        except Exception as exc:  # a damaged file may raise anything
            reason = repr(exc)
        aside = f"{path}.unreadable"
        os.replace(path, aside)
        logger.error(
            "schedule file `%s` cannot be read (%s) and is moved to `%s`: the schedule begins anew",
            path,
            reason,
            aside,
        )
        return {}

    def get_schedule(self) -> Any:
        """The entries by name."""
        return {} if self._store is None else self._store["entries"]

    def set_schedule(self, schedule: Any) -> None:
        """Puts other entries in place of them."""
        assert self._store is not None, "the schedule is read before it is changed"
        self._store["entries"] = schedule

    def sync(self) -> None:
        """Writes the file."""
        if self._store is None:
            return
        path = str(self.schedule_filename)
        apps = {}
        for name, entry in self._store["entries"].items():
            # The app is no part of it.
            apps[name], entry.app = entry.app, None
        try:
            data = pickle.dumps(self._store)
        finally:
            for name, entry in self._store["entries"].items():
                entry.app = apps[name]
        with open(f"{path}.new", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)

    @property
    def info(self) -> str:
        """A line for the banner: where the schedule is kept."""
        return f"  schedule     {self.schedule_filename}"
