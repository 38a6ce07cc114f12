//! What falls due with time and that no request needs: summed audit events, and tokens that nobody used.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::service::Service;

/// How often it is looked. Sums are of whole minutes, so that one is written at most this long after its end.
const EVERY: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub async fn run(service: Service) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.record_summaries(false);
        match service.revoke_unused_tokens().await {
            Ok(0) => {}
            Ok(revoked) => tracing::info!(revoked, "revoked tokens that were fetched by a link and never used"),
            Err(error) => tracing::warn!(error = %error, "unused tokens could not be revoked; trying again"),
        }
    }
}
