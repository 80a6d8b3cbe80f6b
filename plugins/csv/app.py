"""A plugin that writes CSV into a granted directory: one file of events, one of network operations.

A row is a line, whatever it holds, so that a file that an instance left behind half written can be mended: what follows
its last line break is cut off, and so is what a failed attempt wrote, before anything else is written.
"""

import csv
import errno
import io
import json
import os

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.publisher import PublishError_Hold, PublishError_Retry, RetryAdvice
from wit_world.imports import config, log

EVENTS = (
    "id event_name task_id pipeline_id process_id start_time end_time duration_seconds status error retry_count"
    " attributes"
).split()
OPERATIONS = (
    "id task_id operation host port start_time end_time latency_seconds bytes_sent bytes_received error attributes"
).split()

# Somebody must mend something; anything else may pass by itself.
TO_BE_MENDED = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EBADF}


class Table:
    """A file of rows with a fixed heading."""

    def __init__(self, setting, default, columns):
        self.name = os.path.join(config.get("dir") or "/out", config.get(setting) or default)
        self.delimiter = config.get("delimiter") or ","
        if len(self.delimiter) != 1:
            raise ValueError('config: "delimiter" must be one character')
        self.columns = columns
        self.file = None
        self.good = 0

    def append(self, batch):
        rows = json.loads(batch.encode("json-columns"))
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator="\n")
        attributes = (json.dumps(row, ensure_ascii=False) if row else "" for row in rows["attributes"])
        columns = [attributes if name == "attributes" else rows[name] for name in self.columns]
        writer.writerows([one_line(value) for value in row] for row in zip(*columns))
        try:
            self.open()
            self.write(text.getvalue())
        except OSError as cause:
            raise self.refused(cause) from None

    def open(self):
        """Opens the file, or takes it up where its last whole row ends."""
        if self.file is not None:
            return
        self.file = open(self.name, "a+b", buffering=0)
        self.good = self.file.seek(0, os.SEEK_END)
        torn = self.torn()
        if torn:
            self.good -= torn
            self.undo()
            log.log(log.Level.WARN, f"{self.name}: half a row of {torn} bytes was cut off its end")
        if self.good == 0:
            self.write(self.delimiter.join(self.columns) + "\n")

    def torn(self):
        """How many bytes follow the last line break."""
        piece = b""
        at = self.good
        while at > 0 and b"\n" not in piece:
            start = max(0, at - 65536)
            self.file.seek(start)
            piece = self.file.read(at - start)
            at = start
        return self.good - at - (piece.rfind(b"\n") + 1)

    def write(self, text):
        body = memoryview(text.encode())
        at = 0
        try:
            while at < len(body):
                at += self.file.write(body[at:])
        except OSError:
            self.undo()
            raise
        self.good += at

    def undo(self):
        self.file.truncate(self.good)

    def close(self):
        """Brings it to the disk; the next batch opens the name anew, so that it may be rotated."""
        if self.file is None:
            return
        try:
            os.fsync(self.file.fileno())
            self.file.close()
        except OSError as cause:
            raise self.refused(cause) from None
        self.file = None

    def refused(self, cause):
        self.file = None
        reason = f"{self.name}: {cause.strerror or cause}"
        if cause.errno in TO_BE_MENDED:
            directory = os.path.dirname(self.name)
            return Err(PublishError_Hold(f'{reason}; grant.dirs must give "{directory}" with write = true'))
        return Err(PublishError_Retry(RetryAdvice(reason, None)))


def one_line(value):
    """Line breaks as they are written in most languages; spreadsheets show them as text."""
    if isinstance(value, str):
        return value.replace("\r", "\\r").replace("\n", "\\n")
    return value


tables = {}


class Lifecycle(exports.Lifecycle):
    def start(self):
        try:
            tables["events"] = Table("events", "events.csv", EVENTS)
            tables["operations"] = Table("operations", "operations.csv", OPERATIONS)
        except ValueError as cause:
            raise Err(str(cause)) from None

    def flush(self):
        for table in tables.values():
            table.close()


class Publisher(exports.Publisher):
    def publish_event_metrics(self, events):
        tables["events"].append(events)
        return []

    def publish_network_metrics(self, operations):
        tables["operations"].append(operations)
        return []
