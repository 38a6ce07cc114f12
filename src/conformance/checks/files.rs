//! Checks the contents of file lines: URL, size, expiry, partition values and deletion vector.

use chrono::Utc;
use serde_json::Value;

use crate::conformance::{
    check::{Check, Outcome, check, ensure, skip},
    context::{Context, Subject},
    file::File,
};

/// The largest file that is downloaded, in bytes.
const MAX_FILE_BYTES: i64 = 16 * 1024 * 1024;
/// The tolerated difference between the server's clock and the local one, in milliseconds.
const CLOCK_SKEW_MS: i64 = 5 * 60 * 1000;
/// A lifetime of a URL that is only exceeded if the time is not in milliseconds.
const MAX_LIFE_MS: i64 = 100 * 366 * 24 * 3600 * 1000;

pub(super) const CHECKS: &[Check] = &[
    check!(79, "File", "a file's URL serves as many bytes as its size says, and ranges of them", fetch),
    check!(80, "File", "expirationTimestamp is a time in the future, in milliseconds", expiry),
    check!(81, "Partition Value Serialization", "every file has a value for each partition column", partition_values),
    check!(112, "API Response Format in Delta", "a deletion vector comes as a URL, with an id of its file", vectors),
];

/// Returns a new line of the smallest file, because URLs expire.
async fn smallest(ctx: &Context, subject: &Subject) -> Outcome<File> {
    let lines = subject.query(&ctx.client, &serde_json::json!({})).send().await?.lines()?;
    let Some(file) = lines.files()?.into_iter().min_by_key(|file| file.size) else {
        return skip(format!("{} has no files", subject.table));
    };
    if file.size > MAX_FILE_BYTES {
        return skip(format!("every file is larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(file)
}

async fn fetch(ctx: &Context) -> Outcome {
    ctx.any()?;
    let Some(subject) = ctx.subjects.iter().find(|subject| subject.n_files() > 0) else {
        return skip("no table looked at has files");
    };
    let file = smallest(ctx, subject).await?;
    let size = usize::try_from(file.size).unwrap_or_default();
    let whole = ctx.client.fetch(&file.url, None, size).await?;
    ensure!(whole.status == 200, "the URL of a file of {} answered {}, not 200", subject.table, whole.status);
    let exact = whole.complete && whole.bytes.len() == size;
    let found = if whole.complete { whole.bytes.len().to_string() } else { format!("more than {size}") };
    ensure!(exact, "a file of {} has the size {size} and {found} bytes", subject.table);
    let last = size.saturating_sub(1).min(3);
    let part = ctx.client.fetch(&file.url, Some(&format!("bytes=0-{last}")), size).await?;
    ensure!(part.status == 206, "the URL of a file of {} answered a range with {}", subject.table, part.status);
    ensure!(whole.bytes.get(..=last) == Some(&part.bytes), "a range of a file of {} has other bytes", subject.table);
    let path_end = file.url.find('?').unwrap_or(file.url.len());
    let altered = format!("{}x{}", &file.url[..path_end], &file.url[path_end..]);
    let altered = ctx.client.fetch(&altered, None, size).await?;
    ensure!(altered.status >= 400, "an altered URL of a file of {} answered {}", subject.table, altered.status);
    Ok(())
}

async fn expiry(ctx: &Context) -> Outcome {
    let mut found = false;
    for subject in ctx.subjects.iter().filter(|subject| subject.n_files() > 0).take(4) {
        let lines = subject.query(&ctx.client, &serde_json::json!({ "limitHint": 1 })).send().await?.lines()?;
        let now = Utc::now().timestamp_millis();
        for expires_at in lines.files()?.into_iter().filter_map(|file| file.expires_at) {
            found = true;
            let valid = |at: i64| at > now - CLOCK_SKEW_MS && at < now + MAX_LIFE_MS;
            let right = expires_at.as_i64().is_some_and(valid);
            ensure!(right, "{}: expirationTimestamp {expires_at} is no time in the future, in ms", lines.shown);
        }
    }
    if found { Ok(()) } else { skip("no file line has an expirationTimestamp") }
}

async fn partition_values(ctx: &Context) -> Outcome {
    ctx.partitioned()?;
    for subject in ctx.subjects.iter().filter(|subject| subject.n_files() > 0) {
        let n_columns = subject.metadata.partition_columns().len();
        // In the delta format, mapped columns have physical names, so only their number can be checked.
        let columns = if subject.mapped() { Vec::new() } else { subject.metadata.partition_columns() };
        for file in subject.files()? {
            let Some(values) = &file.partition_values else { continue };
            let right = values.values().all(|value| value.is_string() || value.is_null());
            ensure!(right, "{}: a partition value is neither a string nor null", subject.table);
            let missing = columns.iter().find(|column| !values.contains_key(*column));
            ensure!(
                missing.is_none(),
                "{}: a file has no value for the column `{}`",
                subject.table,
                missing.map_or("", |c| c)
            );
            ensure!(values.len() == n_columns, "{}: a file has {} partition values", subject.table, values.len());
        }
    }
    Ok(())
}

async fn vectors(ctx: &Context) -> Outcome {
    let (subject, snapshot) = ctx.with_vectors()?;
    for file in snapshot.files()? {
        let Some(vector) = &file.deletion_vector else { continue };
        let place = &vector["pathOrInlineDv"];
        ensure!(place.is_string(), "{}: a deletion vector has no pathOrInlineDv", subject.table);
        let sized = ["sizeInBytes", "cardinality"].iter().all(|key| vector[*key].is_i64());
        ensure!(sized, "{}: a deletion vector lacks sizeInBytes or cardinality", subject.table);
        match vector["storageType"].as_str() {
            Some("i") => continue,
            Some("p") => {}
            other => {
                let other = other.unwrap_or("nothing");
                ensure!(false, "{}: a deletion vector is stored as `{other}`, not `p` or `i`", subject.table);
            }
        }
        ensure!(
            file.deletion_vector_file_id.as_ref().is_some_and(|id| *id != file.id),
            "{}: a deletion vector has no deletionVectorFileId of its own",
            subject.table
        );
        let served = ctx.client.fetch(place.as_str().unwrap_or_default(), Some("bytes=0-0"), 1).await?;
        let status = served.status;
        ensure!(matches!(status, 200 | 206), "{}: a deletion vector's URL answered {status}", subject.table);
        ensure!(vector.get("offset").is_none_or(Value::is_i64), "{}: an offset is no number", subject.table);
    }
    Ok(())
}
