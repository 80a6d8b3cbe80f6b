"""A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url"."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.publisher import (
    PublishError_Hold,
    PublishError_Reject,
    PublishError_Retry,
    RetryAdvice,
)
from wit_world.imports import config

import web


# What is to become of the batch. Raised, they are the answer; any other exception is a trap, and counts against the
# plugin.
def retry(reason, after_ms=None):
    return Err(PublishError_Retry(RetryAdvice(reason, after_ms)))


def reject(reason):
    return Err(PublishError_Reject(reason))


def hold(reason):
    return Err(PublishError_Hold(reason))


def forward(batch):
    url = config.get("url")
    if not url:
        raise hold('config: "url" is missing: where to forward to')
    body = batch.encode("json-lines")  # rendered by the host, at native speed
    try:
        status, headers = web.post(url, {"content-type": "application/x-ndjson"}, body)
    except web.Denied as cause:
        raise hold(f"{url} is not granted: {cause}") from None
    except web.NoAnswer as cause:
        raise retry(f"no answer from {url}: {cause}") from None
    if 200 <= status < 300:
        return []  # no row was left out: the host forgets them all
    raise refused(status, headers.get("retry-after", ""))


def refused(status, retry_after):
    reason = f"the server answered {status}"
    if status in (401, 403, 404):
        return hold(f"{reason}: is it the right address and credential?")
    if status in (408, 425, 429) or status >= 500:
        return retry(reason, int(retry_after) * 1000 if retry_after.isdigit() else None)
    return reject(reason)


class Publisher(exports.Publisher):
    def publish_event_metrics(self, events):
        return forward(events)

    def publish_network_metrics(self, operations):
        return forward(operations)


class Lifecycle(exports.Lifecycle):
    """Nothing is kept between calls."""

    def start(self):
        pass

    def flush(self):
        pass
