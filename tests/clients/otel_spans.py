"""Sends spans with OpenTelemetry's own SDK over OTLP/HTTP, and prints as JSON what it sent.

Usage: otel_spans.py URL [INTERNAL] [CLIENT]

Every number that it prints was counted here, span by span, as it was made: the test compares it with what came out.
"""

import json
import os
import sys
from collections import Counter

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

START = 1_700_000_000_000_000_000  # fixed times, so that durations are known
MILLISECOND = 1_000_000


class Counting(SpanExporter):
    """The SDK's exporter, with its answers counted."""

    def __init__(self, exporter):
        self.exporter = exporter
        self.exported = 0
        self.failed = 0

    def export(self, spans):
        result = self.exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self):
        self.exporter.shutdown()

    def force_flush(self, timeout_millis=30_000):
        return self.exporter.force_flush(timeout_millis)


def main(url, internal=3_000, client=1_500):
    # Where to, as a user says it who changes no code.
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{url}/v1/traces"
    exporter = Counting(OTLPSpanExporter(compression=Compression.Gzip))
    resource = Resource.create({"service.name": "otel-python", "process.pid": 4711})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=100_000, max_export_batch_size=500)
    )
    tracer = provider.get_tracer("pressroom-tests")

    ids = set()
    events, failed_events, retries, events_with_retries = Counter(), Counter(), 0, 0
    for number in range(internal):
        name = ("read", "hash", "store")[number % 3]
        start = START + number * MILLISECOND
        attributes = {
            "task.id": f"task-{number % 100}",
            "pipeline.id": "thumbs",
            "share": number / 7,
            "tags": ["a", "b"],
        }
        if number % 10 == 0:
            attributes["http.request.resend_count"] = number % 4 + 1
            retries += number % 4 + 1
            events_with_retries += 1
        span = tracer.start_span(name, start_time=start, attributes=attributes)
        if number % 25 == 0:
            try:
                raise OSError(f"disk {number} is full")
            except OSError as error:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, str(error)))
            failed_events[name] += 1
        span.end(end_time=start + (number % 50 + 1) * MILLISECOND)
        ids.add(span.get_span_context().span_id)
        events[name] += 1

    operations, failed_operations, bytes_sent, bytes_received = Counter(), Counter(), 0, 0
    for number in range(client):
        method = ("GET", "PUT")[number % 2]
        start = START + number * MILLISECOND
        attributes = {
            "http.request.method": method,
            "server.address": f"s3-{number % 3}.local",
            "server.port": 9000 + number % 3,
            "url.path": f"/objects/{number}",
            "http.request.body.size": number,
            "http.response.body.size": 2 * number,
        }
        span = tracer.start_span(
            f"{method} /objects", kind=SpanKind.CLIENT, start_time=start, attributes=attributes
        )
        if number % 20 == 0:
            span.set_attribute("error.type", "timeout")
            span.set_status(Status(StatusCode.ERROR))
            failed_operations[method] += 1
        span.end(end_time=start + (number % 80 + 1) * MILLISECOND)
        ids.add(span.get_span_context().span_id)
        operations[method] += 1
        bytes_sent += number
        bytes_received += 2 * number

    provider.shutdown()  # sends what is left
    json.dump(
        {
            "spans": internal + client,
            "span_ids": sorted(f"{id:016x}" for id in ids),
            "exported": exporter.exported,
            "failed": exporter.failed,
            "events": events,
            "failed_events": failed_events,
            "retries": retries,
            "events_with_retries": events_with_retries,
            "operations": operations,
            "failed_operations": failed_operations,
            "bytes_sent": bytes_sent,
            "bytes_received": bytes_received,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:4]))
