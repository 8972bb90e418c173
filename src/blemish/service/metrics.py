"""What Prometheus reads at /metrics: counts, times, states, and the evidence of drift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from blemish.calibration.drift import evidence, places
from blemish.model.drift import DEFAULT_LEVEL

if TYPE_CHECKING:
    from blemish.service.models import Served
    from blemish.service.service import Service

SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RATIOS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
SHARES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """The counters of a service, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._verdicts = Counter(
            "blemish_verdicts",
            "Images by verdict: good, anomalous or error.",
            ["model", "verdict"],
            registry=self.registry,
        )
        self._shadow = Counter(
            "blemish_shadow_verdicts",
            "Images that a shadow also judged, by whether it agrees.",
            ["model", "agrees"],
            registry=self.registry,
        )
        self._rejects = Counter(
            "blemish_rejects", "Requests and images without an answer, by reason.", ["reason"], registry=self.registry
        )
        self._seconds = Histogram(
            "blemish_latency_seconds",
            "Seconds from the arrival of an image to its verdict.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._ratios = Histogram(
            "blemish_score_ratio",
            "Score of an image as a share of the threshold.",
            ["model"],
            buckets=RATIOS,
            registry=self.registry,
        )
        self._shares = Histogram(
            "blemish_p_value", "P-values of images.", ["model"], buckets=SHARES, registry=self.registry
        )

    def judged(self, model: str, told: dict[str, Any], seconds: float) -> None:
        """Counts a verdict."""
        self._verdicts.labels(model, "anomalous" if told["is_anomaly"] else "good").inc()
        self._seconds.labels(model).observe(seconds)
        self._shares.labels(model).observe(told["p_value"])
        if told["threshold"] > 0:
            self._ratios.labels(model).observe(told["score"] / told["threshold"])

    def failed(self, model: str) -> None:
        """Counts an image that cannot be read."""
        self._verdicts.labels(model, "error").inc()

    def shadowed(self, model: str, agrees: bool) -> None:
        """Counts a shadow's verdict."""
        self._shadow.labels(model, "yes" if agrees else "no").inc()

    def rejected(self, reason: str) -> None:
        """Counts a request, or an image of one, that gets no answer."""
        self._rejects.labels(reason).inc()

    def watch(self, service: Service) -> None:
        """Adds the states of the service, which are read at each request."""
        self.registry.register(_States(service))

    def text(self) -> bytes:
        """Returns all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _States:
    """The states of a service, read at each request."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        service, scorer = self._service, self._service.scorer
        counts = service.log.counts
        for name, text, value in (
            ("blemish_queue", "Images that wait for the worker.", scorer.waiting),
            ("blemish_in_flight", "Images that the worker has.", scorer.in_flight),
            ("blemish_worker_ready", "Whether the worker runs and has all models.", scorer.is_ready),
            ("blemish_body_bytes", "Bytes of bodies in memory.", service.budget.taken),
            ("blemish_log_waiting", "Rows of the log that wait in memory.", counts.waiting),
            ("blemish_log_spooled", "Rows of the log that wait on the disk.", counts.spooled),
            ("blemish_log_connected", "Whether the log's database answers.", counts.is_connected),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))
        for name, text, value in (
            ("blemish_worker_restarts", "How often the worker was started again.", scorer.restarts),
            ("blemish_shadow_dropped", "Images that the shadow did not judge.", scorer.dropped_shadows),
            ("blemish_log_written", "Rows that were written to the log's database.", counts.written),
            ("blemish_log_dropped", "Rows of the log that were lost.", counts.dropped),
            ("blemish_kept_dropped", "Images that could not be kept.", service.keeping.dropped),
        ):
            yield CounterMetricFamily(name, text, value=float(value))
        yield from self._of_models()

    def _of_models(self) -> Iterator[Any]:
        info = GaugeMetricFamily(
            "blemish_model_info", "Models and their versions; always 1.", labels=["model", "version", "role"]
        )
        problem = GaugeMetricFamily(
            "blemish_model_problem", "Whether a newer version cannot be served, or another problem.", labels=["model"]
        )
        loaded = GaugeMetricFamily(
            "blemish_model_loaded_timestamp_seconds", "When the version was loaded.", labels=["model"]
        )
        drift = GaugeMetricFamily(
            "blemish_drift_martingale_log10",
            "Decimal logarithm of the evidence that the latest images differ from those that calibrated the model.",
            labels=["model"],
        )
        alarm = GaugeMetricFamily("blemish_drift_alarm", "Whether that evidence reached its level.", labels=["model"])
        for served in self._service.models.all():
            decides = served.name in self._service.models.served
            info.add_metric([served.name, served.version, "decides" if decides else "shadow"], 1)
            problem.add_metric([served.name], float(served.problem is not None))
            loaded.add_metric([served.name], served.loaded)
            if decides and (found := drift_of(list(served.p_values), served))["martingale_log10"] is not None:
                drift.add_metric([served.name], found["martingale_log10"])
                alarm.add_metric([served.name], float(found["alarm"]))
        yield from (info, problem, loaded, drift, alarm)


def drift_of(p_values: list[float], served: Served) -> dict[str, Any]:
    """Returns the evidence that images differ from those that calibrated the model: its log10, an alarm, their number.

    Args:
        p_values: of the images in order, by the served version.
        served: the model.
    """
    if not p_values or not served.details:
        return {"martingale_log10": None, "alarm": False, "images": len(p_values)}
    count = len(served.details["scores"])
    found = evidence(places(p_values, count), count, DEFAULT_LEVEL, two_sided=served.details["two_sided"])
    last = float(found.log10[-1])
    return {
        "martingale_log10": last if math.isfinite(last) else None,
        "alarm": found.alarm is not None,
        "images": len(p_values),
    }
