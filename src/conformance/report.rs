//! Reports the results of a run, for people and for programs.

use std::fmt::Write;

use quick_xml::escape::escape;
use serde::Serialize;

use super::check::{Check, Outcome, Verdict};

/// The outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The server is right.
    Pass,
    /// The server is wrong.
    Fail,
    /// The question could not be asked.
    NotApplicable,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotApplicable => "n/a",
        }
    }
}

/// One check and its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// The check's number.
    pub number: u16,
    /// The statement that is true if the check passes.
    pub title: &'static str,
    /// The heading of the section in the protocol that requires it.
    pub section: &'static str,
    /// The outcome.
    pub outcome: Ending,
    /// Why the check did not pass; contains neither tokens nor URLs of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl CheckResult {
    pub(super) fn new(check: &Check, outcome: Outcome) -> Self {
        let (outcome, reason) = match outcome {
            Ok(()) => (Ending::Pass, None),
            Err(Verdict::Fail(reason)) => (Ending::Fail, Some(reason)),
            Err(Verdict::NotApplicable(reason)) => (Ending::NotApplicable, Some(reason)),
        };
        // The reason may quote the server, so control characters are replaced: they could end the line or the XML.
        let reason = reason.map(|reason| reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect());
        Self { number: check.number, title: check.title, section: check.section, outcome, reason }
    }
}

/// The results of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The server's address.
    pub endpoint: String,
    /// The names of the examined tables, `share.schema.table`.
    pub tables: Vec<String>,
    /// The results, by check number.
    pub results: Vec<CheckResult>,
}

impl Report {
    /// Returns the number of checks with the outcome `ending`.
    pub fn count(&self, ending: Ending) -> usize {
        self.results.iter().filter(|result| result.outcome == ending).count()
    }

    /// Formats the report as text: one line per check, and a summary.
    pub fn to_text(&self) -> String {
        let mut text = format!("Delta Sharing conformance of {}\n\n", self.endpoint);
        for CheckResult { number, title, section, outcome, reason } in &self.results {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{number:>4}  {:<4}  {title}  [{section}]", outcome.as_str());
            if let Some(reason) = reason {
                let _ = writeln!(text, "            {reason}");
            }
        }
        let _ = writeln!(
            text,
            "\n{} passed, {} failed, {} not applicable",
            self.count(Ending::Pass),
            self.count(Ending::Fail),
            self.count(Ending::NotApplicable)
        );
        text
    }

    /// Formats the report as one JSON object.
    pub fn to_json(&self) -> String {
        let report = serde_json::json!({
            "endpoint": self.endpoint,
            "tables": self.tables,
            "summary": {
                "passed": self.count(Ending::Pass),
                "failed": self.count(Ending::Fail),
                "notApplicable": self.count(Ending::NotApplicable),
            },
            "checks": self.results,
        });
        format!("{report:#}\n")
    }

    /// Formats the report as JUnit XML for continuous integration; checks that are not applicable are `skipped`.
    pub fn to_junit(&self) -> String {
        let (failed, skipped) = (self.count(Ending::Fail), self.count(Ending::NotApplicable));
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            xml,
            "<testsuite name=\"delta-sharing-conformance\" hostname=\"{}\" tests=\"{}\" failures=\"{failed}\" \
             errors=\"0\" skipped=\"{skipped}\">",
            escape(self.endpoint.as_str()),
            self.results.len(),
        );
        for CheckResult { number, title, section, outcome, reason } in &self.results {
            let (title, section) = (escape(*title), escape(*section));
            let reason = escape(reason.as_deref().unwrap_or_default()).into_owned();
            let inner = match outcome {
                Ending::Pass => String::new(),
                Ending::Fail => format!("<failure message=\"{reason}\"/>"),
                Ending::NotApplicable => format!("<skipped message=\"{reason}\"/>"),
            };
            let _ = writeln!(xml, "  <testcase classname=\"{section}\" name=\"{number} {title}\">{inner}</testcase>");
        }
        xml.push_str("</testsuite>\n");
        xml
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let results = [
            (1, Ending::Pass, None),
            (2, Ending::Fail, Some("\"<>&".to_owned())),
            (3, Ending::NotApplicable, Some("no second table".to_owned())),
        ];
        let results = results.map(|(number, outcome, reason)| CheckResult {
            number,
            title: "a < b",
            section: "List Shares",
            outcome,
            reason,
        });
        Report { endpoint: "https://sharing.example".to_owned(), tables: Vec::new(), results: results.to_vec() }
    }

    #[test]
    fn text_has_a_line_for_each_check_and_a_sum() {
        let text = report().to_text();
        assert!(text.contains("   2  FAIL  a < b  [List Shares]\n            \"<>&\n"), "{text}");
        assert!(text.ends_with("1 passed, 1 failed, 1 not applicable\n"));
    }

    #[test]
    fn json_says_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["summary"], serde_json::json!({ "passed": 1, "failed": 1, "notApplicable": 1 }));
        assert_eq!(json["checks"][1]["outcome"], "fail");
        assert_eq!(json["checks"][2]["reason"], "no second table");
    }

    #[test]
    fn junit_is_xml_that_counts_right() {
        let xml = report().to_junit();
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{xml}");
        assert!(xml.contains("<failure message=\"&quot;&lt;&gt;&amp;\"/>"), "{xml}");
        let mut reader = quick_xml::Reader::from_str(&xml);
        while reader.read_event().unwrap() != quick_xml::events::Event::Eof {}
    }
}
