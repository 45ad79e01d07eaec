//! The golden vectors, written down as the fuzz targets read their inputs (see `fuzz/src/input.rs` and `fuzz/src/arguments.rs`).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::project::Project;

const TABLES: [&str; 6] = ["mdp01", "mdp02", "mdpx1", "malformed01", "malformed02", "malformedx1"];

/// What stands before the frames of a vector in an input: the choices that lead a target to them.
const BEFORE: [(&str, &[u8]); 8] = [
    ("mdp", &[]),
    ("mdpx", &[]),
    // No well-formed answer.
    ("discovery", &[0]),
    // MDP/0.1, a reply as it is.
    ("failure", &[0, 0]),
    // No narrow limit, the first peer, a message.
    ("broker", &[0, 0, 0]),
    // MDPX, narrow limits; a request (five choices) on a connection that is up; a message.
    ("session", &[0, 0, 1, 0, 0, 4, 12, 0]),
    // MDP/0.1, one attempt; a request (two choices) that is out; a message.
    ("client", &[0, 0, 0, 0, 0, 2, 6]),
    // MDPX; a message.
    ("worker", &[0, 7, 0]),
];

/// Makes inputs of the frames of a body.
type OfBody = fn(&[Vec<u8>]) -> Vec<Vec<u8>>;

/// What is made of a vector's body for the other targets, and of how many bodies of a table.
const OF_BODIES: [(&str, usize, OfBody); 3] = [
    ("mmi", usize::MAX, |body| (0..MMI_NAMES).map(|name| question(name, body)).collect()),
    ("c_messages", usize::MAX, |body| vec![message_calls(body)]),
    // These are slow, and handles do not look into what they carry.
    ("c_handles", 8, |body| vec![handle_calls(body)]),
];

/// How many names of the broker's own services the target `mmi` knows.
const MMI_NAMES: u8 = 6;

/// Writes a file for each vector and each target that reads frames, one for each table, and those made of the vectors' bodies.
pub(crate) fn write(project: &Project) -> Result<()> {
    for table in TABLES {
        let path = project.path("conformance/vectors").join(table).with_extension("json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        let vectors = value["vectors"].as_array().with_context(|| format!("{} has no vectors", path.display()))?;
        let inputs: Vec<Vec<u8>> =
            vectors.iter().filter_map(|vector| input(&vector["frames"]).transpose()).collect::<Result<_>>()?;
        if inputs.is_empty() {
            bail!("{} has no frames", path.display());
        }
        let folder = |target: &str| -> Result<PathBuf> {
            let folder = project.target().join("fuzz/seeds").join(target);
            fs::create_dir_all(&folder)?;
            Ok(folder)
        };
        let bodies = vectors.iter().map(|vector| &vector["body"]).filter(|body| body.is_array());
        for (number, body) in bodies.enumerate() {
            let Some(body) = frames(body)? else { continue };
            for (target, most, seeds) in OF_BODIES {
                if number >= most {
                    continue;
                }
                for (variant, seed) in seeds(&body).into_iter().enumerate() {
                    fs::write(folder(target)?.join(format!("{table}-{number}-{variant}")), seed)?;
                }
            }
        }
        for (target, before) in BEFORE {
            let folder = folder(target)?;
            for (number, input) in inputs.iter().enumerate() {
                fs::write(folder.join(format!("{table}-{number}")), [before, input].concat())?;
            }
            // All of them in a row, as the machines may hear them. What is before the last choices is said once.
            let (setup, step) = before.split_at(before.len().min(1));
            let steps = inputs.iter().flat_map(|input| [step, input].concat());
            fs::write(folder.join(table), setup.iter().copied().chain(steps).collect::<Vec<u8>>())?;
        }
    }
    Ok(())
}

/// The frames of a vector, as [`written`] does it.
fn input(value: &Value) -> Result<Option<Vec<u8>>> {
    Ok(frames(value)?.map(|frames| written(&frames)))
}

/// The frames of a vector; `None` for what does not fit into an input.
fn frames(value: &Value) -> Result<Option<Vec<Vec<u8>>>> {
    let frames = value.as_array().context("a vector without frames")?.iter();
    let frames: Vec<Vec<u8>> =
        frames.map(|frame| from_hex(frame.as_str().context("a frame that is no text")?)).collect::<Result<_>>()?;
    let fits = u8::try_from(frames.len()).is_ok() && frames.iter().all(|frame| u16::try_from(frame.len()).is_ok());
    Ok(fits.then_some(frames))
}

/// The number of frames in one byte, and each with its length in two.
fn written(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut input = vec![frames.len() as u8];
    for frame in frames {
        input.extend((frame.len() as u16).to_le_bytes());
        input.extend(frame);
    }
    input
}

/// For the target `mmi`: two workers of `echo`, one over MDP/0.1 and one over MDPX, and a question over MDP/0.2.
fn question(name: u8, body: &[Vec<u8>]) -> Vec<u8> {
    let workers = [2, 0, 0, 0, 0, 1, 4, 0, 0, 0, 100, 0, 0, 0];
    [&workers[..], &[name, 1, 1], &written(body)].concat()
}

/// Memory for the C functions, which has its length in one byte: no more of the frame than that tells.
fn memory(frame: &[u8]) -> Vec<u8> {
    let frame = &frame[..frame.len().min(255)];
    [&[0, frame.len() as u8], frame].concat()
}

/// For the target `c_messages`: a message is made of the frames, looked at, copied, compared, joined and taken apart. Behind
/// each function stand two choices that are the first message, or the second.
fn message_calls(body: &[Vec<u8>]) -> Vec<u8> {
    let mut calls = vec![0];
    for frame in body {
        calls.extend([4, 0, 0, 0, 0]); // mdmsg_addmem
        calls.extend(memory(frame));
    }
    calls.extend(b"\x14\0\0\x04name\0"); // mdmsg_set_property
    calls.extend(memory(body.first().map_or(&[], Vec::as_slice)));
    calls.extend([20, 0, 0, 0, 4]); // mdmsg_properties, mdmsg_property_at
    calls.extend([14, 0, 0, 0, 0, 2]); // mdmsg_frame
    calls.extend([14, 0, 0, 0, 1, 3]); // mdmsg_strframe
    calls.extend([14, 0, 0, 0, 0, 4]); // mdmsg_first, mdmsg_next
    calls.extend([3, 0, 0]); // mdmsg_dup
    calls.extend([18, 0, 0, 0, 1]); // mdmsg_eq
    calls.extend([26, 0, 0]); // mdmsg_dump
    calls.extend([8, 0, 0, 0, 0, 1, 0]); // mdmsg_append
    calls.extend([11, 0, 0]); // mdmsg_pop
    calls.extend([12, 0, 0]); // mdmsg_popstr
    calls.extend([13, 0, 0]); // mdmsg_unwrap
    calls
}

/// For the target `c_handles`: the first frame is asked of a worker in the same process and answered, and of
/// the broker itself.
/// Behind each function stand two choices that are the first handle of its type.
fn handle_calls(body: &[Vec<u8>]) -> Vec<u8> {
    // mdwrk_async_new and mdcli_async_new, with the broker that works and the service `echo`.
    let mut calls = vec![0, 0, 0, 3, 0, 0, 0, 1];
    if let Some(frame) = body.first() {
        calls.push(1); // mdmsg_addmem
        calls.extend(memory(frame));
        calls.extend([5, 0, 0, 0, 2, 0, 0, 0, 0]); // mdcli_async_send
        calls.extend([10, 0, 0, 2, 2].repeat(3)); // mdwrk_async_recv
        calls.extend([13, 0, 0, 0, 1]); // mdreq_body
        calls.extend([13, 0, 0, 0, 3, 1, 0, 0, 0]); // mdreq_reply
        calls.extend([5, 0, 0, 0, 5, 0, 2]); // mdcli_async_recv
        calls.extend([0, 0, 0, 0, 0]); // mdcli_new
        calls.push(1); // mdmsg_addmem
        calls.extend(memory(frame));
        calls.extend([3, 0, 0, 5, 4, 0, 0, 0]); // mdcli_send to mmi.service
        calls.extend([0, 0, 0, 0, 4, 1]); // mdbrk_new
        calls.extend([15, 0, 0, 7, 3, 1]); // mdbrk_start
        calls.extend([15, 0, 0, 5]); // mdbrk_stats
    }
    calls
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::{BEFORE, OF_BODIES, handle_calls, input, message_calls, question};
    use crate::fuzz::TARGETS;
    use serde_json::json;

    #[test]
    fn a_vector_is_written_as_the_targets_read_it() {
        let vector = json!(["", "4d44", "00".repeat(258)]);
        let written = input(&vector).expect("hexadecimal").expect("small enough");
        assert_eq!(written[..10], [3, 0, 0, 2, 0, 0x4d, 0x44, 2, 1, 0]);
        assert_eq!(written.len(), 1 + 2 + 4 + 2 + 258);
        assert_eq!(input(&json!(["00".repeat(65_536)])).expect("hexadecimal"), None);
        assert!(input(&json!(["xy"])).is_err());
    }

    #[test]
    fn a_body_is_in_what_is_made_of_it_and_a_large_one_as_far_as_its_length_tells() {
        let body = [vec![b'x'; 300], b"some".to_vec()];
        let holds = |seed: &[u8], part: &[u8]| seed.windows(part.len()).any(|window| window == part);
        assert!(holds(&question(5, &body), &[&b"\x02\x2c\x01"[..], &body[0], b"\x04\0some"].concat()));
        assert!(holds(&message_calls(&body), b"\0\x04some"));
        for seed in [message_calls(&body), handle_calls(&body)] {
            assert!(holds(&seed, &[&b"\0\xff"[..], &body[0][..255]].concat()) && !holds(&seed, &body[0][..256]));
        }
    }

    #[test]
    fn every_target_has_seeds() {
        let of_bodies = OF_BODIES.iter().map(|(target, ..)| *target);
        let mut seeded: Vec<&str> = BEFORE.iter().map(|(target, _)| *target).chain(of_bodies).collect();
        let mut targets = TARGETS.to_vec();
        seeded.sort_unstable();
        targets.sort_unstable();
        assert_eq!(seeded, targets);
    }
}
