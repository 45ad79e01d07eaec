//! What an onlooker at the broker's side sees of MDPX: who owes what, by the frames alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use majordomo::Message;
use majordomo::proto::mdpx::{self, Command, Header};

use crate::network::Link;

#[derive(Default)]
pub(crate) struct Ledger {
    /// By the index of the session's peer.
    books: BTreeMap<usize, Books>,
    hands: BTreeMap<Link, Hand>,
}

/// A client's account at the broker.
#[derive(Default)]
struct Books {
    link: Option<Link>,
    open: BTreeSet<u64>,
}

/// A worker's connection.
#[derive(Default)]
struct Hand {
    capacity: usize,
    /// Deliveries that the broker has not seen answered.
    held: BTreeSet<u64>,
    /// Deliveries that the worker has got and not answered.
    given: BTreeSet<u64>,
}

/// The messages in what is sent at once.
pub(crate) fn split(frames: &[Bytes]) -> Vec<Vec<Bytes>> {
    match read(frames) {
        Some(Header { command: Command::Batch, layout }) => {
            layout.messages(&frames[0]).map(|message| vec![message]).collect()
        }
        _ => vec![frames.to_vec()],
    }
}

fn read(frames: &[Bytes]) -> Option<Header<'_>> {
    let header = frames.first().filter(|header| mdpx::is_header(header))?;
    Some(mdpx::read(header, frames.len() - 1).expect("our own machines say nothing malformed"))
}

impl Ledger {
    /// The broker is another one: it knows nothing.
    pub(crate) fn begin_anew(&mut self) {
        self.books.clear();
        self.hands.values_mut().for_each(|hand| hand.held.clear());
    }

    /// The broker gets this of a client.
    pub(crate) fn of_session(&mut self, session: usize, link: Link, frames: &[Bytes]) {
        let Some(header) = read(frames) else { return };
        let books = self.books.entry(session).or_default();
        if matches!(header.command, Command::Hello { .. }) {
            books.link = Some(link);
        }
        if books.link != Some(link) {
            return;
        }
        match header.command {
            Command::Request { number, .. } => {
                books.open.insert(number);
            }
            Command::Cancel { number } => {
                books.open.remove(&number);
            }
            Command::Disconnect { .. } => books.open.clear(),
            _ => {}
        }
    }

    /// The broker says this to a client.
    pub(crate) fn told_session(&mut self, session: usize, link: Link, frames: &[Bytes]) {
        let Some(header) = read(frames) else { return };
        let Some(books) = self.books.get_mut(&session).filter(|books| books.link == Some(link)) else { return };
        match header.command {
            Command::ClientWelcome { resumed: false, .. } => books.open.clear(),
            Command::Final { number, .. } | Command::Error { number, .. } => {
                books.open.remove(&number);
            }
            _ => {}
        }
    }

    /// The broker gets this of a worker.
    pub(crate) fn of_worker(&mut self, seed: u64, link: Link, frames: &[Bytes]) {
        let Some(header) = read(frames) else { return };
        let hand = self.hands.entry(link).or_default();
        match header.command {
            Command::Ready { capacity, .. } => hand.capacity = capacity as usize,
            Command::WorkerFinal { delivery, .. }
            | Command::WorkerError { delivery, .. }
            | Command::Return { delivery } => {
                hand.held.remove(&delivery);
            }
            Command::Disconnect { kind, text } => assert_eq!(kind, 0, "seed {seed}: a worker complains: {text}"),
            _ => {}
        }
    }

    /// The broker says this to a worker; gives the text of the request, if it is one.
    pub(crate) fn told_worker(&mut self, link: Link, frames: &[Bytes]) -> Option<String> {
        let Some(header) = read(frames) else {
            // The body is the end of a message of the older protocols.
            return frames.last().map(|frame| String::from_utf8_lossy(frame).into_owned());
        };
        let Command::Deliver { delivery, .. } = header.command else { return None };
        self.hands.entry(link).or_default().held.insert(delivery);
        let body: Message = header.layout.into_message(frames[0].clone(), frames[1..].iter().cloned());
        body.first().map(|frame| String::from_utf8_lossy(frame).into_owned())
    }

    /// A worker gets this.
    pub(crate) fn at_worker(&mut self, link: Link, frames: &[Bytes]) {
        if let Some(Header { command: Command::Deliver { delivery, .. }, .. }) = read(frames) {
            self.hands.entry(link).or_default().given.insert(delivery);
        }
    }

    /// A worker says this: only who holds a delivery answers it, and only once.
    pub(crate) fn by_worker(&mut self, seed: u64, link: Link, frames: &[Bytes]) {
        let Some(header) = read(frames) else { return };
        let hand = self.hands.entry(link).or_default();
        let holds = match header.command {
            Command::WorkerPartial { delivery, .. } => hand.given.contains(&delivery),
            Command::WorkerFinal { delivery, .. }
            | Command::WorkerError { delivery, .. }
            | Command::Return { delivery } => hand.given.remove(&delivery),
            _ => true,
        };
        assert!(holds, "seed {seed}: a delivery is answered by the wrong hand, or twice: {:?}", header.command);
    }

    /// Nobody has more than was granted.
    pub(crate) fn check(&self, seed: u64, credit: usize) {
        for (session, books) in &self.books {
            let open = books.open.len();
            assert!(open <= credit, "seed {seed}: session {session} has {open} requests outstanding of {credit}");
        }
        for hand in self.hands.values() {
            let (held, capacity) = (hand.held.len(), hand.capacity);
            assert!(held <= capacity, "seed {seed}: a worker of capacity {capacity} holds {held}");
        }
    }

    /// What the worker on this connection still owes.
    pub(crate) fn owed(&self, link: Link) -> usize {
        self.hands.get(&link).map_or(0, |hand| hand.given.len())
    }
}
