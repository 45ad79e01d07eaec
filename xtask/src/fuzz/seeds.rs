//! The golden vectors, written down as the fuzz targets read their inputs (see `fuzz/src/input.rs`).

use std::fs;

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

/// Writes a file for each vector and each target that reads frames, and one for each table.
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
        for (target, before) in BEFORE {
            let folder = project.target().join("fuzz/seeds").join(target);
            fs::create_dir_all(&folder)?;
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

/// The frames of a vector: their number in one byte, and each with its length in two; `None` for what does not fit.
fn input(frames: &Value) -> Result<Option<Vec<u8>>> {
    let frames = frames.as_array().context("a vector without frames")?;
    let Ok(count) = u8::try_from(frames.len()) else { return Ok(None) };
    let mut input = vec![count];
    for frame in frames {
        let bytes = from_hex(frame.as_str().context("a frame that is no text")?)?;
        let Ok(length) = u16::try_from(bytes.len()) else { return Ok(None) };
        input.extend(length.to_le_bytes());
        input.extend(bytes);
    }
    Ok(Some(input))
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::input;
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
}
