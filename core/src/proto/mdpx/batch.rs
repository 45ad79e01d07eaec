//! Several messages in one.

use bytes::{Buf, Bytes};

use crate::message::Message;

use super::body::unpack;
use super::read::{Header, is_header, read};
use super::write::{pack, packed_len, write};
use super::{Command, MAGIC, PACK_LIMIT, code};

/// A message of several takes at most so many bytes.
pub const MAX_BATCH: usize = 16 << 10;
/// So many at most go out together: enough that their number costs little, and so few that the receiver works on them
/// while the next are made.
pub const MAX_TOGETHER: usize = 128;

/// Whether a message may be one of several in a BATCH: it is one frame, of moderate size, and no BATCH itself.
pub fn may_join<F: AsRef<[u8]>>(message: &[F]) -> bool {
    match message {
        [header] => {
            let header = header.as_ref();
            header.len() <= PACK_LIMIT && is_header(header) && header[MAGIC.len()] != code::BATCH
        }
        _ => false,
    }
}

/// Length of a BATCH without messages.
pub const BATCH_HEADER: usize = MAGIC.len() + 2;

/// Calls `see` with what a header frame says, or with what each message of a BATCH says.
pub fn each_message<'a>(header: &'a [u8], followers: usize, mut see: impl FnMut(Command<'a>)) {
    match read(header, followers) {
        Ok(Header { command: Command::Batch, layout }) => {
            let messages = unpack(layout.packed(header).unwrap_or_default());
            messages.filter_map(|message| read(message, 0).ok()).for_each(|message| see(message.command));
        }
        Ok(Header { command, .. }) => see(command),
        Err(_) => {}
    }
}

/// The messages of a BATCH, or the message itself.
#[cfg(test)]
pub(crate) fn each_alone(message: Vec<Bytes>) -> std::vec::IntoIter<Vec<Bytes>> {
    let messages: Vec<_> = match read(&message[0], message.len() - 1) {
        Ok(Header { command: Command::Batch, layout }) => layout.messages(&message[0]).map(|one| vec![one]).collect(),
        _ => vec![message],
    };
    messages.into_iter()
}

/// Begins a BATCH in `out`; [`pack`] appends messages to it.
pub fn begin_batch(out: &mut Vec<u8>) {
    out.clear();
    write(out, &Command::Batch, &[]);
}

/// Small messages that go out as one. Each is written where it stays.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// A BATCH with all of them.
    bytes: Vec<u8>,
    count: usize,
    /// How much the last one took: about as much memory is taken for the next.
    last: usize,
}

/// The length of a frame in a BATCH.
const LENGTH: usize = 4;
/// The longest fields that a command with a body has: those of REQUEST and DELIVER.
const MAX_FIELDS: usize = 320;

impl Gathered {
    /// Whether a message with this body is small enough to be gathered.
    pub(crate) fn fits(body: &Message) -> bool {
        packed_len(body.frames()) + body.properties().block().len() + MAX_FIELDS <= PACK_LIMIT
    }

    /// Adds a message; see [`Gathered::fits`]. Gives out what had no room for it.
    pub(crate) fn add(&mut self, command: &Command<'_>, body: Option<&Message>) -> Option<Vec<Bytes>> {
        let size = MAX_FIELDS + body.map_or(0, |body| packed_len(body.frames()) + body.properties().block().len());
        let is_full = self.count >= MAX_TOGETHER || self.bytes.len() + LENGTH + size > MAX_BATCH;
        let full = if is_full { self.take() } else { None };
        if self.count == 0 {
            self.bytes.reserve(self.last.max(BATCH_HEADER + LENGTH + size));
            begin_batch(&mut self.bytes);
            pack::<&[u8]>(&mut self.bytes, 0, &[]);
        }
        let start = self.bytes.len() + LENGTH;
        self.bytes.extend_from_slice(&[0; LENGTH]);
        write(&mut self.bytes, command, body.map_or(&[], |body| body.properties().block()));
        if let Some(body) = body {
            pack(&mut self.bytes, start, body.frames());
        }
        let length = u32::try_from(self.bytes.len() - start).unwrap_or_default();
        self.bytes[start - LENGTH..start].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
        full
    }

    /// All that was gathered, as one message. One alone travels as itself.
    pub(crate) fn take(&mut self) -> Option<Vec<Bytes>> {
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return None;
        }
        self.last = self.bytes.len();
        let mut message = Bytes::from(std::mem::take(&mut self.bytes));
        if count == 1 {
            message.advance(BATCH_HEADER + LENGTH);
        }
        Some(vec![message])
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}
