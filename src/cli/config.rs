//! `weir config check` and `weir config show`.

use clap::Subcommand;

use super::{ConfigFile, print};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Checks the configuration and reports everything that would keep the server from starting
    ///
    /// Also checks what the configuration refers to: keys, certificates, folders and options of stores. It creates
    /// nothing and asks nothing over the network; `weir doctor` does.
    Check(ConfigFile),
    /// Prints the configuration in force, with secrets redacted
    Show(ConfigFile),
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(file) => {
            let settings = file.check()?;
            settings.warnings.iter().for_each(|warning| print::note(format_args!("warning: {warning}")));
            Ok(print::line("the configuration is valid")?)
        }
        Command::Show(file) => Ok(print::line(file.load()?.render_redacted())?),
    }
}
