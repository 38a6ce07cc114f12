//! The leak tests.

use serde_json::json;

use super::{
    scene::{PLANS, read_well, shared_claims},
    source::Mapping,
    stage::{Stage, on_every_stage},
};

on_every_stage!(lt01_no_secret_is_in_any_file);

async fn lt01_no_secret_is_in_any_file(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    let reads = read_well(&stage, &table, &lens, &acme).await;
    assert!(reads.iter().all(|read| read.files.len() > 1));
}
