//! A report as one page for people: no script, nothing from elsewhere, charts as inline SVG; readable on paper and on a
//! phone. Every text from outside goes through [`escape`].

use std::fmt::{self, Write};

use chrono::{DateTime, Datelike, Utc};

use crate::domain::core::html::Escaped;

use super::{ChangeLine, DayLine, Line, Numbers, RecipientLine, Report, UseLine};

/// The most lines of one table; the rest is in the other files.
const MOST_ROWS: usize = 1_000;
/// The most bars of a chart.
const MOST_BARS: usize = 20;

/// The page's looks. Colours tell nothing that the words do not.
const STYLE: &str = include_str!("report.css");

/// Writes a report's page.
pub(super) fn write(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a text does not fail.
    let _ = page_of(&mut page, report);
    page
}

/// A text from outside, as it may stand in a page.
fn escape(text: &str) -> String {
    Escaped(text).to_string()
}

/// A name that may be missing.
fn name(text: Option<&str>, missing: &str) -> String {
    text.map_or_else(|| format!("<span class=\"none\">{missing}</span>"), escape)
}

/// `48,211`.
fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut written = String::from(if number < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

fn optional(value: Option<i64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

/// `1.2 GB`, with the exact number at hand.
fn bytes(size: i64) -> String {
    let exact = number(size);
    let (mut rest, mut unit) = (size as f64, "B");
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if rest < 999.95 {
            break;
        }
        (rest, unit) = (rest / 1000.0, larger);
    }
    let shown = if unit == "B" { format!("{exact}\u{a0}B") } else { format!("{rest:.1}\u{a0}{unit}") };
    format!("<span title=\"{exact} bytes\">{shown}</span>")
}

fn optional_bytes(size: Option<i64>) -> String {
    size.map_or_else(|| "–".to_owned(), bytes)
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d\u{a0}%H:%M").to_string()
}

fn page_of(out: &mut String, report: &Report) -> fmt::Result {
    let mark = if report.preview_until.is_some() { " (preview)" } else { "" };
    let title = format!("Data sharing in {}{mark}", report.month.title());
    let whose = report.recipient.as_ref().map(|party| escape(&party.name));
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        whose.as_ref().map(|whose| format!(" – {whose}")).unwrap_or_default()
    )?;
    header(out, report, &title, whose.as_deref())?;
    totals(out, &report.totals, report)?;
    requests_chart(out, &report.days)?;
    if report.recipient.is_none() {
        bytes_chart(out, &report.recipients)?;
        recipients(out, &report.recipients)?;
    }
    reasons(out, &report.totals)?;
    datasets(out, report)?;
    if report.recipient.is_none() {
        lines(out, &report.lines)?;
    }
    uses(out, &report.uses)?;
    changes(out, report)?;
    notes(out)?;
    out.write_str("</main>\n</body>\n</html>\n")
}

fn header(out: &mut String, report: &Report, title: &str, whose: Option<&str>) -> fmt::Result {
    let about = whose.map_or_else(|| "every recipient".to_owned(), |whose| format!("<strong>{whose}</strong> alone"));
    let range = match (report.events.first_seq, report.events.last_seq) {
        (Some(first), Some(last)) => {
            let count = number(report.events.count);
            format!("{count} events of the audit trail, between {} and {}", number(first), number(last))
        }
        _ => "no event of the audit trail".to_owned(),
    };
    let provider = report.provider.as_deref().map(|name| format!("From {}. ", escape(name))).unwrap_or_default();
    let kind =
        if report.preview_until.is_some() { "Preview of a monthly audit report" } else { "Monthly audit report" };
    write!(
        out,
        "<header>\n<p class=\"kind\">{kind}</p>\n<h1>{title}</h1>\n\
         <p>{provider}About {about}. From {} to {} (UTC, the end not included); {range}.</p>\n",
        report.since.format("%Y-%m-%d"),
        report.until.format("%Y-%m-%d")
    )?;
    if let Some(until) = report.preview_until {
        return write!(
            out,
            "<p class=\"proof\"><strong>This is a preview</strong>: the month is not over. It was counted up to {} (UTC), \
             changes with every event, and nobody has signed it.</p>\n</header>\n",
            moment(until)
        );
    }
    out.write_str(
        "<p class=\"proof\">The file <code>manifest.json</code> has this page’s hash and a signed checkpoint of the audit \
         trail, and <code>manifest.sig</code> its signature. <code>weir report verify</code> checks them, and counts the \
         trail’s export again, without any server.</p>\n</header>\n",
    )
}

fn totals(out: &mut String, totals: &Numbers, report: &Report) -> fmt::Result {
    let recipients = report.recipients.iter().filter(|line| line.recipient_id.is_some()).count();
    let datasets = report.datasets.iter().filter(|line| line.table_id.is_some()).count();
    let rows = if totals.answers_without_rows > 0 { "≥\u{a0}" } else { "" };
    let mut cards = vec![
        ("Requests", number(totals.requests)),
        ("File reads", number(totals.file_reads)),
        ("Refused", number(totals.denials)),
        ("Files handed out", number(totals.files)),
        ("Rows in them", format!("{rows}{}", number(totals.rows))),
        ("Size handed out", bytes(totals.bytes_issued)),
        ("Read through the server", optional_bytes(totals.bytes_delivered)),
        ("Addresses", optional(totals.addresses)),
        ("Recipients", number(recipients as i64)),
        ("Datasets", number(datasets as i64)),
    ];
    if report.recipient.is_some() {
        cards.retain(|(label, _)| *label != "Recipients");
    }
    out.write_str("<dl class=\"cards\">\n")?;
    for (label, value) in cards {
        writeln!(out, "<div><dt>{label}</dt><dd>{value}</dd></div>")?;
    }
    out.write_str("</dl>\n")
}

/// The distance between two lines of a scale that reaches `most` with at most five of them: 1, 2 or 5 times a power of
/// ten, and never a fraction.
fn step(most: i64) -> i64 {
    let mut power: i64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if step.saturating_mul(5) >= most {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// Requests and file reads of each day: refused ones on top of answered ones.
fn requests_chart(out: &mut String, days: &[DayLine]) -> fmt::Result {
    const WIDTH: i64 = 720;
    const HEIGHT: i64 = 220;
    const LEFT: i64 = 64;
    const BOTTOM: i64 = 28;
    const TOP: i64 = 10;
    let all = |day: &DayLine| day.numbers.requests + day.numbers.file_reads;
    let most = days.iter().map(all).max().unwrap_or_default();
    let step = step(most.max(1));
    let scale = (most.max(1) + step - 1) / step * step;
    let plot = HEIGHT - TOP - BOTTOM;
    let height = |count: i64| count as f64 / scale as f64 * plot as f64;
    let slot = (WIDTH - LEFT) as f64 / days.len().max(1) as f64;
    write!(
        out,
        "<section>\n<h2>Requests and file reads by day</h2>\n\
         <p class=\"legend\"><span class=\"key answered\"></span> answered <span class=\"key refused\"></span> refused</p>\n\
         <svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Requests and file reads of each day, the most on one day: {}\">\n",
        number(most)
    )?;
    for tick in (0..=scale / step).map(|i| i * step) {
        let y = (HEIGHT - BOTTOM) as f64 - height(tick);
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\"/>\
             <text class=\"axis\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8,
            y + 4.0,
            number(tick)
        )?;
    }
    for (i, day) in days.iter().enumerate() {
        let (denials, sum) = (day.numbers.denials.min(all(day)), all(day));
        let x = LEFT as f64 + i as f64 * slot;
        let (answered, refused) = (height(sum - denials), height(denials));
        let base = (HEIGHT - BOTTOM) as f64;
        let (left, width) = (x + slot * 0.12, slot * 0.76);
        if sum > 0 {
            writeln!(
                out,
                "<g><title>{}: {} answered, {} refused</title>\
                 <rect class=\"answered\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{answered:.1}\"/>\
                 <rect class=\"refused\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{refused:.1}\"/></g>",
                day.date,
                number(sum - denials),
                number(denials),
                base - answered,
                base - answered - refused
            )?;
        }
        let date = day.date.day();
        if date == 1 || date % 5 == 0 {
            let middle = x + slot / 2.0;
            let y = HEIGHT - BOTTOM + 18;
            writeln!(out, "<text class=\"axis\" x=\"{middle:.1}\" y=\"{y}\" text-anchor=\"middle\">{date}</text>")?;
        }
    }
    out.write_str("</svg>\n</section>\n")
}

/// The size of what was handed out to each recipient, the largest first.
fn bytes_chart(out: &mut String, recipients: &[RecipientLine]) -> fmt::Result {
    let mut bars: Vec<&RecipientLine> = recipients.iter().filter(|line| line.numbers.bytes_issued > 0).collect();
    bars.sort_by_key(|line| (std::cmp::Reverse(line.numbers.bytes_issued), line.recipient_id));
    let Some(most) = bars.first().map(|line| line.numbers.bytes_issued) else { return Ok(()) };
    out.write_str("<section>\n<h2>Size handed out by recipient</h2>\n<table class=\"bars\">\n<tbody>\n")?;
    for line in bars.iter().take(MOST_BARS) {
        let size = line.numbers.bytes_issued;
        // What is there is seen.
        let width = (size as f64 / most as f64 * 100.0).max(0.3);
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"bar\"><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\"><rect class=\"answered\" width=\"{width:.1}\" height=\"10\"/></svg></td>\
             <td class=\"n\">{}</td></tr>",
            called(line),
            bytes(size)
        )?;
    }
    out.write_str("</tbody>\n</table>\n")?;
    left_out(out, bars.len(), MOST_BARS, "recipients")?;
    out.write_str("</section>\n")
}

/// A recipient's display name, with the name that it is known by.
fn called(line: &RecipientLine) -> String {
    let known = name(line.recipient.as_deref(), "no recipient");
    match line.display_name.as_deref().filter(|shown| Some(*shown) != line.recipient.as_deref()) {
        Some(shown) => format!("{} <span class=\"known\">{known}</span>", escape(shown)),
        None => known,
    }
}

fn left_out(out: &mut String, all: usize, most: usize, what: &str) -> fmt::Result {
    if all <= most {
        return Ok(());
    }
    let (shown, all) = (number(most as i64), number(all as i64));
    writeln!(out, "<p class=\"left-out\">{shown} of {all} {what}; the others are in the CSV and JSON files.</p>")
}

/// The heading of the columns that every table of numbers has.
const NUMBERS: &str = "<th>Requests</th><th>File reads</th><th>Refused</th><th>Files</th><th>Rows</th>\
                       <th>Size handed out</th><th>Read through server</th><th>Addresses</th><th>Days active</th>\
                       <th>Last</th>";

fn numbers(out: &mut String, numbers: &Numbers) -> fmt::Result {
    let rows = if numbers.answers_without_rows > 0 { "≥\u{a0}" } else { "" };
    for cell in [
        number(numbers.requests),
        number(numbers.file_reads),
        number(numbers.denials),
        number(numbers.files),
        format!("{rows}{}", number(numbers.rows)),
        bytes(numbers.bytes_issued),
        optional_bytes(numbers.bytes_delivered),
        optional(numbers.addresses),
        numbers.days_active.to_string(),
        numbers.last_at.map(moment).unwrap_or_default(),
    ] {
        write!(out, "<td class=\"n\">{cell}</td>")?;
    }
    Ok(())
}

fn begin_table(out: &mut String, title: &str, heading: &str) -> fmt::Result {
    write!(
        out,
        "<section>\n<h2>{title}</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n\
         <table>\n<thead><tr>{heading}</tr></thead>\n<tbody>\n"
    )
}

const END_TABLE: &str = "</tbody>\n</table>\n</div>\n";
const END_SECTION: &str = "</section>\n";

fn recipients(out: &mut String, lines: &[RecipientLine]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    begin_table(out, "Recipients", &format!("<th class=\"t\">Recipient</th>{NUMBERS}"))?;
    for line in lines.iter().take(MOST_ROWS) {
        write!(out, "<tr><th scope=\"row\">{}</th>", called(line))?;
        numbers(out, &line.numbers)?;
        out.write_str("</tr>\n")?;
    }
    out.write_str(END_TABLE)?;
    left_out(out, lines.len(), MOST_ROWS, "recipients")?;
    out.write_str(END_SECTION)
}

fn reasons(out: &mut String, totals: &Numbers) -> fmt::Result {
    if totals.reasons.is_empty() {
        return Ok(());
    }
    begin_table(out, "Refusals by reason", "<th class=\"t\">Reason</th><th>Requests and file reads</th>")?;
    let mut reasons: Vec<(&String, &i64)> = totals.reasons.iter().collect();
    reasons.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), *code));
    for (code, count) in reasons {
        writeln!(
            out,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{}</td></tr>",
            escape(code),
            number(*count)
        )?;
    }
    out.write_str(END_TABLE)?;
    out.write_str(END_SECTION)
}

/// A dataset: `share`, and below it the table.
fn dataset(share: Option<&str>, table: Option<&str>) -> String {
    match (share, table) {
        (None, None) => "<span class=\"none\">no share</span>".to_owned(),
        (Some(share), None) => format!("{} <span class=\"none\">the share itself</span>", escape(share)),
        (share, Some(table)) => {
            format!("{} <span class=\"known\">{}</span>", escape(table), name(share, "no share"))
        }
    }
}

fn datasets(out: &mut String, report: &Report) -> fmt::Result {
    if report.datasets.is_empty() {
        return Ok(());
    }
    let is_whole = report.recipient.is_none();
    let recipients = if is_whole { "<th>Recipients</th>" } else { "" };
    begin_table(out, "Datasets", &format!("<th class=\"t\">Dataset</th>{recipients}{NUMBERS}"))?;
    for line in report.datasets.iter().take(MOST_ROWS) {
        write!(out, "<tr><th scope=\"row\">{}</th>", dataset(line.share.as_deref(), line.table.as_deref()))?;
        if is_whole {
            write!(out, "<td class=\"n\">{}</td>", number(line.recipients))?;
        }
        numbers(out, &line.numbers)?;
        out.write_str("</tr>\n")?;
    }
    out.write_str(END_TABLE)?;
    left_out(out, report.datasets.len(), MOST_ROWS, "datasets")?;
    out.write_str(END_SECTION)
}

fn lines(out: &mut String, lines: &[Line]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    let heading = format!("<th class=\"t\">Recipient</th><th class=\"t\">Dataset</th>{NUMBERS}");
    begin_table(out, "Recipients and datasets", &heading)?;
    for line in lines.iter().take(MOST_ROWS) {
        write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"t\">{}</td>",
            name(line.recipient.as_deref(), "no recipient"),
            dataset(line.share.as_deref(), line.table.as_deref())
        )?;
        numbers(out, &line.numbers)?;
        out.write_str("</tr>\n")?;
    }
    out.write_str(END_TABLE)?;
    left_out(out, lines.len(), MOST_ROWS, "lines")?;
    out.write_str(END_SECTION)
}

fn uses(out: &mut String, lines: &[UseLine]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    let heading = "<th class=\"t\">Recipient</th><th class=\"t\">Share</th><th class=\"t\">Purpose</th>\
                   <th class=\"t\">Agreement</th><th>Answered</th>";
    begin_table(out, "Purposes and agreements in use", heading)?;
    for line in lines.iter().take(MOST_ROWS) {
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"t\">{}</td><td class=\"t\">{}</td><td class=\"t\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            name(line.recipient.as_deref(), "no recipient"),
            name(line.share.as_deref(), "no share"),
            name(line.purpose.as_deref(), "none stated"),
            name(line.agreement.as_deref(), "none"),
            number(line.answered)
        )?;
    }
    out.write_str(END_TABLE)?;
    left_out(out, lines.len(), MOST_ROWS, "lines")?;
    out.write_str(END_SECTION)
}

fn changes(out: &mut String, report: &Report) -> fmt::Result {
    if report.changes.is_empty() {
        return out.write_str("<section>\n<h2>Changes of access</h2>\n<p>None in this month.</p>\n</section>\n");
    }
    let is_whole = report.recipient.is_none();
    let recipient = if is_whole { "<th class=\"t\">Recipient</th>" } else { "" };
    let heading = format!(
        "<th class=\"t\">When (UTC)</th><th class=\"t\">What</th>{recipient}<th class=\"t\">Share</th>\
         <th class=\"t\">Purpose</th><th class=\"t\">Until</th><th class=\"t\">By</th><th>Event</th>"
    );
    begin_table(out, "Changes of access", &heading)?;
    for line in report.changes.iter().take(MOST_ROWS) {
        change(out, line, is_whole)?;
    }
    out.write_str(END_TABLE)?;
    let all = report.changes.len() + usize::try_from(report.changes_left_out).unwrap_or_default();
    if report.changes_left_out > 0 {
        writeln!(
            out,
            "<p class=\"left-out\">{} of {} changes; the trail has the others.</p>",
            number(report.changes.len().min(MOST_ROWS) as i64),
            number(all as i64)
        )?;
    } else {
        left_out(out, all, MOST_ROWS, "changes")?;
    }
    out.write_str(END_SECTION)
}

fn change(out: &mut String, line: &ChangeLine, is_whole: bool) -> fmt::Result {
    // Times are recorded to the microsecond, which nobody reads here.
    let until = line.until.as_deref().map(|until| until.get(..16).unwrap_or(until).replace('T', "\u{a0}"));
    let by = escape(line.by.as_deref().unwrap_or(&line.by_kind));
    write!(
        out,
        "<tr><td class=\"t when\">{}</td><td class=\"t\"><code>{}</code></td>",
        moment(line.at),
        escape(&line.action)
    )?;
    if is_whole {
        write!(out, "<td class=\"t\">{}</td>", name(line.recipient.as_deref(), "–"))?;
    }
    writeln!(
        out,
        "<td class=\"t\">{}</td><td class=\"t\">{}</td><td class=\"t when\">{}</td><td class=\"t\">{by}</td>\
         <td class=\"n\">{}</td></tr>",
        name(line.share.as_deref(), "–"),
        name(line.purpose.as_deref(), "–"),
        name(until.as_deref(), "–"),
        number(line.seq)
    )
}

fn notes(out: &mut String) -> fmt::Result {
    out.write_str(
        "<section class=\"notes\">\n<h2>How this is counted</h2>\n\
         <p><strong>Requests</strong> are listings, versions, metadata, queries and changes of the sharing protocol, refused \
         ones included; <strong>file reads</strong> are files opened through the server. <strong>Files</strong>, \
         <strong>rows</strong> and <strong>size handed out</strong> are those of files whose URLs were handed out, rows by \
         the tables’ statistics; “≥” stands where some files have none. <strong>Read through the server</strong> is – where \
         every URL was presigned, because nobody here sees what is read by those. <strong>Addresses</strong> are as they \
         were known when the report was made, and – where they were erased before. Names are the last ones of the month; \
         “no recipient” are callers who proved to be none.</p>\n</section>\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_whole_numbers_and_reach_what_is_shown() {
        for (most, expected) in
            [(1, 1), (3, 1), (5, 1), (6, 2), (10, 2), (11, 5), (25, 5), (26, 10), (51, 20), (9_999, 2_000)]
        {
            assert_eq!(step(most), expected, "{most}");
        }
        assert!(step(i64::MAX) > 0);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            (number(0), number(999), number(48_211), number(-1_000)),
            ("0".into(), "999".into(), "48,211".into(), "-1,000".into())
        );
        assert!(bytes(999).contains("999\u{a0}B") && bytes(1_234_567).contains("1.2\u{a0}MB"));
        assert!(bytes(i64::MAX).contains("9.2\u{a0}EB"));
    }
}
