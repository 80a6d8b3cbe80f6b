// A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url".
import { get } from "pressroom:publisher/config@0.1.0";
import { Denied, NoAnswer, post } from "./web.js";

// What is to become of the batch. Thrown, they are the answer; any other error is a trap, and counts against the plugin.
const retry = (reason, afterMs) => ({ tag: "retry", val: { reason, afterMs } });
const reject = (reason) => ({ tag: "reject", val: reason });
const hold = (reason) => ({ tag: "hold", val: reason });

function forward(batch) {
  const url = get("url");
  if (!url) throw hold('config: "url" is missing: where to forward to');
  let answer;
  try {
    // Rendered by the host, at native speed.
    answer = post(url, { "content-type": "application/x-ndjson" }, batch.encode("json-lines"));
  } catch (cause) {
    if (cause instanceof Denied) throw hold(`${url} is not granted: ${cause.message}`);
    if (cause instanceof NoAnswer) throw retry(`no answer from ${url}: ${cause.message}`);
    throw cause;
  }
  if (answer.status >= 200 && answer.status < 300) return []; // no row was left out: the host forgets them all
  throw refused(answer);
}

function refused({ status, headers, text }) {
  const reason = `the server answered ${status}: ${text.trim().slice(0, 200)}`;
  if ([401, 403, 404].includes(status)) return hold(reason);
  if ([408, 425, 429].includes(status) || status >= 500) return retry(reason, milliseconds(headers["retry-after"]));
  return reject(reason);
}

// Retry-After in seconds; where it is a date, the host's own backoff counts.
function milliseconds(retryAfter) {
  return /^\d{1,9}$/.test(retryAfter ?? "") ? BigInt(retryAfter) * 1000n : undefined;
}

export const publisher = {
  publishEventMetrics: forward,
  publishNetworkMetrics: forward,
};

// Nothing is kept between calls.
export const lifecycle = {
  start() {},
  flush() {},
};
