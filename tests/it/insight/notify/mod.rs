//! Signals: each is found where it arises, told once, and delivered to a receiver over HTTP.

mod command;
mod delivery;
mod signals;

use serde_json::Value;
use weir::config::{Settings, WebhookSettings};

use crate::support::{app::TestApp, receiver::TestReceiver};

/// The secret of every webhook here.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The previous secret.
pub const PREVIOUS: &str = "whsec_cHJldmlvdXMtcHJldmlvdXMtcHJldmlvdXM=";

pub fn webhook(settings: Value) -> WebhookSettings {
    serde_json::from_value(settings).unwrap()
}

/// Makes a server send every signal to `receiver` as the webhook `ops`.
pub fn telling(receiver: &TestReceiver) -> impl Fn(&mut Settings) + use<> {
    let ops = webhook(receiver.webhook("ops", SECRET));
    move |settings| settings.notify.webhook.push(ops.clone())
}

/// Sends the messages that are due.
pub async fn deliver(app: &TestApp) {
    app.service.insight.deliver_due("ops").await.unwrap();
}

/// The stored notifications, oldest first.
pub async fn kept(app: &TestApp, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/notifications{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}
