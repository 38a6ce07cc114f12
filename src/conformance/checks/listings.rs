//! Checks the listings of shares, schemas and tables.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::conformance::{
    answer::{Answer, LINE_BREAKERS, Page},
    check::{Check, Outcome, check, ensure, fail, skip},
    client::encode,
    context::Context,
};

/// The most pages of a walk. A longer walk is cut off, and only this part is compared.
const MAX_PAGES: usize = 60;

pub(super) const CHECKS: &[Check] = &[
    check!(21, "List Shares", "shares are listed with their names, in one line of JSON", shares),
    check!(22, "List Shares", "a walk in pages of one shows every share once, in order", walk_shares),
    check!(23, "List Shares", "the last page has no nextPageToken", last_page),
    check!(24, "List Shares", "maxResults=0 is answered with no items", no_results),
    check!(25, "List Shares", "a maxResults that is no number from 0 on is answered 400", bad_max_results),
    check!(26, "List Shares", "a page token that is none is answered 400", garbage_token),
    check!(27, "List Shares", "a page token of another listing is answered 400", foreign_token),
    check!(28, "List Shares", "a page token that was changed is answered 400", tampered_token),
    check!(29, "List Shares", "a recipient of nothing gets an empty list", nothing_shared),
    check!(30, "Get Share", "a share is answered by its name", get_share),
    check!(31, "Get Share", "what else is said of a share has the protocol's types", share_fields),
    check!(32, "Get Share", "a share's name is case-insensitive, and answered as the server writes it", share_case),
    check!(33, "Get Share", "an unknown share is answered 404", unknown_share),
    check!(34, "List Schemas in a Share", "schemas are listed with name and share", schemas),
    check!(35, "List Schemas in a Share", "schemas name the share as the server writes it", schemas_case),
    check!(36, "List Schemas in a Share", "what is empty is answered 200", empty_listing),
    check!(37, "List Tables in a Schema", "tables are listed with name, schema and share", tables),
    check!(38, "List Tables in a Schema", "what else is said of a table has the protocol's types", table_fields),
    check!(39, "List all Tables in a Share", "all tables are those of all schemas, also in pages of one", all_tables),
    check!(41, "REST APIs", "percent-encoded names in a path are decoded", encoded_names),
];

/// Returns the names of the items, joined with a character that names cannot contain.
fn names(page: &Page, keys: &[&str]) -> Outcome<Vec<String>> {
    page.items.iter().map(|item| item_name(item, keys)).collect()
}

fn item_name(item: &Value, keys: &[&str]) -> Outcome<String> {
    let mut parts = Vec::new();
    for key in keys {
        match item[*key].as_str() {
            Some(name) if !name.is_empty() => parts.push(name),
            _ => return fail(format!("an item of the listing has no `{key}`")),
        }
    }
    Ok(parts.join("/"))
}

fn expect_listing(answer: &Answer) -> Outcome<Page> {
    let page = answer.page()?;
    let kind = answer.content_type();
    ensure!(kind == "application/json", "the answer to {} has the content type `{kind}`", answer.shown);
    let text = answer.text()?.trim_end_matches(['\r', '\n']);
    ensure!(!text.contains('\n'), "the answer to {} has more than one line", answer.shown);
    ensure!(!text.contains(LINE_BREAKERS), "the answer to {} holds a raw line separator", answer.shown);
    Ok(page)
}

async fn shares(ctx: &Context) -> Outcome {
    let page = expect_listing(&ctx.client.get("/shares").send().await?)?;
    names(&page, &["name"]).map(|_| ())
}

/// Returns the names of a listing in the server's order, read in pages of at most `max_results`; and whether the walk
/// reached the end.
async fn walk(ctx: &Context, path: &str, keys: &[&str], max_results: usize) -> Outcome<(Vec<String>, bool)> {
    let (mut found, mut token, mut seen) = (Vec::new(), None::<String>, BTreeSet::new());
    for _ in 0..MAX_PAGES {
        let mut call = ctx.client.get(path).query("maxResults", max_results);
        if let Some(token) = &token {
            call = call.query("pageToken", token);
        }
        let answer = call.send().await?;
        let page = answer.page()?;
        ensure!(page.items.len() <= max_results, "{} with {} items", answer.what(), page.items.len());
        found.extend(names(&page, keys)?);
        match page.next_token() {
            None => return Ok((found, true)),
            Some(next) if seen.insert(next.to_owned()) => token = Some(next.to_owned()),
            Some(_) => return fail(format!("the walk over `{path}` comes back to a page it has been on")),
        }
    }
    Ok((found, false))
}

/// Fails unless a walk in pages of one and a walk in large pages give the same result.
async fn expect_same_walks(ctx: &Context, path: &str, keys: &[&str]) -> Outcome<(Vec<String>, bool)> {
    let (all, complete) = walk(ctx, path, keys, 100).await?;
    let (one_by_one, ended) = walk(ctx, path, keys, 1).await?;
    let unique: BTreeSet<_> = one_by_one.iter().collect();
    ensure!(unique.len() == one_by_one.len(), "`{path}` in pages of one shows an item twice");
    let begins = all.starts_with(&one_by_one) || one_by_one.starts_with(&all);
    ensure!(begins, "`{path}` in pages of one shows other items, or in another order, than in large pages");
    let whole = !(complete && ended) || all.len() == one_by_one.len();
    ensure!(whole, "`{path}` in pages of one shows {} items of {}", one_by_one.len(), all.len());
    Ok((all, complete))
}

async fn walk_shares(ctx: &Context) -> Outcome {
    expect_same_walks(ctx, "/shares", &["name"]).await.map(|_| ())
}

async fn last_page(ctx: &Context) -> Outcome {
    let mut paths = vec!["/shares".to_owned()];
    if let Ok(share) = ctx.share() {
        paths.extend(["schemas", "all-tables"].map(|rest| format!("/shares/{}/{rest}", encode(share))));
    }
    for path in paths {
        let mut call = ctx.client.get(path.clone());
        for _ in 0..MAX_PAGES {
            let answer = call.send().await?;
            let page = answer.page()?;
            let Some(next) = page.next else { break };
            let token = next.as_str().unwrap_or_default();
            ensure!(!token.is_empty(), "{} with a nextPageToken that is no token; Spark never ends", answer.what());
            call = ctx.client.get(path.clone()).query("pageToken", token);
        }
    }
    Ok(())
}

async fn no_results(ctx: &Context) -> Outcome {
    let answer = ctx.client.get("/shares").query("maxResults", 0).send().await?;
    let page = answer.page()?;
    ensure!(page.items.is_empty(), "{} with items", answer.what());
    Ok(())
}

async fn bad_max_results(ctx: &Context) -> Outcome {
    for text in ["-1", "junk", "1.5"] {
        ctx.client.get("/shares").query("maxResults", text).send().await?.expect(&[400])?;
    }
    // A server may refuse large values, or return fewer items.
    ctx.client.get("/shares").query("maxResults", 501).send().await?.expect(&[200, 400]).map(|_| ())
}

async fn garbage_token(ctx: &Context) -> Outcome {
    for text in ["no-token-of-this-server", "!!!", "AAAA"] {
        ctx.client.get("/shares").query("pageToken", text).send().await?.expect(&[400])?;
    }
    Ok(())
}

/// Returns the path of a listing, and a page token of it.
async fn some_token(ctx: &Context) -> Outcome<(String, String)> {
    let mut paths = vec!["/shares".to_owned()];
    for share in ctx.shares.iter().filter_map(|share| share["name"].as_str()).take(5) {
        paths.extend(["schemas", "all-tables"].map(|rest| format!("/shares/{}/{rest}", encode(share))));
    }
    for path in paths {
        for max_results in [1, 0] {
            let page = ctx.client.get(&*path).query("maxResults", max_results).send().await?.page()?;
            if let Some(token) = page.next_token() {
                return Ok((path, token.to_owned()));
            }
        }
    }
    skip("no listing has a second page")
}

async fn foreign_token(ctx: &Context) -> Outcome {
    let (of, token) = some_token(ctx).await?;
    let share = encode(ctx.share()?);
    let paths = ["/shares".to_owned(), format!("/shares/{share}/schemas"), format!("/shares/{share}/all-tables")];
    for path in paths.into_iter().filter(|path| *path != of) {
        let answer = ctx.client.get(path).query("pageToken", &token).send().await?;
        ensure!(answer.status == 400, "{} for a token of `{of}`, not 400", answer.what());
    }
    Ok(())
}

async fn tampered_token(ctx: &Context) -> Outcome {
    let (path, token) = some_token(ctx).await?;
    let mut letters: Vec<char> = token.chars().collect();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == 'A' { 'B' } else { 'A' };
    let tampered: String = letters.into_iter().collect();
    ctx.client.get(path).query("pageToken", tampered).send().await?.expect(&[400]).map(|_| ())
}

async fn nothing_shared(ctx: &Context) -> Outcome {
    if !ctx.shares.is_empty() {
        return skip("something is shared");
    }
    ctx.client.get("/shares").send().await?.page().map(|_| ())
}

async fn share_of(ctx: &Context, name: &str) -> Outcome<Value> {
    let answer = ctx.client.get(format!("/shares/{}", encode(name))).send().await?;
    match answer.json()?.remove("share") {
        Some(share) if share["name"].is_string() => Ok(share),
        _ => fail(format!("{} without a `share` that has a name", answer.what())),
    }
}

async fn get_share(ctx: &Context) -> Outcome {
    let name = ctx.share()?;
    let share = share_of(ctx, name).await?;
    ensure!(share["name"] == name, "the share `{name}` is answered with another name");
    Ok(())
}

/// A member's name, and the test for its type.
type Member = (&'static str, fn(&Value) -> bool);

/// Fails if an existing member has the wrong type; returns the number of existing members.
fn expect_types(item: &Value, types: &[Member]) -> Outcome<usize> {
    let mut found = 0;
    for (key, right) in types {
        let Some(value) = item.get(key).filter(|value| !value.is_null()) else { continue };
        ensure!(right(value), "the member `{key}` is not of the protocol's type");
        found += 1;
    }
    Ok(found)
}

fn strings(value: &Value) -> bool {
    value.as_array().is_some_and(|values| values.iter().all(Value::is_string))
}

async fn share_fields(ctx: &Context) -> Outcome {
    let share = share_of(ctx, ctx.share()?).await?;
    let found = expect_types(
        &share,
        &[
            ("id", Value::is_string),
            ("displayName", |value| value.as_str().is_some_and(|text| text.chars().count() <= 255)),
            ("comment", |value| value.as_str().is_some_and(|text| text.chars().count() <= 65_536)),
            ("properties", |value| {
                let properties = value.as_object();
                properties.is_some_and(|properties| properties.len() <= 50 && properties.values().all(Value::is_string))
            }),
        ],
    )?;
    if found == 0 { skip("the share has a name only") } else { Ok(()) }
}

/// Returns `name` with its letters in the other case; skips the check if there are no letters.
fn other_case(name: &str) -> Outcome<String> {
    let upper = name.to_ascii_uppercase();
    let other = if upper == name { name.to_ascii_lowercase() } else { upper };
    if other == name { skip("the name has no letters") } else { Ok(other) }
}

async fn share_case(ctx: &Context) -> Outcome {
    let name = ctx.share()?;
    let share = share_of(ctx, &other_case(name)?).await?;
    ensure!(share["name"] == name, "the share `{name}`, asked for in another case, is answered with another name");
    Ok(())
}

async fn unknown_share(ctx: &Context) -> Outcome {
    let answer = ctx.client.get("/shares/no-such-share-4f7d2f06").send().await?;
    answer.expect(&[404])?.expect_error_body()
}

async fn schema_page(ctx: &Context, share: &str) -> Outcome<Page> {
    expect_listing(&ctx.client.get(format!("/shares/{}/schemas", encode(share))).send().await?)
}

async fn schemas(ctx: &Context) -> Outcome {
    let share = ctx.share()?;
    let page = schema_page(ctx, share).await?;
    names(&page, &["share", "name"])?;
    let own = page.items.iter().all(|item| item["share"] == share);
    ensure!(own, "schemas of the share `{share}` name another share");
    ctx.client.get("/shares/no-such-share-4f7d2f06/schemas").send().await?.expect(&[404]).map(|_| ())
}

async fn schemas_case(ctx: &Context) -> Outcome {
    let share = ctx.share()?;
    let page = schema_page(ctx, &other_case(share)?).await?;
    let canonical = page.items.iter().all(|item| item["share"] == share);
    ensure!(canonical, "schemas of `{share}`, asked for in another case, do not name it as /shares does");
    Ok(())
}

async fn empty_listing(ctx: &Context) -> Outcome {
    for share in ctx.shares.iter().filter_map(|share| share["name"].as_str()).take(20) {
        if !ctx.tables.iter().any(|table| table.share == share) {
            schema_page(ctx, share).await?;
            ctx.client.get(format!("/shares/{}/all-tables", encode(share))).send().await?.page()?;
            return Ok(());
        }
    }
    skip("no share is empty")
}

async fn table_pages(ctx: &Context) -> Outcome<Vec<Page>> {
    let share = ctx.share()?;
    let mut pages = Vec::new();
    for schema in names(&schema_page(ctx, share).await?, &["name"])?.iter().take(20) {
        let path = format!("/shares/{}/schemas/{}/tables", encode(share), encode(schema));
        let page = expect_listing(&ctx.client.get(path).send().await?)?;
        names(&page, &["share", "schema", "name"])?;
        let own = page.items.iter().all(|item| item["share"] == share && item["schema"] == *schema);
        ensure!(own, "tables of `{share}`.`{schema}` name another share or schema");
        pages.push(page);
    }
    Ok(pages)
}

async fn tables(ctx: &Context) -> Outcome {
    table_pages(ctx).await?;
    let path = format!("/shares/{}/schemas/no-such-schema-4f7d2f06/tables", encode(ctx.share()?));
    ctx.client.get(path).send().await?.expect(&[404])?.expect_error_body()
}

async fn table_fields(ctx: &Context) -> Outcome {
    let mut found = 0;
    for item in table_pages(ctx).await?.iter().flat_map(|page| &page.items) {
        found += expect_types(
            item,
            &[
                ("id", Value::is_string),
                ("shareId", Value::is_string),
                ("location", Value::is_string),
                ("auxiliaryLocations", strings),
                ("accessModes", |value| {
                    let modes = value.as_array();
                    modes.is_some_and(|modes| modes.iter().all(|mode| mode == "url" || mode == "dir"))
                }),
            ],
        )?;
    }
    if found == 0 { skip("tables have names only") } else { Ok(()) }
}

async fn all_tables(ctx: &Context) -> Outcome {
    let share = encode(ctx.share()?);
    let keys = ["share", "schema", "name"];
    let (all, complete) = expect_same_walks(ctx, &format!("/shares/{share}/all-tables"), &keys).await?;
    let (schemas, every_schema) = walk(ctx, &format!("/shares/{share}/schemas"), &["name"], 100).await?;
    if !complete || !every_schema || schemas.len() > 20 {
        return Ok(());
    }
    let mut by_schema = BTreeSet::new();
    for schema in schemas {
        let path = format!("/shares/{share}/schemas/{}/tables", encode(&schema));
        by_schema.extend(walk(ctx, &path, &keys, 100).await?.0);
    }
    let all: BTreeSet<String> = all.into_iter().collect();
    ensure!(all == by_schema, "all-tables lists {} tables, the schemas list {} or others", all.len(), by_schema.len());
    Ok(())
}

async fn encoded_names(ctx: &Context) -> Outcome {
    let table = &ctx.any()?.table;
    let encoded = |name: &str| name.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let (share, schema, name) = (encoded(&table.share), encoded(&table.schema), encoded(&table.table));
    let path = format!("/shares/{share}/schemas/{schema}/tables/{name}/version");
    ctx.client.get(path).send().await?.expect(&[200, 204])?.version().map(|_| ())
}
