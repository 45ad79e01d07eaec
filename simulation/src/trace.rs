//! What happens in a world, told for people, or as a digest.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use majordomo::proto::mdpx;

use super::ledger::split;
use super::network::{Event, Owner};
use super::world::World;

impl World<'_> {
    /// Takes note of an event, where somebody wants to know.
    pub(super) fn tell(&mut self, event: &Event) {
        if self.told.is_none() && self.digest.is_none() {
            return;
        }
        if let Some(digest) = &mut self.digest {
            let mut hasher = DefaultHasher::new();
            (*digest, self.now).hash(&mut hasher);
            match event {
                Event::ToBroker(link, frames) => (1, link, frames).hash(&mut hasher),
                Event::ToPeer(link, frames) => (2, link, frames).hash(&mut hasher),
                Event::BrokerSeesClose(link) => (3, link).hash(&mut hasher),
                Event::PeerSeesClose(link) => (4, link).hash(&mut hasher),
                _ => {}
            }
            *digest = hasher.finish();
        }
        if self.told.is_some() {
            let line = format!("{:>12.3} ms  {}", self.now as f64 / 1e6, self.describe(event));
            self.told.iter_mut().for_each(|told| told.push(line.clone()));
        }
    }

    fn describe(&self, event: &Event) -> String {
        let who = |link: usize| match self.network.owner(link) {
            Owner::Older(index) => format!("client {} (connection {link})", self.olders[index].client),
            Owner::Session(index) => {
                let client = self.clients.iter().position(|client| *client == Owner::Session(index));
                format!("client {} (connection {link})", client.unwrap_or(0))
            }
            Owner::Worker(index) => format!("worker {index} (connection {link})"),
        };
        match event {
            Event::ToBroker(link, frames) => format!("{} -> broker: {}", who(*link), words(frames)),
            Event::ToPeer(link, frames) => format!("broker -> {}: {}", who(*link), words(frames)),
            Event::BrokerSeesClose(link) => format!("the broker sees the end of {}", who(*link)),
            Event::PeerSeesClose(link) => format!("{} sees the connection's end", who(*link)),
            Event::Act(index) => {
                format!("## {}", serde_json::to_string(&self.script.acts[*index].act).unwrap_or_default())
            }
            other => format!("## {other:?}"),
        }
    }
}

fn words(frames: &[Bytes]) -> String {
    let mut text = String::new();
    for message in split(frames) {
        let header = message.first().filter(|header| mdpx::is_header(header));
        match header.and_then(|header| mdpx::read(header, message.len() - 1).ok()) {
            Some(read) => {
                let _ = write!(text, "{:?}; ", read.command);
            }
            None => message.iter().for_each(|frame| {
                let _ = write!(text, "[{}] ", frame.escape_ascii());
            }),
        }
    }
    text
}
