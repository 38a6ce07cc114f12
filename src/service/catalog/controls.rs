//! Controls: what is asked wherever data of a class is shown.

use crate::{
    domain::{
        catalog::{
            column::wrong_class,
            control::{Control, ControlSpec},
        },
        core::{declared::Plain, message::quoted, name::Name},
    },
    service::core::{
        change::{Named, Put},
        context::OperatorContext,
        declared::{InUse, invalid_name},
        error::ServiceError,
        precondition::Precondition,
        unit::ChangeUnit,
    },
    store::Tx,
};

use super::{
    Catalog,
    impact::Impact,
    requirements::{self, MOST_TABLES},
};

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

    async fn settle(tx: &mut Tx, control: &Control) -> Result<(), ServiceError> {
        requirements::require_room(tx).await?;
        match wrong_class(control.name.as_str()) {
            Some(wrong) => Err(ServiceError::invalid("control", wrong)),
            None => Ok(()),
        }
    }

    async fn derive(tx: &mut Tx, ctx: &OperatorContext, control: &Control) -> Result<(), ServiceError> {
        requirements::settle_class(tx, ctx, control).await.map(drop)
    }
}

impl Catalog {
    /// Declares what is asked for a class, or confirms that it is as described; a dry run says what that would mean for what
    /// is shared.
    pub async fn put_control(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<(Put<Control>, Option<Impact>), ServiceError> {
        let name = Name::parse(ControlSpec::NAME, name).map_err(invalid_name::<ControlSpec>)?;
        let mut unit = self.core.begin_change(ctx).await?;
        let put = self.core.put_declared_in::<ControlSpec>(&mut unit, name, named).await?;
        let (Put::Created(control) | Put::Confirmed(control)) = &put;
        let impact = self.end_control(unit, control).await?;
        Ok((put, impact))
    }

    /// Changes what is asked for a class; a dry run says what that would mean for what is shared.
    pub async fn update_control(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<(Control, Option<Impact>), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let control = self.core.update_declared_in::<ControlSpec>(&mut unit, name, condition, named).await?;
        let impact = self.end_control(unit, &control).await?;
        Ok((control, impact))
    }

    /// Keeps a change of a control, or works out what it would mean.
    async fn end_control(&self, mut unit: ChangeUnit, control: &Control) -> Result<Option<Impact>, ServiceError> {
        let (tx, ctx) = unit.parts();
        if !ctx.is_dry() {
            unit.commit().await?;
            return Ok(None);
        }
        let settled = requirements::settle_class(tx, ctx, control).await?;
        let ctx = unit.abandon();
        Ok(Some(self.impact_of(settled, ctx.now).await?))
    }
}
