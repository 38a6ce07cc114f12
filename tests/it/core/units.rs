//! Changes in one unit: all of them are kept together, or none is.

use chrono::Utc;
use serde_json::{Value, json};
use weir::{
    domain::{
        access::purpose::PurposeSpec,
        catalog::share::ShareSpec,
        core::name::{Name, NameKind},
    },
    service::core::{
        change::{Named, named},
        context::{OperatorContext, Run},
        error::ServiceError,
    },
};

use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    changes_of_a_unit_are_kept_together_or_not_at_all,
    a_change_that_is_refused_takes_those_before_it_along,
);

fn said(description: &str) -> Named {
    named(json!({"description": description}))
}

/// Makes a purpose, a share and a recipient in one unit, and keeps them where `is_kept`.
async fn make_three(app: &TestApp, ctx: &OperatorContext, is_kept: bool) -> Result<(), ServiceError> {
    let mut unit = app.service.core.begin_change(ctx).await?;
    let name = |kind, text| Name::parse(kind, text).unwrap();
    let core = &app.service.core;
    core.put_declared_in::<PurposeSpec>(&mut unit, name(NameKind::Purpose, "fraud"), &said("why")).await?;
    core.put_declared_in::<ShareSpec>(&mut unit, name(NameKind::Share, "claims"), &said("what")).await?;
    app.service.access.put_recipient_in(&mut unit, name(NameKind::Recipient, "acme"), &said("who")).await?;
    if !ctx.is_dry() {
        // What was made before in the unit is there for what follows.
        core.update_declared_in::<ShareSpec>(&mut unit, "claims", None, &said("what else")).await?;
    }
    if is_kept {
        unit.commit().await?;
    }
    Ok(())
}

async fn there(app: &TestApp) -> Vec<u16> {
    let mut statuses = Vec::new();
    for path in ["/purposes/fraud", "/shares/claims", "/recipients/acme"] {
        statuses.push(app.get(path).await.status.as_u16());
    }
    statuses
}

async fn made(app: &TestApp) -> Vec<Value> {
    let mut events = Vec::new();
    for action in ["purpose.create", "share.create", "recipient.create", "share.update"] {
        events.extend(app.events(action).await);
    }
    events
}

async fn changes_of_a_unit_are_kept_together_or_not_at_all(app: TestApp) {
    let ctx = OperatorContext::system("test", Utc::now());
    make_three(&app, &ctx, false).await.unwrap();
    assert_eq!(there(&app).await, [404; 3], "a unit that nobody commits leaves nothing");
    make_three(&app, &OperatorContext { run: Run::Dry, ..ctx.clone() }, true).await.unwrap();
    assert_eq!((there(&app).await, made(&app).await.len()), (vec![404; 3], 0), "a dry run leaves nothing");

    make_three(&app, &ctx, true).await.unwrap();
    assert_eq!(there(&app).await, [200; 3]);
    let events = made(&app).await;
    let first = events[0]["seq"].as_i64().unwrap();
    let seqs: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (first..first + 4).collect::<Vec<_>>(), "nothing came between them");
    assert!(events.iter().all(|event| event["at"] == events[0]["at"]), "they have one time");
    assert_eq!(app.get("/shares/claims").await.expect(200)["description"], "what else");
}

async fn a_change_that_is_refused_takes_those_before_it_along(app: TestApp) {
    let ctx = OperatorContext::system("test", Utc::now());
    let mut unit = app.service.core.begin_change(&ctx).await.unwrap();
    let name = Name::parse(NameKind::Share, "claims").unwrap();
    app.service.core.put_declared_in::<ShareSpec>(&mut unit, name, &said("what")).await.unwrap();
    let refused = app.service.access.revoke_share_in(&mut unit, "nothing", None, None).await;
    assert!(matches!(refused, Err(ServiceError::NotFound { .. })), "{refused:?}");
    drop(unit);
    assert_eq!(app.get("/shares/claims").await.status, 404);
    assert!(app.events("share.create").await.is_empty());
    // The lock is free again.
    app.put("/shares/claims", json!({})).await.expect(201);
}
