//! Work that is repeated only when what it depends on has changed, by content and not by date.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use walkdir::WalkDir;

/// The inputs of one piece of work.
#[derive(Debug)]
pub(crate) struct Stamp {
    file: PathBuf,
    hasher: DefaultHasher,
}

impl Stamp {
    /// The stamp of the work `name`; stamps lie in `target/xtask`.
    pub(crate) fn new(target: &Path, name: &str) -> Self {
        Stamp { file: target.join("xtask").join(format!("{name}.stamp")), hasher: DefaultHasher::new() }
    }

    /// Adds a text that the work depends on.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.hasher.write_usize(text.len());
        self.hasher.write(text.as_bytes());
        self
    }

    /// Adds a file, or all files of a folder, with their names.
    pub(crate) fn files(mut self, path: &Path) -> Result<Self> {
        for entry in WalkDir::new(path).sort_by_file_name() {
            let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
            if entry.file_type().is_file() && !is_litter(entry.path()) {
                let content =
                    fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
                self = self.text(&entry.path().to_string_lossy());
                self.hasher.write_usize(content.len());
                self.hasher.write(&content);
            }
        }
        Ok(self)
    }

    /// Does the work unless it was done with the same inputs and `result` still exists.
    pub(crate) fn unless_done(self, result: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let now = format!("{:016x}\n", self.hasher.finish());
        if result.exists() && fs::read_to_string(&self.file).is_ok_and(|before| before == now) {
            return Ok(());
        }
        // What is half done has no stamp.
        let _ = fs::remove_file(&self.file);
        work()?;
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.file, now).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// What tools leave between sources.
fn is_litter(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pyc")
}

#[cfg(test)]
mod tests {
    use super::Stamp;
    use std::cell::Cell;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("majordomo-xtask-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a scratch folder");
        folder
    }

    #[test]
    fn work_is_done_again_only_when_an_input_changes_or_its_result_is_gone() {
        let folder = scratch("stamp");
        let input = folder.join("input");
        let result = folder.join("result");
        let done = Cell::new(0);
        let work = |content: &str| {
            std::fs::write(&input, content).expect("writable");
            let stamp = Stamp::new(&folder, "work").files(&input).expect("readable");
            stamp
                .unless_done(&result, || {
                    done.set(done.get() + 1);
                    Ok(std::fs::write(&result, "")?)
                })
                .expect("the work succeeds");
            done.get()
        };
        assert_eq!([work("a"), work("a"), work("b"), work("b"), work("a")], [1, 1, 2, 2, 3]);
        std::fs::remove_file(&result).expect("removable");
        assert_eq!(work("a"), 4);
        std::fs::remove_dir_all(&folder).expect("removable");
    }

    #[test]
    fn work_that_failed_is_done_again() {
        let folder = scratch("failed");
        let attempt =
            |outcome: anyhow::Result<()>| Stamp::new(&folder, "work").text("same").unless_done(&folder, || outcome);
        assert!(attempt(Err(anyhow::anyhow!("no network"))).is_err());
        assert!(attempt(Err(anyhow::anyhow!("still none"))).is_err());
        assert!(attempt(Ok(())).is_ok());
        assert!(attempt(Err(anyhow::anyhow!("not called"))).is_ok());
        std::fs::remove_dir_all(&folder).expect("removable");
    }
}
