//! Where things are: the folders of the project and of what is built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::Run;

/// The languages of the project, in the order of every table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Language {
    Rust,
    Python,
    Node,
    C,
    Cpp,
}

impl Language {
    pub(crate) const ALL: [Language; 5] =
        [Language::Rust, Language::Python, Language::Node, Language::C, Language::Cpp];

    /// The name of its folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::Node => "node",
            Language::C => "c",
            Language::Cpp => "cpp",
        }
    }

    /// Its name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::Python => "Python",
            Language::Node => "Node",
            Language::C => "C",
            Language::Cpp => "C++",
        }
    }
}

/// The project's folders.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    /// The target triple that everything is built for: this machine's.
    pub(crate) triple: String,
}

impl Project {
    /// The project that this xtask was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
        let output = Run::new("rustc").args(["--version", "--verbose"]).read()?;
        let version = String::from_utf8(output)?;
        let Some(triple) = version.lines().find_map(|line| line.strip_prefix("host: ")) else {
            bail!("rustc does not say what its host is:\n{version}");
        };
        Ok(Project { root: root.to_owned(), triple: triple.to_owned() })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// The folder of the built binaries and libraries.
    pub(crate) fn built(&self) -> PathBuf {
        self.target().join(&self.triple).join("release")
    }

    /// A built binary.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.built().join(name)
    }

    /// A program of the virtual environment.
    pub(crate) fn venv(&self, program: &str) -> PathBuf {
        self.target().join("venv/bin").join(program)
    }

    /// A program of the Node binding's development packages.
    pub(crate) fn npm_program(&self, name: &str) -> PathBuf {
        self.root.join("bindings-node/node_modules/.bin").join(name)
    }

    /// Cargo for the one profile and target that everything shares, in the project's folder.
    pub(crate) fn cargo(&self, command: &str) -> Run {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Run::new(cargo)
            .arg(command)
            .args(["--release", "--target", &self.triple])
            .env("CARGO_TARGET_DIR", self.target())
            .dir(&self.root)
    }

    /// How an example's program is started; `example` is its folder and `program` its file without extension.
    pub(crate) fn example(&self, language: Language, example: &str, program: &str) -> Run {
        let binary = if example == program { program.to_owned() } else { format!("{example}-{program}") };
        let source = self.path("examples").join(example).join(language.folder());
        match language {
            Language::Rust => Run::new(self.binary(&format!("example-{binary}"))),
            Language::Python => Run::new(self.venv("python")).arg(source.join(format!("{program}.py"))),
            Language::Node => Run::new("node").arg(source.join(format!("{program}.mjs"))),
            Language::C | Language::Cpp => Run::new(self.built().join("examples").join(language.folder()).join(binary)),
        }
    }
}
