"""What a worker serves over HTTP, and what a scrape says."""

import http.client
import json
import re
import socket
from dataclasses import dataclass
from typing import Any

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from support.process import Worker

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


def port_of(worker: Worker) -> int:
    """The port that a worker with `--http 0` said in its log."""
    line = worker.wait_for(r"health and metrics at http://127\.0\.0\.1:\d+")
    return int(line.rpartition(":")[2])


def get(port: int, page: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    """Status, content type and body of a page."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        link.request(method, page, headers=headers)
        answer = link.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        link.close()


def ready(port: int) -> list[str]:
    """Names of the checks that fail."""
    status, kind, body = get(port, "/ready")
    said = json.loads(body)
    assert kind == "application/json" and said["ready"] == (status == 200), (status, body)
    assert (not said["reasons"]) == said["ready"] and status in (200, 503)
    return [reason["check"] for reason in said["reasons"]]


def listens(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Scrape:
    """What one answer of `/metrics` says."""

    families: dict[str, Metric]

    def value(self, sample: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels; -1 when there is none."""
        found = [
            one.value
            for family in self.families.values()
            for one in family.samples
            if one.name == sample and labels.items() <= one.labels.items()
        ]
        return sum(found) if found else -1.0

    @property
    def names(self) -> set[str]:
        """Every name that a query can use."""
        names = set()
        for family in self.families.values():
            names |= {sample.name for sample in family.samples} | {family.name}
            suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}
            names |= {family.name + suffix for suffix in suffixes.get(family.type, ())}
        return names


def scrape(port: int, accept: str = "text/plain") -> Scrape:
    """Asks for the metrics and reads them as Prometheus does; checks what promtool would."""
    status, kind, text = get(port, "/metrics", accept=accept)
    assert status == 200, text
    if accept == OPEN_METRICS:
        assert kind.startswith("application/openmetrics-text; version=1.0.0")
        families = list(open_metrics(text))
    else:
        assert kind.startswith("text/plain; version=0.0.4")
        families = list(prometheus(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family is announced twice"
    for family in families:
        lint(family)
    return Scrape({family.name: family for family in families})


def lint(family: Metric) -> None:
    """The conventions of names, and that no series comes twice."""
    name = family.name
    assert re.fullmatch(r"(taskcore|process)_[a-z_]+", name), name
    assert family.documentation and family.type in ("counter", "gauge", "histogram", "info")
    assert not name.endswith("_total") or family.type == "counter", name
    if family.type == "histogram":
        assert name.endswith("_seconds"), name
    assert not re.search(r"_(ms|us|millis|kilobytes|count|sum|bucket)$", name), name
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    assert len(series) == len(set(series)), f"a series of {name} comes twice"
    assert all(sample.value >= 0 for sample in family.samples), name
