//! Clients driven as their drivers would drive them, and the account of their outcomes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use majordomo::proto::client::{Client, ClientConfig, ClientOutput, ReplyMode};
use majordomo::{ClientOptions, Error, Message, Protocol, RequestOptions};

use crate::network::{Link, Plan, Random};
use crate::world::{Owner, SERVICES, World};

/// A client with its connection, its requests and their outcomes.
pub(crate) struct ClientPeer {
    pub(crate) machine: Client,
    pub(crate) mode: ReplyMode,
    pub(crate) link: Option<Link>,
    /// Frames that wait for a broker to take them.
    pub(crate) unsent: Option<Vec<Bytes>>,
    pub(crate) asked: u64,
    /// Text of the request under way.
    pub(crate) current: Option<String>,
    pub(crate) parts: Vec<Bytes>,
    pub(crate) outcomes: BTreeMap<u64, Vec<bool>>,
    /// The session and the number whose request this is, where the client was made for a single one.
    pub(crate) owner: Option<(usize, u64)>,
}

impl ClientPeer {
    pub(crate) fn new(machine: Client, mode: ReplyMode) -> ClientPeer {
        ClientPeer {
            machine,
            mode,
            link: None,
            unsent: None,
            asked: 0,
            current: None,
            parts: Vec::new(),
            outcomes: BTreeMap::new(),
            owner: None,
        }
    }

    pub(crate) fn random(random: &mut Random, once: bool) -> ClientPeer {
        let options = ClientOptions::new("tcp://broker:1")
            .protocol(if random.chance(50) { Protocol::V01 } else { Protocol::V02 })
            .timeout(Duration::from_secs(4))
            .retries(if once { 1 } else { 30 })
            .deadline(Duration::from_secs(90));
        let mode = if random.chance(50) { ReplyMode::Whole } else { ReplyMode::Parts };
        ClientPeer::new(Client::new(ClientConfig::from(&options)), mode)
    }
}

impl World {
    pub(crate) fn ask(&mut self, index: usize) {
        let now = self.clock.instant(self.now);
        let client = &mut self.clients[index];
        if !client.machine.is_idle() {
            let later = self.now + self.random.millis(10, 200);
            self.network.plan(later, Plan::Ask(index));
            return;
        }
        client.asked += 1;
        let kind = if self.random.chance(10) { "fail" } else { "echo" };
        let text = format!("{kind} {index}/{}", client.asked);
        let service = format!("s{}", self.random.below(SERVICES));
        client.current = Some(text.clone());
        client.parts.clear();
        let result = client.machine.start(now, &service, Message::from(text), &RequestOptions::default(), client.mode);
        assert!(result.is_ok(), "seed {}: {result:?}", self.seed);
        self.drive_client(index);
    }

    pub(crate) fn drive_client(&mut self, index: usize) {
        while let Some(output) = self.clients[index].machine.poll_output() {
            match output {
                ClientOutput::Connect { .. } | ClientOutput::Close => {
                    if let Some(link) = self.clients[index].link.take() {
                        self.network.close(self.now, link, &mut self.random, false);
                    }
                    self.clients[index].unsent = None;
                }
                ClientOutput::Send(frames) => self.clients[index].unsent = Some(frames),
                ClientOutput::Partial(body) => self.clients[index].parts.extend(body),
                ClientOutput::Done(outcome) => self.on_outcome(index, outcome),
            }
        }
        self.flush_client(index);
    }

    /// A connection comes up as soon as there is a broker, and takes what waits for it.
    pub(crate) fn flush_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if self.broker.is_none() || client.unsent.is_none() {
            return;
        }
        let link = *client.link.get_or_insert_with(|| self.network.open());
        self.owners.insert(link, Owner::Client(index));
        if let Some(frames) = client.unsent.take() {
            self.network.send_to_broker(self.now, link, frames, &mut self.random);
            client.machine.handle_sent(self.clock.instant(self.now));
        }
    }

    fn on_outcome(&mut self, index: usize, outcome: Result<Message, Error>) {
        let seed = self.seed;
        let client = &mut self.clients[index];
        let text = client.current.take().expect("an outcome belongs to a request");
        if let Some((session, number)) = client.owner {
            let mut frames = std::mem::take(&mut client.parts);
            let outcome = outcome.map(|last| {
                frames.extend(last);
                Message::from_frames(frames)
            });
            return self.on_session_outcome(session, number, outcome);
        }
        match &outcome {
            Ok(last) => {
                let mut frames = std::mem::take(&mut client.parts);
                frames.extend(last.clone());
                assert_eq!(frames.last().map(|f| &f[..]), Some(text.as_bytes()), "seed {seed}: the right answer");
                assert!(frames.len() <= 3, "seed {seed}: one stream, not the pieces of two: {frames:?}");
            }
            Err(error) => {
                if let Some(failure) = error.service_error() {
                    assert_eq!((failure.code, &failure.text), (418, &text), "seed {seed}: the right failure");
                } else {
                    assert!(error.is_retryable(), "seed {seed}: {error:?}");
                    self.broken_streams += usize::from(!client.parts.is_empty());
                }
            }
        }
        let answered = outcome.as_ref().map_or_else(|error| error.service_error().is_some(), |_| true);
        let number = client.asked;
        client.outcomes.entry(number).or_default().push(answered);
    }
}
