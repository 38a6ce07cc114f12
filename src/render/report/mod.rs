//! A month's report as files for people and spreadsheets. Its page has no script and nothing from elsewhere, and can be
//! read on paper and on a phone.

mod spreadsheet;

use askama::Template;
use chrono::{DateTime, Datelike, Utc};

use crate::domain::{
    core::safeguard::SafeguardOff,
    insight::report::{ChangeLine, DatasetLine, DayLine, Line, Numbers, RecipientLine, Report, ReportFile, UseLine},
};

use super::{
    RenderError,
    charts::{self, Stack},
    figures, written,
};

/// The most lines of one table; the rest is in the other files.
const MOST_ROWS: usize = 1_000;
/// The most bars of a chart.
const MOST_BARS: usize = 20;

/// The page's look. Colours tell nothing that the words do not.
const STYLE: &str = include_str!("report.css");

/// Writes a file of a report; whoever signs it makes those that are about the others.
pub fn file(report: &Report, file: ReportFile) -> Result<String, RenderError> {
    match file {
        ReportFile::Html => html(report),
        ReportFile::Csv => Ok(csv(report)),
        ReportFile::Json | ReportFile::Manifest | ReportFile::Signature => Ok(report.json()),
    }
}

/// Writes a line for each recipient and dataset, as comma-separated values.
pub fn csv(report: &Report) -> String {
    spreadsheet::write(report)
}

/// Writes a report's page, which needs nothing else.
pub fn html(report: &Report) -> Result<String, RenderError> {
    written(&Page::of(report)?)
}

#[derive(Template)]
#[template(path = "report/page.html")]
struct Page<'a> {
    report: &'a Report,
    title: String,
    whose: Option<&'a str>,
    /// Whether it is about every recipient.
    is_whole: bool,
    n_recipients: i64,
    n_datasets: i64,
    days: String,
    bars: Vec<Bar<'a>>,
    bars_cut: Option<String>,
    recipients: Listed<'a, RecipientLine>,
    reasons: Vec<(&'a str, i64)>,
    datasets: Listed<'a, DatasetLine>,
    lines: Listed<'a, Line>,
    uses: Listed<'a, UseLine>,
    changes: Listed<'a, ChangeLine>,
}

/// A recipient's bar.
struct Bar<'a> {
    line: &'a RecipientLine,
    width: String,
}

/// The lines of a table that are shown, of all there are.
struct Listed<'a, T> {
    shown: &'a [T],
    all: usize,
}

impl<'a, T> Listed<'a, T> {
    fn of(lines: &'a [T]) -> Self {
        Self { shown: lines.get(..MOST_ROWS).unwrap_or(lines), all: lines.len() }
    }

    /// Says what is not shown.
    fn cut(&self, what: &str) -> Option<String> {
        cut(self.shown.len(), self.all, what)
    }
}

fn cut(shown: usize, all: usize, what: &str) -> Option<String> {
    let (shown_number, all_number) = (count(shown), count(all));
    (shown < all).then(|| format!("{shown_number} of {all_number} {what}; the others are in the CSV and JSON files."))
}

fn count(count: usize) -> String {
    figures::number(i64::try_from(count).unwrap_or(i64::MAX))
}

impl<'a> Page<'a> {
    fn of(report: &'a Report) -> Result<Self, RenderError> {
        let mark = if report.preview_until.is_some() { " (preview)" } else { "" };
        let is_whole = report.recipient.is_none();
        let (bars, n_bars) = if is_whole { bars(&report.recipients) } else { Default::default() };
        let mut reasons: Vec<_> = report.totals.reasons.iter().map(|(code, count)| (code.as_str(), *count)).collect();
        reasons.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
        let of_all = |lines: &'a [RecipientLine]| if is_whole { lines } else { &[] };
        Ok(Self {
            report,
            title: format!("Data sharing in {}{mark}", report.month.title()),
            whose: report.recipient.as_ref().map(|party| party.name.as_str()),
            is_whole,
            n_recipients: total(report.recipients.iter().map(|line| line.recipient_id)),
            n_datasets: total(report.datasets.iter().map(|line| line.object_id)),
            days: days(&report.days)?,
            bars_cut: cut(bars.len(), n_bars, "recipients"),
            bars,
            recipients: Listed::of(of_all(&report.recipients)),
            reasons,
            datasets: Listed::of(&report.datasets),
            lines: Listed::of(if is_whole { &report.lines } else { &[] }),
            uses: Listed::of(&report.uses),
            changes: Listed::of(&report.changes),
        })
    }

    fn range(&self) -> String {
        let events = self.report.events;
        match (events.first_seq, events.last_seq) {
            (Some(first), Some(last)) => {
                let [count, first, last] = [events.count, first, last].map(figures::number);
                format!("{count} events of the audit trail, between {first} and {last}")
            }
            _ => "no event of the audit trail".to_owned(),
        }
    }

    fn changes_cut(&self) -> Option<String> {
        let left_out = usize::try_from(self.report.changes_left_out).unwrap_or_default();
        if left_out == 0 {
            return self.changes.cut("changes");
        }
        let (shown, all) = (count(self.changes.shown.len()), count(self.changes.all + left_out));
        Some(format!("{shown} of {all} changes; the trail has the others."))
    }
}

/// How many of these are known.
fn total<T>(ids: impl Iterator<Item = Option<T>>) -> i64 {
    i64::try_from(ids.flatten().count()).unwrap_or(i64::MAX)
}

/// Requests and file reads of each day: refused ones on top of answered ones.
fn days(days: &[DayLine]) -> Result<String, RenderError> {
    let all = |day: &DayLine| day.numbers.requests + day.numbers.file_reads;
    let most = days.iter().map(all).max().unwrap_or_default();
    let label = format!("Requests and file reads of each day, the most on one day: {}", figures::number(most));
    let stack = |day: &DayLine| {
        let (refused, date) = (day.numbers.denials.min(all(day)), day.date.day());
        let mark = (date == 1 || date % 5 == 0).then(|| date.to_string());
        Stack { name: day.date.to_string(), parts: [all(day) - refused, refused], mark }
    };
    charts::columns(&label, ["answered", "refused"], &days.iter().map(stack).collect::<Vec<_>>())
}

/// The size of what was handed out to each recipient, the largest first; and how many recipients there are.
fn bars<'a>(recipients: &'a [RecipientLine]) -> (Vec<Bar<'a>>, usize) {
    let mut lines: Vec<&'a RecipientLine> = recipients.iter().filter(|line| line.numbers.bytes_issued > 0).collect();
    lines.sort_by_key(|line| (std::cmp::Reverse(line.numbers.bytes_issued), line.recipient_id));
    let (most, n) = (lines.first().map_or(1, |line| line.numbers.bytes_issued), lines.len());
    let bar = |line: &'a RecipientLine| Bar { line, width: charts::bar(line.numbers.bytes_issued, most) };
    (lines.into_iter().take(MOST_BARS).map(bar).collect(), n)
}

// What the templates call; they pass everything by reference.

fn number(number: &i64) -> String {
    figures::number(*number)
}

fn optional(number: &Option<i64>) -> String {
    number.map_or_else(|| "–".to_owned(), figures::number)
}

fn size(bytes: &i64) -> String {
    figures::size(*bytes)
}

fn moment(at: &DateTime<Utc>) -> String {
    figures::moment(*at)
}

fn rows(numbers: &Numbers) -> String {
    let mark = if numbers.answers_without_rows > 0 { "≥\u{a0}" } else { "" };
    format!("{mark}{}", figures::number(numbers.rows))
}

fn last(numbers: &Numbers) -> String {
    numbers.last_at.map(figures::moment).unwrap_or_default()
}

/// What people call a recipient, where that is not its name.
fn shown(line: &RecipientLine) -> Option<&str> {
    line.display_name.as_deref().filter(|shown| Some(*shown) != line.recipient.as_deref())
}

/// The end that a change set, to the minute: times are recorded to the microsecond, which nobody reads here.
fn until(line: &ChangeLine) -> Option<String> {
    line.until.as_deref().map(|until| until.get(..16).unwrap_or(until).replace('T', "\u{a0}"))
}

/// When a safeguard was on again.
fn on_again(off: &SafeguardOff) -> Option<String> {
    off.until.map(figures::moment)
}

fn by(line: &ChangeLine) -> String {
    line.by.as_deref().unwrap_or(line.by_kind.as_str()).to_owned()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        audit::ActorKind,
        insight::report::{DayNumbers, EventRange, Month, Party, REPORT_FORMAT},
    };

    const HOSTILE: &str = "<b>\"x\"</b>\u{202e}";
    const SHOWN: &str = "&lt;b&gt;&quot;x&quot;&lt;/b&gt;\u{fffd}";

    fn numbers() -> Numbers {
        Numbers {
            requests: 48_211,
            file_reads: 3,
            denials: 2,
            reasons: [(HOSTILE.to_owned(), 2)].into(),
            rows: 7,
            answers_without_rows: 1,
            bytes_issued: 1_234_567,
            days_active: 1,
            last_at: DateTime::from_timestamp(1_790_000_000, 0),
            ..Numbers::default()
        }
    }

    /// Every text in it could be markup.
    fn sample() -> Report {
        let text = || Some(HOSTILE.to_owned());
        let (month, id) = (Month::parse("2026-09").unwrap(), Some(Uuid::from_u128(1)));
        let line = Line {
            recipient_id: id,
            recipient: text(),
            share_id: id,
            share: text(),
            object_id: id,
            table_id: id,
            table: text(),
            numbers: numbers(),
        };
        let day = DayNumbers { requests: 9, file_reads: 1, denials: 2, ..DayNumbers::default() };
        Report {
            format: REPORT_FORMAT.to_owned(),
            month,
            since: month.start(),
            until: month.end(),
            provider: text(),
            safeguards_off: vec![SafeguardOff {
                setting: HOSTILE.to_owned(),
                value: HOSTILE.to_owned(),
                since: month.start(),
                until: None,
            }],
            preview_until: None,
            recipient: None,
            events: EventRange { count: 10, first_seq: Some(1_000), last_seq: Some(1_020) },
            totals: numbers(),
            days: month
                .days()
                .map(|date| DayLine { date, numbers: if date.day() == 2 { day } else { Default::default() } })
                .collect(),
            recipients: vec![RecipientLine {
                recipient_id: id,
                recipient: text(),
                display_name: Some("Acme".into()),
                numbers: numbers(),
            }],
            datasets: vec![DatasetLine {
                share_id: id,
                share: text(),
                object_id: id,
                table_id: id,
                table: text(),
                recipients: 1,
                numbers: numbers(),
            }],
            lines: vec![line],
            uses: vec![UseLine {
                recipient_id: id,
                recipient: text(),
                share_id: id,
                share: text(),
                purpose: text(),
                agreement: text(),
                answered: 5,
            }],
            changes: vec![ChangeLine {
                seq: 1_010,
                at: month.start(),
                action: HOSTILE.to_owned(),
                by_kind: ActorKind::Operator.into(),
                by: text(),
                recipient_id: id,
                recipient: text(),
                share: text(),
                object: text(),
                purpose: text(),
                agreement: text(),
                until: text(),
            }],
            changes_left_out: 0,
        }
    }

    #[test]
    fn nothing_in_a_page_is_markup_but_its_own() {
        let page = html(&sample()).unwrap();
        assert!(!page.contains("<b>") && !page.contains('\u{202e}'), "{page}");
        for shown in [
            format!(
                "<p>From {SHOWN}. About every recipient. From 2026-09-01 to 2026-10-01 (UTC, the end not included); 10 events of the audit trail, between 1,000 and 1,020.</p>"
            ),
            format!("<tr><th scope=\"row\">Acme <span class=\"known\">{SHOWN}</span></th><td class=\"n\">48,211</td>"),
            format!("<th scope=\"row\">{SHOWN} <span class=\"known\">{SHOWN}</span></th><td class=\"n\">1</td>"),
            format!("<th scope=\"row\"><code>{SHOWN}</code></th><td class=\"n\">2</td>"),
            format!("<code>{SHOWN}</code></td><td class=\"t\">{SHOWN}</td>"),
            format!(
                "<td class=\"t\"><code>{SHOWN}</code></td><td class=\"t\"><code>{SHOWN}</code></td><td class=\"n\">2026-09-01\u{a0}00:00</td>"
            ),
            "<dd>≥\u{a0}7</dd>".into(),
            "<dd><span title=\"1,234,567 bytes\">1.2\u{a0}MB</span></dd>".into(),
            "<dt>Read through the server</dt><dd>–</dd>".into(),
            "<title>2026-09-02: 8 answered, 2 refused</title>".into(),
            "<td class=\"n\">2026-09-21\u{a0}14:13</td>".into(),
        ] {
            assert!(page.contains(&shown), "{shown}: {page}");
        }
        assert_eq!(page.matches("<section").count(), page.matches("</section>").count());
        assert!(page.starts_with("<!DOCTYPE html>\n") && page.ends_with("</html>\n"));
    }

    #[test]
    fn a_partners_page_is_about_that_partner() {
        let whole = sample();
        let report = Report { recipient: Some(Party { id: Uuid::from_u128(1), name: "acme".into() }), ..whole };
        let page = html(&report).unwrap();
        assert!(page.contains("<title>Data sharing in September 2026 – acme</title>"), "{page}");
        assert!(page.contains("About <strong>acme</strong> alone."), "{page}");
        for left_out in [
            "<h2>Recipients</h2>",
            "<h2>Recipients and datasets</h2>",
            "<th>Recipients</th>",
            "by recipient",
            "<dt>Recipients</dt>",
        ] {
            assert!(!page.contains(left_out), "{left_out}: {page}");
        }
    }

    #[test]
    fn a_preview_says_so_and_an_empty_month_has_no_empty_tables() {
        let empty = Report {
            preview_until: Some(Month::parse("2026-09").unwrap().start()),
            provider: None,
            safeguards_off: Vec::new(),
            events: EventRange::default(),
            totals: Numbers::default(),
            recipients: Vec::new(),
            datasets: Vec::new(),
            lines: Vec::new(),
            uses: Vec::new(),
            changes: Vec::new(),
            ..sample()
        };
        let page = html(&empty).unwrap();
        assert!(page.contains("<h1>Data sharing in September 2026 (preview)</h1>"), "{page}");
        assert!(page.contains("<strong>This is a preview</strong>") && !page.contains("manifest"), "{page}");
        assert!(page.contains("no event of the audit trail") && page.contains("None in this month."), "{page}");
        assert!(!page.contains("<thead>"), "{page}");
    }

    #[test]
    fn what_a_table_leaves_out_is_said() {
        let one = sample();
        let report = Report {
            lines: vec![one.lines[0].clone(); 1_200],
            recipients: vec![one.recipients[0].clone(); 30],
            changes_left_out: 5,
            ..one
        };
        let page = html(&report).unwrap();
        for said in [
            "<p class=\"left-out\">1,000 of 1,200 lines; the others are in the CSV and JSON files.</p>\n</section>",
            "<p class=\"left-out\">20 of 30 recipients; the others are in the CSV and JSON files.</p>\n</section>",
            "<p class=\"left-out\">1 of 6 changes; the trail has the others.</p>\n</section>",
        ] {
            assert!(page.contains(said), "{said}");
        }
    }

    #[test]
    fn spreadsheets_have_a_line_for_each_pair_and_no_formula() {
        let mut report = sample();
        report.lines[0].recipient = Some("=1+1".into());
        let csv = csv(&report);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("month,recipient_id,recipient,") && lines[1].contains(",'=1+1,"), "{csv}");
    }
}
