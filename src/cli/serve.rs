//! `weir serve`.

use super::ConfigFile;
use crate::{
    app::{App, Migrate},
    http::listen::stop_signal,
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
    let settings = arguments.file.load()?;
    telemetry::init(&settings.log)?;
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let migrate = if arguments.migrate { Migrate::Always } else { Migrate::IfEmbedded };
    let app = App::build(&settings, arguments.file.config, migrate).await?;
    let addresses: Vec<String> = app.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(listen = addresses.join(", "), version = env!("CARGO_PKG_VERSION"), "serving");
    app.serve(stopped()).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Completes when the process is asked to stop.
pub(super) async fn stopped() {
    match stop_signal().await {
        Ok(()) => tracing::info!("stopping; running answers may finish"),
        Err(error) => {
            tracing::error!(%error, "signals cannot be received; only a kill stops this server");
            std::future::pending::<()>().await;
        }
    }
}
