"""What a worker counted, for Prometheus: read from the counters at scrape time, so that counting costs an integer addition.

No label names an account, a device or an address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from veredus.core.errors import Code
from veredus.core.messaging.counters import Counters
from veredus.core.messaging.delivery import Delivery
from veredus.ext.station import Station


class WorkerMetrics(Collector):
    """One worker's totals and gauges."""

    def __init__(self, counters: Counters, delivery: Delivery, station: Station, parts: Mapping[str, msgspec.Struct]) -> None:
        self._counters = counters
        self._delivery = delivery
        self._station = station
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client`. Called on the worker's loop."""
        for name, value in msgspec.structs.asdict(self._counters).items():
            yield CounterMetricFamily(f"veredus_{name}", f"Total of {name.replace('_', ' ')}.", value=value)
        yield GaugeMetricFamily("veredus_sessions", "Devices connected to this worker.", value=len(self._delivery.routing))
        yield GaugeMetricFamily("veredus_tasks", "Tasks on this worker's loop, the scrape's own with them.", value=len(asyncio.all_tasks()))
        yield _labelled("veredus_websocket", "What the WebSocket connections did.", "what", self._station.counters())
        for name, counters in self._parts.items():
            yield _labelled(f"veredus_{name}", f"What the {name} did.", "what", msgspec.structs.asdict(counters))
        ended = {Code(code).name: count for code, count in self._station.refused.items()}
        yield _labelled("veredus_connections_ended", "Connections and upgrades ended, by catalogue code.", "code", ended)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
