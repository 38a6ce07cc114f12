//! What a connector holds in its hands, and what becomes of it when somebody's rights change: URLs, tokens of pages, and
//! versions of the view.

use serde_json::{Value as Json, json};

use super::{
    check::{self, nothing},
    claims_view::{PLANS, findings, read_well, reader, shared_claims, shared_claims_as_laid_out},
    connector::{TableRead, fetch},
    plain::{Pick, Visible},
    source::Mapping,
    weir_server::{RELAYED, SHARE, SHOWN, VIEW, WeirServer, everywhere, object_path},
};

everywhere!(
    lt13_what_a_partner_holds_is_of_no_use_to_another,
    a_url_ends_with_its_grant_and_its_copy_with_the_last_who_may_read_it,
    a_url_ends_with_the_property_that_it_was_made_for,
    a_url_ends_with_the_version_of_the_view,
    a_page_goes_on_only_under_the_rules_it_began_with,
    a_view_that_is_deleted_takes_its_copies_along,
    nobody_is_granted_what_would_show_nothing,
    a_partner_with_equal_rights_keeps_what_it_reads,
    pages_are_the_whole,
);

fn plans(of: &[&str]) -> Json {
    json!({"plans": of})
}

/// Two rounds: what is ended in one is gone in the next.
async fn keep(server: &WeirServer) {
    for _ in 0..2 {
        server.app.service.materializer.keep_copies().await.unwrap();
        server.app.pass(1);
    }
}

/// The URLs of the files of every way.
fn urls(reads: &[TableRead]) -> (Vec<String>, Vec<String>) {
    let (signed, sealed): (Vec<&TableRead>, Vec<&TableRead>) = reads.iter().partition(|read| read.way.is_presigned);
    let of = |reads: Vec<&TableRead>| {
        reads.iter().flat_map(|read| read.files.iter().map(|file| file.url.clone())).collect::<Vec<_>>()
    };
    (of(signed), of(sealed))
}

/// Checks that nobody gets anything by these URLs any more: the server's own at once, presigned ones once their objects
/// are gone.
async fn are_dead(server: &WeirServer, (signed, sealed): (Vec<String>, Vec<String>)) {
    for url in &sealed {
        let answer = fetch(server, url).await;
        assert!([401, 403, 404].contains(&answer.status), "{}: {}", answer.status, answer.text());
    }
    keep(server).await;
    for url in signed.iter().chain(&sealed) {
        let answer = fetch(server, url).await;
        assert!([401, 403, 404].contains(&answer.status), "{}: {} {}", answer.status, url, answer.text());
    }
}

async fn lt13_what_a_partner_holds_is_of_no_use_to_another(server: WeirServer) {
    let (_table, _lens) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", plans(&PLANS[..2])).await;
    let rival = server.connector("rival", plans(&PLANS[..1])).await;
    for way in server.ways() {
        let page = TableRead::parse(way, &acme.query(way, json!({"maxFiles": 1, "includeRefreshToken": true})).await);
        let end = page.end.unwrap();
        let (next, refresh) = (end["nextPageToken"].as_str().unwrap(), end["refreshToken"].as_str().unwrap());
        let refused = rival.query(way, json!({"maxFiles": 1, "pageToken": next})).await;
        refused.refused(400, "INVALID_PARAMETER_VALUE");
        rival.query(way, json!({"refreshToken": refresh})).await.refused(400, "INVALID_PARAMETER_VALUE");
        // They are mine, and only for this object.
        assert_eq!(acme.query(way, json!({"maxFiles": 1, "pageToken": next})).await.status, 200);
        assert_eq!(acme.query(way, json!({"refreshToken": refresh})).await.status, 200);
        let other =
            server.ways().into_iter().find(|other| other.object != way.object && other.is_delta == way.is_delta);
        let elsewhere = acme.query(other.unwrap(), json!({"maxFiles": 1, "pageToken": next})).await;
        elsewhere.refused(400, "INVALID_PARAMETER_VALUE");
    }
    // A link that was used hands out nothing to whoever finds it.
    let issued = server.app.post("/recipients/acme/tokens", json!({})).await.expect(201);
    let link = issued["activation_url"].as_str().unwrap().strip_prefix("http://weir.test").unwrap().to_owned();
    let ask = async || {
        let request = http::Request::post(&link).body(axum::body::Body::empty()).unwrap();
        server.app.send(request).await
    };
    assert_eq!(ask().await.status, 200);
    assert_eq!(ask().await.status, 410);
}

async fn a_url_ends_with_its_grant_and_its_copy_with_the_last_who_may_read_it(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", plans(&PLANS[..1])).await;
    let mine = urls(&read_well(&server, &table, &visible, &acme).await);
    let rival = server.connector("rival", plans(&PLANS[1..2])).await;
    let theirs = urls(&read_well(&server, &table, &visible, &rival).await);
    let all = server.objects().await.len();
    server.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({"reason": "over"})).await.expect(200);
    are_dead(&server, mine).await;
    // The other one's are another's.
    let left = server.objects().await.len();
    assert!(left > 0 && left < all, "{left} of {all}");
    for url in theirs.0.iter().chain(&theirs.1) {
        assert_eq!(fetch(&server, url).await.status, 200);
    }
    read_well(&server, &table, &visible, &rival).await;
}

async fn a_url_ends_with_the_property_that_it_was_made_for(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", plans(&PLANS[..1])).await;
    let before = read_well(&server, &table, &visible, &acme).await;
    server.app.patch("/recipients/acme", json!({"properties": plans(&PLANS[1..2])})).await.expect(200);
    let after = read_well(&server, &table, &visible, &acme).await;
    // Other rows are another table.
    nothing(&check::apart(&before, &after));
    are_dead(&server, urls(&before)).await;
    for url in urls(&after).1 {
        assert_eq!(fetch(&server, &url).await.status, 200);
    }
    // What does not matter to the view changes nothing.
    server.app.patch("/recipients/acme", json!({"properties": {"region": "north"}})).await.expect(200);
    let again = read_well(&server, &table, &visible, &acme).await;
    assert_eq!(again[0].ids(), after[0].ids());
}

async fn a_url_ends_with_the_version_of_the_view(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", plans(&PLANS[..1])).await;
    let before = read_well(&server, &table, &visible, &acme).await;
    let less = Visible { columns: visible.columns[..3].to_vec(), ..visible.clone() };
    let view = server.publish(&less.definition(), less.filter.as_deref()).await;
    // What is published changes nothing before an object names it.
    let same = read_well(&server, &table, &visible, &acme).await;
    assert_eq!(same[0].ids(), before[0].ids());
    server.share(&view).await;
    let after = read_well(&server, &table, &less, &acme).await;
    nothing(&check::apart(&before, &after));
    are_dead(&server, urls(&before)).await;
    read_well(&server, &table, &less, &acme).await;
}

async fn a_page_goes_on_only_under_the_rules_it_began_with(server: WeirServer) {
    let (mut table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", plans(&PLANS[..2])).await;
    let begun = table.version();
    let token = async |way| {
        let page = TableRead::parse(way, &acme.query(way, json!({"maxFiles": 1})).await);
        page.end.unwrap()["nextPageToken"].as_str().unwrap().to_owned()
    };
    for way in server.ways() {
        // A commit in between moves nothing.
        let page = token(way).await;
        table.append(super::claims_view::claims(9_000 + i64::try_from(table.version()).unwrap() * 100, 10, 9));
        let answer = acme.query(way, json!({"maxFiles": 1, "pageToken": page})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.header("delta-table-version").parse::<u64>().unwrap() >= begun);
    }
    acme.wait_for(table.version()).await;
    for way in server.ways() {
        let page = token(way).await;
        server.app.patch("/recipients/acme", json!({"properties": plans(&PLANS[..1])})).await.expect(200);
        let answer = acme.query(way, json!({"maxFiles": 1, "pageToken": page})).await;
        answer.refused(400, "INVALID_PARAMETER_VALUE");
        server.app.patch("/recipients/acme", json!({"properties": plans(&PLANS[..2])})).await.expect(200);
        acme.wait_for(table.version()).await;
        assert_eq!(acme.query(way, json!({"maxFiles": 1, "pageToken": page})).await.status, 200);
    }
    let page = token(server.ways()[0]).await;
    let less = Visible { columns: visible.columns[..3].to_vec(), ..visible };
    let view = server.publish(&less.definition(), less.filter.as_deref()).await;
    server.share(&view).await;
    let answer = acme.query(server.ways()[0], json!({"maxFiles": 1, "pageToken": page})).await;
    answer.refused(400, "INVALID_PARAMETER_VALUE");
}

async fn a_view_that_is_deleted_takes_its_copies_along(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", plans(&PLANS[..1])).await;
    let reads = read_well(&server, &table, &visible, &acme).await;
    assert!(!server.objects().await.is_empty());
    server.app.delete(&format!("/views/{VIEW}")).await.problem(409, "conflict");
    for object in [SHOWN, RELAYED] {
        server.app.delete(&object_path(object)).await.expect(204);
    }
    server.app.delete(&format!("/views/{VIEW}")).await.expect(204);
    are_dead(&server, urls(&reads)).await;
    assert_eq!(server.objects().await, Vec::<String>::new());
    assert!(server.copies(None).await.is_empty());
    for way in server.ways() {
        acme.query(way, json!({})).await.refused(404, "RESOURCE_DOES_NOT_EXIST");
    }
}

async fn nobody_is_granted_what_would_show_nothing(server: WeirServer) {
    let (_table, visible) = shared_claims(&server, Mapping::None).await;
    // Neither by the grant, …
    server.app.put("/recipients/none", json!({"properties": {"plans": "zplanhmo"}})).await.expect(201);
    let grant = json!({"share": SHARE, "recipient": "none"});
    let problem = server.app.post("/grants", grant).await.problem(422, "invalid_input");
    assert!(problem.to_string().contains("`plans`"), "{problem}");
    // … nor by an object that is put into a share that is granted, …
    server.app.put("/shares/other", json!({})).await.expect(201);
    let _plain = server.partner_of("other", "plain", json!({})).await;
    let object = json!({"source": {"view": format!("{VIEW}@v1")}});
    let refused = server.app.put("/shares/other/objects/s/shown", object.clone()).await;
    let problem = refused.problem(422, "invalid_input");
    assert!(problem.to_string().contains("`plain`") && problem.to_string().contains("`plans`"), "{problem}");
    server.app.patch("/recipients/plain", json!({"properties": plans(&PLANS[..1])})).await.expect(200);
    server.app.put("/shares/other/objects/s/shown", object).await.expect(201);
    // … nor by another version of the view.
    let filter = "plan_code IN recipient_list('plans') AND zregion_name = recipient('region')";
    let other = server.publish(&visible.definition(), Some(filter)).await;
    let refused = server.app.patch("/shares/other/objects/s/shown", json!({"source": {"view": other}})).await;
    let problem = refused.problem(422, "invalid_input");
    assert!(problem.to_string().contains("`region`"), "{problem}");
}

async fn a_partner_with_equal_rights_keeps_what_it_reads(server: WeirServer) {
    let (table, _) = shared_claims(&server, Mapping::None).await;
    // Nothing in the view is anybody's own.
    let visible = Visible {
        columns: ["claim_id", "paid"].map(|name| (name.to_owned(), Pick::whole(name))).into(),
        filter: Some("plan_code IN recipient_list('plans')".to_owned()),
        ..Visible::default()
    };
    let view = server.publish(&visible.definition(), visible.filter.as_deref()).await;
    server.share(&view).await;
    let (acme, rival) =
        (server.connector("acme", plans(&PLANS[..1])).await, server.connector("rival", plans(&PLANS[..1])).await);
    let mine = read_well(&server, &table, &visible, &acme).await;
    let made = server.objects().await;
    let theirs = read_well(&server, &table, &visible, &rival).await;
    assert_eq!(server.objects().await, made, "they read the same copies");
    nothing(&check::apart(&mine, &theirs));
    let named = |copies: Vec<Json>| copies.iter().map(|copy| copy["recipients"].clone()).collect::<Vec<_>>();
    assert!(named(server.copies(Some("ready")).await).iter().all(|names| names.as_array().unwrap().len() == 2));

    server.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({"reason": "over"})).await.expect(200);
    keep(&server).await;
    assert_eq!(server.objects().await, made);
    for url in urls(&mine).1 {
        assert!([401, 403].contains(&fetch(&server, &url).await.status));
    }
    for url in urls(&theirs).1 {
        assert_eq!(fetch(&server, &url).await.status, 200);
    }
    read_well(&server, &table, &visible, &rival).await;
}

async fn pages_are_the_whole(server: WeirServer) {
    let (table, visible) = shared_claims_as_laid_out(&server, Mapping::None).await;
    let acme = server.connector("acme", plans(&PLANS[..2])).await;
    let expected = visible.shown(&table.state, &reader(&server, &acme).await);
    for way in server.ways() {
        let mut whole: Option<TableRead> = None;
        let mut token: Option<String> = None;
        for _ in 0..100 {
            let mut body = json!({"maxFiles": 2});
            if let Some(token) = &token {
                body["pageToken"] = token.as_str().into();
            }
            let page = acme.read(way, body).await;
            assert!(page.files.len() <= 2);
            token = page.end.as_ref().and_then(|end| end["nextPageToken"].as_str()).map(str::to_owned);
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => whole.files.extend(page.files),
            }
            if token.is_none() {
                break;
            }
        }
        let whole = whole.unwrap();
        assert!(whole.files.len() > 4, "{}", whole.files.len());
        nothing(&findings(&server, &table, &acme, &expected, &[whole]));
    }
}
