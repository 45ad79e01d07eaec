//! An input, read choice by choice. One that has ended goes on with zeros.

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::Unstructured;
use majordomo::{Message, Properties};

/// The rest of an input.
pub struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(Unstructured::new(bytes))
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn u16(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn u32(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn u64(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.u8()) % limit.max(1)
    }

    /// One of these.
    pub fn pick<'b, T>(&mut self, of: &'b [T]) -> Option<&'b T> {
        let at = self.below(of.len());
        of.get(at)
    }

    /// So many bytes, or what is left.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let length = length.min(self.0.len());
        self.0.bytes(length).unwrap_or_default()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// Frames: their number in one byte, and each with its length in two.
    pub fn frames(&mut self) -> Vec<Bytes> {
        let count = self.u8();
        let mut frames = Vec::new();
        for _ in 0..count {
            let length = usize::from(self.u16());
            frames.push(Bytes::copy_from_slice(self.bytes(length)));
        }
        frames
    }

    /// A body: some frames, small or large, and some properties.
    pub fn message(&mut self) -> Message {
        let kind = self.u8();
        let mut frames: Vec<Bytes> = Vec::new();
        for _ in 0..kind % 4 {
            let length = match self.u8() {
                length @ 0..200 => usize::from(length),
                length @ 200..240 => usize::from(length) * 20,
                length => usize::from(length) * 300,
            };
            frames.push(vec![b'x'; length].into());
        }
        let mut properties = Properties::new();
        if kind & 4 != 0 {
            let key = [b'k', b'0' + self.u8() % 3];
            properties.set(Properties::IDEMPOTENCY_KEY, key).expect("a short property");
        }
        if kind & 8 != 0 {
            let length = usize::from(self.u16()) % (60 << 10);
            let _ = properties.set("other", vec![0; length]);
        }
        Message::from_frames(frames).with_properties(properties)
    }

    /// A step in time: often none or a little, now and then hours.
    pub fn step(&mut self) -> Duration {
        match self.u8() {
            0..64 => Duration::ZERO,
            ms @ 64..192 => Duration::from_millis(u64::from(ms - 63)),
            tenths @ 192..250 => Duration::from_millis(u64::from(tenths - 191) * 100),
            minutes => Duration::from_secs(u64::from(minutes - 249) * 600),
        }
    }
}
