//! stub
use crate::{
    domain::{
        schema::{ColumnPath, Schema},
        view::{mask::PseudonymKeys, plan::ViewPlan, row_filter::Condition},
    },
    lake::DeletionVector,
    storage::TableLocation,
};
use chrono::NaiveDate;
use object_store::{ObjectStore, path::Path};
use std::sync::Arc;
#[derive(Clone, Debug)]
pub struct EngineSettings {
    pub concurrent_files: usize,
    pub job_memory_bytes: u64,
}
#[derive(Clone, Debug)]
pub struct Engine;
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub location: TableLocation,
    pub path: Path,
    pub size: u64,
    pub schema: Arc<Schema>,
    pub maps_columns: bool,
    pub partition_values: Vec<(String, Option<String>)>,
    pub deletion_vector: Option<DeletionVector>,
}
#[derive(Clone, Debug)]
pub struct Rules {
    pub plan: Arc<ViewPlan>,
    pub condition: Option<Condition>,
    pub keys: PseudonymKeys,
    pub today: NaiveDate,
}
pub struct Made {
    pub bytes: u64,
    pub rows: u64,
    pub stats: String,
}
pub struct Counted {
    pub live: u64,
    pub shown: u64,
}
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("x")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    #[error("x")]
    Missing,
    #[error("x")]
    Full(Arc<dyn std::error::Error + Send + Sync>),
    #[error("x")]
    Stopped,
}
impl From<crate::storage::StorageError> for EngineError {
    fn from(_: crate::storage::StorageError) -> Self {
        Self::Missing
    }
}
pub struct Footer {
    pub columns: Vec<ColumnPath>,
    pub says_more: bool,
}
impl Engine {
    pub fn new(_: EngineSettings) -> Self {
        Self
    }
    pub async fn make(
        &self,
        _s: SourceFile,
        _r: Arc<Rules>,
        _st: Arc<dyn ObjectStore>,
        _p: Path,
    ) -> Result<Made, EngineError> {
        Err(EngineError::Missing)
    }
    pub async fn preview(
        &self,
        _s: SourceFile,
        _r: Arc<Rules>,
        _l: usize,
    ) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, EngineError> {
        Err(EngineError::Missing)
    }
    pub async fn count(&self, _s: SourceFile, _c: Option<Condition>) -> Result<Counted, EngineError> {
        Err(EngineError::Missing)
    }
    pub async fn footer(&self, _l: &TableLocation, _p: &Path, _s: u64) -> Result<Footer, EngineError> {
        Err(EngineError::Missing)
    }
}
