//! What peers say, made of an input: commands of the protocols with fields that are plausible, and some that are not.

use bytes::Bytes;
use majordomo::Message;
use majordomo::proto::mdp::{Part, Version};
use majordomo::proto::mdpx::{self, Command, Failure};

use crate::input::Input;

pub const SERVICES: [&str; 4] = ["echo", "s", "mmi.service", "mmi.stats"];
pub const BEATS: [u32; 6] = [100, 0, 10, 1000, 60_000, u32::MAX];

pub fn version(input: &mut Input<'_>) -> Version {
    if input.flag() { Version::V02 } else { Version::V01 }
}

pub fn part(input: &mut Input<'_>) -> Part {
    if input.flag() { Part::Partial } else { Part::Final }
}

/// A failure with a text of any length up to some kilobytes.
pub fn failure<'a>(input: &mut Input<'_>, text: &'a mut String) -> Failure<'a> {
    let kind = input.u8() % 20;
    let flags = input.u8();
    *text = "é".repeat(usize::from(input.u8()) * if flags & 2 != 0 { 80 } else { 1 });
    Failure { kind, retryable: flags & 1 != 0, code: u32::from(flags), text }
}

/// Several messages of MDPX as one, whether they may be joined or not.
pub fn batch(messages: &[Bytes]) -> Vec<Bytes> {
    let mut out = Vec::new();
    mdpx::begin_batch(&mut out);
    mdpx::pack(&mut out, 0, messages);
    vec![out.into()]
}

/// A message of MDPX. Commands without a body are said without one.
pub fn x1(command: &Command<'_>, body: Option<&Message>) -> Vec<Bytes> {
    body.map_or_else(|| mdpx::control(command), |body| mdpx::message(command, body))
}

/// The answer to the question what a broker speaks.
pub fn protocols(input: &mut Input<'_>) -> Vec<Bytes> {
    let names = input.u8();
    let mut frames: Vec<Bytes> = [&b""[..], b"MDPC01", b"mmi.protocols", b"200"].map(Bytes::from_static).to_vec();
    let all = ["0.1", "0.2", "x1"].into_iter().enumerate();
    frames.extend(all.filter(|(at, _)| names & (1 << at) != 0).map(|(_, name)| Bytes::from(name)));
    frames
}
