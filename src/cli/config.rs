//! `weir config check` and `weir config show`.

use clap::Subcommand;

use super::ConfigFile;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Checks the configuration and reports every problem
    Check(ConfigFile),
    /// Prints the configuration in force, with secrets redacted
    Show(ConfigFile),
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(file) => {
            let settings = file.load()?;
            settings.warnings.iter().for_each(|warning| eprintln!("weir: warning: {warning}"));
            println!("the configuration is valid");
        }
        Command::Show(file) => println!("{}", file.load()?.render_redacted()),
    }
    Ok(())
}
