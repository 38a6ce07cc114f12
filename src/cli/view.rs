//! Shows answers about governed views to people.

use std::io::{self, Write};

use serde_json::Value;

use super::print::clean;

/// Shows what a newer version of a view newly discloses, and what it hides.
pub(super) fn show_diff(out: &mut dyn Write, diff: &Value) -> io::Result<()> {
    let changes = diff["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        writeln!(out, "versions {} and {} show the same columns and rows", diff["from"], diff["to"])?;
    }
    for change in changes {
        let what = match change["kind"].as_str() {
            Some("layout") => "layout",
            Some("row_filter") => "row filter",
            _ => change["column"].as_str().unwrap_or_default(),
        };
        let effect = change["effect"].as_str().unwrap_or_default();
        let line = format!("{effect:<10} {what}: {} -> {}", side(&change["before"]), side(&change["after"]));
        writeln!(out, "{}", clean(&line, false))?;
    }
    if let Some(rows) = diff["rows"].as_object() {
        let count = |key: &str| rows.get(key).and_then(Value::as_u64).unwrap_or_default();
        writeln!(
            out,
            "rows       {} -> {} of {}: {} newly visible, {} no longer",
            count("before"),
            count("after"),
            count("total"),
            count("newly_visible"),
            count("no_longer_visible")
        )?;
    }
    Ok(())
}

/// Summarises one side of a change.
fn side(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(filter) => filter.clone(),
        column => {
            let masked = match &column["mask"] {
                Value::Null => String::new(),
                Value::String(mask) => format!(" masked by {mask}"),
                mask => format!(" masked by {mask}"),
            };
            format!("{}{masked}", column["from"].as_str().unwrap_or_default())
        }
    }
}

/// Shows the rows that a partner's connector would read.
pub(super) fn show_preview(out: &mut dyn Write, preview: &Value) -> io::Result<()> {
    let evidence = &preview["evidence"];
    for row in evidence["rows"].as_array().map(Vec::as_slice).unwrap_or_default() {
        writeln!(out, "{}", clean(&row.to_string(), false))?;
    }
    let hidden: Vec<&str> =
        evidence["hidden_columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let counted = format!("visible {} of {} rows", evidence["rows_visible"], evidence["rows_total"]);
    writeln!(out, "{counted}; hidden: {}", clean(&hidden.join(", "), false))?;
    writeln!(out, "digest {}", preview["digest"].as_str().unwrap_or_default())
}
