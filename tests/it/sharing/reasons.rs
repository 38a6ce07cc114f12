//! Every reason for a refusal: its status, its complete body, and its event in the trail.

use axum::body::Body;
use futures::{StreamExt, stream::FuturesUnordered};
use http::{Method, Request, header};
use serde_json::{Value, json};
use weir::{domain::access::decision::Reason, store::Db};

use crate::support::app::{Answer, ROOM, TestApp, on_both_databases};

use super::{Reader, fetch, floods::half_sent, share, steps, with_history};

on_both_databases!(
    every_reason_has_its_status_its_body_and_its_event,
    an_agreement_ends_access_at_its_second_on_every_route,
    the_end_of_a_file_url_says_why,
);

/// What the caller is told.
struct Told {
    status: u16,
    code: &'static str,
    message: String,
    /// When a retry may help.
    retry_after: Option<&'static str>,
}

/// The answer for `reason`, about the share `insurer` and its content. A new reason needs a row here, and a place in
/// [`Reason::ALL`] and in [`meet`].
fn told(reason: Reason) -> Told {
    let seen;
    let (status, code, message) = match reason {
        Reason::TokenUnknown
        | Reason::TokenPending
        | Reason::TokenRevoked
        | Reason::TokenExpired
        | Reason::TokenUnused => (
            401,
            "UNAUTHENTICATED",
            "the bearer token is missing, unknown, expired or revoked; ask the data provider for a new profile file",
        ),
        Reason::IdentityInvalid | Reason::IdentityExpired => (
            401,
            "UNAUTHENTICATED",
            "the access token is expired, malformed, or not meant for this server; get a new one from the identity \
             provider, and check the profile file's token endpoint, client and scope",
        ),
        Reason::IdentityUnbound => (
            401,
            "UNAUTHENTICATED",
            "the access token belongs to nobody whom the data provider knows; tell the data provider the client that it \
             was issued to",
        ),
        Reason::Frozen => (
            403,
            "PERMISSION_DENIED",
            "the data provider has paused all sharing; try again later or ask the data provider",
        ),
        Reason::RecipientSuspended => (
            403,
            "PERMISSION_DENIED",
            "the data provider has suspended this recipient's access; ask the data provider to resume it",
        ),
        Reason::RecipientOffboarded => (
            403,
            "PERMISSION_DENIED",
            "this recipient's access has ended for good; ask the data provider for a new agreement",
        ),
        Reason::AddressNotAllowed => (
            403,
            "PERMISSION_DENIED",
            "requests from the address 127.0.0.1 are not allowed; use an allowed network or ask the data provider to add it",
        ),
        Reason::ShareNotGranted | Reason::TokenOutOfScope => {
            (404, "RESOURCE_DOES_NOT_EXIST", "share 'insurer' not found; check the name or ask the data provider")
        }
        Reason::GrantRevoked | Reason::GrantExpired => {
            (403, "PERMISSION_DENIED", "access to share 'insurer' has ended; ask the data provider to renew it")
        }
        Reason::AgreementEnded => {
            (403, "AGREEMENT_ENDED", "the agreement that access stands on has ended; ask the data provider to renew it")
        }
        Reason::AgreementInactive => (
            403,
            "AGREEMENT_INACTIVE",
            "the agreement that access stands on is not in force: it is suspended, terminated, or not yet active; ask the \
             data provider",
        ),
        Reason::PurposeNotAllowed => (
            403,
            "PURPOSE_NOT_ALLOWED",
            "this data may not be used for the purpose that access was granted for; ask the data provider which purposes \
             the agreement allows",
        ),
        Reason::AgreementMissing => (
            403,
            "AGREEMENT_MISSING",
            "this data may be read only under a contract that your access does not stand on; ask the data provider which one \
             it needs",
        ),
        Reason::UnclassifiedColumn => (
            403,
            "UNCLASSIFIED_COLUMN",
            "the data provider has not yet said what kind of data every column of this table holds; ask the data provider",
        ),
        Reason::RawNotAllowed => (
            403,
            "RAW_NOT_ALLOWED",
            "the data provider no longer shares data of this kind in this way; ask the data provider for a view of it",
        ),
        Reason::GeoDenied(Some(country)) => {
            seen = format!(
                "requests from addresses in the country {country} are not allowed for this data; ask the data provider from \
                 which countries it may be read"
            );
            (403, "GEO_DENIED", seen.as_str())
        }
        Reason::GeoDenied(None) => (
            403,
            "GEO_DENIED",
            "it is not known which country your address is in, and this data may be read from certain countries only; ask \
             the data provider from which",
        ),
        Reason::ActivationUnknown => (
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "there is no such link; check that it was copied whole, or ask the data provider for a new one",
        ),
        Reason::ActivationUsed => (
            410,
            "ACTIVATION_USED",
            "this link has been used: the profile was downloaded with it; if that was not you, tell the data provider at \
             once, and otherwise ask for a new link",
        ),
        Reason::ActivationCancelled => {
            (410, "ACTIVATION_CANCELLED", "this link was cancelled; ask the data provider for a new one")
        }
        Reason::ActivationExpired => {
            (410, "ACTIVATION_EXPIRED", "this link has expired; ask the data provider for a new one")
        }
        Reason::TooManyFailures => (
            429,
            "REQUEST_LIMIT_EXCEEDED",
            "too many failed attempts from this address or with this token; wait a minute, then check the profile file",
        ),
        Reason::RequestsPerMinute => (
            429,
            "REQUEST_LIMIT_EXCEEDED",
            "this recipient has sent as many requests as it may in a minute; wait, or ask the data provider for more",
        ),
        Reason::ConcurrentRequests => (
            429,
            "REQUEST_LIMIT_EXCEEDED",
            "as many requests of this recipient are being answered as may at once; wait, and send fewer at once",
        ),
        Reason::ConcurrentStreams => (
            429,
            "REQUEST_LIMIT_EXCEEDED",
            "as many answers are streaming to this recipient as may at once; wait, or ask the data provider for more",
        ),
        Reason::BytesPerDay => (
            429,
            "REQUEST_LIMIT_EXCEEDED",
            "this would be more data than this recipient may read in a day; wait until tomorrow (UTC), or ask the data \
             provider for more",
        ),
        Reason::AccessChanged => (
            429,
            "REQUEST_LIMIT_EXCEEDED",
            "what this answer stands on was changed while it was prepared; send the request again",
        ),
        Reason::SchemaNotFound => (
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "schema 'insurer/nothing' not found; check the name or ask the data provider",
        ),
        Reason::FileUnknown => {
            (404, "RESOURCE_DOES_NOT_EXIST", "no such file; query the table again or ask the data provider")
        }
        Reason::TableNotFound => (
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "[Share/Schema/Table] 'insurer/s/nothing' does not exist, please contact your share provider for further \
             information.",
        ),
    };
    // These tests start 20 seconds into a minute, at 14:13 of a day.
    let retry_after = match reason {
        Reason::TooManyFailures | Reason::RequestsPerMinute => Some("40"),
        Reason::ConcurrentRequests | Reason::ConcurrentStreams => Some("5"),
        Reason::BytesPerDay => Some("35200"),
        Reason::AccessChanged => Some("1"),
        _ => None,
    };
    Told { status, code, message: message.to_owned(), retry_after }
}

/// Checks the complete answer for `reason`.
#[track_caller]
pub(super) fn is_told(answer: &Answer, reason: Reason) {
    let Told { status, code, message, retry_after } = told(reason);
    assert_eq!(answer.status, status, "{reason:?}: {}", answer.text);
    let id = answer.header("x-request-id");
    // A link's page shows the request's id elsewhere.
    let is_link = reason.code().starts_with("ACTIVATION");
    let message = if is_link { message } else { format!("{message} (request {id})") };
    let body = json!({"errorCode": code, "message": message, "requestId": id});
    assert_eq!(answer.json(), body, "{reason:?}");
    assert_eq!(answer.text.lines().count(), 1, "{reason:?}");
    assert_eq!(answer.header("retry-after"), retry_after.unwrap_or_default(), "{reason:?}");
    assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" }, "{reason:?}");
}

async fn link(app: &TestApp) -> Value {
    app.post("/recipients/acme/tokens", json!({"credential": "by-link"})).await.expect(201)
}

async fn follow(app: &TestApp, method: Method, link: &Value) -> Answer {
    let url = link["activation_url"].as_str().unwrap();
    fetch(app, method, url, &[]).await
}

/// Makes `reason` apply to acme. Returns the answer to a request that meets it, and the action it is recorded under.
async fn meet(app: &TestApp, acme: &Reader<'_>, reason: Reason) -> (Answer, &'static str) {
    let why = || json!({"reason": "a test"});
    let done = async |path: &str, body: Value| {
        let answer = app.post(path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        answer.json()
    };
    let limit = async |limits: Value| app.patch("/recipients/acme", json!({"limits": limits})).await.expect(200);
    let share = || acme.get("/shares/insurer");
    let token = app.get("/recipients/acme/tokens").await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    let answer = match reason {
        Reason::TokenUnknown => Reader { app, token: "unknown".into() }.get("/shares/insurer").await,
        // No caller can hold a token that was not fetched, or one of a recipient that was offboarded.
        Reason::TokenPending => {
            app.execute("UPDATE tokens SET activated_at = NULL").await;
            share().await
        }
        Reason::RecipientOffboarded => {
            app.execute("UPDATE recipients SET state = 'offboarded'").await;
            share().await
        }
        Reason::TokenRevoked => {
            done(&format!("/recipients/acme/tokens/{token}/revoke"), why()).await;
            share().await
        }
        Reason::TokenExpired => {
            app.pass(30 * 86_400);
            share().await
        }
        Reason::TokenUnused => {
            let link = link(app).await;
            let token = follow(app, Method::POST, &link).await.expect(200)["bearerToken"].as_str().unwrap().to_owned();
            app.pass(14 * 86_400);
            Reader { app, token }.get("/shares/insurer").await
        }
        Reason::Frozen => {
            done("/freeze", why()).await;
            share().await
        }
        Reason::RecipientSuspended => {
            done("/recipients/acme/suspend", why()).await;
            share().await
        }
        Reason::AddressNotAllowed => {
            app.patch("/recipients/acme", json!({"allowed_cidrs": ["2001:db8::/32"]})).await.expect(200);
            share().await
        }
        Reason::ShareNotGranted => Reader::rival(app).await.get("/shares/insurer").await,
        Reason::TokenOutOfScope => {
            app.put("/shares/more", json!({})).await.expect(201);
            let narrow = done("/recipients/acme/tokens", json!({"reveal": true, "shares": ["more"]})).await;
            Reader { app, token: narrow["token"].as_str().unwrap().to_owned() }.get("/shares/insurer").await
        }
        Reason::GrantRevoked => {
            done("/shares/insurer/revoke", why()).await;
            share().await
        }
        Reason::GrantExpired | Reason::AgreementEnded => {
            let end = app.now() + chrono::TimeDelta::seconds(5);
            let replaced = app.get("/grants").await.expect(200)["items"][0]["id"].clone();
            let mut grant = json!({"share": "insurer", "recipient": "acme", "replaces": replaced});
            match reason {
                Reason::GrantExpired => grant["valid_until"] = json!(end),
                _ => grant["agreement"] = json!({"ref": "A-7", "valid_until": end}),
            }
            done("/grants", grant).await;
            app.pass(5);
            share().await
        }
        Reason::AgreementInactive | Reason::PurposeNotAllowed => {
            let replaced = app.get("/grants").await.expect(200)["items"][0]["id"].clone();
            let agreement = json!({"ref": "A-7"});
            let grant = json!({"share": "insurer", "recipient": "acme", "replaces": replaced, "agreement": agreement});
            done("/grants", grant).await;
            match reason {
                Reason::AgreementInactive => drop(done("/agreements/A-7/suspend", why()).await),
                _ => drop(app.patch("/agreements/A-7", json!({"purposes": []})).await.expect(200)),
            }
            share().await
        }
        Reason::AgreementMissing => {
            let asked = json!({"agreements": {"PHI": [["BAA"]]}});
            app.execute(format!("UPDATE requirements SET spec = '{asked}'")).await;
            acme.ask("steps", "/version", "").await
        }
        Reason::RawNotAllowed => {
            app.execute("UPDATE requirements SET spec = '{\"refused\": \"PHI\"}'").await;
            acme.ask("steps", "/version", "").await
        }
        Reason::UnclassifiedColumn => {
            let strict = app.replica_set(|settings| settings.governance.require_classification = true);
            app.execute("DELETE FROM requirements").await;
            Reader { app: &strict, token: acme.token.clone() }.ask("steps", "/version", "").await
        }
        Reason::ActivationUnknown => fetch(app, Method::GET, "http://weir.test/activate/unknown", &[]).await,
        Reason::ActivationUsed => {
            let link = link(app).await;
            assert_eq!(follow(app, Method::POST, &link).await.status, 200);
            follow(app, Method::GET, &link).await
        }
        Reason::ActivationCancelled => {
            let link = link(app).await;
            let path = format!("/recipients/acme/tokens/{}/activation", link["id"].as_str().unwrap());
            assert_eq!(app.delete(&path).await.status, 204);
            follow(app, Method::GET, &link).await
        }
        Reason::ActivationExpired => {
            let link = link(app).await;
            app.pass(72 * 3600);
            follow(app, Method::GET, &link).await
        }
        Reason::TooManyFailures => {
            let nobody = Reader { app, token: "unknown".into() };
            for _ in 0..120 {
                assert_eq!(nobody.get("/shares/insurer").await.status, 401);
            }
            nobody.get("/shares/insurer").await
        }
        Reason::RequestsPerMinute => {
            limit(json!({"requests_per_minute": 1})).await;
            assert_eq!(share().await.status, 200);
            share().await
        }
        Reason::ConcurrentRequests => {
            let mut stalled: FuturesUnordered<_> = (0..ROOM.per_recipient).map(|_| half_sent(acme, "steps")).collect();
            loop {
                tokio::select! {
                    answer = share() => {
                        if answer.status != 200 {
                            break answer;
                        }
                    }
                    // A request that was refused because the other had the place is followed by another.
                    Some(_) = stalled.next() => stalled.push(half_sent(acme, "steps")),
                }
            }
        }
        Reason::ConcurrentStreams => {
            limit(json!({"concurrent_streams": 1})).await;
            let acme_id = app.service.access.get_recipient("acme").await.unwrap().id;
            let _running = app.service.sharing.rate_limiter.begin_stream(acme_id, 1).unwrap();
            acme.query("steps", json!({})).await
        }
        Reason::BytesPerDay => {
            limit(json!({"bytes_per_day": 1})).await;
            acme.query("steps", json!({})).await
        }
        // Made to apply where a country file is named, in tests that call `is_told`.
        Reason::GeoDenied(_) => unreachable!("see sharing::geography"),
        // Made to apply in the tests of these races, which call `is_told`.
        Reason::AccessChanged => unreachable!("see sharing::changed"),
        Reason::IdentityInvalid | Reason::IdentityExpired | Reason::IdentityUnbound => {
            unreachable!("see sharing::identities")
        }
        Reason::SchemaNotFound => acme.get("/shares/insurer/schemas/nothing/tables").await,
        Reason::TableNotFound => acme.ask("nothing", "/version", "").await,
        Reason::FileUnknown => fetch(app, Method::GET, "http://weir.test/files/unsealed", &[]).await,
    };
    let action = match reason {
        Reason::SchemaNotFound => "tables.list",
        Reason::TableNotFound | Reason::AgreementMissing | Reason::RawNotAllowed | Reason::UnclassifiedColumn => {
            "table.version"
        }
        Reason::FileUnknown => "file.read",
        Reason::ConcurrentStreams | Reason::BytesPerDay => "table.query",
        reason if reason.code().starts_with("ACTIVATION") => "activation.view",
        _ => "share.get",
    };
    (answer, action)
}

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

/// Each reason has its own server, so that they do not interfere.
async fn every_reason_has_its_status_its_body_and_its_event(app: TestApp) {
    let is_sqlite = matches!(app.service.core.db, Db::Sqlite { .. });
    drop(app);
    for reason in Reason::ALL {
        // These need a race, an issuer or a country file; their own tests call `is_told`.
        if matches!(reason, Reason::AccessChanged | Reason::GeoDenied(_)) || reason.code().starts_with("IDENTITY") {
            continue;
        }
        let app = if is_sqlite { TestApp::sqlite().await } else { TestApp::postgres().await.unwrap() };
        let acme = acme_with_steps(&app).await;
        let (answer, action) = meet(&app, &acme, reason).await;
        is_told(&answer, reason);
        if reason == Reason::TooManyFailures {
            // The first refusals of a flood are recorded with their own reason, and the rest is summed up.
            assert_eq!(app.events(action).await[0]["reason"], "TOKEN_UNKNOWN");
            continue;
        }
        let event = &app.events(action).await[0];
        assert_eq!((&event["decision"], &event["reason"]), (&json!("deny"), &json!(reason.code())), "{event}");
        assert_eq!(event["request_id"], answer.header("x-request-id"), "{event}");
    }
}

#[test]
fn the_documented_reasons_are_those_that_there_are() {
    let documented = include_str!("../../../docs/audit.md");
    for reason in Reason::ALL {
        let code = reason.code();
        assert!(documented.contains(&format!("`{code}`")), "docs/audit.md does not say what {code} means");
        assert_eq!(Reason::ALL.iter().filter(|other| other.code() == code).count(), 1, "{code}");
    }
}

async fn an_agreement_ends_access_at_its_second_on_every_route(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    let file = acme.query("steps", json!({})).await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
    let replaced = app.get("/grants").await.expect(200)["items"][0]["id"].clone();
    let end = app.now() + chrono::TimeDelta::seconds(60);
    let agreement = json!({"ref": "A-7", "valid_until": end});
    let grant = json!({"share": "insurer", "recipient": "acme", "replaces": replaced, "agreement": agreement});
    app.post("/grants", grant).await.expect(201);
    app.pass(59);
    assert_eq!(
        (acme.fetch(&file).await.status, acme.get("/shares/insurer").await.status),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    // Nothing happens but that the second arrives.
    app.pass(1);
    for (method, path, body) in super::auth::ROUTES {
        let answer = acme.send(method.parse().unwrap(), path, &[], body).await;
        assert_eq!(answer.status, 403, "{method} {path}");
        if method != "HEAD" {
            is_told(&answer, Reason::AgreementEnded);
        }
    }
    is_told(&acme.fetch(&file).await, Reason::AgreementEnded);
    assert_eq!(acme.get("/shares").await.expect(200)["items"], json!([]));
    // What it allowed until then is still listed.
    let at =
        |seconds| (app.now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    for (when, count) in [(at(-1), 1), (at(0), 0), (at(100), 0)] {
        let found = app.get(&format!("/grants?share=insurer&at={when}")).await.expect(200);
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{when}");
    }
    assert_eq!(app.get("/grants?recipient=acme").await.expect(200)["items"][1]["state"], "agreement_ended");
}

async fn the_end_of_a_file_url_says_why(app: TestApp) {
    let acme = acme_with_steps(&app).await;
    let url = acme.query("steps", json!({})).await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
    let get = || fetch(&app, Method::GET, &url, &[]);
    let gone = "this file is not shared any more; query the table again or ask the data provider";
    // A URL does not reveal what it once belonged to.
    app.delete("/shares/insurer/objects/s/steps").await.expect(204);
    get().await.refused(404, "RESOURCE_DOES_NOT_EXIST", gone);
    app.delete("/tables/t.steps").await.expect(204);
    share(&app, "steps", with_history()).await;
    get().await.refused(404, "RESOURCE_DOES_NOT_EXIST", gone);
    let url = acme.query("steps", json!({})).await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
    let get = || fetch(&app, Method::GET, &url, &[]);
    assert_eq!(get().await.status, 200);
    app.post("/shares/insurer/revoke", json!({})).await.expect(200);
    get().await.refused(403, "PERMISSION_DENIED", "access to this share has ended");
    // A token in the request does not change what a URL depends on.
    let request = Request::get(url.strip_prefix("http://weir.test").unwrap());
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", acme.token)).body(Body::empty()).unwrap();
    assert_eq!(app.send(request).await.status, 403);
}
