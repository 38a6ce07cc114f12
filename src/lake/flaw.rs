//! Explains why a schema cannot be read, and names the column. Used only after the kernel has rejected a schema.

use std::collections::HashSet;

use delta_kernel::schema::DataType;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::domain::catalog::schema::{ColumnPath, ELEMENT, KEY, VALUE};

/// The levels of JSON that the schema parsers support. The next constant is the number of levels around a column's
/// type.
const MAX_LEVELS: usize = 127;
const LEVELS_AROUND: usize = 3;
/// The most characters of a type's name that are repeated.
const MAX_SHOWN: usize = 100;

#[derive(Deserialize)]
struct Columns<'a> {
    #[serde(borrow)]
    fields: Vec<Column<'a>>,
}

#[derive(Deserialize)]
struct Column<'a> {
    name: String,
    #[serde(borrow)]
    r#type: &'a RawValue,
}

/// Explains the flaw of the schema in `text`; `None` if no flaw is found.
pub(super) fn of_schema(text: &str) -> Option<String> {
    let columns: Columns<'_> = serde_json::from_str(text).ok()?;
    let mut names = HashSet::new();
    for Column { name, r#type } in &columns.fields {
        let path = ColumnPath(vec![name.clone()]);
        if !names.insert(name.to_lowercase()) {
            return Some(format!("two columns are called `{path}`, but for the case of letters"));
        }
        if levels(r#type.get()) + LEVELS_AROUND > MAX_LEVELS {
            return Some(format!("column `{path}` nests deeper than {MAX_LEVELS} levels of JSON"));
        }
        if let Ok(data_type) = serde_json::from_str::<Value>(r#type.get())
            && let Some(flaw) = of_type(&data_type, path)
        {
            return Some(flaw);
        }
    }
    None
}

fn of_type(data_type: &Value, path: ColumnPath) -> Option<String> {
    if DataType::deserialize(data_type).is_ok() {
        return None;
    }
    let unknown = |name: &str| {
        let name: String = name.chars().take(MAX_SHOWN).collect();
        Some(format!("column `{path}` is of type {name}, which is not supported"))
    };
    let parts = match data_type {
        Value::String(name) => return unknown(name),
        other => other,
    };
    let inside: Vec<(&str, &Value)> = match parts.get("type").and_then(Value::as_str) {
        Some("struct") => {
            let fields = parts.get("fields").and_then(Value::as_array).into_iter().flatten();
            fields.filter_map(|field| Some((field.get("name")?.as_str()?, field.get("type")?))).collect()
        }
        Some("array") => parts.get("elementType").map(|inner| (ELEMENT, inner)).into_iter().collect(),
        Some("map") => {
            let inner = [(KEY, "keyType"), (VALUE, "valueType")];
            inner.into_iter().filter_map(|(step, key)| Some((step, parts.get(key)?))).collect()
        }
        Some(other) => return unknown(other),
        None => Vec::new(),
    };
    let deeper = inside.into_iter().find_map(|(step, inner)| of_type(inner, path.join(step)));
    deeper.or_else(|| Some(format!("the type of column `{path}` is not written as the Delta protocol asks")))
}

/// Returns the depth of nested lists and objects in JSON text.
fn levels(json: &str) -> usize {
    let (mut level, mut deepest) = (0usize, 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !is_text => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(data_type: &str) -> String {
        format!(
            r#"{{"type":"struct","fields":[{{"name":"id","type":"long","nullable":true,"metadata":{{}}}},
            {{"name":"v{{[","type":{data_type},"nullable":true,"metadata":{{}}}}]}}"#
        )
    }

    #[test]
    fn columns_are_named_with_their_types() {
        let list = r#"{"type":"array","elementType":{"type":"struct","fields":[{"name":"x","type":"time(6)",
            "nullable":true,"metadata":{}}]},"containsNull":true}"#;
        for (data_type, expected) in [
            (r#""time(6)""#, "column `v{[` is of type time(6), which is not supported"),
            (list, "column `v{[.element.x` is of type time(6), which is not supported"),
            (r#"{"type":"hyperloglog"}"#, "column `v{[` is of type hyperloglog, which is not supported"),
            (r#"{"type":"array"}"#, "the type of column `v{[` is not written as the Delta protocol asks"),
            ("7", "the type of column `v{[` is not written as the Delta protocol asks"),
        ] {
            assert_eq!(of_schema(&schema(data_type)).as_deref(), Some(expected));
        }
        assert_eq!(of_schema(&schema(r#""string""#)), None);
        assert_eq!(of_schema("{"), None);
        let twice = schema(r#""long""#).replace("v{[", "ID");
        assert_eq!(of_schema(&twice).as_deref(), Some("two columns are called `ID`, but for the case of letters"));
    }

    #[test]
    fn a_column_that_nests_too_deep_is_named_with_the_limit() {
        let nested = |depth: usize| {
            let open = r#"{"type":"array","containsNull":true,"elementType":"#.repeat(depth);
            schema(&format!(r#"{open}"long"{}"#, "}".repeat(depth)))
        };
        assert_eq!(of_schema(&nested(MAX_LEVELS - LEVELS_AROUND)), None);
        let flaw = of_schema(&nested(MAX_LEVELS - LEVELS_AROUND + 1)).unwrap();
        assert_eq!(flaw, "column `v{[` nests deeper than 127 levels of JSON");
        assert!(of_schema(&nested(100_000)).unwrap().contains("nests deeper"));
    }
}
