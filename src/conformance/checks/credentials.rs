//! Checks temporary credentials, only with requests that every server must refuse, so that no credentials are issued.

use serde_json::json;

use crate::conformance::{
    check::{Check, Outcome, check, skip},
    context::Context,
};

const ROUTE: &str = "/temporary-table-credentials";

pub(super) const CHECKS: &[Check] = &[
    check!(
        137,
        "Generate Temporary Table Credential",
        "no credentials are given for places outside of a table",
        outside
    ),
    check!(138, "Generate Temporary Table Credential", "a malformed body gets no credentials", malformed),
];

async fn outside(ctx: &Context) -> Outcome {
    for location in ["s3://no-such-bucket-4f7d2f06/x", "file:///", "s3://", "../.."] {
        let call = ctx.client.post(ctx.any()?.path(ROUTE), &json!({ "location": location }));
        let answer = call.send().await?;
        if answer.status == 501 {
            return skip("the server gives out no credentials");
        }
        answer.expect_client_error()?;
    }
    Ok(())
}

async fn malformed(ctx: &Context) -> Outcome {
    let call = ctx.client.post_text(ctx.any()?.path(ROUTE), "{\"location\":");
    let answer = call.header("content-type", "application/json").send().await?;
    if answer.status == 501 {
        return skip("the server gives out no credentials");
    }
    answer.expect_client_error().map(|_| ())
}
