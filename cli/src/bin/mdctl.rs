//! Asking a broker and its services from the command line.

fn main() -> std::process::ExitCode {
    majordomo_cli::mdctl(std::env::args_os())
}
