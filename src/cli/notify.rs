//! `weir notify`: tests whether signals arrive.

use anyhow::Context;
use chrono::Utc;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::insight::signal::{Signal, SignalKind},
    notify::Messenger,
};

use super::{ConfigFile, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Sends one `test.ping` to a configured webhook, and reports the outcome
    Test(Test),
}

#[derive(Debug, clap::Args)]
pub(super) struct Test {
    #[command(flatten)]
    file: ConfigFile,
    /// The webhook's name
    name: String,
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Test(Test { file, name }) = command;
    let settings = file.load()?.notify;
    if !settings.webhook.iter().any(|webhook| webhook.name == name) {
        let known: Vec<&str> = settings.webhook.iter().map(|webhook| webhook.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        anyhow::bail!("the settings name no webhook `{name}`; there is: {known}");
    }
    let messenger = Messenger::new(&settings.webhook)?;
    let (id, now) = (Uuid::now_v7(), Utc::now());
    let data = json!({"webhook": name});
    let ping = Signal { kind: SignalKind::TestPing, subject: id.to_string(), mark: String::new(), data };
    let sent = messenger.send(&name, id, &ping.body(now), now).await;
    sent.with_context(|| format!("`{name}` did not take the message {id}"))?;
    print::line(format_args!("`{name}` took the message {id}"))?;
    Ok(())
}
