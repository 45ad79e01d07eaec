//! Memory of what is over, for what comes next: requests come and go in batches, and the allocator would be asked for each.

use crate::proto::frame::Frame;

use super::request::Request;

/// The memory of so many requests, and of so many bodies, is kept.
const MAX_SPARE: usize = 1024;
/// A body or an outcome of more bytes has memory of its own.
const MAX_BYTES: usize = 256;
/// Buffers are as large as their bytes, rounded up to a multiple of this, so that they fit many bodies.
const GRAIN: usize = 64;

#[derive(Debug)]
pub(super) struct Spare<F> {
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    requests: Vec<Box<Request<F>>>,
    buffers: Buffers,
}

/// Memory of small bodies and outcomes.
#[derive(Debug, Default)]
pub(super) struct Buffers(Vec<Vec<u8>>);

impl<F> Default for Spare<F> {
    fn default() -> Self {
        Spare { requests: Vec::new(), buffers: Buffers::default() }
    }
}

impl<F: Frame> Spare<F> {
    pub(super) fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// A place for a request, with it.
    pub(super) fn request(&mut self, request: Request<F>) -> Box<Request<F>> {
        match self.requests.pop() {
            Some(mut spare) => {
                *spare = request;
                spare
            }
            None => Box::new(request),
        }
    }

    /// A request is over.
    pub(super) fn take_back(&mut self, mut request: Box<Request<F>>) {
        if let Some(buffer) = request.body.take_buffer() {
            self.buffers.take_back(buffer);
        }
        if self.requests.len() < MAX_SPARE {
            request.joined = None;
            self.requests.push(request);
        }
    }
}

impl Buffers {
    /// An empty buffer that takes so many bytes.
    pub(super) fn get(&mut self, size: usize) -> Vec<u8> {
        if size > MAX_BYTES {
            return Vec::with_capacity(size);
        }
        let mut buffer = self.0.pop().unwrap_or_default();
        buffer.reserve_exact(size.next_multiple_of(GRAIN));
        buffer
    }

    /// A buffer has served.
    pub(super) fn take_back(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < MAX_SPARE && (1..=MAX_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_serve_again_and_neither_large_nor_too_many_are_kept() {
        let mut buffers = Buffers::default();
        let mut buffer = buffers.get(10);
        buffer.extend_from_slice(b"0123456789");
        let place = buffer.as_ptr();
        buffers.take_back(buffer);
        let again = buffers.get(GRAIN);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        for size in [0, 1, GRAIN, GRAIN + 1, MAX_BYTES, MAX_BYTES + 1, 1 << 20] {
            let buffer = buffers.get(size);
            assert!(buffer.is_empty() && buffer.capacity() >= size, "{size}");
            buffers.take_back(buffer);
        }
        assert!(buffers.0.iter().all(|buffer| (1..=MAX_BYTES).contains(&buffer.capacity())));
        (0..2 * MAX_SPARE).map(|_| Vec::with_capacity(MAX_BYTES)).for_each(|buffer| buffers.take_back(buffer));
        assert_eq!(buffers.0.len(), MAX_SPARE);
    }
}
