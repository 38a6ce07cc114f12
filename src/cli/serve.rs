//! `weir serve`.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
};

use anyhow::{Context, bail};
use chrono::{SecondsFormat, TimeDelta};
use serde_json::json;
use tokio::sync::mpsc;
use url::{Host, Url};

use crate::{
    app::{App, Migrate},
    config::Settings,
    http::listen::StopSignals,
    service::core::clock::{Clock, Hands},
    telemetry,
    worker::Tasks,
};

use super::{ConfigFile, print};

/// The longest step of simulated time, in seconds: ten years.
const LONGEST_STEP: i64 = 10 * 366 * 86_400;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Applies pending database migrations first, also on PostgreSQL
    #[arg(long)]
    migrate: bool,
    /// Lets standard input move the clock: `advance SECONDS` makes that much time pass and runs what is then due. For
    /// simulations only: refused unless the server can be reached only from its own machine
    #[arg(long, hide = true)]
    simulate: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = arguments.file.check()?;
    let mut signals = stop_signals()?;
    let _lines = telemetry::init(&settings.log)?;
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let (clock, hands) = if arguments.simulate {
        check_private(&settings)?;
        tracing::error!(
            "time is simulated: what the audit trail says of it is not true; never serve anybody like this"
        );
        let (clock, hands) = Clock::driven();
        (clock, Some(hands))
    } else {
        (Clock::system(), None)
    };
    let migrate = if arguments.migrate { Migrate::Always } else { Migrate::IfEmbedded };
    let app = tokio::select! {
        built = App::build_by(clock, &settings, arguments.file.config, migrate) => built?,
        () = signals.next() => {
            tracing::info!("stopped before it served");
            return Ok(());
        }
    };
    let addresses: Vec<String> = app.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(listen = addresses.join(", "), version = env!("CARGO_PKG_VERSION"), "serving");
    match hands {
        None => app.serve(signals).await?,
        Some(hands) => {
            let driving = drive(app.service.core.clock.clone(), hands, app.tasks.clone());
            tokio::select! {
                served = app.serve(signals) => served?,
                Err(error) = driving => return Err(error),
            }
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// Listens for the signals that stop the process.
pub(super) fn stop_signals() -> anyhow::Result<StopSignals> {
    StopSignals::listen().context("signals cannot be received, so that only a kill would stop this")
}

/// Refuses settings that make the server reachable from other machines.
fn check_private(settings: &Settings) -> anyhow::Result<()> {
    let server = &settings.server;
    let is_local = |address: SocketAddr| address.ip().is_loopback();
    let host = Url::parse(&server.public_url).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    let is_known_here = match host {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    };
    if !is_known_here || !is_local(server.listen) || !server.admin_listen.is_none_or(is_local) {
        bail!(
            "time is simulated only where server.listen, server.admin_listen and server.public_url are this machine's own"
        );
    }
    Ok(())
}

/// Moves the clock as standard input says. Each line is answered with a line of JSON: the new time, and the tasks that
/// ran or failed.
async fn drive(clock: Clock, hands: Hands, tasks: Tasks) -> anyhow::Result<()> {
    let (told, mut lines) = mpsc::channel(1);
    // A separate thread, because reading may never end.
    thread::Builder::new().name("time".into()).spawn(move || {
        for line in std::io::stdin().lines() {
            if told.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    while let Some(line) = lines.recv().await {
        let line = line.context("standard input cannot be read")?;
        let step = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["advance", seconds] => seconds.parse().ok().filter(|seconds| (0..=LONGEST_STEP).contains(seconds)),
            _ => None,
        };
        let answer = match step {
            None => json!({"error": "write `advance SECONDS`"}),
            Some(seconds) => {
                hands.advance(TimeDelta::seconds(seconds));
                let ran = tasks.run_due().await;
                let failed: Vec<_> = ran
                    .iter()
                    .filter_map(|task| Some(json!({"task": task.name, "why": task.failure.as_ref()?})))
                    .collect();
                let now = clock.now().to_rfc3339_opts(SecondsFormat::Micros, true);
                json!({"now": now, "ran": ran.iter().map(|task| task.name).collect::<Vec<_>>(), "failed": failed})
            }
        };
        print::line(&answer).context("the output cannot be written")?;
    }
    // Standard input has ended; the server goes on.
    std::future::pending().await
}
