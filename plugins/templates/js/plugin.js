// A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url".
import { get } from "pressroom:publisher/config@0.1.0";

// What is to become of the batch. Thrown, they are the answer; any other error is a trap, and counts against the plugin.
const retry = (reason, after) => ({ tag: "retry", val: { reason, afterMs: after } });
const reject = (reason) => ({ tag: "reject", val: reason });
const hold = (reason) => ({ tag: "hold", val: reason });

async function forward(batch) {
  const url = get("url");
  if (!url) throw hold('config: "url" is missing: where to forward to');
  let response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/x-ndjson" },
      body: batch.encode("json-lines"), // rendered by the host, at native speed
    });
  } catch (cause) {
    throw retry(`no answer from ${url}: ${cause.message ?? cause}`);
  }
  await response.arrayBuffer(); // read to its end, so that the connection can be used again
  if (response.ok) return []; // no row was left out: the host forgets them all
  throw refused(response.status, response.headers.get("retry-after"));
}

function refused(status, retryAfter) {
  const reason = `the server answered ${status}`;
  if ([401, 403, 404].includes(status)) return hold(`${reason}: is it the right address and credential?`);
  if ([408, 425, 429].includes(status) || status >= 500) {
    const seconds = /^\d{1,9}$/.test(retryAfter ?? "") ? BigInt(retryAfter) : undefined;
    return retry(reason, seconds === undefined ? undefined : seconds * 1000n);
  }
  return reject(reason);
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
