//! One call's rows to the cluster, as bulk requests.
//!
//! Invariants: every row of a call ends as exactly one thing: there, refused, or in trouble; what is not known is
//! trouble, and comes again. So a call that is given up in the middle needs no undoing: its rows come again, and those
//! that had arrived are there already (`create` with the record's id, 409).
//!
//! Rows are cut into requests in the journal's order, some of them are under way at once, and the outcome is told when
//! all have ended: so acknowledgements are in the journal's order, whatever the order of the answers.

mod refusals;

use super::answer::{self, Fate, Items};
use super::body::{self, Attributes, Form, Numbers, Written};
use super::counts::Tally;
use super::gzip::Packer;
use super::settings::Late;
use super::target::Target;
use super::template::{self, ATTRIBUTES};
use super::trouble::Trouble;
use super::wire::{Answer, Content, Question, Wire};
use crate::publisher::{PublishError, PublishResult};
use crate::publishers::limit::Limit;
use crate::record::{JsonLines, Record, Rows};
use elasticsearch::BulkParts;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use refusals::{TooLarge, Waits};
use reqwest::{Method, StatusCode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Requests that may be refused as a whole, and halved, before any other one has been taken: then it is not a row that
/// is at fault.
const REFUSALS: usize = 32;

/// A body that is compressed sooner than another thread is asked to.
const SMALL: usize = 64 << 10;

/// How bulk requests are made.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) target: Target,
    pub(super) gzip: bool,
    pub(super) in_flight: usize,
    pub(super) late: Late,
    limit: Limit,
}

/// What came of a call.
pub(super) struct Outcome {
    pub(super) result: PublishResult,
    pub(super) tally: Tally,
    /// The indices that took something.
    pub(super) written: BTreeSet<String>,
}

/// What goes into one request.
struct Piece {
    numbers: Numbers,
    form: Form,
    /// The size of its body, not compressed, at most.
    size: usize,
}

/// A request that has ended.
struct Asked {
    piece: Piece,
    answer: Result<Answered, Trouble>,
}

struct Answered {
    written: Written,
    /// The size of its body, not compressed.
    size: usize,
    answer: Answer,
}

impl Bulk {
    pub(super) fn new(target: Target, gzip: bool, bulk_bytes: usize, in_flight: usize, late: Late) -> Self {
        Self { target, gzip, in_flight, late, limit: Limit::new(bulk_bytes) }
    }

    /// The size of a body that is not too large, as far as is known.
    pub(super) fn limit(&self) -> usize {
        self.limit.get()
    }

    fn too_large(&self, bytes: usize) {
        if let Some(limit) = self.limit.refused(bytes) {
            tracing::warn!(
                limit,
                "a bulk request was too large for the server, smaller ones are made for a while: lower `bulk_bytes`, or \
                 raise the server's `http.max_content_length` or the proxy's limit"
            );
        }
    }

    /// Publishes rows.
    pub(super) async fn publish<R: Record>(self: &Arc<Self>, wire: &Arc<Wire>, rows: &Rows<R>) -> Outcome {
        let mut call = Call {
            bulk: self.clone(),
            wire: wire.clone(),
            lines: rows.json_lines(),
            queue: VecDeque::new(),
            tally: Tally::default(),
            in_trouble: BTreeMap::new(),
            refused: BTreeMap::new(),
            held: BTreeMap::new(),
            too_large: BTreeMap::new(),
            suspects: BTreeMap::new(),
            refusals: 0,
            stopped: None,
            written: BTreeSet::new(),
        };
        for numbers in body::cut(&call.lines, self.limit()) {
            let piece = call.piece(numbers, Form::PLAIN);
            call.queue.push_back(piece);
        }
        call.run().await;
        call.outcome()
    }
}

struct Call<R: Record> {
    bulk: Arc<Bulk>,
    wire: Arc<Wire>,
    lines: JsonLines<R>,
    queue: VecDeque<Piece>,
    tally: Tally,
    in_trouble: BTreeMap<u32, Trouble>,
    refused: BTreeMap<u32, String>,
    /// Rows that wait beside the others.
    held: BTreeMap<u32, Waits>,
    /// Rows that are too large, each alone.
    too_large: BTreeMap<u32, TooLarge>,
    /// Rows whose requests were refused as such, each alone: they are refused if another one was taken.
    suspects: BTreeMap<u32, String>,
    /// Requests that were refused as such.
    refusals: usize,
    /// Nothing is sent any more, for this.
    stopped: Option<Trouble>,
    written: BTreeSet<String>,
}

impl<R: Record> Call<R> {
    fn piece(&self, numbers: Numbers, form: Form) -> Piece {
        let size = body::size(&self.lines, &numbers);
        Piece { numbers, form, size }
    }

    async fn run(&mut self) {
        let mut under_way: FuturesUnordered<BoxFuture<'static, Asked>> = FuturesUnordered::new();
        loop {
            while under_way.len() < self.bulk.in_flight
                && self.stopped.is_none()
                && let Some(piece) = self.queue.pop_front()
            {
                match piece.numbers.halves() {
                    // It was cut before the server's limit was known.
                    Some(halves) if piece.size > self.bulk.limit() => self.halve(halves, piece.form),
                    _ => under_way.push(self.ask(piece)),
                }
            }
            match under_way.next().await {
                Some(asked) => self.take(asked),
                None => break,
            }
        }
        if let Some(trouble) = self.stopped.take() {
            for piece in std::mem::take(&mut self.queue) {
                self.trouble(&piece.numbers, &trouble);
            }
        }
    }

    fn ask(&self, piece: Piece) -> BoxFuture<'static, Asked> {
        let (bulk, wire, lines) = (self.bulk.clone(), self.wire.clone(), self.lines.clone());
        Box::pin(async move {
            let answer = bulk.ask(&wire, lines, &piece).await;
            Asked { piece, answer }
        })
    }

    fn take(&mut self, Asked { piece, answer }: Asked) {
        let Answered { written, size, answer } = match answer {
            Ok(answered) => answered,
            Err(trouble) => return self.stop(&piece.numbers, trouble),
        };
        if answer.status.is_success() {
            return self.take_items(piece, written, size, &answer);
        }
        let said = self.wire.refusal(&answer);
        let retry = |reason| Trouble::Retry { reason, after: answer.retry_after };
        match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => match piece.numbers.halves() {
                Some(halves) => {
                    // An answer that comes after the stop says no more about size than those that led to it.
                    if self.stopped.is_none() {
                        self.bulk.too_large(size);
                    }
                    self.halve(halves, piece.form);
                }
                None => self.too_large_alone(&piece.numbers, size, &said),
            },
            StatusCode::BAD_REQUEST => self.refused_as_such(piece, &said),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                self.stop(&piece.numbers, retry(said))
            }
            status if status.is_server_error() => self.stop(&piece.numbers, retry(said)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let reason = format!("the server refuses the credentials, mend them: {said}");
                self.stop(&piece.numbers, Trouble::Hold { reason });
            }
            status if status.is_redirection() => {
                let reason = format!("the server sends elsewhere, name that in `hosts`: {said}");
                self.stop(&piece.numbers, Trouble::Hold { reason });
            }
            _ => {
                let reason = format!("the server takes no bulk requests there, see to `hosts`: {said}");
                self.stop(&piece.numbers, Trouble::Hold { reason });
            }
        }
    }

    fn take_items(&mut self, piece: Piece, written: Written, size: usize, answer: &Answer) {
        let count = piece.numbers.len();
        if answer.cut {
            // What does not fit into what is read of an answer is asked in two.
            match piece.numbers.halves() {
                Some(halves) => self.halve(halves, piece.form),
                None => {
                    self.trouble(&piece.numbers, &Trouble::retry("the answer for one record is too long"))
                }
            }
            return;
        }
        let Items { created, duplicates, others } =
            match answer::read(&answer.body, count, answer.retry_after) {
                Ok(items) => items,
                // It says nothing of these rows, and nothing about the other requests.
                Err(reason) => return self.trouble(&piece.numbers, &Trouble::retry(self.wire.tell(&reason))),
            };
        self.bulk.limit.taken(size);
        self.tally.accepted += created as u64;
        self.tally.duplicates += duplicates as u64;
        let is_there = |item: &usize| others.binary_search_by_key(item, |(at, _)| *at).is_err();
        self.tally.attributes_as_text += written.as_text.iter().filter(|item| is_there(item)).count() as u64;
        if created > 0 && self.written.len() < 64 {
            self.written.insert(written.index);
        }
        let (mut as_text, mut today) = (Vec::new(), Vec::new());
        let part = self.bulk.target.today();
        for (at, fate) in others {
            let Some(number) = piece.numbers.get(at) else { continue };
            match fate {
                Fate::Trouble(Trouble::Retry { reason, after }) => {
                    let trouble = Trouble::Retry { reason: self.wire.tell(&reason), after };
                    self.in_trouble.insert(number, trouble);
                }
                Fate::Trouble(Trouble::Hold { reason }) => {
                    self.in_trouble.insert(number, Trouble::Hold { reason: self.wire.tell(&reason) });
                }
                Fate::Refused(reason)
                    if piece.form.attributes == Attributes::Fields
                        && self.may_be_attributes(number, &reason) =>
                {
                    as_text.push(number);
                }
                Fate::Index { reason, hold } => {
                    if self.refused_by_index(number, piece.form.part, part, (&reason, hold)) {
                        today.push(number);
                    }
                }
                Fate::Refused(reason) => {
                    self.refused.insert(number, self.wire.tell(&reason));
                }
            }
        }
        let as_text = (as_text, Form { attributes: Attributes::Text, ..piece.form });
        for (numbers, form) in [as_text, (today, Form { part: Some(part), ..piece.form })] {
            if !numbers.is_empty() {
                let piece = self.piece(Numbers::List(numbers), form);
                self.queue.push_front(piece);
            }
        }
    }

    fn has_taken(&self) -> bool {
        self.tally.accepted + self.tally.duplicates > 0
    }

    /// Whether a row was refused for the form of its attributes, perhaps: not if another field is named.
    fn may_be_attributes(&self, number: u32, reason: &str) -> bool {
        let has_some = self.lines.get(number as usize).is_some_and(|(row, _)| !row.attributes().is_empty());
        let named = reason.split("field [").nth(1).and_then(|rest| rest.split(']').next());
        let is_other =
            |name| template::fields(R::KIND).any(|(field, _)| field == name && field != ATTRIBUTES);
        has_some && !named.is_some_and(is_other)
    }

    /// A request was refused as such. One of its rows is at fault, or all that we send is: the second if nothing else
    /// is taken.
    fn refused_as_such(&mut self, piece: Piece, reason: &str) {
        self.refusals += 1;
        if !self.has_taken() && self.refusals > REFUSALS {
            return self.stop(&piece.numbers, Trouble::hold(refused_all(reason)));
        }
        match (piece.numbers.halves(), piece.numbers.get(0)) {
            (Some(halves), _) => self.halve(halves, piece.form),
            (None, Some(number)) => {
                self.suspects.insert(number, reason.to_owned());
            }
            (None, None) => {}
        }
    }

    fn halve(&mut self, (first, second): (Numbers, Numbers), form: Form) {
        for half in [second, first] {
            let piece = self.piece(half, form);
            self.queue.push_front(piece);
        }
    }

    fn stop(&mut self, numbers: &Numbers, trouble: Trouble) {
        self.trouble(numbers, &trouble);
        self.stopped.get_or_insert(trouble);
    }

    fn trouble(&mut self, numbers: &Numbers, trouble: &Trouble) {
        self.in_trouble.extend(numbers.iter().map(|number| (number, trouble.clone())));
    }

    fn outcome(mut self) -> Outcome {
        self.settle_too_large();
        let taken = self.has_taken();
        let suspects = std::mem::take(&mut self.suspects);
        if taken {
            self.refused.extend(suspects);
        } else {
            let hold = |(number, reason): (u32, String)| (number, Trouble::hold(refused_all(&reason)));
            self.in_trouble.extend(suspects.into_iter().map(hold));
        }
        self.tally.rejected = self.refused.len() as u64;
        for trouble in self.in_trouble.values() {
            match trouble {
                Trouble::Retry { .. } => self.tally.retried += 1,
                Trouble::Hold { .. } => self.tally.held += 1,
            }
        }
        let holds = self.held.values().filter(|waits| waits.hold).count() as u64;
        self.tally.held += holds;
        self.tally.retried += self.held.len() as u64 - holds;
        let (tally, written) = (self.tally, std::mem::take(&mut self.written));
        let in_part = taken || !self.refused.is_empty() || !self.held.is_empty();
        let result = if in_part || self.in_trouble.is_empty() {
            Ok(self.unpublished())
        } else {
            Err(all_in_trouble(&self.in_trouble))
        };
        Outcome { result, tally, written }
    }
}

fn refused_all(reason: &str) -> String {
    format!("the server refuses every request, whatever is in it: {reason}")
}

/// Where no row is done the call is in trouble. A hold outweighs a retry.
fn all_in_trouble(in_trouble: &BTreeMap<u32, Trouble>) -> PublishError {
    let hold = in_trouble.values().find(|trouble| matches!(trouble, Trouble::Hold { .. }));
    let first = hold.or_else(|| in_trouble.values().next());
    let longest = in_trouble.values().filter_map(|trouble| match trouble {
        Trouble::Retry { after, .. } => *after,
        Trouble::Hold { .. } => None,
    });
    match first.cloned() {
        Some(Trouble::Retry { reason, .. }) => PublishError::Retry { reason, after: longest.max() },
        Some(hold) => hold.into(),
        None => PublishError::retry("nothing was sent"),
    }
}

impl Bulk {
    async fn ask<R: Record>(
        &self,
        wire: &Wire,
        lines: JsonLines<R>,
        piece: &Piece,
    ) -> Result<Answered, Trouble> {
        let (written, size, content) = self.content(lines, piece).await?;
        let path = format!("{}?{}", BulkParts::Index(&written.index).url(), answer::FILTER);
        let limit = answer::longest(piece.numbers.len());
        let question = Question { method: Method::POST, path: &path, body: Some(content), bulk: true, limit };
        let answer = wire.ask(&question).await?;
        Ok(Answered { written, size, answer })
    }

    /// The body of a piece, with what was written and its size. Bodies are compressed off the runtime's threads.
    async fn content<R: Record>(
        &self,
        lines: JsonLines<R>,
        piece: &Piece,
    ) -> Result<(Written, usize, Content), Trouble> {
        let (numbers, form, capacity) = (piece.numbers.clone(), piece.form, piece.size);
        let (target, gzip) = (self.target.clone(), self.gzip);
        let build = move || {
            let mut packer = Packer::new(gzip, capacity);
            let written = body::write(&lines, &numbers, &target, form, &mut packer);
            let (size, bytes) = packer.finish();
            (written, size, Content { bytes, gzip })
        };
        if !gzip || capacity < SMALL {
            return Ok(build());
        }
        match tokio::task::spawn_blocking(build).await {
            Ok(content) => Ok(content),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Trouble::retry("the host is going down")),
            },
        }
    }
}
