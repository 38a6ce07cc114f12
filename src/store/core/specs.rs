//! Writes specs over the stored ones, and keeps the members that only a newer server knows.

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
    let before = before.unwrap_or_default();
    for (field, value) in spec.fields() {
        // Below a field that stays there may be such members, too.
        if !laid.contains_key(&field) || before.get(&field) != Some(&value) {
            laid.insert(field, value);
        }
    }
    laid
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
        // What cannot be read is written anew.
        assert_eq!(laid_over("", &spec), spec.fields());
    }
}
