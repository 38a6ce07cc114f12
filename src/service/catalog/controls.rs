//! Controls: what is asked wherever data of a class is shown.

use crate::{
    domain::{
        catalog::{
            column::wrong_class,
            control::{Control, ControlSpec},
        },
        core::message::quoted,
    },
    service::core::{context::OperatorContext, declared::InUse, error::ServiceError},
    store::Tx,
};

use super::requirements::{self, MOST_TABLES};

/// How many tables a refusal names.
const NAMED: usize = 20;

impl InUse for ControlSpec {
    /// A class that columns have goes on being asked about; what it asks can be taken away instead.
    async fn users(tx: &mut Tx, _: &OperatorContext, control: &Control) -> Result<Vec<String>, ServiceError> {
        let mut tables = Vec::new();
        for id in tx.list_tables_with_class(control.name.as_str(), MOST_TABLES).await? {
            let shown = tx.list_objects_of_table(id, 1).await?;
            tables.extend(shown.into_iter().map(|(_, _, table)| table.name.to_string()));
        }
        tables.truncate(NAMED);
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![format!(
            "is asked for shared columns of the tables {} (give them another class first)",
            quoted(&tables)
        )])
    }

    async fn settle(_: &mut Tx, control: &Control) -> Result<(), ServiceError> {
        match wrong_class(control.name.as_str()) {
            Some(wrong) => Err(ServiceError::invalid("control", wrong)),
            None => Ok(()),
        }
    }

    async fn derive(tx: &mut Tx, ctx: &OperatorContext, control: &Control) -> Result<(), ServiceError> {
        requirements::settle_class(tx, ctx, control).await.map(drop)
    }
}
