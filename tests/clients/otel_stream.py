"""Sends spans at a steady pace with OpenTelemetry's own SDK over OTLP/HTTP, until SIGTERM, and prints as JSON what it sent.

Usage: otel_stream.py URL SPANS_PER_SECOND

The SDK's batch processor and exporter are as they come, with their default settings; what the exporter answered is counted.
"""

import json
import os
import signal
import sys
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from otel_spans import Counting


def main(url, per_second):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    # Where to, as a user says it who changes no code.
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{url}/v1/traces"
    exporter = Counting(OTLPSpanExporter())
    provider = TracerProvider(resource=Resource.create({"service.name": "checkout"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("pressroom-tests")

    ids, began = [], time.monotonic()
    while not ended:
        number = len(ids)
        ahead = began + number / per_second - time.monotonic()
        if ahead > 0.01:
            time.sleep(ahead)
        # Six attributes, of the kinds and sizes that instrumentation sets.
        attributes = {
            "task.id": f"task-{number}",
            "pipeline.id": "orders",
            "http.request.method": ("GET", "POST")[number % 2],
            "http.route": "/api/v1/orders/{id}",
            "http.response.status_code": 500 if number % 100 == 0 else 200,
            "user_agent.original": "checkout-frontend/4.2",
        }
        with tracer.start_as_current_span("handle order", attributes=attributes) as span:
            if number % 100 == 0:
                span.set_status(Status(StatusCode.ERROR, "the warehouse did not answer"))
            ids.append(span.get_span_context().span_id)
    took = time.monotonic() - began
    provider.shutdown()  # sends what is left
    json.dump(
        {
            "exported": exporter.exported,
            "failed": exporter.failed,
            "seconds": took,
            "span_ids": [f"{id:016x}" for id in ids],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
