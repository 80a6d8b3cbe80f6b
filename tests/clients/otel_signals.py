"""Exports metrics and logs with OpenTelemetry's own SDK over OTLP/HTTP, several times each: all signals are on.

Usage: otel_signals.py URL

What the SDK logs of it is on stderr; the test counts that.
"""

import logging
import os
import sys

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader


def main(url):
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=1_000_000_000)
    metrics = MeterProvider(metric_readers=[reader])
    counter = metrics.get_meter("pressroom-tests").create_counter("steps")
    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logger = logging.getLogger("steps")
    logger.propagate = False
    logger.addHandler(LoggingHandler(logger_provider=logs))
    for number in range(5):
        counter.add(1)
        metrics.force_flush()
        logger.warning("step %s", number)
        logs.force_flush()
    metrics.shutdown()
    logs.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
