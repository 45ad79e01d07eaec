//! The codec against the golden vectors, its own limits, and chance.

use bytes::Bytes;
use serde_json::Value;

use super::read::may_have_body;
use super::*;
use crate::message::Message;
use crate::properties::{self, Properties};

/// The vectors with the frames that are well-formed or malformed.
fn golden(name: &str) -> Vec<(String, Vec<Bytes>)> {
    let path = format!("{}/../conformance/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let unhex = |hex: &Value| -> Bytes {
        let hex = hex.as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let vectors = table["vectors"].as_array().unwrap();
    let frames = |vector: &Value| vector["frames"].as_array().unwrap().iter().map(unhex).collect();
    vectors.iter().map(|vector| (vector["name"].as_str().unwrap().to_owned(), frames(vector))).collect()
}

struct Chance(u64);

impl Chance {
    /// A seed that is printed, and that `MDPX_SEED` repeats.
    fn new() -> Chance {
        let seed = std::env::var("MDPX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        println!("MDPX_SEED={seed}");
        Chance(seed)
    }

    fn bits(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    fn chance(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    /// Numbers of all magnitudes.
    fn number(&mut self) -> u64 {
        let shift = self.below(64);
        self.bits() >> shift
    }

    fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let length = self.below(longest + 1);
        (0..length).map(|_| self.bits() as u8).collect()
    }

    fn text(&mut self, longest: usize) -> String {
        let length = self.below(longest + 1);
        (0..length).map(|_| ['a', 'é', '大', ' ', '-', '🙂'][self.below(6)]).collect()
    }

    fn id(&mut self) -> [u8; 16] {
        u128::from_be_bytes([self.bits().to_be_bytes(), self.bits().to_be_bytes()].concat().try_into().unwrap())
            .to_be_bytes()
    }

    fn body(&mut self) -> Message {
        let mut properties = Properties::new();
        for index in 0..self.below(4) {
            properties.set(&format!("p{index}-{}", self.text(5)), self.bytes(20)).unwrap();
        }
        let longest = [0, 10, 300, 3000][self.below(4)];
        let frames: Vec<_> = (0..self.below(5)).map(|_| Bytes::from(self.bytes(longest))).collect();
        Message::from_frames(frames).with_properties(properties)
    }

    fn command<'a>(&mut self, service: &'a [u8], text: &'a str) -> Command<'a> {
        let failure = Failure { kind: self.bits() as u8, retryable: self.chance(), code: self.number() as u32, text };
        let (number, delivery, sequence) = (self.number(), self.number(), self.number() as u32);
        let (heartbeat_ms, liveness) = (self.number() as u32, self.bits() as u8);
        match self.below(19) {
            0 => Command::Hello { session: self.id(), secret: self.id(), heartbeat_ms, liveness },
            1 => Command::ClientWelcome {
                resumed: self.chance(),
                heartbeat_ms,
                liveness,
                credit: self.number() as u32,
                max_message: self.number(),
            },
            2 => Command::Request {
                number,
                acked: self.number(),
                ttl_ms: self.number() as u32,
                max_attempts: self.number() as u16,
                fail_fast: self.chance(),
                service,
            },
            3 => Command::Cancel { number },
            4 => Command::Ack { number },
            5 => Command::Partial { number, sequence },
            6 => Command::Final { number, sequence },
            7 => Command::Error { number, failure },
            8 => Command::Ready { capacity: self.number() as u32, heartbeat_ms, liveness, service },
            9 => Command::WorkerWelcome { heartbeat_ms, liveness, max_message: self.number() },
            10 => Command::Deliver {
                delivery,
                session: self.id(),
                number,
                ttl_ms: self.number() as u32,
                attempt: self.number() as u16,
            },
            11 => Command::WorkerCancel { delivery },
            12 => Command::Return { delivery },
            13 => Command::WorkerPartial { delivery, sequence },
            14 => Command::WorkerFinal { delivery, sequence },
            15 => Command::WorkerError { delivery, failure },
            16 => Command::Drain,
            17 => Command::Heartbeat,
            _ => Command::Disconnect { kind: self.bits() as u8, text },
        }
    }
}

fn body_of(frames: &[Bytes]) -> Message {
    let layout = read(&frames[0], frames.len() - 1).unwrap().layout;
    layout.into_message(frames[0].clone(), frames[1..].iter().cloned())
}

/// Every way of looking at what was read: none of them may fail where reading did not.
fn use_all(header: &[u8], rest: &[Bytes]) {
    let Ok(read) = read(header, rest.len()) else { return };
    let properties = read.layout.properties(header);
    assert!(Properties::from_block(properties).is_ok());
    let frames: Vec<Vec<u8>> = match read.layout.packed(header) {
        Some(packed) => unpack(packed).map(<[u8]>::to_vec).collect(),
        None => rest.iter().map(|frame| frame.to_vec()).collect(),
    };
    let message = read.layout.into_message(Bytes::copy_from_slice(header), rest.iter().cloned());
    assert!(message.iter().eq(frames.iter().map(Vec::as_slice)), "two ways to the body differ");
}

#[test]
fn every_prefix_of_every_vector_is_read_or_refused() {
    for (name, frames) in golden("mdpx1") {
        for cut in 0..=frames[0].len() {
            let header = &frames[0][..cut];
            use_all(header, &frames[1..]);
            // A packed body may end after any of its frames; everything else is needed to the last byte.
            let is_packed = frames[0][7] & PACKED != 0;
            if cut < frames[0].len() && !is_packed {
                assert!(read(header, frames.len() - 1).is_err(), "{name}: cut to {cut}");
            }
        }
    }
    for (_, frames) in golden("malformedx1") {
        for cut in 0..=frames[0].len() {
            use_all(&frames[0][..cut], &frames[1..]);
        }
    }
}

#[test]
fn random_bytes_and_damaged_vectors_are_read_or_refused() {
    let mut chance = Chance::new();
    let vectors: Vec<_> = [golden("mdpx1"), golden("malformedx1")].concat();
    for _ in 0..200_000 {
        let mut header = if chance.below(4) == 0 {
            [&MAGIC[..], &chance.bytes(80)].concat()
        } else {
            let (_, frames) = &vectors[chance.below(vectors.len())];
            frames[0][..frames[0].len().min(400)].to_vec()
        };
        for _ in 0..chance.below(4) {
            let at = chance.below(header.len().max(1));
            if let Some(byte) = header.get_mut(at) {
                *byte = [chance.bits() as u8, 0, 0xff][chance.below(3)];
            }
        }
        if chance.below(4) == 0 {
            let extra = chance.bytes(9);
            header.extend(extra);
        }
        let rest: Vec<_> = (0..chance.below(3)).map(|_| Bytes::from(chance.bytes(3))).collect();
        use_all(&header, &rest);
    }
}

#[test]
fn whatever_is_written_is_read_back() {
    let mut chance = Chance::new();
    for _ in 0..50_000 {
        let (service, text) = (format!("s{}", chance.text(20)), chance.text(60));
        let command = chance.command(service.as_bytes(), &text);
        let frames = if may_have_body(&command) {
            let body = chance.body();
            let frames = message(&command, &body);
            assert_eq!(body_of(&frames), body, "{command:?}");
            let packed = packed_len(body.frames()) <= PACK_LIMIT;
            assert_eq!(frames.len(), if packed { 1 } else { 1 + body.len() }, "{command:?}");
            frames
        } else {
            control(&command)
        };
        assert_eq!(read(&frames[0], frames.len() - 1).map(|header| header.command), Ok(command));
    }
}

#[test]
fn a_batch_gives_the_messages_that_were_put_in_whatever_their_sizes() {
    let mut chance = Chance::new();
    for _ in 0..2000 {
        let (count, longest) = (1 + chance.below(MAX_TOGETHER), 1 + chance.below(2 * PACK_LIMIT));
        let messages: Vec<_> = (0..count).map(|_| Bytes::from(chance.bytes(longest))).collect();
        let mut batch = Vec::new();
        begin_batch(&mut batch);
        pack(&mut batch, 0, &messages);
        let Ok(Header { layout, .. }) = read(&batch, 0) else { continue };
        assert!(layout.messages(&batch).eq(messages));
    }
}

#[test]
fn a_message_of_a_batch_keeps_few_others_alive_and_a_large_one_none() {
    let batch_of = |messages: &[Bytes]| {
        let mut batch = Vec::new();
        begin_batch(&mut batch);
        pack(&mut batch, 0, messages);
        batch
    };
    let batch = batch_of(&vec![Bytes::from(vec![7; 50]); 100]);
    let layout = read(&batch, 0).unwrap().layout;
    let mut messages: Vec<_> = layout.messages(&batch).collect();
    let first = messages.remove(0);
    assert!(!first.is_unique(), "it shares a piece");
    messages.drain(..512 / 50);
    assert!(first.is_unique(), "with few others");
    let batch = batch_of(&vec![Bytes::from(vec![7; 600]); 3]);
    let layout = read(&batch, 0).unwrap().layout;
    assert!(layout.messages(&batch).collect::<Vec<_>>().iter().all(Bytes::is_unique));
}

#[test]
fn a_workers_answer_with_another_address_is_what_would_be_written_for_the_client() {
    let mut chance = Chance::new();
    for _ in 0..20_000 {
        let text = chance.text(60);
        let (delivery, number, sequence) = (chance.number(), chance.number(), chance.number() as u32);
        let failure = Failure {
            kind: chance.bits() as u8,
            retryable: chance.chance(),
            code: chance.number() as u32,
            text: &text,
        };
        let body = chance.body();
        let (of_worker, to_client) = match chance.below(3) {
            0 => (
                message(&Command::WorkerPartial { delivery, sequence }, &body),
                message(&Command::Partial { number, sequence }, &body),
            ),
            1 => (
                message(&Command::WorkerFinal { delivery, sequence }, &body),
                message(&Command::Final { number, sequence }, &body),
            ),
            _ => (control(&Command::WorkerError { delivery, failure }), control(&Command::Error { number, failure })),
        };
        let mut header = of_worker[0].to_vec();
        readdress(&mut header, number);
        assert_eq!(header, to_client[0]);
        assert_eq!(of_worker[1..], to_client[1..]);
    }
}

#[test]
fn a_body_is_packed_up_to_the_limit_and_not_beyond() {
    let request = Command::WorkerFinal { delivery: 1, sequence: 0 };
    for (size, is_packed) in [(PACK_LIMIT - 4, true), (PACK_LIMIT - 3, false)] {
        let frames = message(&request, &Message::from(vec![0; size]));
        assert_eq!((frames.len() == 1, read(&frames[0], frames.len() - 1).is_ok()), (is_packed, true), "{size}");
    }
}

/// A request at the limit of what may stand in a header; `over` bytes beyond it.
fn full_request(over: usize) -> Vec<u8> {
    let command = Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 0, fail_fast: false, service: b"s" };
    let mut header = Vec::new();
    write(&mut header, &command, &[]);
    pack(&mut header, 0, &[vec![0; MAX_INLINE - 4 + over]]);
    header
}

#[test]
fn what_may_be_asked_can_be_delivered_whatever_its_size() {
    let request = full_request(0);
    let layout = read(&request, 0).unwrap().layout;
    let mut delivery = Vec::new();
    let command = Command::Deliver { delivery: 1, session: [0; 16], number: 1, ttl_ms: 0, attempt: 1 };
    write(&mut delivery, &command, layout.properties(&request));
    pack_again(&mut delivery, 0, layout.packed(&request).unwrap());
    assert!(read(&delivery, 0).is_ok());
    assert!(read(&full_request(1), 0).is_err());
}

#[test]
fn a_body_beside_large_properties_stays_in_frames_of_its_own() {
    let mut properties = Properties::new();
    properties.set("large", vec![0; properties::MAX_PROPERTIES - 8]).unwrap();
    let service = [b's'; 255];
    let command =
        Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 0, fail_fast: false, service: &service };
    for size in [0, 1, PACK_LIMIT - 4, PACK_LIMIT] {
        let body = Message::from(vec![0; size]).with_properties(properties.clone());
        let frames = message(&command, &body);
        assert_eq!(read(&frames[0], frames.len() - 1).map(|header| header.command), Ok(command), "{size}");
        assert_eq!(body_of(&frames), body, "{size}");
    }
}

#[test]
fn a_header_has_a_longest_length() {
    let mut header = Vec::new();
    write(&mut header, &Command::Final { number: 1, sequence: 0 }, &[]);
    header.resize(MAX_HEADER + 1, 0);
    assert_eq!(read(&header, 0), Err("a header of more than 64 KiB"));
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let text = "é".repeat(MAX_TEXT);
    let frames = control(&Command::Disconnect { kind: 1, text: &text });
    let Ok(Header { command: Command::Disconnect { kind: 1, text: cut }, .. }) = read(&frames[0], 0) else {
        panic!("no DISCONNECT");
    };
    assert_eq!(cut.len(), MAX_TEXT);
    assert!(text.starts_with(cut));
}

#[test]
fn flags_that_nobody_knows_are_ignored() {
    let mut header = control(&Command::Heartbeat)[0].to_vec();
    header[7] = 0b1110_0000;
    assert_eq!(read(&header, 0).map(|header| header.command), Ok(Command::Heartbeat));
}
