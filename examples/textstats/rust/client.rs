//! Sends files to text statistics services and prints one line of JSON for each reply.

use std::error::Error;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use majordomo::{Client, ClientOptions, Message};

/// The reply's text if it is what a worker promises: one frame of printable ASCII.
fn checked(reply: &Message) -> Option<&str> {
    let frame = reply.first().filter(|frame| reply.len() == 1 && !frame.is_empty())?;
    frame.iter().all(|byte| (0x20..=0x7E).contains(byte)).then(|| std::str::from_utf8(frame).ok())?
}

/// The rest of the line for one request, and whether all is well.
fn ask(client: &Client, service: &str, content: Option<&Vec<u8>>) -> (String, bool) {
    let Some(content) = content else {
        return (r#""ms":0.000,"ok":false,"error":"UNREADABLE""#.into(), false);
    };
    let start = Instant::now();
    let reply = client.request(service, content.clone());
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    match reply.as_ref().map(checked) {
        Ok(Some(reply)) => (format!(r#""ms":{ms:.3},"ok":true,"reply":{reply}"#), true),
        Ok(None) => (format!(r#""ms":{ms:.3},"ok":false,"error":"BAD_REPLY""#), false),
        Err(error) => (format!(r#""ms":{ms:.3},"ok":false,"error":"{}""#, error.kind().code()), false),
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((broker, services)) = arguments.split_first().filter(|(_, services)| !services.is_empty()) else {
        return Err("usage: client ENDPOINT SERVICE... < names".into());
    };
    let options = ClientOptions::new(broker).timeout(Duration::from_secs(120)).retries(3);
    let client = Client::with_options(options)?;

    let mut names = Vec::new();
    std::io::stdin().read_to_end(&mut names)?;
    let names = names.strip_suffix(b"\0").unwrap_or(&names);
    let mut out = std::io::stdout();
    let mut all_well = true;
    for (file, name) in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).enumerate() {
        let content = std::fs::read(OsStr::from_bytes(name)).ok();
        for service in services {
            let (line, well) = ask(&client, service, content.as_ref());
            all_well &= well;
            writeln!(out, r#"{{"file":{file},"service":"{service}",{line}}}"#)?;
            out.flush()?;
        }
    }
    Ok(all_well)
}

fn main() -> ExitCode {
    match run() {
        Ok(all_well) => ExitCode::from(u8::from(!all_well)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
