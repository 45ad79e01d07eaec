//! A pipe with one byte in it, or none.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use crate::error::Result;

use super::socket::io_error;

#[derive(Debug)]
pub(super) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// `BrokerUnreachable` without free descriptors.
    pub(super) fn new() -> Result<Pipe> {
        let (reader, writer) = io::pipe().map_err(|error| io_error("no pipe could be opened", &error))?;
        Ok(Pipe { reader, writer })
    }

    /// Puts the byte into the pipe, which is empty, so that this neither waits nor fails.
    pub(super) fn put(&self) {
        let _ = (&self.writer).write_all(&[1]);
    }

    /// Waits for the byte and takes it out.
    pub(super) fn take(&self) {
        let _ = (&self.reader).read(&mut [0]);
    }

    /// Readable while the byte is in the pipe.
    pub(super) fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}
