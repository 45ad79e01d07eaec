//! `cargo xtask chaos`: processes of all languages over one broker, and everything that can happen to them.
//! The program is `conformance/chaos`; this builds what it needs.

use anyhow::Result;

use crate::build::{Builder, Stage};
use crate::examples::Check;
use crate::process::Run;
use crate::project::Project;

/// How long, and which.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// How long the whole run takes, in minutes; fractions are fine
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// What decides which faults happen to whom and when; drawn and printed where it is not given
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Print the report as JSON, as the last line of standard output, and what happens on standard error
    #[arg(long)]
    json: bool,
}

/// Runs it; an error where a request was lost, doubled, answered wrongly or left hanging, or a process crashed.
pub(crate) fn run(project: &Project, builder: &mut Builder<'_>, arguments: &Arguments) -> Result<()> {
    builder.need(&[Stage::Workspace, Stage::Wheel, Stage::Addon, Stage::CAgents])?;
    let mut run = Run::new(project.venv("python")).args(["-m", "chaos", "--minutes"]);
    run = run.arg(arguments.minutes.to_string()).arg("--logs").arg(project.target().join("chaos"));
    if let Some(seed) = arguments.seed {
        run = run.arg("--seed").arg(seed.to_string());
    }
    if arguments.json {
        run = run.arg("--json");
    }
    run.env("MAJORDOMO_TARGET_DIR", project.built())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .dir(&project.path("conformance"))
        .run()
}

/// A short run as one of the tests.
pub(crate) fn check(project: &Project, builder: &mut Builder<'_>) -> Vec<Check> {
    let arguments = Arguments { minutes: 1.0, seed: None, json: false };
    vec![Check { name: "a minute of chaos".to_owned(), outcome: run(project, builder, &arguments) }]
}
