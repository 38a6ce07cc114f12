//! Checks authorization, errors, bodies and headers.

use serde_json::{Value, json};

use crate::conformance::{
    check::{Check, Outcome, check, ensure, skip},
    client::{Call, encode},
    context::{Context, EVERYTHING, Subject, query},
};

pub(super) const CHECKS: &[Check] = &[
    check!(1, "REST APIs", "a request without a token is answered 401", no_token),
    check!(2, "REST APIs", "a wrong token is answered 401", wrong_token),
    check!(3, "REST APIs", "a 401 has the protocol's error body", unauthorized_body),
    check!(7, "REST APIs", "an unknown route is answered 404, in JSON", unknown_route),
    check!(8, "REST APIs", "a wrong method on a known route is answered 405", wrong_method),
    check!(9, "REST APIs", "every error has a JSON body with errorCode and message", error_bodies),
    check!(10, "Read Data from a Table", "a query with malformed JSON is answered 400", malformed_body),
    check!(11, "Read Data from a Table", "a query with an empty body is answered 400", empty_body),
    check!(12, "Read Data from a Table", "a query without a content type is answered", no_content_type),
    check!(13, "Read Data from a Table", "a content type with a charset is taken", charset),
    check!(14, "Request Body", "unknown members of a body are ignored", unknown_members),
    check!(15, "Request Body", "a version may be a number in a string", version_as_string),
    check!(16, "Request Body", "idempotencyKey is taken in both spellings", idempotency_key),
    check!(17, "Delta Sharing Capabilities Header", "an odd capabilities header is read leniently", odd_capabilities),
    check!(18, "Delta Sharing Capabilities Header", "a capability that is no boolean is false", junk_boolean),
    check!(19, "REST APIs", "a client that takes gzip gets a valid answer", gzip),
    check!(20, "REST APIs", "no nonsense of a client is answered 5xx", nonsense),
];

async fn no_token(ctx: &Context) -> Outcome {
    ctx.client.get("/shares").without_token().send().await?.expect(&[401]).map(|_| ())
}

async fn wrong_token(ctx: &Context) -> Outcome {
    ctx.client.get("/shares").with_wrong_token().send().await?.expect(&[401]).map(|_| ())
}

async fn unauthorized_body(ctx: &Context) -> Outcome {
    for call in [ctx.client.get("/shares").with_wrong_token(), ctx.client.get("/shares").without_token()] {
        let answer = call.send().await?;
        if answer.status < 400 {
            return skip("the server lets everybody in");
        }
        answer.expect_error_body()?;
    }
    Ok(())
}

async fn unknown_route(ctx: &Context) -> Outcome {
    let answer = ctx.client.get("/no-such-route").send().await?;
    answer.expect(&[404])?.expect_error_body()
}

async fn wrong_method(ctx: &Context) -> Outcome {
    let answer = ctx.client.get(ctx.any()?.path("/query")).send().await?;
    // A server may also treat this method on the route as unknown.
    answer.expect(&[405, 404]).map(|_| ())
}

async fn error_bodies(ctx: &Context) -> Outcome {
    let client = &ctx.client;
    let mut calls = vec![
        client.get("/shares").query("maxResults", "junk"),
        client.get("/shares").query("pageToken", "!"),
        client.get("/shares/no-such-share"),
        client.get("/shares/no-such-share/schemas"),
        client.get("/shares/no-such-share/all-tables"),
        client.get("/shares/no-such-share/schemas/none/tables/none/metadata"),
        client.post("/shares/no-such-share/schemas/none/tables/none/query", &json!({})),
    ];
    if let Ok(subject) = ctx.any() {
        calls.push(client.get(subject.path("-no-such-table/version")));
        calls.push(client.get(subject.path("/metadata")).query("version", "junk"));
        calls.push(client.post_text(subject.path("/query"), "{").header("content-type", "application/json"));
        calls.push(subject.query(client, &json!({ "version": -1 })));
    }
    for call in calls {
        let answer = call.send().await?;
        if answer.status >= 400 {
            answer.expect_error_body()?;
        }
    }
    Ok(())
}

fn raw<'a>(ctx: &'a Context, subject: &Subject, body: &str) -> Call<'a> {
    ctx.client.post_text(subject.path("/query"), body).capabilities(subject.capabilities())
}

async fn malformed_body(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    for body in ["{", "not json", "[1", "{\"limitHint\":}"] {
        let call = raw(ctx, subject, body).header("content-type", "application/json");
        call.send().await?.expect(&[400])?;
    }
    Ok(())
}

async fn empty_body(ctx: &Context) -> Outcome {
    let call = raw(ctx, ctx.any()?, "").header("content-type", "application/json");
    call.send().await?.expect(&[400]).map(|_| ())
}

async fn no_content_type(ctx: &Context) -> Outcome {
    raw(ctx, ctx.any()?, "{\"limitHint\":1}").send().await?.lines().map(|_| ())
}

async fn charset(ctx: &Context) -> Outcome {
    let call = raw(ctx, ctx.any()?, "{\"limitHint\":1}").header("content-type", "application/json; charset=utf8");
    call.send().await?.lines().map(|_| ())
}

async fn unknown_members(ctx: &Context) -> Outcome {
    let body = json!({ "limitHint": 1, "noSuchMember": { "a": [1, null] }, "another": "x" });
    ctx.any()?.query(&ctx.client, &body).send().await?.lines().map(|_| ())
}

async fn version_as_string(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    let version = subject.version();
    let number = query(ctx, subject, json!({ "version": version })).await?;
    let text = query(ctx, subject, json!({ "version": version.to_string() })).await?;
    ensure!(number.version == text.version, "{} is answered with version {}", text.shown, text.version);
    ensure!(number.ids()? == text.ids()?, "{} and {} list different files", number.shown, text.shown);
    Ok(())
}

async fn idempotency_key(ctx: &Context) -> Outcome {
    for key in ["idempotencyKey", "idempotency_key"] {
        let body = json!({ "limitHint": 1, key: "4f7d2f06-conformance" });
        ctx.any()?.query(&ctx.client, &body).send().await?.lines()?;
    }
    Ok(())
}

async fn odd_capabilities(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let odd = match subject.capabilities() {
        "" => "ResponseFormat=Parquet; ReaderFeatures=deletionVectors;;junk;a=b=c".to_owned(),
        all => format!("; {};;junk;a=b=c", all.replace("responseformat", "ResponseFormat").replace(';', " ; ")),
    };
    let lines = ctx.client.get(subject.path("/metadata")).capabilities(&odd).send().await?.lines()?;
    let same = lines.format == subject.metadata.format;
    ensure!(same, "{} is answered in another format than the same header without oddities", lines.shown);
    Ok(())
}

async fn junk_boolean(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let base = if subject.capabilities().is_empty() { "responseformat=parquet" } else { EVERYTHING };
    let call = ctx.client.post(subject.path("/query"), &json!({ "limitHint": 1 }));
    let lines = call.capabilities(&format!("{base};includeendstreamaction=maybe")).send().await?.lines()?;
    ensure!(lines.end.is_none(), "{} is answered with an EndStreamAction", lines.shown);
    Ok(())
}

async fn gzip(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    for call in [ctx.client.get("/shares"), subject.query(&ctx.client, &json!({ "limitHint": 1 }))] {
        let answer = call.header("accept-encoding", "gzip").send().await?;
        answer.expect(&[200])?;
        match answer.header("content-encoding").unwrap_or("identity") {
            "identity" => {
                answer.text()?;
            }
            "gzip" => ensure!(answer.body.starts_with(&[0x1f, 0x8b]), "{} in gzip that is none", answer.what()),
            other => ensure!(false, "{} in the encoding `{other}`, which was not offered", answer.what()),
        }
    }
    Ok(())
}

async fn nonsense(ctx: &Context) -> Outcome {
    for call in nonsense_calls(ctx) {
        let answer = call.send().await?;
        ensure!(answer.status < 500, "{}", answer.what());
    }
    Ok(())
}

/// Returns calls with invalid values for each parameter.
fn nonsense_calls(ctx: &Context) -> Vec<Call<'_>> {
    const TEXTS: [&str; 8] = ["", "-1", "junk", "1.5", "99999999999999999999", "null", "\u{0}", "\u{1F9A6}"];
    let client = &ctx.client;
    let mut calls = Vec::new();
    for text in TEXTS {
        calls.push(client.get("/shares").query("maxResults", text));
        calls.push(client.get("/shares").query("pageToken", text));
        calls.push(client.get(format!("/shares/{}", encode(text))));
    }
    let Ok(subject) = ctx.any() else { return calls };
    for text in TEXTS {
        for (route, parameter) in [
            ("/version", "startingTimestamp"),
            ("/metadata", "version"),
            ("/metadata", "timestamp"),
            ("/changes", "startingVersion"),
            ("/changes", "startingTimestamp"),
            ("/changes", "maxFiles"),
            ("/changes", "pageToken"),
        ] {
            let call = client.get(subject.path(route)).query(parameter, text);
            calls.push(call.capabilities(subject.capabilities()));
        }
    }
    let values = [json!(null), json!(-1), json!("junk"), json!(1.5), json!(1e300), json!([1]), json!({}), json!(true)];
    for member in [
        "predicateHints",
        "jsonPredicateHints",
        "limitHint",
        "version",
        "timestamp",
        "startingVersion",
        "endingVersion",
        "maxFiles",
        "pageToken",
        "refreshToken",
        "includeRefreshToken",
    ] {
        for value in &values {
            // The limit keeps successful answers short.
            let mut body = json!({ "limitHint": 1 });
            body[member] = value.clone();
            calls.push(subject.query(client, &body));
        }
    }
    for body in [json!(null), json!([]), json!("text"), json!(1)] as [Value; 4] {
        calls.push(subject.query(client, &body));
    }
    let odd = ["responseformat=;=;;", "includeendstreamaction=maybe", "asyncquery=maybe", "readerfeatures=,,,", "="];
    calls.extend(odd.map(|header| client.get(subject.path("/metadata")).capabilities(header)));
    calls
}
