"""A database of a test's own on the PostgreSQL server of this machine."""

import os
import uuid

import psycopg
import pytest


class Postgres:
    """One database, dropped with whoever is connected to it. The server is the one that PGHOST,
    PGPORT and PGUSER name; default: postgres@127.0.0.1, which asks for no password."""

    def __init__(self) -> None:
        self.name = f"taskcore_test_{uuid.uuid4().hex}"
        self.host = os.environ.get("PGHOST", "127.0.0.1")
        self.port = os.environ.get("PGPORT", "5432")
        self.user = os.environ.get("PGUSER", "postgres")
        try:
            self._server = psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                dbname="postgres",
                autocommit=True,
                connect_timeout=5,
            )
        except psycopg.OperationalError as exc:
            text = f"no PostgreSQL server: {exc}"
            if os.environ.get("CI"):
                pytest.fail(f"{text}; CI must run every test")
            pytest.skip(text)
        self._server.execute(f'CREATE DATABASE "{self.name}"')

    def sessions(self) -> int:
        """How many are connected."""
        found = self._server.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [self.name]
        ).fetchone()
        return int(found[0]) if found else 0

    def end_sessions(self) -> int:
        """Has the server end them all; returns how many there were."""
        found = self._server.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s",
            [self.name],
        ).fetchone()
        return int(found[0]) if found else 0

    def drop(self) -> None:
        """Removes the database."""
        self._server.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')
        self._server.close()
