//! The codec of MDPX/1: headers, properties, packed bodies, batches.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use majordomo::Properties;
use majordomo::proto::mdpx::{self, Command, Header};
use majordomo_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let frames = Input::new(data).frames();
    let Some((header, rest)) = frames.split_first() else { return };
    let mut seen = 0;
    mdpx::each_message(header, rest.len(), |_| seen += 1);
    let Ok(Header { command, layout }) = mdpx::read(header, rest.len()) else { return assert_eq!(seen, 0) };
    assert!(mdpx::is_header(header));
    assert!(seen == 1 || command == Command::Batch);

    let body = layout.into_message(header.clone(), rest.iter().cloned());
    let block = layout.properties(header);
    check_properties(body.properties(), block.len());

    // What was read is written to the byte, but for flags that the command does not have.
    let mut written = Vec::new();
    mdpx::write(&mut written, &command, block);
    match layout.packed(header) {
        Some(packed) => {
            assert_eq!(layout.packed_len(header.len()), Some(packed.len()));
            assert!(mdpx::unpack(packed).eq(body.iter()));
            assert_eq!(mdpx::packed_len(body.frames()), packed.len());
            mdpx::pack_again(&mut written, 0, packed);
            let mut again = Vec::new();
            mdpx::write(&mut again, &command, block);
            mdpx::pack(&mut again, 0, body.frames());
            assert_eq!(again, written);
        }
        None => assert_eq!(body.frames(), rest),
    }
    let flags = |header: &[u8]| header.iter().enumerate().filter(|(at, _)| *at != 7).map(|(_, byte)| *byte).collect();
    let (read, written_again): (Vec<u8>, Vec<u8>) = (flags(header), flags(&written));
    if !block.is_empty() || header[7] & 2 == 0 {
        assert_eq!(read, written_again);
    }
    let again = mdpx::read(&written, rest.len()).expect("what was written can be read");
    assert_eq!(again.command, command);

    if command == Command::Batch {
        let messages: Vec<Bytes> = layout.messages(header).collect();
        assert_eq!(messages, body.frames());
        for message in &messages {
            let _ = mdpx::read(message, 0);
        }
    }
    // A sender's own choice between packed and not is read as the same.
    let sent = mdpx::message(&command, &body);
    if matches!(command, Command::Request { .. } | Command::Final { .. } | Command::WorkerFinal { .. }) {
        let header = mdpx::read(&sent[0], sent.len() - 1).expect("what is sent can be read");
        assert_eq!(header.command, command);
        assert_eq!(header.layout.into_message(sent[0].clone(), sent[1..].iter().cloned()), body);
    }
    if let Command::WorkerFinal { sequence, .. } = command {
        let mut header = sent[0].to_vec();
        mdpx::readdress(&mut header, 7);
        let read = mdpx::read(&header, sent.len() - 1).map(|read| read.command);
        assert_eq!(read, Ok(Command::Final { number: 7, sequence }));
    }
});

fn check_properties(properties: &Properties, bytes: usize) {
    let mut again = Properties::new();
    for (name, value) in properties.iter() {
        again.set(name, value).expect("a property that was read can be set");
        assert!(properties.get(name).is_some());
    }
    assert!(again.len() <= properties.len() && properties.is_empty() == (bytes == 0));
}
