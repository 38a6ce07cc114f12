//! Checks the change data feed.

use super::{table_changes::expect_range, version::timestamp};
use crate::conformance::{
    answer::Lines,
    check::{Check, Outcome, check, ensure, skip},
    client::Call,
    context::{Context, Subject, refused},
};

const KINDS: &[&str] = &["add", "cdf", "remove"];
/// The most pages of a walk.
const MAX_PAGES: usize = 100;

pub(super) const CHECKS: &[Check] = &[
    check!(122, "Read Change Data Feed from a Table", "changes list the files of every version asked for", feed),
    check!(
        123,
        "Read Change Data Feed from a Table",
        "includeHistoricalMetadata begins with the metadata of the start",
        history
    ),
    check!(125, "Read Change Data Feed from a Table", "a range that is none is answered 400", bad_range),
    check!(126, "Read Change Data Feed from a Table", "times mean the versions between them", by_time),
    check!(
        127,
        "Read Change Data Feed from a Table",
        "pages of changes have the same first lines and make up the whole",
        pages
    ),
];

fn changes<'a>(ctx: &'a Context, subject: &Subject) -> Call<'a> {
    ctx.client.get(subject.path("/changes")).capabilities(subject.capabilities())
}

async fn range(ctx: &Context, subject: &Subject, start: i64, end: i64) -> Outcome<Lines> {
    let call = changes(ctx, subject).query("startingVersion", start).query("endingVersion", end);
    call.send().await?.lines()
}

async fn feed(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_changes()?;
    let lines = range(ctx, subject, window.start, subject.version()).await?;
    let later = lines.rest.iter().any(|line| matches!(line.kind.as_str(), "metaData" | "protocol"));
    ensure!(!later, "{} has lines among its changes that nobody asked for", lines.shown);
    expect_range(&lines, window.start, subject.version(), KINDS)
}

async fn history(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_changes()?;
    for value in ["true", "True"] {
        let call =
            changes(ctx, subject).query("startingVersion", window.start).query("endingVersion", subject.version());
        let lines = call.query("includeHistoricalMetadata", value).send().await?.lines()?;
        let version = &lines.metadata["version"];
        ensure!(*version == window.start, "{}: the metaData's version is {version}", lines.shown);
        expect_range(&lines, window.start, subject.version(), KINDS)?;
    }
    Ok(())
}

async fn bad_range(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_changes()?;
    let (start, latest, time) = (window.start, subject.version(), "2022-01-01T00:00:00Z");
    let from = || changes(ctx, subject).query("startingVersion", start);
    refused(vec![
        changes(ctx, subject),
        from().query("startingTimestamp", time),
        from().query("endingVersion", latest).query("endingTimestamp", time),
        changes(ctx, subject).query("startingVersion", "junk"),
        from().query("endingVersion", "junk"),
        changes(ctx, subject).query("startingVersion", latest).query("endingVersion", latest - 1),
        changes(ctx, subject).query("startingVersion", latest + 1_000_000),
    ])
    .await
}

async fn by_time(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_changes()?;
    let commits = subject.commits();
    let Some((start, from)) = commits.iter().find(|(version, _)| **version >= window.start) else {
        return skip(format!("the lines of {} do not give away its commit times", subject.table));
    };
    let Some((end, until)) = commits.last_key_value() else { return Ok(()) };
    let call = changes(ctx, subject).query("startingTimestamp", timestamp(*from)?);
    let by_time = call.query("endingTimestamp", timestamp(*until)?).send().await?.lines()?;
    let by_version = range(ctx, subject, *start, *end).await?;
    ensure!(by_time.version == *start, "{} begins with version {}, not {start}", by_time.shown, by_time.version);
    ensure!(by_time.ids()? == by_version.ids()?, "{} lists other files than by versions", by_time.shown);
    Ok(())
}

async fn pages(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_changes()?;
    let whole = range(ctx, subject, window.start, subject.version()).await?;
    let size = (whole.rest.len() / 5).max(1);
    let (mut pages, mut token): (Vec<Lines>, Option<String>) = (Vec::new(), None);
    loop {
        let mut call = changes(ctx, subject).query("startingVersion", window.start);
        call = call.query("endingVersion", subject.version()).query("maxFiles", size);
        if let Some(token) = &token {
            call = call.query("pageToken", token);
        }
        let page = call.send().await?.lines()?;
        token = page.end_token("nextPageToken").map(str::to_owned);
        pages.push(page);
        let Some(token) = &token else { break };
        let in_url = |c: char| c.is_ascii_alphanumeric() || "-._~=:@$'()*,;!/?".contains(c);
        ensure!(token.chars().all(in_url), "a page token of {} cannot stand in a URL as it is", subject.table);
        if pages.len() == MAX_PAGES {
            return skip(format!("the changes of {} come in more than {MAX_PAGES} pages", subject.table));
        }
    }
    if pages.len() == 1 {
        return skip("the changes come in one page, whatever maxFiles says");
    }
    let listed: usize = pages.iter().map(|page| page.rest.len()).sum();
    ensure!(listed == whole.rest.len(), "the pages of {} list {listed} lines of {}", subject.table, whole.rest.len());
    for page in &pages {
        ensure!(page.head == pages[0].head, "{}: a later page has other first lines", page.shown);
        ensure!(page.version == pages[0].version, "{}: a later page has another version", page.shown);
    }
    Ok(())
}
