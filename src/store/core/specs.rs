//! Writes specs over the stored ones, and keeps the members that only a newer server knows, nested ones too.

use std::mem;

use serde_json::{Map, Value};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    domain::core::spec::Spec,
    store::{Result, Tx, core::value::Json, on_tx},
};

impl Tx {
    /// Lays `spec` over the stored one of the row `id` in `table`: fields that differ change, and members that a newer
    /// server has added stay.
    pub(in crate::store) async fn lay_spec<S: Spec>(
        &mut self,
        table: &'static str,
        id: Uuid,
        spec: &S,
    ) -> Result<Json<Map<String, Value>>> {
        // The table's name is the program's, never a caller's.
        let sql = AssertSqlSafe(format!("SELECT spec FROM {table} WHERE id = $1"));
        let kept: Option<String> = on_tx!(self, db => sqlx::query_scalar(sql).bind(id).fetch_optional(db).await?);
        Ok(Json(laid_over(kept.as_deref().unwrap_or_default(), spec)))
    }
}

fn laid_over<S: Spec>(kept: &str, spec: &S) -> Map<String, Value> {
    let mut laid: Map<String, Value> = serde_json::from_str(kept).unwrap_or_default();
    let before = serde_json::from_value::<S>(Value::Object(laid.clone())).map(|before| before.fields());
    lay_members(&mut laid, &before.unwrap_or_default(), &spec.fields());
    laid
}

/// Lays `after` over what is kept, which this server reads as `before`.
fn lay(kept: &mut Value, before: &Value, after: &Value) {
    match (kept, before, after) {
        (_, before, after) if before == after => {}
        (Value::Object(kept), Value::Object(before), Value::Object(after)) => lay_members(kept, before, after),
        (Value::Array(kept), Value::Array(before), Value::Array(after)) if kept.len() == before.len() => {
            // An item that was there stays as it is kept, wherever it now stands.
            let mut known: Vec<(&Value, Value)> = before.iter().zip(mem::take(kept)).collect();
            let laid = |item: &Value| match known.iter().position(|(read, kept)| kept.is_object() && *read == item) {
                Some(at) => known.remove(at).1,
                None => item.clone(),
            };
            *kept = after.iter().map(laid).collect();
        }
        (kept, _, after) => kept.clone_from(after),
    }
}

fn lay_members(kept: &mut Map<String, Value>, before: &Map<String, Value>, after: &Map<String, Value>) {
    kept.retain(|name, _| after.contains_key(name) || !before.contains_key(name));
    for (name, value) in after {
        match (kept.get_mut(name), before.get(name)) {
            (Some(known), Some(read)) => lay(known, read, value),
            _ => {
                kept.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::access::recipient::RecipientSpec;

    #[test]
    fn what_a_newer_server_added_stays_and_what_changed_is_written() {
        let kept = json!({
            "display_name": "Acme", "headquarters": "Bonn", "limits": {"requests_per_minute": 5, "queries_per_day": 7},
            "properties": {"a": 1, "b": 2},
        });
        let mut spec: RecipientSpec = serde_json::from_value(kept.clone()).unwrap();
        spec.display_name = None;
        spec.properties.remove("a");
        let laid = laid_over(&kept.to_string(), &spec);
        assert_eq!((&laid["headquarters"], &laid["display_name"]), (&json!("Bonn"), &Value::Null));
        assert_eq!((&laid["limits"], &laid["properties"]), (&kept["limits"], &json!({"b": 2})));
        assert_eq!(serde_json::from_value::<RecipientSpec>(Value::Object(laid)).unwrap(), spec);
        // Within what changes, too.
        spec.limits.requests_per_minute = Some(6);
        let laid = laid_over(&kept.to_string(), &spec);
        assert_eq!(
            (&laid["limits"]["requests_per_minute"], &laid["limits"]["queries_per_day"]),
            (&json!(6), &json!(7))
        );
        // What cannot be read is written anew.
        assert_eq!(laid_over("", &spec), spec.fields());
    }

    #[test]
    fn items_of_a_list_that_stay_are_kept_with_what_a_newer_server_added() {
        let read = |list: &[i64]| Value::Array(list.iter().map(|at| json!({"at": at})).collect());
        let kept = json!([{"at": 1, "newer": "a"}, {"at": 2, "newer": "b"}, {"at": 1, "newer": "c"}]);
        for (after, laid) in [
            (&[2, 3][..], json!([{"at": 2, "newer": "b"}, {"at": 3}])),
            (&[1, 1, 1], json!([{"at": 1, "newer": "a"}, {"at": 1, "newer": "c"}, {"at": 1}])),
            (&[], json!([])),
            (&[1, 2, 1], kept.clone()),
        ] {
            let mut list = kept.clone();
            lay(&mut list, &read(&[1, 2, 1]), &read(after));
            assert_eq!(list, laid);
        }
        // A list of texts may be read in another order.
        let mut list = json!(["b", "a"]);
        lay(&mut list, &json!(["a", "b"]), &json!(["a"]));
        assert_eq!(list, json!(["a"]));
    }
}
