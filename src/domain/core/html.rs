//! Escapes text for HTML. Never here: which pages exist.

use std::fmt::{self, Write};

use super::name::is_directional;

/// A text for HTML: markup in it is escaped, for use inside elements and inside quoted attributes.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Control characters mean nothing in HTML, and some are errors; directional marks could make one name
                // look like another.
                c if c.is_control() || is_directional(c) => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_becomes_text() {
        let hostile = r#"<script>alert("1")</script> & 'x' "#;
        let shown = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39; ";
        assert_eq!(Escaped(hostile).to_string(), shown);
        assert_eq!(Escaped("acme\u{202e}gro\u{0}").to_string(), "acme\u{fffd}gro\u{fffd}");
        assert_eq!(Escaped("\u{61c}a\u{200e}b\u{200f}").to_string(), "\u{fffd}a\u{fffd}b\u{fffd}");
        assert_eq!(Escaped("Müller & Söhne").to_string(), "Müller &amp; Söhne");
    }

    proptest! {
        #[test]
        fn nothing_escaped_ends_an_element_or_an_attribute(text: String) {
            let escaped = Escaped(&text).to_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
        }
    }
}
