//! Text in HTML.

use std::fmt::{self, Write};

use askama::filters::Escaper;

use crate::domain::core::name::is_directional;

/// Escapes text for HTML, inside elements and inside quoted attributes alike. `askama.toml` names it for every template,
/// and nothing else here escapes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Escape;

impl Escaper for Escape {
    fn write_escaped_str<W: Write>(&self, mut out: W, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_escaped_char(&mut out, c))
    }

    fn write_escaped_char<W: Write>(&self, mut out: W, c: char) -> fmt::Result {
        match c {
            '&' => out.write_str("&amp;"),
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            '"' => out.write_str("&quot;"),
            '\'' => out.write_str("&#39;"),
            // Controls mean nothing in HTML, and some of them are errors; marks that turn the direction of a text could
            // make one name look like another.
            c if c.is_control() || is_directional(c) => out.write_char('\u{fffd}'),
            c => out.write_char(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use askama::Template;
    use proptest::prelude::*;

    #[derive(Template)]
    #[template(source = "{{ text }}", ext = "html")]
    struct Page<'a> {
        text: &'a str,
    }

    fn escaped(text: &str) -> String {
        Page { text }.render().unwrap()
    }

    #[test]
    fn markup_becomes_text() {
        let hostile = r#"<script>alert("1")</script> & 'x' "#;
        let shown = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39; ";
        assert_eq!(escaped(hostile), shown);
        assert_eq!(escaped("acme\u{202e}gro\u{0}"), "acme\u{fffd}gro\u{fffd}");
        assert_eq!(escaped("\u{61c}a\u{200e}b\u{200f}"), "\u{fffd}a\u{fffd}b\u{fffd}");
        assert_eq!(escaped("Müller & Söhne"), "Müller &amp; Söhne");
    }

    proptest! {
        #[test]
        fn nothing_escaped_ends_an_element_or_an_attribute(text: String) {
            prop_assert!(!escaped(&text).contains(['<', '>', '"', '\'']));
        }
    }
}
