// HTTP over wasi:http, call by call: what `fetch` would hide (was it denied? is the handle given back?) is what counts here.
import { handle } from "wasi:http/outgoing-handler@0.2.12";
import { Fields, OutgoingBody, OutgoingRequest } from "wasi:http/types@0.2.12";

/** Nobody answered. */
export class NoAnswer extends Error {}
/** The operator has not granted it. */
export class Denied extends Error {}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
// An answer is read to its end, so that the connection can be used again, but not beyond this.
const MAX_ANSWER = 1 << 20;

/** Posts `body` (bytes), and gives `{ status, headers, text }`; header names are in lower case. */
export function post(url, headers, body) {
  const parts = /^(https?):\/\/([^/?#]+)(\/[^#]*)?$/.exec(url);
  if (!parts) throw new NoAnswer(`"${url}" is not a URL with a path`);
  const fields = new Fields();
  for (const [name, value] of Object.entries(headers)) fields.append(name, encoder.encode(value));
  const request = new OutgoingRequest(fields);
  request.setMethod({ tag: "post" });
  request.setScheme({ tag: parts[1] === "https" ? "HTTPS" : "HTTP" });
  request.setAuthority(parts[2]);
  request.setPathWithQuery(parts[3] ?? "/");
  return answered(() => {
    const outgoing = request.body();
    return using(handle(request, undefined), (future) => {
      const failed = write(outgoing, body);
      wait(future);
      const outcome = future.get();
      if (outcome?.tag === "ok" && outcome.val.tag === "ok") return using(outcome.val.val, read);
      throw { payload: outcome?.val?.val ?? failed ?? { tag: "no-answer" } };
    });
  });
}

// Why a body could not be written is told by the answer, if at all.
function write(outgoing, body) {
  try {
    using(outgoing.write(), (stream) => {
      for (let at = 0; at < body.length; ) {
        wait(stream);
        const room = Number(stream.checkWrite());
        stream.write(body.subarray(at, at + room));
        at += room;
      }
      stream.blockingFlush();
    });
    OutgoingBody.finish(outgoing, undefined);
  } catch (cause) {
    return cause.payload ?? { tag: String(cause) };
  }
}

function read(response) {
  const headers = using(response.headers(), (fields) =>
    Object.fromEntries(fields.entries().map(([name, value]) => [name.toLowerCase(), decoder.decode(value)])),
  );
  let text = "";
  using(response.consume(), (incoming) =>
    using(incoming.stream(), (stream) => {
      try {
        while (text.length < MAX_ANSWER) text += decoder.decode(stream.blockingRead(65536n));
      } catch (cause) {
        if (cause.payload?.tag !== "closed") throw cause;
      }
    }),
  );
  return { status: response.status(), headers, text };
}

function wait(on) {
  using(on.subscribe(), (pollable) => pollable.block());
}

// Handles are few: each is given back, and what was made of another before that other.
const dispose = Symbol.dispose ?? Symbol.for("dispose");
function using(handle, use) {
  try {
    return use(handle);
  } finally {
    handle[dispose]();
  }
}

function answered(ask) {
  try {
    return ask();
  } catch (cause) {
    const code = cause.payload;
    if (code === undefined) throw cause;
    const words = code.val === undefined ? code.tag : `${code.tag}: ${code.val.toDebugString?.() ?? code.val}`;
    const isDenied = ["HTTP-request-denied", "destination-IP-prohibited"].includes(code.tag);
    throw new (isDenied ? Denied : NoAnswer)(words);
  }
}
