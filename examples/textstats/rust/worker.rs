//! Serves text statistics: lines, words, characters and the ten most frequent words.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use majordomo::Worker;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The statistics as one line of ASCII JSON; see the example's README for what counts as what.
fn statistics(text: &[u8]) -> String {
    let ends = text.iter().filter(|byte| **byte == b'\n').count();
    let lines = ends + usize::from(text.last().is_some_and(|last| *last != b'\n'));
    let characters = text.iter().filter(|byte| !(0x80..=0xBF).contains(*byte)).count();

    let mut words = 0;
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    for word in text.split(|byte| !(byte.is_ascii_alphanumeric() || *byte >= 0x80)).filter(|word| !word.is_empty()) {
        words += 1;
        *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
    }
    let mut top: Vec<_> = counts.into_iter().collect();
    top.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    let top: Vec<_> = top.iter().take(10).map(|(word, count)| format!("[\"{}\",{count}]", escape(word))).collect();

    format!("{{\"lines\":{lines},\"words\":{words},\"characters\":{characters},\"top\":[{}]}}", top.join(","))
}

fn escape(word: &[u8]) -> String {
    word.iter().fold(String::new(), |mut escaped, byte| {
        // Writing to a string cannot fail.
        let _ = if byte.is_ascii() { write!(escaped, "{}", *byte as char) } else { write!(escaped, "\\u{byte:04x}") };
        escaped
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [broker, service] = &arguments[..] else { return Err("usage: worker ENDPOINT SERVICE".into()) };

    let worker = Arc::new(Worker::connect(broker, service)?);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let draining = worker.clone();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            draining.drain();
        }
    });
    println!("ready");
    std::io::stdout().flush()?;
    for request in &*worker {
        let text: Vec<u8> = request.body().iter().flatten().copied().collect();
        request.reply(statistics(&text))?;
    }
    Ok(())
}
