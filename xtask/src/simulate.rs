//! `cargo xtask simulate`: builds the virtual-time bed and runs it.

use std::ffi::OsString;

use anyhow::Result;

use crate::process::Run;
use crate::project::Project;

/// What `majordomo-simulate` is asked for; it knows its options itself.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Options of majordomo-simulate, for example: --seeds 1000000 --from 0, --seed 17, --script FILE, --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Whether every promise was kept.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<bool> {
    project.cargo("build").args(["--quiet", "--package", "majordomo-simulation", "--bins"]).run()?;
    let status = Run::new(project.binary("majordomo-simulate")).args(&arguments.options).watch(|_| ())?;
    Ok(status.success())
}
