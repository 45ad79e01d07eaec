//! A command line, and the bodies in it.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use majordomo::{Message, Properties};
use serde_json::{Map, Value};

/// Why a command is closed with something other than its result.
pub(crate) enum Problem {
    /// The library ended the call with an error of its table.
    Library(majordomo::Error),
    /// The agent cannot carry the command out.
    Failed(String),
}

impl From<majordomo::Error> for Problem {
    fn from(error: majordomo::Error) -> Self {
        Self::Library(error)
    }
}

/// One flat JSON object.
pub(crate) struct Command(Map<String, Value>);

impl Command {
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        serde_json::from_str(line).map(Self).map_err(|error| error.to_string())
    }

    pub(crate) fn id(&self) -> u64 {
        self.number("id").unwrap_or_default()
    }

    pub(crate) fn is(&self, cmd: &str) -> bool {
        self.text("cmd").is_ok_and(|found| found == cmd)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Problem> {
        self.0.get(key).and_then(Value::as_str).ok_or_else(|| Problem::Failed(format!("no text {key:?}")))
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    /// A number that fits the type it is for.
    pub(crate) fn count<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        T::try_from(self.number(key)?).ok()
    }

    pub(crate) fn millis(&self, key: &str) -> Option<Duration> {
        self.number(key).map(Duration::from_millis)
    }

    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<T, Problem> {
        self.text(key)?.parse().map_err(|error: T::Err| Problem::Failed(error.to_string()))
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(crate) fn is_async(&self) -> bool {
        self.text("style").is_ok_and(|style| style == "async")
    }

    /// The body, given in base64 or to be made here, with its properties.
    pub(crate) fn body(&self) -> Result<Message, Problem> {
        let frames = match self.list("body")? {
            Some(frames) => frames.into_iter().map(decoded).collect::<Result<_, Problem>>()?,
            None => {
                let (frames, size) = (self.number("frames").unwrap_or(1), self.count("size").unwrap_or(0));
                let seed = self.number("seed").unwrap_or(0);
                (0..frames).map(|k| made_frame(size, seed, k)).collect()
            }
        };
        let mut properties = Properties::new();
        for property in self.list("properties")?.unwrap_or_default().chunks_exact(2) {
            properties.set(property[0], decoded(property[1])?)?;
        }
        Ok(Message::from_frames(frames).with_properties(properties))
    }

    /// An array of texts.
    fn list(&self, key: &str) -> Result<Option<Vec<&str>>, Problem> {
        let Some(list) = self.0.get(key) else { return Ok(None) };
        let texts = list.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| Problem::Failed(format!("{key}: not a list of texts")))
    }
}

fn decoded(base64: &str) -> Result<Bytes, Problem> {
    STANDARD.decode(base64).map(Bytes::from).map_err(|error| Problem::Failed(error.to_string()))
}

/// Byte `i` of frame `k` is `(seed + k + i mod 251) mod 256`.
pub(crate) fn made_frame(size: usize, seed: u64, k: u64) -> Bytes {
    let period: Vec<u8> = (0..251).map(|i| ((seed + k + i) % 256) as u8).collect();
    period.into_iter().cycle().take(size).collect::<Vec<u8>>().into()
}

/// Things that a test opened under a name of its choice.
pub(crate) struct Named<T>(Mutex<HashMap<String, T>>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Named<T> {
    pub(crate) fn put(&self, name: &str, thing: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), thing);
    }

    pub(crate) fn get(&self, name: &str) -> Result<T, Problem> {
        let things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        things.get(name).cloned().ok_or_else(|| Problem::Failed(format!("nothing is named {name:?}")))
    }

    pub(crate) fn take(&self, name: &str) -> Result<T, Problem> {
        let thing = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        thing.ok_or_else(|| Problem::Failed(format!("nothing is named {name:?}")))
    }

    pub(crate) fn take_all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain().map(|(_, thing)| thing).collect()
    }
}
