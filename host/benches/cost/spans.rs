//! The spans that are sent: a request is encoded once and then patched, so that sending costs next to nothing.
//!
//! Invariant: every span is a message of [`SPAN`] bytes, and carries its number in its attribute `url.path`, behind
//! [`MARK`], where the bulk server finds it in whatever form it arrives. No two spans have the same number, and with
//! it the same ids.

use std::time::Duration;

/// Bytes of one encoded span, without the tag and the length before it.
pub const SPAN: usize = 366;
/// Stands before the number of a span.
pub const MARK: &str = "item-";
/// Digits of the number of a span.
pub const DIGITS: usize = 10;
/// What the resource says of the service.
pub const SERVICE: &str = "checkout";

/// As long as each other, so that every span has its fields at the same places.
const NAMES: [&str; 5] = ["charge card", "check stock", "fetch order", "quote price", "write audit"];
const STATUSES: [u8; 5] = [201, 200, 202, 204, 208];
/// One in so many has failed.
const FAILED: usize = 50;
/// Spans of one trace.
const OF_TRACE: u64 = 8;

const SERVER: u8 = 2;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// Where the fields of a span are that differ from request to request, from the beginning of its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Places {
    trace: usize,
    span: usize,
    parent: usize,
    start: usize,
    end: usize,
    number: usize,
}

/// An `ExportTraceServiceRequest` that is there to be patched.
#[derive(Clone)]
pub struct Request {
    bytes: Vec<u8>,
    /// Where each span's message begins.
    spans: Vec<usize>,
    places: Places,
}

impl Request {
    /// A request of so many spans.
    pub fn new(spans: usize) -> Self {
        let mut scope = Vec::new();
        text(&mut scope, 1, |scope| text(scope, 1, |name| name.extend(b"cost")));
        let mut places = Places::default();
        let mut begins = Vec::new();
        for at in 0..spans {
            let message;
            (message, places) = span(at);
            assert_eq!(message.len(), SPAN, "the user agent wants to be longer or shorter");
            text(&mut scope, 2, |scope| scope.extend(&message));
            begins.push(scope.len() - SPAN);
        }
        let mut resource_spans = Vec::new();
        text(&mut resource_spans, 1, |resource| {
            attribute(resource, 1, "service.name", &Value::Text(SERVICE))
        });
        text(&mut resource_spans, 2, |out| out.extend(&scope));
        let before_scope = resource_spans.len() - scope.len();
        let mut bytes = Vec::new();
        text(&mut bytes, 1, |out| out.extend(&resource_spans));
        let before = bytes.len() - resource_spans.len() + before_scope;
        let spans = begins.into_iter().map(|begin| begin + before).collect();
        Self { bytes, spans, places }
    }

    /// How many spans it has.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Makes it the request of the spans from number `first` on, which have just ended at `now` (since the epoch).
    pub fn patch(&mut self, first: u64, now: Duration) -> &[u8] {
        let now = u64::try_from(now.as_nanos()).unwrap();
        let all = self.spans.len() as u64;
        for (at, begin) in (0_u64..).zip(&self.spans) {
            let number = first + at;
            let message = &mut self.bytes[*begin..*begin + SPAN];
            let mut set =
                |place: usize, bytes: &[u8]| message[place..place + bytes.len()].copy_from_slice(bytes);
            let trace = number / OF_TRACE;
            set(self.places.trace, &mixed(trace << 1).to_be_bytes());
            set(self.places.trace + 8, &mixed(trace << 1 | 1).to_be_bytes());
            set(self.places.span, &mixed(number).to_be_bytes());
            // A parent elsewhere, as a remote caller is.
            set(self.places.parent, &mixed(trace | 1 << 40).to_be_bytes());
            // They end one after the other, and have taken from one to forty milliseconds.
            let end = now - (all - at) * 10_000;
            let took = 1_000_000 + mixed(!number) % 39_000_000;
            set(self.places.start, &(end - took).to_le_bytes());
            set(self.places.end, &end.to_le_bytes());
            let mut digits = [b'0'; DIGITS];
            let mut rest = number;
            for digit in digits.iter_mut().rev() {
                *digit += u8::try_from(rest % 10).unwrap();
                rest /= 10;
            }
            set(self.places.number, &digits);
        }
        &self.bytes
    }
}

enum Value {
    Text(&'static str),
    Integer(u8),
}

/// A span as the `at`th of a request has it, with zeros where it will be patched.
fn span(at: usize) -> (Vec<u8>, Places) {
    let (mut out, mut places) = (Vec::new(), Places::default());
    for (field, length, place) in
        [(1, 16, &mut places.trace), (2, 8, &mut places.span), (4, 8, &mut places.parent)]
    {
        text(&mut out, field, |id| id.extend(vec![0; length]));
        *place = out.len() - length;
    }
    text(&mut out, 5, |name| name.extend(NAMES[at % NAMES.len()].as_bytes()));
    out.extend([6 << 3, SERVER]);
    for (field, place) in [(7, &mut places.start), (8, &mut places.end)] {
        out.push(field << 3 | 1);
        *place = out.len();
        out.extend([0; 8]);
    }
    let path = "/v1/orders/item-0000000000";
    let attributes = [
        ("url.path", Value::Text(path)),
        ("http.route", Value::Text("/v1/orders/{id}")),
        ("http.request.method", Value::Text("POST")),
        ("http.response.status_code", Value::Integer(STATUSES[at % STATUSES.len()])),
        ("client.address", Value::Text("10.42.17.204")),
        (
            "user_agent.original",
            Value::Text(
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.7444.5",
            ),
        ),
    ];
    for (key, value) in &attributes {
        attribute(&mut out, 9, key, value);
        if *key == "url.path" {
            places.number = out.len() - DIGITS;
        }
    }
    let code = if at % FAILED == FAILED - 1 { ERROR } else { OK };
    text(&mut out, 15, |status| status.extend([3 << 3, code]));
    (out, places)
}

fn attribute(out: &mut Vec<u8>, field: u8, key: &str, value: &Value) {
    text(out, field, |out| {
        text(out, 1, |out| out.extend(key.as_bytes()));
        text(out, 2, |out| match value {
            Value::Text(value) => text(out, 1, |out| out.extend(value.as_bytes())),
            Value::Integer(value) => {
                out.push(3 << 3);
                varint(out, usize::from(*value));
            }
        });
    });
}

/// A field of the wire type that has a length: a text, bytes, or a message.
fn text(out: &mut Vec<u8>, field: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    content(&mut inner);
    out.push(field << 3 | 2);
    varint(out, inner.len());
    out.append(&mut inner);
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

/// As random as ids are, and never zero for two numbers (SplitMix64 is a bijection).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The number behind [`MARK`] in `line`, looked for at `hint` first, which is where the last one was.
pub fn number(line: &[u8], hint: &mut usize) -> Option<u64> {
    let marked = |at: usize| line.get(at..at + MARK.len()) == Some(MARK.as_bytes());
    if !marked(*hint) {
        *hint = line.windows(MARK.len()).position(|bytes| bytes == MARK.as_bytes())?;
    }
    let digits = line.get(*hint + MARK.len()..*hint + MARK.len() + DIGITS)?;
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}
