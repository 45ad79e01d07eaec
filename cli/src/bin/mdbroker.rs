//! The broker as a program.

fn main() -> std::process::ExitCode {
    majordomo_cli::mdbroker(std::env::args_os()).into()
}
