//! Several messages in one.

use std::collections::VecDeque;

use bytes::Bytes;

use super::body::unpack;
use super::read::{Header, is_header, read};
use super::write::{pack, packed_len, write};
use super::{Command, MAGIC, PACK_LIMIT, code};

/// A message of several takes at most so many bytes.
pub const MAX_BATCH: usize = 32 << 10;

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

/// Begins a BATCH in `out`; [`pack`] appends messages to it.
pub fn begin_batch(out: &mut Vec<u8>) {
    out.clear();
    write(out, &Command::Batch, &[]);
}

/// Makes one message of the first ones that wait, where there are several that may be joined.
pub fn join_first(waiting: &mut VecDeque<Vec<Bytes>>) {
    if waiting.len() < 2 {
        return;
    }
    let mut count = 0;
    let mut size = 0;
    for message in waiting.iter().take_while(|message| may_join(message)) {
        size += packed_len(message);
        if size > MAX_BATCH {
            break;
        }
        count += 1;
    }
    if count < 2 {
        return;
    }
    let mut batch = Vec::with_capacity(size.min(MAX_BATCH) + 8);
    begin_batch(&mut batch);
    for message in waiting.drain(..count) {
        pack(&mut batch, 0, &message);
    }
    waiting.push_front(vec![batch.into()]);
}
