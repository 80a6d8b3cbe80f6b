// A plugin that posts batches as JSON: {"kind": "events", "records": [...]}, a record as in `json-lines` of formats.md.
import { getAll } from "pressroom:publisher/config@0.1.0";
import { log } from "pressroom:publisher/log@0.1.0";
import { Denied, NoAnswer, post } from "./web.js";

// Thrown, they are the answer; any other error is a trap, and counts against the plugin.
const retry = (reason, afterMs) => ({ tag: "retry", val: { reason, afterMs } });
const reject = (reason) => ({ tag: "reject", val: reason });
const hold = (reason) => ({ tag: "hold", val: reason });

const encoder = new TextEncoder();
const decoder = new TextDecoder();
let settings;

// The host renders the lines; with commas between them they are a list.
function render(kind, batch) {
  const lines = decoder.decode(batch.encode("json-lines")).trimEnd();
  return `{"kind":"${kind}","records":[${lines.replaceAll("\n", ",")}]}`;
}

function send(kind, batch) {
  const url = settings.url;
  if (!url) throw hold('config: "url" is missing: where to post to');
  const headers = { ...settings.headers, "content-type": "application/json" };
  let answer;
  try {
    answer = post(url, headers, encoder.encode(render(kind, batch)));
  } catch (cause) {
    if (cause instanceof Denied) throw hold(`${url} is not granted: ${cause.message}`);
    if (cause instanceof NoAnswer) throw retry(`no answer from ${url}: ${cause.message}`);
    throw cause;
  }
  const { status, text } = answer;
  if (status >= 200 && status < 300) return [];
  const reason = `${url} answered ${status}: ${text.trim().slice(0, 200)}`;
  if ([401, 403, 404].includes(status)) throw hold(reason);
  if ([408, 425, 429].includes(status) || status >= 500) {
    throw retry(reason, milliseconds(answer.headers["retry-after"]));
  }
  throw reject(reason);
}

// Retry-After as seconds; as a date it is the host's backoff that counts.
function milliseconds(retryAfter) {
  return /^\d{1,9}$/.test(retryAfter ?? "") ? BigInt(retryAfter) * 1000n : undefined;
}

export const publisher = {
  publishEventMetrics: (events) => send("events", events),
  publishNetworkMetrics: (operations) => send("network", operations),
};

export const lifecycle = {
  start() {
    settings = JSON.parse(getAll());
    const unknown = Object.keys(settings).filter((key) => !["url", "headers"].includes(key));
    if (unknown.length > 0) throw `config: unknown setting "${unknown[0]}"; there are "url" and "headers"`;
    log("debug", `posts to ${settings.url}`);
  },
  // Nothing is kept between calls.
  flush() {},
};
