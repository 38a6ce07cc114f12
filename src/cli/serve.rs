//! `weir serve`.

use anyhow::Context;

use super::ConfigFile;
use crate::{
    app::{App, Migrate},
    http::listen::StopSignals,
    telemetry,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Applies pending migrations first, also on PostgreSQL
    #[arg(long)]
    migrate: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = arguments.file.check()?;
    let signals = stop_signals()?;
    telemetry::init(&settings.log)?;
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let migrate = if arguments.migrate { Migrate::Always } else { Migrate::IfEmbedded };
    let app = App::build(&settings, arguments.file.config, migrate).await?;
    let addresses: Vec<String> = app.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(listen = addresses.join(", "), version = env!("CARGO_PKG_VERSION"), "serving");
    app.serve(signals).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What asks the process to stop.
pub(super) fn stop_signals() -> anyhow::Result<StopSignals> {
    StopSignals::listen().context("signals cannot be received, so that only a kill would stop this")
}
