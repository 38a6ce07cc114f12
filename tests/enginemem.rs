#![allow(missing_docs, clippy::unwrap_used)]
use std::sync::Arc;
use object_store::{local::LocalFileSystem, path::Path};
use weir::{domain::{schema::Schema, seal::RootKey, view::{mask::PseudonymKeys, plan::ViewPlan}}, engine::*, storage::TableLocation};
fn hwm() -> String { std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned() }
#[tokio::test]
async fn memory() {
    let store = Arc::new(LocalFileSystem::new_with_prefix("/tmp/engmem").unwrap());
    let names: Vec<String> = (0..12).map(|i| format!("c{i}")).collect();
    let fields: Vec<_> = names.iter().map(|n| serde_json::json!({"name": n, "type": "string", "nullable": true, "metadata": {}})).collect();
    let schema = Schema::from_json(&serde_json::json!({"type":"struct","fields":fields})).unwrap();
    let cols: Vec<_> = names.iter().map(|n| serde_json::json!({"name": n})).collect();
    let plan = ViewPlan::new(&serde_json::from_value(serde_json::json!({"columns": cols})).unwrap(), &schema, &[]).unwrap();
    let rules = Arc::new(Rules { plan: Arc::new(plan), condition: None, keys: PseudonymKeys::new(&RootKey::new(zeroize::Zeroizing::new([7; 32])), 1, uuid::Uuid::nil(), uuid::Uuid::nil()), today: chrono::NaiveDate::default() });
    for file in ["small.parquet", "big.parquet"] {
        let src = SourceFile { location: TableLocation::new(store.clone(), Path::default(), "f"), path: Path::from(file), size: std::fs::metadata(format!("/tmp/engmem/{file}")).unwrap().len(), schema: Arc::new(schema.clone()), mapping: ColumnMapping::None, partition_values: vec![], deletion_vector: None };
        println!("before {file} {}", hwm());
        let begun = std::time::Instant::now();
        let made = Engine::new(EngineSettings::default()).make(src, rules.clone(), store.clone(), Path::from("out")).await.unwrap();
        println!("after {file} {} rows {} bytes {} in {:?}", hwm(), made.rows, made.bytes, begun.elapsed());
    }
}
