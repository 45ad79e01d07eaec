//! `docs/mdpx.md` held against the codec: its tables of flags, commands and errors, its limits and its conversation.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::collections::BTreeMap;

use bytes::Bytes;
use majordomo::proto::mdpx::{self, Command, Failure};
use majordomo::{ErrorKind, Message, Properties};

fn document() -> String {
    let path = format!("{}/../docs/mdpx.md", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text from one heading to the next of its level, or to the end.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("no {heading:?}"));
    let level = heading.split(' ').next().expect("a level");
    rest.split(&format!("\n{level} ")).next().unwrap_or(rest)
}

/// The cells of a row of a table, without the marks of code; `None` for other lines.
fn cells(line: &str) -> Option<Vec<String>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(|cell| cell.trim().replace('`', "")).collect())
}

fn header(command: &Command<'_>) -> Vec<u8> {
    let mut header = Vec::new();
    mdpx::write(&mut header, command, &[]);
    header
}

/// The fields of each command by its number: how each begins in words, its offset and its length, "1 + n" for a name.
type Fields = Vec<(String, usize, String)>;

/// The fields of a command as the codec should write them: how each begins in the document's words, and its bytes.
type Values<'a> = Vec<(&'a str, Vec<u8>)>;

/// What section 4 says: every command has a bold name with its number, and a table behind it where it has fields.
fn documented() -> BTreeMap<u8, (String, Fields)> {
    let document = document();
    let mut commands = BTreeMap::<u8, (String, Fields)>::new();
    let mut spoken_of = Vec::new();
    for line in section(&document, "## 4.").lines() {
        if let Some(row) = cells(line) {
            let Ok(offset) = row[0].parse() else { continue };
            for code in &spoken_of {
                let (_, fields) = commands.get_mut(code).expect("a command of this paragraph");
                fields.push((row[2].clone(), offset, row[1].clone()));
            }
            continue;
        }
        let names: Vec<_> = line.split("**").skip(1).step_by(2).filter_map(|bold| bold.split_once(" `")).collect();
        if line.starts_with("**") && !names.is_empty() {
            spoken_of.clear();
        }
        for (name, code) in names {
            let code = u8::from_str_radix(code.trim_end_matches('`'), 16).expect("a number in hexadecimal");
            assert!(commands.insert(code, (name.to_owned(), Vec::new())).is_none(), "{code:02x} is there twice");
            spoken_of.push(code);
        }
    }
    // "Their layout is that of 06, 07 and 08, with the delivery in the place of the number".
    for (code, model) in [(0x16, 0x06), (0x17, 0x07), (0x18, 0x08)] {
        let mut fields = commands[&model].1.clone();
        fields[0].0 = fields[0].0.replace("number", "delivery");
        commands.get_mut(&code).expect("a worker's answer").1 = fields;
    }
    commands
}

#[test]
fn numbers_and_fields_of_all_commands_are_those_of_the_codec() {
    let (session, secret, service, text) = ([0xa1; 16], [0xa2; 16], b"echo", "why");
    let (name, words) = ([&[4], &service[..]].concat(), [&[0, 3], text.as_bytes()].concat());
    let eight = |value: u64| value.to_be_bytes().to_vec();
    let four = |value: u32| value.to_be_bytes().to_vec();
    let two = |value: u16| value.to_be_bytes().to_vec();
    let failure = Failure { kind: 8, retryable: false, code: 9, text };
    let part = |what| vec![(what, eight(1)), ("sequence", four(2))];
    let failed = |what| vec![(what, eight(1)), ("kind", vec![8]), ("code", four(9)), ("text", words.clone())];
    let commands: Vec<(&str, Command<'_>, Values<'_>)> = vec![
        (
            "HELLO",
            Command::Hello { session, secret, heartbeat_ms: 3, liveness: 4 },
            vec![("session", session.into()), ("secret", secret.into()), ("heartbeat", four(3)), ("liveness", vec![4])],
        ),
        (
            "WELCOME",
            Command::ClientWelcome { resumed: false, heartbeat_ms: 1, liveness: 2, credit: 3, max_message: 4 },
            vec![("heartbeat", four(1)), ("liveness", vec![2]), ("credit", four(3)), ("largest message", eight(4))],
        ),
        (
            "REQUEST",
            Command::Request { number: 1, acked: 2, ttl_ms: 3, max_attempts: 4, fail_fast: false, service },
            vec![
                ("number", eight(1)),
                ("acked", eight(2)),
                ("time to live", four(3)),
                ("max attempts", two(4)),
                ("service", name.clone()),
            ],
        ),
        ("CANCEL", Command::Cancel { number: 1 }, vec![("number", eight(1))]),
        ("ACK", Command::Ack { number: 1 }, vec![("number", eight(1))]),
        ("PARTIAL", Command::Partial { number: 1, sequence: 2 }, part("number")),
        ("FINAL", Command::Final { number: 1, sequence: 2 }, part("number")),
        ("ERROR", Command::Error { number: 1, failure }, failed("number")),
        (
            "READY",
            Command::Ready { capacity: 1, heartbeat_ms: 2, liveness: 3, service },
            vec![("capacity", four(1)), ("heartbeat", four(2)), ("liveness", vec![3]), ("service", name)],
        ),
        (
            "WELCOME",
            Command::WorkerWelcome { heartbeat_ms: 1, liveness: 2, max_message: 3 },
            vec![("heartbeat", four(1)), ("liveness", vec![2]), ("largest message", eight(3))],
        ),
        (
            "DELIVER",
            Command::Deliver { delivery: 1, session, number: 2, ttl_ms: 3, attempt: 4 },
            vec![
                ("delivery", eight(1)),
                ("session", session.into()),
                ("number", eight(2)),
                ("what is left of the time to live", four(3)),
                ("attempt", two(4)),
            ],
        ),
        ("CANCEL", Command::WorkerCancel { delivery: 1 }, vec![("delivery", eight(1))]),
        ("RETURN", Command::Return { delivery: 1 }, vec![("delivery", eight(1))]),
        ("PARTIAL", Command::WorkerPartial { delivery: 1, sequence: 2 }, part("delivery")),
        ("FINAL", Command::WorkerFinal { delivery: 1, sequence: 2 }, part("delivery")),
        ("ERROR", Command::WorkerError { delivery: 1, failure }, failed("delivery")),
        ("DRAIN", Command::Drain, vec![]),
        ("HEARTBEAT", Command::Heartbeat, vec![]),
        ("DISCONNECT", Command::Disconnect { kind: 8, text }, vec![("kind", vec![8]), ("text", words.clone())]),
        ("BATCH", Command::Batch, vec![]),
    ];
    let mut documented = documented();
    for (name, command, fields) in commands {
        let header = header(&command);
        let (said, rows) = documented.remove(&header[6]).unwrap_or_else(|| panic!("no {name} `{:02x}`", header[6]));
        assert_eq!((&*said, rows.len()), (name, fields.len()), "{rows:?}");
        let mut end = 8;
        for ((row, offset, length), (field, value)) in rows.iter().zip(fields) {
            assert!(row.starts_with(field), "{name}: {row:?} is {field}");
            let lengths = [value.len().to_string(), "1 + n".to_owned(), "2 + n".to_owned()];
            let form =
                lengths.iter().position(|form| form == length).unwrap_or_else(|| panic!("{name}: {row}: {length}"));
            // A name has its length in one byte before it, a text in two.
            assert_eq!(form, usize::from(field == "service") + 2 * usize::from(field == "text"), "{name}: {row}");
            assert_eq!((*offset, &header[*offset..offset + value.len()]), (end, &*value), "{name}: {row}");
            end += value.len();
        }
        assert_eq!(end, header.len(), "{name}: nothing else is in it");
    }
    assert_eq!(documented.keys().collect::<Vec<_>>(), Vec::<&u8>::new(), "commands that the codec does not know");
}

#[test]
fn flags_are_those_of_the_codec() {
    let document = document();
    let rows = section(&document, "### Flags").lines().filter_map(cells).filter(|row| row[0].parse::<u8>().is_ok());
    let said: Vec<_> = rows.map(|row| (row[2].clone(), u8::from_str_radix(&row[1], 16).ok())).collect();
    let mut properties = Properties::new();
    properties.set("a", "b").expect("a property");
    let flags = |command: &Command<'_>| header(command)[7];
    let packed = mdpx::message(&Command::Partial { number: 1, sequence: 0 }, &Message::from("x"));
    let with_properties = mdpx::message(
        &Command::Partial { number: 1, sequence: 0 },
        &Message::from(vec![b'x'; 5000]).with_properties(properties),
    );
    let failure = Failure { kind: 8, retryable: true, code: 9, text: "" };
    let request =
        Command::Request { number: 1, acked: 0, ttl_ms: 0, max_attempts: 0, fail_fast: true, service: b"echo" };
    let welcome = Command::ClientWelcome { resumed: true, heartbeat_ms: 1, liveness: 1, credit: 1, max_message: 1 };
    let expected = [
        ("PACKED", packed[0][7]),
        ("PROPERTIES", with_properties[0][7]),
        ("RETRYABLE", flags(&Command::Error { number: 1, failure })),
        ("FAIL_FAST", flags(&request)),
        ("RESUMED", flags(&welcome)),
    ];
    assert_eq!(said, expected.map(|(name, flag)| (name.to_owned(), Some(flag))));
}

#[test]
fn errors_are_those_of_the_one_table() {
    let document = document();
    let said: Vec<_> = (section(&document, "## 7.").lines().filter_map(cells))
        .filter(|row| row[0].parse::<u8>().is_ok())
        .map(|row| (row[0].clone(), row[1].clone(), row[2].clone()))
        .collect();
    let retryable = |kind: &ErrorKind| match kind {
        ErrorKind::ServiceError => "as said",
        kind if kind.is_retryable() => "yes",
        _ => "no",
    };
    let table: Vec<_> = (ErrorKind::ALL.iter())
        .map(|kind| (kind.number().to_string(), kind.name().to_owned(), retryable(kind).to_owned()))
        .collect();
    assert_eq!(said, table);
    // Where the text names a kind by its number, it is the kind of that number.
    for (before, behind) in document.split("kind ").zip(document.split("kind ").skip(1)) {
        let Some((number, name)) = behind.split_once(" (") else { continue };
        let (Ok(number), Some((name, _))) = (number.parse(), name.split_once(')')) else { continue };
        let kind = ErrorKind::from_number(number).map(ErrorKind::name);
        assert_eq!(kind, Some(name), "kind {number} behind {:?}", before.lines().last());
    }
}

#[test]
fn limits_are_those_of_the_codec() {
    let document = document();
    // In thousands, with a comma.
    let bytes = |number: usize| format!("{},{:03}", number / 1000, number % 1000);
    for said in [
        format!("A header frame has at most {} bytes", bytes(mdpx::MAX_HEADER)),
        format!("a body that takes at most {} bytes packed", bytes(mdpx::PACK_LIMIT)),
        format!("MUST NOT exceed {} bytes", bytes(mdpx::MAX_INLINE)),
        format!("cut it to {} bytes", bytes(mdpx::MAX_TEXT)),
        format!("ours: {} KiB or {} messages", mdpx::MAX_BATCH >> 10, mdpx::MAX_TOGETHER),
    ] {
        assert!(document.contains(&said), "{said:?} is not in docs/mdpx.md");
    }
}

/// The messages of section 11: who sends to whom, and the bytes.
fn conversation() -> Vec<(String, Bytes)> {
    let document = document();
    let mut messages = Vec::<(String, String)>::new();
    for line in section(&document, "## 11.").lines().filter_map(|line| line.strip_prefix("    ")) {
        let line = match line.split_once("  ").filter(|_| !line.starts_with(' ')) {
            Some((way, bytes)) => {
                messages.push((way.to_owned(), String::new()));
                bytes
            }
            None => line,
        };
        messages.last_mut().expect("a message before its next line").1.extend(line.split_whitespace());
    }
    let bytes = |hex: String| -> Bytes {
        let pairs = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        pairs.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{hex}: {error}"))
    };
    messages.into_iter().map(|(way, hex)| (way, bytes(hex))).collect()
}

#[test]
fn the_conversation_is_what_the_text_between_its_messages_says() {
    let session = std::array::from_fn(|at| at as u8);
    let secret = std::array::from_fn(|at| 0xf0 + at as u8);
    let mut properties = Properties::new();
    properties.set("content-type", "text/plain").expect("a property");
    let hello = Message::from("hello");
    let question = hello.clone().with_properties(properties);
    let (service, max_message) = (b"echo", 256 << 20);
    let request = Command::Request { number: 1, acked: 0, ttl_ms: 7500, max_attempts: 0, fail_fast: false, service };
    let welcome =
        Command::ClientWelcome { resumed: false, heartbeat_ms: 833, liveness: 3, credit: 16_384, max_message };
    let expected = [
        ("W→B", Command::Ready { capacity: 1, heartbeat_ms: 2500, liveness: 3, service }, None),
        ("B→W", Command::WorkerWelcome { heartbeat_ms: 2500, liveness: 3, max_message }, None),
        ("C→B", Command::Hello { session, secret, heartbeat_ms: 833, liveness: 3 }, None),
        ("B→C", welcome, None),
        ("C→B", request, Some(&question)),
        ("B→W", Command::Deliver { delivery: 1, session, number: 1, ttl_ms: 7500, attempt: 1 }, Some(&question)),
        ("W→B", Command::WorkerFinal { delivery: 1, sequence: 0 }, Some(&hello)),
        ("B→C", Command::Final { number: 1, sequence: 0 }, Some(&hello)),
        ("C→B", Command::Ack { number: 1 }, None),
        ("C→B", Command::Disconnect { kind: 0, text: "" }, None),
    ];
    let said = conversation();
    assert_eq!(said.len(), expected.len());
    for ((way, frame), (expected_way, command, body)) in said.into_iter().zip(expected) {
        let frames = body.map_or_else(|| mdpx::control(&command), |body| mdpx::message(&command, body));
        assert_eq!((&*way, vec![frame]), (expected_way, frames), "{command:?}");
    }
}
