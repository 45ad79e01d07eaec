//! A pipe of the model's kernel.

use std::os::fd::RawFd;

use majordomo::Result;

use crate::kernel;

#[derive(Debug)]
pub(crate) struct Pipe(RawFd);

impl Pipe {
    pub(crate) fn new() -> Result<Pipe> {
        Ok(Pipe(kernel::open()))
    }

    pub(crate) fn put(&self) {
        assert!(!kernel::write(self.0), "the pipe is empty when a byte is written");
    }

    pub(crate) fn take(&self) {
        kernel::read(self.0);
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0
    }
}
