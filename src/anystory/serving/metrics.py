"""The server's numbers for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anystory.extras import need

if TYPE_CHECKING:
    from anystory.serving.store.jobs import JobStore

__all__ = ["Metrics"]

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Counters of one server; each server has a registry of its own.

    Args:
        jobs: Says how many jobs are in which state, whenever somebody looks.
    """

    def __init__(self, jobs: JobStore) -> None:
        prometheus = need("prometheus_client", "the server", extra="serve")
        self._registry = prometheus.CollectorRegistry()
        self._text = prometheus.generate_latest
        given = {"registry": self._registry}
        self.accepted = prometheus.Counter("anystory_jobs_accepted", "Jobs that were accepted.", ["kind"], **given)
        self.refused = prometheus.Counter("anystory_jobs_refused", "Jobs that were refused.", ["reason"], **given)
        self.ended = prometheus.Counter("anystory_jobs_ended", "Jobs that have ended.", ["kind", "state"], **given)
        self.waited = prometheus.Histogram(
            "anystory_job_wait_seconds", "From accepting a job to its start.", buckets=_SECONDS, **given
        )
        self.took = prometheus.Histogram(
            "anystory_job_run_seconds", "From a job's start to its end.", ["kind"], buckets=_SECONDS, **given
        )
        self.pictures = prometheus.Counter("anystory_pictures", "Pictures and panels that were drawn.", **given)
        self.together = prometheus.Histogram(
            "anystory_batch_pictures", "Pictures in the call of each picture.", buckets=(1, 2, 4, 8, 16, 32), **given
        )
        self.workers_lost = prometheus.Counter("anystory_workers_lost", "Workers that died.", ["device"], **given)
        self.workers_ready = prometheus.Gauge("anystory_workers_ready", "Workers that can draw.", **given)
        self.requests = prometheus.Counter(
            "anystory_http_requests", "Requests that were answered.", ["method", "route", "status"], **given
        )
        for state in ("queued", "running"):
            gauge = prometheus.Gauge(f"anystory_jobs_{state}", f"Jobs that are {state}.", **given)
            gauge.set_function(lambda state=state: jobs.counts().get(state, 0))

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return self._text(self._registry)
