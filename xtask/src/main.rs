//! The project's own commands: `cargo xtask --help`.

#![expect(clippy::print_stdout, reason = "a program for people, whose output is its purpose")]

mod bench;
mod build;
mod chaos;
mod codegen;
mod demo;
mod dist;
mod examples;
mod failures;
mod fuzz;
mod hub;
mod layers;
mod lint;
mod nightly;
mod process;
mod project;
mod readme;
mod sanitize;
mod setup;
mod simulate;
mod soak;
mod stamp;
mod tally;
mod test;
mod textstats;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;
use crate::test::Part;

/// The project's own commands. They set up what they need inside the repository.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run programs in five languages that call each other's services over one broker
    Demo {
        /// The folder of texts; by default the project's own documentation
        #[arg(long, value_name = "DIR")]
        input: Option<PathBuf>,
    },
    /// Run the tests; the last line says how many passed and failed
    Test {
        /// The parts to run; by default all of them
        #[arg(value_enum)]
        parts: Vec<Part>,
    },
    /// Kill, freeze, cut off and starve processes of five languages under load, and check every answer
    Chaos(chaos::Arguments),
    /// Run the formatters, linters, type checkers and compilers of all languages
    Lint,
    /// Write the generated files: the C header and the types of the Node addon
    Codegen {
        /// Only compare them with a fresh generation
        #[arg(long)]
        check: bool,
    },
    /// Measure Majordomo beside a bare relay and other yardsticks, and print how they compare
    Bench(bench::Arguments),
    /// Run the machines in virtual time over a network that goes wrong, for as many seeds as wanted
    #[command(disable_help_flag = true)]
    Simulate(simulate::Arguments),
    /// Keep programs of all languages busy for a while, and see whether memory, descriptors, threads or latency grow
    Soak(soak::Arguments),
    /// Run the fuzz targets, with the nightly toolchain
    Fuzz(fuzz::Arguments),
    /// Run the tests of the core and of the C library under AddressSanitizer or ThreadSanitizer, with the nightly toolchain
    Sanitize(sanitize::Arguments),
    /// Build what users install, into dist/: wheel, npm tarball, C archive, binaries
    Dist,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = process::end_everything_on_signals().and_then(|()| run(arguments.command));
    process::stay_out_of_the_way_of_a_signal();
    process::end_orphans();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well. An error says why a command could not do its work.
fn run(command: Command) -> Result<bool> {
    let project = Project::find()?;
    match command {
        Command::Demo { input } => demo::run(&project, input.as_deref()).map(|()| true),
        Command::Test { parts } => Ok(test::run(&project, &parts)),
        Command::Chaos(arguments) => {
            chaos::run(&project, &mut build::Builder::new(&project), &arguments).map(|()| true)
        }
        Command::Lint => Ok(lint::run(&project)),
        Command::Codegen { check } => codegen::run(&project, &mut build::Builder::new(&project), check).map(|()| true),
        Command::Bench(arguments) => bench::run(&project, &arguments),
        Command::Simulate(arguments) => simulate::run(&project, &arguments),
        Command::Soak(arguments) => soak::run(&project, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&project, &arguments),
        Command::Sanitize(arguments) => sanitize::run(&project, &arguments),
        Command::Dist => dist::run(&project).map(|()| true),
    }
}
