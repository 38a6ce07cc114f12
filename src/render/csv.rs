//! Comma-separated values (RFC 4180), for spreadsheets: what these would take for a formula becomes text.

/// A cell of text. Clients choose their `User-Agent`, and partners choose names: one that begins like a formula gets an
/// apostrophe before it.
pub fn text(text: &str) -> String {
    // Some programs look for the formula behind white space, too.
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@']) || text.starts_with(['\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// A cell that may be without a value.
pub fn optional(text: Option<&str>) -> String {
    text.map(self::text).unwrap_or_default()
}

/// A number, where there is one; what is not known is an empty cell and never zero.
pub fn number(number: Option<i64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// Appends a line of cells that are written already.
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
