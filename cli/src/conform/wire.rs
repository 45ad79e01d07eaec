//! The frames of MDP/0.1 (7/MDP) and MDP/0.2 (18/MDP), typed from the published protocols and from nothing else.

/// What one version puts on the wire.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) name: &'static str,
    /// The specification.
    pub(super) rfc: &'static str,
    /// Whether every message begins with an empty frame.
    lead: bool,
    client: &'static [u8],
    worker: &'static [u8],
    /// The command byte of a client's request, where there is one.
    client_request: Option<u8>,
    /// The command bytes of a reply, where there are some: a part and the last one.
    client_replies: Option<(u8, u8)>,
    ready: u8,
    request: u8,
    partial: Option<u8>,
    reply: u8,
    heartbeat: u8,
    disconnect: u8,
}

pub(super) static V01: Version = Version {
    name: "0.1",
    rfc: "7/MDP",
    lead: true,
    client: b"MDPC01",
    worker: b"MDPW01",
    client_request: None,
    client_replies: None,
    ready: 1,
    request: 2,
    partial: None,
    reply: 3,
    heartbeat: 4,
    disconnect: 5,
};

pub(super) static V02: Version = Version {
    name: "0.2",
    rfc: "18/MDP",
    lead: false,
    client: b"MDPC02",
    worker: b"MDPW02",
    client_request: Some(1),
    client_replies: Some((2, 3)),
    ready: 1,
    request: 2,
    partial: Some(3),
    reply: 4,
    heartbeat: 5,
    disconnect: 6,
};

pub(super) type Frames = Vec<Vec<u8>>;

/// What a worker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ready,
    Partial,
    Reply,
    Heartbeat,
    Disconnect,
}

/// What a worker hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToWorker {
    Request {
        address: Vec<u8>,
        body: Frames,
    },
    Heartbeat,
    Disconnect,
    /// Nothing that a broker may say.
    Odd(Frames),
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) partial: bool,
    pub(super) service: Vec<u8>,
    pub(super) body: Frames,
}

impl Version {
    /// The header that messages of this role begin with.
    fn header(&self, role: &[u8]) -> Frames {
        let lead = self.lead.then(Vec::new);
        lead.into_iter().chain([role.to_vec()]).collect()
    }

    /// The beginning of a client's message.
    pub(super) fn client_header(&self) -> Frames {
        self.header(self.client)
    }

    /// The beginning of a worker's message.
    pub(super) fn worker_header(&self) -> Frames {
        self.header(self.worker)
    }

    /// The command byte that a client's request has, if it has one.
    pub(super) fn request_byte(&self) -> Option<u8> {
        self.client_request
    }

    /// The command byte of a worker's command; a PARTIAL where there is none reads as a reply.
    pub(super) fn byte(&self, command: Command) -> u8 {
        match command {
            Command::Ready => self.ready,
            Command::Partial => self.partial.unwrap_or(self.reply),
            Command::Reply => self.reply,
            Command::Heartbeat => self.heartbeat,
            Command::Disconnect => self.disconnect,
        }
    }

    pub(super) fn has_partials(&self) -> bool {
        self.partial.is_some()
    }

    pub(super) fn client_request(&self, service: &[u8], body: &[Vec<u8>]) -> Frames {
        let mut frames = self.client_header();
        frames.extend(self.client_request.map(|byte| vec![byte]));
        frames.push(service.to_vec());
        frames.extend_from_slice(body);
        frames
    }

    pub(super) fn worker_command(&self, command: Command, rest: &[Vec<u8>]) -> Frames {
        let mut frames = self.worker_header();
        frames.push(vec![self.byte(command)]);
        frames.extend_from_slice(rest);
        frames
    }

    /// Reads what a client got; `None` where it is no reply of this version.
    pub(super) fn read_reply(&self, frames: &[Vec<u8>]) -> Option<Reply> {
        let mut rest = frames.strip_prefix(&self.client_header()[..])?;
        let mut partial = false;
        if let Some((part, last)) = self.client_replies {
            let (byte, after) = rest.split_first()?;
            partial = byte[..] == [part];
            if !partial && byte[..] != [last] {
                return None;
            }
            rest = after;
        }
        let (service, body) = rest.split_first()?;
        Some(Reply { partial, service: service.clone(), body: body.to_vec() })
    }

    /// Reads what a worker got.
    pub(super) fn read_to_worker(&self, frames: Frames) -> ToWorker {
        let read = || {
            let rest = frames.strip_prefix(&self.worker_header()[..])?;
            let (command, rest) = rest.split_first()?;
            let [byte] = command[..] else { return None };
            match rest {
                [] if byte == self.heartbeat => Some(ToWorker::Heartbeat),
                [] if byte == self.disconnect => Some(ToWorker::Disconnect),
                [address, delimiter, body @ ..] if byte == self.request && delimiter.is_empty() => {
                    let one = !address.is_empty();
                    one.then(|| ToWorker::Request { address: address.clone(), body: body.to_vec() })
                }
                _ => None,
            }
        };
        read().unwrap_or(ToWorker::Odd(frames))
    }
}

/// Frames for people: short, and nothing in them steers a terminal.
pub(super) fn show(frames: &[Vec<u8>]) -> String {
    const FRAMES: usize = 6;
    const BYTES: usize = 24;
    let frame = |bytes: &Vec<u8>| {
        let text: String =
            bytes.iter().take(BYTES).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
        let more = if bytes.len() > BYTES { format!("… {} bytes", bytes.len()) } else { String::new() };
        format!("\"{text}{more}\"")
    };
    let shown: Vec<String> = frames.iter().take(FRAMES).map(frame).collect();
    let more = if frames.len() > FRAMES { format!(", … {} frames", frames.len()) } else { String::new() };
    format!("[{}{more}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(frames: &[&[u8]]) -> Frames {
        frames.iter().map(|frame| frame.to_vec()).collect()
    }

    #[test]
    fn messages_are_those_of_the_specifications() {
        assert_eq!(V01.client_request(b"s", &frames(&[b"b"])), frames(&[b"", b"MDPC01", b"s", b"b"]));
        assert_eq!(V02.client_request(b"s", &frames(&[b"b"])), frames(&[b"MDPC02", b"\x01", b"s", b"b"]));
        let bytes = |version: &Version| {
            [Command::Ready, Command::Partial, Command::Reply, Command::Heartbeat, Command::Disconnect]
                .map(|command| version.byte(command))
        };
        assert_eq!((bytes(&V01), bytes(&V02)), ([1, 3, 3, 4, 5], [1, 3, 4, 5, 6]));
        assert_eq!(V01.worker_command(Command::Ready, &frames(&[b"s"])), frames(&[b"", b"MDPW01", b"\x01", b"s"]));
        assert_eq!(V02.worker_command(Command::Heartbeat, &[]), frames(&[b"MDPW02", b"\x05"]));
    }

    #[test]
    fn what_is_heard_is_read_strictly() {
        let reply = |partial| Some(Reply { partial, service: b"s".to_vec(), body: frames(&[b"", b"b"]) });
        assert_eq!(V01.read_reply(&frames(&[b"", b"MDPC01", b"s", b"", b"b"])), reply(false));
        assert_eq!(V02.read_reply(&frames(&[b"MDPC02", b"\x02", b"s", b"", b"b"])), reply(true));
        assert_eq!(V02.read_reply(&frames(&[b"MDPC02", b"\x03", b"s", b"", b"b"])), reply(false));
        let odd: [&[&[u8]]; 5] = [&[], &[b""], &[b"", b"MDPC01"], &[b"MDPC01", b"s"], &[b"", b"MDPC02", b"s"]];
        for odd in odd {
            assert_eq!(V01.read_reply(&frames(odd)), None, "{odd:?}");
        }
        let request = |body: &[&[u8]]| ToWorker::Request { address: b"a".to_vec(), body: frames(body) };
        assert_eq!(V01.read_to_worker(frames(&[b"", b"MDPW01", b"\x02", b"a", b"", b"x"])), request(&[b"x"]));
        assert_eq!(V02.read_to_worker(frames(&[b"MDPW02", b"\x02", b"a", b"", b""])), request(&[b""]));
        assert_eq!(V02.read_to_worker(frames(&[b"MDPW02", b"\x06"])), ToWorker::Disconnect);
        let odd: [&[&[u8]]; 6] = [
            &[b"", b"MDPW01", b"\x02", b"a", b"x"],
            &[b"", b"MDPW01", b"\x02", b"", b"", b"x"],
            &[b"", b"MDPW01", b"\x04", b"more"],
            &[b"", b"MDPW01", b"\x01"],
            &[b"MDPW01", b"\x04"],
            &[],
        ];
        for odd in odd {
            assert_eq!(V01.read_to_worker(frames(odd)), ToWorker::Odd(frames(odd)), "{odd:?}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        let shown = show(&[b"\x1b[31m".to_vec(), vec![b'x'; 1000], vec![], vec![], vec![], vec![], vec![]]);
        assert!(shown.contains("\\x1b[31m") && shown.contains("1000 bytes") && shown.contains("7 frames"), "{shown}");
        assert!(shown.len() < 200);
    }

    /// What is read says all of what came, in as many words; anything else is told as odd.
    #[test]
    fn whatever_a_broker_says_is_read_back_to_the_byte_or_is_odd() {
        const MESSAGES: usize = 10_000;
        let seed = std::env::var("WIRE_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |elapsed| elapsed.as_nanos() as u64));
        println!("WIRE_SEED={seed}");
        let mut state = seed;
        let mut below = move |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let right: Vec<Frames> = [
            &[&b""[..], b"MDPC01", b"s", b"", b"b"][..],
            &[b"MDPC02", b"\x02", b"s", b"part"],
            &[b"MDPC02", b"\x03", b"s"],
            &[b"", b"MDPW01", b"\x02", b"address", b"", b"b", b"b"],
            &[b"MDPW02", b"\x02", b"address", b"", b"b"],
            &[b"", b"MDPW01", b"\x04"],
            &[b"", b"MDPW01", b"\x05"],
            &[b"MDPW02", b"\x05"],
            &[b"MDPW02", b"\x06"],
        ]
        .map(frames)
        .into();
        let (mut replies, mut requests, mut beats, mut ends, mut odd) = (0, 0, 0, 0, 0);
        for _ in 0..MESSAGES {
            let mut message = match below(4) {
                0 => (0..below(9)).map(|_| (0..below(40)).map(|_| below(256) as u8).collect()).collect(),
                _ => right[below(right.len())].clone(),
            };
            for _ in 0..below(4) {
                let at = below(message.len() + 1);
                match message.get_mut(at) {
                    Some(frame) if below(3) > 0 => {
                        let (at, byte) = (below(frame.len() + 1), below(256) as u8);
                        let until = (at + below(2)).min(frame.len());
                        drop(frame.splice(at..until, (below(2) == 0).then_some(byte)));
                    }
                    Some(_) if below(2) == 0 => drop(message.remove(at)),
                    _ => message.insert(at, vec![below(7) as u8; below(3)]),
                }
            }
            let shown = show(&message);
            assert!(shown.len() < 1000 && shown.chars().all(|c| c == '…' || (' '..='~').contains(&c)), "{shown}");
            for version in [&V01, &V02] {
                if let Some(Reply { partial, service, body }) = version.read_reply(&message) {
                    replies += 1;
                    let byte = version.client_replies.map(|(part, last)| vec![if partial { part } else { last }]);
                    let said = version.client_header().into_iter().chain(byte).chain([service]).chain(body);
                    assert_eq!(said.collect::<Frames>(), message);
                }
                let (byte, rest) = match version.read_to_worker(message.clone()) {
                    ToWorker::Request { address, body } => {
                        requests += 1;
                        (version.request, [vec![address, Vec::new()], body].concat())
                    }
                    ToWorker::Heartbeat => {
                        beats += 1;
                        (version.heartbeat, Vec::new())
                    }
                    ToWorker::Disconnect => {
                        ends += 1;
                        (version.disconnect, Vec::new())
                    }
                    ToWorker::Odd(told) => {
                        odd += 1;
                        assert_eq!(told, message);
                        continue;
                    }
                };
                assert_eq!([version.worker_header(), vec![vec![byte]], rest].concat(), message);
            }
        }
        // Noise alone would be odd throughout.
        let read = [replies, requests, beats, ends, odd];
        assert!(read.into_iter().all(|count| count > MESSAGES / 50), "{read:?}");
    }
}
