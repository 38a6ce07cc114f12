//! Writes comma-separated values (RFC 4180) for spreadsheets. Cells that look like formulas become text.

/// Writes a cell of text. A text that begins like a formula gets a leading apostrophe, because clients choose their
/// `User-Agent` and partners choose names.
pub fn text(text: &str) -> String {
    // Some programs skip leading white space when they look for a formula.
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@']) || text.starts_with(['\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Writes a cell that may have no value.
pub fn optional(text: Option<&str>) -> String {
    text.map(self::text).unwrap_or_default()
}

/// Writes a number; an unknown number is an empty cell, never zero.
pub fn number(number: Option<i64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// Appends a line of finished cells.
pub fn line(out: &mut String, cells: &[String]) {
    out.push_str(&cells.join(","));
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_hold_no_formula() {
        for (value, written) in [
            ("plain", "plain"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1+1,", "\"'-1+1,\""),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("\tx", "'\tx"),
            ("two\nlines", "\"two\nlines\""),
            ("", ""),
        ] {
            assert_eq!(text(value), written, "{value:?}");
        }
        assert_eq!((number(Some(-7)), number(None), optional(None)), ("-7".into(), String::new(), String::new()));
    }
}
