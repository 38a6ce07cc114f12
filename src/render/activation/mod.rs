//! The pages of an activation link: what it offers, or why it does not work.

use askama::Template;
use chrono::{DateTime, Utc};

use super::{RenderError, written};

/// The look of both pages; a content policy allows it by its hash.
pub const STYLE: &str = include_str!("page.css");

/// The page of a link that works.
#[derive(Clone, Debug, Template)]
#[template(path = "activation/offer.html")]
pub struct OfferPage<'a> {
    /// Who shares.
    pub provider: &'a str,
    /// Whom the link is for.
    pub recipient: &'a str,
    /// When the link ends.
    pub expires_at: DateTime<Utc>,
    /// How long the profile works, in seconds.
    pub life_seconds: u64,
    /// Whom to ask; may be empty.
    pub support_contact: &'a str,
}

impl OfferPage<'_> {
    /// Writes the page.
    pub fn page(&self) -> Result<String, RenderError> {
        written(self)
    }

    fn until(&self) -> String {
        self.expires_at.format("%-d %B %Y, %H:%M UTC").to_string()
    }

    /// The profile's life in its largest whole unit.
    fn life(&self) -> String {
        let seconds = self.life_seconds;
        let (count, unit) = match seconds {
            172_800.. => (seconds / 86_400, "days"),
            7200.. => (seconds / 3600, "hours"),
            120.. => (seconds / 60, "minutes"),
            _ => (seconds, "seconds"),
        };
        format!("{count} {unit}")
    }
}

/// The page of a link that does not work.
#[derive(Clone, Debug, Template)]
#[template(path = "activation/refusal.html")]
pub struct RefusalPage<'a> {
    /// What happened, in a few words.
    pub title: &'a str,
    /// Why, and what to do; without a period.
    pub message: &'a str,
    /// Whom to ask; may be empty.
    pub support_contact: &'a str,
    /// The request's number, by which its cause is found in the log.
    pub request_id: &'a str,
}

impl RefusalPage<'_> {
    /// Writes the page.
    pub fn page(&self) -> Result<String, RenderError> {
        written(self)
    }

    /// The message as a sentence: it is made to stand behind a code.
    fn sentence(&self) -> String {
        let mut letters = self.message.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\"><script>alert(1)</script>";

    fn sample() -> OfferPage<'static> {
        OfferPage {
            provider: "Insurer <b>&Co</b>",
            recipient: HOSTILE,
            expires_at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
            life_seconds: 7_776_000,
            support_contact: "data@insurer.example",
        }
    }

    #[test]
    fn the_page_says_who_shares_with_whom_until_when_and_nothing_in_it_is_markup() {
        let page = sample().page().unwrap();
        assert!(page.contains("<h1>Insurer &lt;b&gt;&amp;Co&lt;/b&gt; shares data with you</h1>"), "{page}");
        assert!(page.contains("<dd>21 September 2026, 14:13 UTC</dd>"), "{page}");
        assert!(page.contains("<dd>90 days from its download</dd>"), "{page}");
        assert!(page.contains("<dt>Questions</dt><dd>data@insurer.example</dd>"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert_eq!(page.matches("<button").count(), 1);
        assert!(page.starts_with("<!doctype html>\n") && page.ends_with("</main>\n</body>\n</html>\n"), "{page}");
    }

    #[test]
    fn whom_to_ask_is_left_out_where_nobody_is_named() {
        let page = OfferPage { support_contact: "", ..sample() }.page().unwrap();
        assert!(!page.contains("Questions") && page.contains("from its download</dd>\n</dl>\n"), "{page}");
    }

    #[test]
    fn a_refusal_is_a_sentence_with_the_requests_number() {
        let page = RefusalPage { title: "No such link", message: HOSTILE, support_contact: "", request_id: "r-1" };
        let page = page.page().unwrap();
        assert!(page.contains("<p>&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;.</p>"), "{page}");
        assert!(page.contains("<dl>\n<dt>Request</dt><dd>r-1</dd>\n</dl>\n</main>"), "{page}");
        let page =
            RefusalPage { title: "", message: "ask ann", support_contact: "ann", request_id: "" }.page().unwrap();
        assert!(page.contains("<p>Ask ann.</p>\n<dl>\n<dt>Questions</dt><dd>ann</dd>\n<dt>Request"), "{page}");
    }

    #[test]
    fn marks_that_nobody_sees_are_shown_as_such() {
        for mark in ["\u{202e}", "\u{61c}", "\u{200f}", "\u{0}", "\n"] {
            let page = OfferPage { recipient: mark, ..sample() }.page().unwrap();
            assert!(page.contains("<dd>\u{fffd}</dd>"), "{mark:?}: {page}");
        }
    }

    #[test]
    fn the_style_is_in_the_page_as_it_is() {
        assert!(sample().page().unwrap().contains(&format!("<style>{STYLE}</style>")));
        assert!(!STYLE.contains("</"));
    }
}
