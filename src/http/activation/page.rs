//! The activation page: what it says, and the headers that keep it to itself.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

use crate::{domain::core::html::Escaped, service::access::activation::ActivationOffer};

const STYLE: &str = include_str!("page.css");

/// Nothing is loaded, nothing runs, and the one form goes nowhere else. The style is allowed by its hash.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&policy).ok()
});

/// The headers of everything that is answered under a link.
pub fn headers(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.extend(POLICY.clone().map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    headers
}

/// The page of a link that works.
pub fn offer(offer: &ActivationOffer) -> String {
    let (provider, recipient) = (Escaped(&offer.provider), Escaped(&offer.recipient));
    let contact = match offer.support_contact.as_str() {
        "" => String::new(),
        contact => format!("<dt>Questions</dt><dd>{}</dd>\n", Escaped(contact)),
    };
    let (until, life) = (shown_time(offer.expires_at), shown_life(offer.life_seconds));
    page(
        &format!("{} shares data with you", offer.provider),
        &format!(
            "<h1>{provider} shares data with you</h1>\n\
             <dl>\n\
             <dt>Shared by</dt><dd>{provider}</dd>\n\
             <dt>For</dt><dd>{recipient}</dd>\n\
             <dt>This link works until</dt><dd>{until}</dd>\n\
             <dt>The profile works for</dt><dd>{life} from its download</dd>\n\
             {contact}</dl>\n\
             <form method=\"post\">\n\
             <button type=\"submit\">Download the profile</button>\n\
             </form>\n\
             <p>The profile is the file that Delta Sharing connectors read. It can be downloaded <strong>once</strong>. \
             It holds a secret: keep it where only you and your programs can read it, and never send it by mail.</p>\n"
        ),
    )
}

/// The page of a link that does not work.
pub fn refusal(title: &str, message: &str, support_contact: &str, request_id: &str) -> String {
    let contact = match support_contact {
        "" => String::new(),
        contact => format!("<dt>Questions</dt><dd>{}</dd>\n", Escaped(contact)),
    };
    // Messages are made to stand behind a code; on a page they are sentences.
    let mut letters = message.chars();
    let sentence: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    page(
        title,
        &format!(
            "<h1>{}</h1>\n<p>{}.</p>\n<dl>\n{contact}<dt>Request</dt><dd>{}</dd>\n</dl>\n",
            Escaped(title),
            Escaped(&sentence),
            Escaped(request_id)
        ),
    )
}

fn page(title: &str, body: &str) -> String {
    let title = Escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn shown_time(at: DateTime<Utc>) -> String {
    at.format("%-d %B %Y, %H:%M UTC").to_string()
}

/// A length of time in its largest whole unit.
fn shown_life(seconds: u64) -> String {
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "days"),
        7200.. => (seconds / 3600, "hours"),
        120.. => (seconds / 60, "minutes"),
        _ => (seconds, "seconds"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ActivationOffer {
        ActivationOffer {
            provider: "Insurer <b>&Co</b>".into(),
            recipient: "\"><script>alert(1)</script>".into(),
            expires_at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
            life_seconds: 7_776_000,
            support_contact: "data@insurer.example".into(),
        }
    }

    #[test]
    fn the_page_says_who_shares_with_whom_until_when_and_nothing_in_it_is_markup() {
        let page = offer(&sample());
        assert!(page.contains("Insurer &lt;b&gt;&amp;Co&lt;/b&gt; shares data with you"), "{page}");
        assert!(page.contains("21 September 2026, 14:13 UTC"), "{page}");
        assert!(page.contains("90 days from its download"), "{page}");
        assert!(page.contains("data@insurer.example"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert_eq!(page.matches("<button").count(), 1);
    }

    #[test]
    fn the_policy_allows_this_style_and_nothing_else() {
        let headers = headers("text/html; charset=utf-8");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        let style = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
        assert!(policy.starts_with("default-src 'none'") && policy.contains(&style), "{policy}");
        assert!(offer(&sample()).contains(&format!("<style>{STYLE}</style>")));
        assert!(!STYLE.contains("</") && !policy.contains("unsafe"));
    }
}
