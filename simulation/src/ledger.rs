//! What an onlooker at the broker's side sees by the frames alone: who asked, who holds what, who has been heard when. After
//! every step the broker must agree with it.

use bytes::Bytes;
use majordomo::Message;
use majordomo::proto::broker::Counters;
use majordomo::proto::mdp::{self, Part, Version};
use majordomo::proto::mdpx::{self, Command, Header};

use super::asks::{Allowed, Asking, Failure, number_of};
use super::hands::Hand;
use super::network::{Link, Moment};
use super::script::{BrokerSetting, Kind};

pub(super) struct Ledger<'a> {
    pub(super) asks: Vec<Option<Asking<'a>>>,
    pub(super) failure: Option<Failure>,
    pub(super) allowed: Allowed,
    pub(super) setting: &'a BrokerSetting,
    /// By the index of the session's peer.
    pub(super) books: Vec<Book>,
    /// By connection.
    pub(super) hands: Vec<Option<Box<Hand>>>,
    /// Connections of workers that the broker must know.
    pub(super) registered: Vec<Link>,
    /// Requests of MDP that have come, and the connections that they came by.
    pub(super) older: Vec<(usize, Link)>,
    /// What the present input says: requests that are asked, and requests whose holder answers.
    pub(super) asked: Vec<usize>,
    pub(super) answered: Vec<usize>,
    /// Workers that the broker sends away at the end of its present output.
    pub(super) leaving: Vec<Link>,
    /// Counts the inputs.
    pub(super) input: u64,
    pub(super) before: Before,
}

/// What the broker said of itself when it was looked at last.
#[derive(Default)]
pub(super) struct Before {
    pub(super) counters: Counters,
    pub(super) queued: usize,
    pub(super) queued_bytes: usize,
}

/// A client's account at the broker.
#[derive(Default)]
pub(super) struct Book {
    pub(super) link: Option<Link>,
    pub(super) is_welcome: bool,
    /// Asked on this connection, and without an outcome on it.
    pub(super) open: Vec<usize>,
    /// Asked on an earlier one: an outcome may come before the client has asked again.
    pub(super) carried: Vec<usize>,
    /// The highest number that has come to the broker.
    highest: u64,
}

/// The messages in what is sent at once.
pub(super) fn split(frames: &[Bytes]) -> Vec<Vec<Bytes>> {
    match read(frames) {
        Some(Header { command: Command::Batch, layout }) => {
            let mut messages: Vec<_> = layout.messages(&frames[0]).map(|message| vec![message]).collect();
            if messages.is_empty() {
                messages.push(frames.to_vec());
            }
            messages
        }
        _ => vec![frames.to_vec()],
    }
}

pub(super) fn read(frames: &[Bytes]) -> Option<Header<'_>> {
    let header = frames.first().filter(|header| mdpx::is_header(header))?;
    mdpx::read(header, frames.len() - 1).ok()
}

impl<'a> Ledger<'a> {
    pub(super) fn new(
        asks: Vec<Option<Asking<'a>>>,
        allowed: Allowed,
        setting: &'a BrokerSetting,
        sessions: usize,
    ) -> Ledger<'a> {
        Ledger {
            asks,
            failure: None,
            allowed,
            setting,
            books: (0..sessions).map(|_| Book::default()).collect(),
            hands: Vec::new(),
            registered: Vec::new(),
            older: Vec::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            leaving: Vec::new(),
            input: 0,
            before: Before::default(),
        }
    }

    /// Takes note of the first promise that is not kept.
    pub(super) fn hold(&mut self, kept: bool, promise: &'static str, detail: impl FnOnce() -> String) {
        if !kept && self.failure.is_none() {
            self.failure = Some(Failure { promise, detail: detail() });
        }
    }

    pub(super) fn asking(&mut self, id: usize) -> Option<&mut Asking<'a>> {
        self.asks.get_mut(id)?.as_mut()
    }

    pub(super) fn asks(&self) -> impl Iterator<Item = &Asking<'a>> {
        self.asks.iter().flatten()
    }

    /// The broker has died: another one knows nothing.
    pub(super) fn begin_anew(&mut self) {
        self.books.iter_mut().for_each(|book| *book = Book::default());
        for link in std::mem::take(&mut self.registered) {
            if let Some(hand) = &mut self.hands[link] {
                hand.is_registered = false;
                hand.held.clear();
            }
        }
        for asking in self.asks.iter_mut().flatten() {
            if asking.hand.take().is_some() || (asking.delivered > 0 && asking.outcome.is_none()) {
                asking.orphaned += asking.delivered;
            }
            (asking.arrivals, asking.delivered, asking.part_said) = (0, 0, false);
        }
        self.older.clear();
        self.before = Before::default();
    }

    /// The connections of all workers and sessions that the broker knows.
    pub(super) fn partners(&self) -> Vec<Link> {
        let sessions = self.books.iter().filter(|book| book.is_welcome).filter_map(|book| book.link);
        self.registered.iter().copied().chain(sessions).collect()
    }

    /// The broker gets something.
    pub(super) fn begin_input(&mut self) {
        self.input += 1;
        self.asked.clear();
        self.answered.clear();
    }

    /// The broker gets this of a client of MDPX. `ids` names its requests.
    pub(super) fn of_session(&mut self, now: Moment, session: usize, link: Link, frames: &[Bytes], ids: &[usize]) {
        let Some(header) = read(frames) else { return };
        let id_of = |number: u64| ids.get(number.checked_sub(1)? as usize).copied();
        let book = &mut self.books[session];
        if matches!(header.command, Command::Hello { .. }) {
            book.detach();
            book.link = Some(link);
        }
        if book.link != Some(link) {
            return;
        }
        match header.command {
            Command::Request { number, .. } if book.is_welcome => {
                let Some(id) = id_of(number) else { return };
                book.open.push(id);
                self.asked.push(id);
                let is_new = number > book.highest;
                book.highest = book.highest.max(number);
                // One that was asked again over an older protocol may come after that: then it is another request, too.
                if self.asks[id].as_ref().is_some_and(|asking| asking.arrivals == 0 || (asking.older && is_new)) {
                    self.arrives(now, id);
                }
            }
            Command::Cancel { number } => {
                let Some(id) = id_of(number) else { return };
                book.end(id);
                if self.asked.contains(&id) {
                    // Its outcome may have been said before the broker came to this.
                    book.carried.push(id);
                }
            }
            Command::Disconnect { .. } => *book = Book::default(),
            _ => {}
        }
    }

    /// The broker says this to a client of MDPX.
    pub(super) fn told_session(&mut self, session: usize, link: Link, frames: &[Bytes], ids: &[usize]) {
        let Some(header) = read(frames) else { return };
        let book = &mut self.books[session];
        if book.link != Some(link) {
            return;
        }
        let number = match header.command {
            Command::ClientWelcome { resumed, .. } => {
                book.is_welcome = true;
                if !resumed {
                    book.carried.clear();
                    book.highest = 0;
                    // What it asked before is not known here any more.
                    for id in ids {
                        if let Some(asking) = self.asking(*id).filter(|asking| !asking.older) {
                            (asking.hand, asking.arrivals, asking.delivered) = (None, 0, 0);
                        }
                    }
                }
                return;
            }
            Command::Disconnect { .. } => return *book = Book::default(),
            Command::Partial { number, .. } => {
                let id = number.checked_sub(1).and_then(|at| ids.get(at as usize)).copied();
                let fine = id.is_some_and(|id| book.open.contains(&id) || book.carried.contains(&id));
                return self.hold(fine, "parts come before the outcome", || format!("part of {id:?}"));
            }
            Command::Final { number, .. } | Command::Error { number, .. } => number,
            _ => return,
        };
        let Some(id) = number.checked_sub(1).and_then(|at| ids.get(at as usize)).copied() else {
            return self.hold(false, "every outcome is of a request", || format!("outcome of {number}"));
        };
        let was_open = book.end(id);
        self.hold(was_open, "the broker says one outcome of a request", || format!("another one of {id}"));
        if let (Command::Error { .. }, Some(asking)) = (&header.command, self.asking(id)) {
            asking.spent = asking.delivered;
        }
        if let Command::Final { .. } = header.command {
            let body: Message = header.layout.into_message(frames[0].clone(), frames[1..].iter().cloned());
            self.said_final(id, body.first().unwrap_or_default());
        }
    }

    /// Only who holds a request answers it, and questions are answered by what is true.
    fn said_final(&mut self, id: usize, first: &[u8]) {
        let Some(asking) = self.asks.get(id).and_then(Option::as_ref) else { return };
        let is_question = asking.ask.kind == Kind::Question;
        if !is_question {
            let fine = self.answered.contains(&id) || self.asked.contains(&id);
            return self
                .hold(fine, "an answer counts only from the holder of the delivery", || format!("answer of {id}"));
        }
        if asking.first_input != self.input {
            // One that comes again is answered by what was true then.
            return;
        }
        let is_served = asking.was_served;
        let expected: &[u8] = if is_served { b"200" } else { b"404" };
        self.hold(first == expected, "mmi.service says what is true", || {
            format!("{} of a service that is served: {is_served}", String::from_utf8_lossy(first))
        });
    }

    /// The process is dead: nobody hears what the broker says to it.
    pub(super) fn forget_session(&mut self, session: usize) {
        self.books[session] = Book::default();
    }

    /// The broker gets this of a client of MDP.
    pub(super) fn of_older(&mut self, now: Moment, frames: &[Bytes]) {
        let Some(id) = frames.last().and_then(|frame| number_of(frame)) else { return };
        self.asked.push(id);
        self.arrives(now, id);
        if let Some(asking) = self.asking(id) {
            (asking.delivered, asking.part_said) = (0, false);
        }
    }

    /// A request is another one for the broker.
    fn arrives(&mut self, now: Moment, id: usize) {
        let input = self.input;
        let Some(service) = self.asks.get(id).and_then(Option::as_ref).map(|asking| asking.service) else { return };
        let hands = self.registered.iter().filter_map(|link| self.hand_of(*link));
        let was_served = hands.into_iter().any(|hand| hand.service == service && !hand.is_draining);
        if let Some(asking) = self.asking(id) {
            asking.arrivals += 1;
            (asking.arrived, asking.first_input, asking.was_served) = (now, input, was_served);
        }
    }

    /// The broker has taken in what a client of MDP asked.
    pub(super) fn took_in(&mut self, link: Link) {
        if let Some(id) = self.asked.first() {
            self.older.push((*id, link));
        }
    }

    /// The broker says this to a client of MDP.
    pub(super) fn told_older(&mut self, version: Version, link: Link, frames: &[Bytes]) {
        let Ok(reply) = mdp::read_to_client(version, frames.to_vec()) else { return };
        if reply.service == "mmi.protocols" {
            return;
        }
        if reply.service == "mmi.service" {
            if let Some(id) = self.asked.first().copied() {
                self.said_final(id, reply.body.first().map_or(&[], |frame| &frame[..]));
            }
            return;
        }
        let Some(at) = self.older.iter().position(|(_, open)| *open == link) else {
            return self.hold(false, "the broker says one outcome of a request", || format!("on connection {link}"));
        };
        let id = self.older[at].0;
        if reply.part == Part::Final {
            self.older.swap_remove(at);
            let fine = self.answered.contains(&id);
            self.hold(fine, "an answer counts only from the holder of the delivery", || format!("answer of {id}"));
        } else if let Some(asking) = self.asking(id) {
            asking.part_said = true;
        }
    }

    /// The broker learns that a connection is closed.
    pub(super) fn gone(&mut self, link: Link) {
        self.unregister(link);
        if let Some(book) = self.books.iter_mut().find(|book| book.link == Some(link)) {
            book.detach();
        }
        self.older.retain(|(_, open)| *open != link);
    }
}

impl Book {
    /// The connection is no more.
    fn detach(&mut self) {
        (self.link, self.is_welcome) = (None, false);
        self.carried.append(&mut self.open);
    }

    /// The request is over; whether it was not before.
    fn end(&mut self, id: usize) -> bool {
        let before = self.open.len() + self.carried.len();
        self.open.retain(|open| *open != id);
        self.carried.retain(|open| *open != id);
        self.open.len() + self.carried.len() < before
    }
}
