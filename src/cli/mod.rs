//! The command line: the clap tree, one file per command. Never holds a rule of its own.

/// Parses the command line, runs the command, and answers its exit code.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
