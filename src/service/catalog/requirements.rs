//! What shared objects ask of their readers, derived anew by every change of a control, of a column's class or of an object.
//!
//! What tightens holds for what is shared now, at once; what loosens a mask waits for a new publication, except that whoever
//! tightened it may take back just that for a day. Never here: the rules themselves ([`crate::domain::catalog::requirements`]).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    domain::{
        catalog::{
            column::ClassifiedColumn,
            control::{Control, ControlSpec},
            requirements::{APPROVED, Classified, EffectiveMasks, Requirements, TighteningCause},
            share::{SharedObject, SharedView},
            view::{View, plan::ViewPlan},
        },
        core::declared::Declared,
    },
    service::{
        core::{context::OperatorContext, error::ServiceError},
        materialize::plan_of,
    },
    store::Tx,
};

use super::{Catalog, impact::Settled};

/// The most tables with a class that one change reaches.
pub(super) const MOST_TABLES: u32 = 10_000;
/// The most objects over one table.
const MOST_OBJECTS: u32 = 10_000;
/// The most controls.
const MOST_CONTROLS: u32 = 1_000;
/// How many objects of an earlier release's servers are caught up with under one lock, and how often in a row.
const CAUGHT_UP: u32 = 100;
const MOST_ROUNDS: usize = 1_000;

/// Refuses a change that reaches more than it can carry through: what is left out would stay as it was.
fn is_bounded(count: usize, most: u32, what: &str) -> Result<(), ServiceError> {
    match u32::try_from(count).is_ok_and(|count| count < most) {
        true => Ok(()),
        false => Err(ServiceError::conflict(format!("this reaches {most} {what} or more, which is not done at once"))),
    }
}

/// Every control, by its class.
async fn controls(tx: &mut Tx) -> Result<HashMap<String, ControlSpec>, ServiceError> {
    let controls: Vec<Control> = tx.list_declared(None, MOST_CONTROLS).await?;
    is_bounded(controls.len(), MOST_CONTROLS, "controls")?;
    Ok(controls.into_iter().map(|control| (control.name.to_string(), control.spec)).collect())
}

/// Refuses one more control than all of them can be asked for.
pub(super) async fn require_room(tx: &mut Tx) -> Result<(), ServiceError> {
    let controls: Vec<Control> = tx.list_declared(None, MOST_CONTROLS).await?;
    is_bounded(controls.len() + 1, MOST_CONTROLS, "controls")
}

/// What is known of a table's columns, under the controls as they are.
pub(super) async fn classified(tx: &mut Tx, table_id: Uuid) -> Result<Classified, ServiceError> {
    Ok(Classified::new(tx.all_columns(table_id).await?, controls(tx).await?))
}

/// Derives anew what every object asks for that shows a column of a control's class; `control` is as it is about to be.
pub(super) async fn settle_class(
    tx: &mut Tx,
    ctx: &OperatorContext,
    control: &Declared<ControlSpec>,
) -> Result<Vec<Settled>, ServiceError> {
    let mut controls = controls(tx).await?;
    let class = control.name.to_string();
    controls.insert(class.clone(), control.spec.clone());
    let (cause, by) = (format!("control:{class}"), ctx.operator_name());
    let change = TighteningCause { cause: &cause, by: &by, at: ctx.now };
    let mut settled = Vec::new();
    let tables = tx.list_tables_with_class(&class, MOST_TABLES).await?;
    is_bounded(tables.len(), MOST_TABLES, "tables")?;
    for table_id in tables {
        let classified = Classified::new(tx.all_columns(table_id).await?, controls.clone());
        settled.extend(settle_table(tx, change, table_id, &classified, None).await?);
    }
    Ok(settled)
}

/// Derives anew what every object over a table asks for, after these columns of it were decided about.
pub(super) async fn settle_columns(
    tx: &mut Tx,
    ctx: &OperatorContext,
    table_id: Uuid,
    decided: &[ClassifiedColumn],
) -> Result<Vec<Settled>, ServiceError> {
    // A dry run has not stored them.
    let columns = tx.all_columns(table_id).await?.into_iter().chain(decided.iter().cloned());
    let classified = Classified::new(columns, controls(tx).await?);
    let by = ctx.operator_name();
    let change = TighteningCause { cause: "columns", by: &by, at: ctx.now };
    let paths = decided.iter().map(|column| column.path.clone()).collect();
    settle_table(tx, change, table_id, &classified, Some(&paths)).await
}

async fn settle_table(
    tx: &mut Tx,
    change: TighteningCause<'_>,
    table_id: Uuid,
    classified: &Classified,
    columns: Option<&BTreeSet<String>>,
) -> Result<Vec<Settled>, ServiceError> {
    let mut settled = Vec::new();
    let objects = tx.list_objects_of_table(table_id, MOST_OBJECTS).await?;
    is_bounded(objects.len(), MOST_OBJECTS, "objects")?;
    for (share, object, table) in objects {
        let before = object.requirements.as_deref().cloned();
        let after = derived(tx, &object, classified, change, columns).await?;
        tx.put_requirements(&object, &after, change.at).await?;
        if is_noticed(before.as_ref(), &after) {
            tx.touch_object(object.id).await?;
            settled.push(Settled { share, object, table, before, after });
        }
    }
    Ok(settled)
}

/// Whether readers notice the difference, so that whoever reads is decided on anew.
fn is_noticed(before: Option<&Requirements>, after: &Requirements) -> bool {
    before.map_or_else(|| after.asks(), |before| !before.is_same_for_readers(after))
}

/// What an object asks for, with masks that still hold on the version that it shows.
async fn derived(
    tx: &mut Tx,
    object: &SharedObject,
    classified: &Classified,
    change: TighteningCause<'_>,
    columns: Option<&BTreeSet<String>>,
) -> Result<Requirements, ServiceError> {
    let Some(view) = &object.view else {
        let is_justified = object.spec.justification.is_some();
        return Ok(Requirements::of_table(classified, is_justified, object.spec.history));
    };
    let version = tx.find_view_version(view.id, view.version).await?;
    let version = version.ok_or_else(|| ServiceError::internal(format!("view `{view}` is not there")))?;
    let held = tx.find_tightenings(view.id, view.version).await?;
    let plan = match plan_of(&version) {
        Ok(plan) => plan,
        // One that a newer server has published must not keep others from being tightened.
        Err(error) => {
            tracing::error!(%view, error = &error as &dyn std::error::Error, "nobody reads a view that cannot be made out");
            return Ok(Requirements { tightenings: held.unwrap_or_default(), ..Requirements::refusing() });
        }
    };
    let leaves: Option<BTreeSet<String>> = columns.map(|columns| {
        let shown = plan.shown().into_iter().filter(|leaf| columns.contains(&leaf.from.to_string()));
        shown.map(|leaf| leaf.name.to_string()).collect()
    });
    let mut asked = Requirements::of_view(&plan, classified).after(held.as_deref(), change, leaves.as_ref());
    if plan.pinned.plan_under(&asked.masks).is_err() {
        // Keys of maps take no mask, so that a view which shows keys that need one is not read at all.
        asked.refused = Some(asked.classes.first().cloned().unwrap_or_default());
        asked.masks = EffectiveMasks::default();
    }
    Ok(asked)
}

/// What an object asks for that is put into a share or changed: what holds when a version is first shared is approved.
pub(super) async fn approved(
    tx: &mut Tx,
    ctx: &OperatorContext,
    object: &SharedObject,
) -> Result<Requirements, ServiceError> {
    let classified = classified(tx, object.table_id).await?;
    let by = ctx.operator_name();
    derived(tx, object, &classified, TighteningCause { cause: APPROVED, by: &by, at: ctx.now }, None).await
}

/// Refuses an object that nobody could read, because of a class that it shows.
pub(super) fn require_readable(object: &SharedObject, requirements: &Requirements) -> Result<(), ServiceError> {
    let Some(class) = &requirements.refused else { return Ok(()) };
    let (field, message) = match object.view {
        Some(_) => {
            ("source.view", format!("shows keys of a map of the class {class}, which take no mask; leave the map out"))
        }
        None => (
            "source.table",
            format!(
                "holds data of the class {class}, which is not shared file by file as its control has it; share a view of it, \
                 or give a `justification` where the control says `justify`"
            ),
        ),
    };
    Err(ServiceError::invalid(field, message))
}

impl Catalog {
    /// The masks in effect on a view instead of its own: those that classes ask for now, and those that still hold where
    /// `version` is shared.
    pub(super) async fn masks_in_effect(
        &self,
        view: &View,
        plan: &ViewPlan,
        version: Option<i64>,
    ) -> Result<Arc<EffectiveMasks>, ServiceError> {
        let db = &self.core.db;
        let controls: Vec<Control> = db.list_declared(None, MOST_CONTROLS).await?;
        let controls = controls.into_iter().map(|control| (control.name.to_string(), control.spec));
        let classified = Classified::new(db.all_columns(view.table_id).await?, controls);
        let mut masks = Requirements::of_view(plan, &classified).masks;
        for (_, object, _) in db.list_objects_of_view(view.id, MOST_OBJECTS).await? {
            match &object.view {
                Some(shown) if Some(shown.version) == version => masks = masks.joined(&shown.masks),
                _ => {}
            }
        }
        Ok(Arc::new(masks))
    }

    /// Derives what objects ask for that a server of an earlier release has made.
    pub async fn catch_up_requirements(&self) -> Result<(), ServiceError> {
        // What cannot be caught up with must not keep this busy for ever.
        for _ in 0..MOST_ROUNDS {
            if self.core.db.list_objects_without_requirements(1).await?.is_empty() {
                return Ok(());
            }
            let mut tx = self.core.begin_locked().await?;
            let ctx = OperatorContext::system("weir", self.core.clock.now());
            for id in tx.list_objects_without_requirements(CAUGHT_UP).await? {
                let Some((_, object, _)) = tx.find_object_by_id(id).await? else { continue };
                let after = approved(&mut tx, &ctx, &object).await?;
                tx.put_requirements(&object, &after, ctx.now).await?;
                if is_noticed(object.requirements.as_deref(), &after) {
                    tx.touch_object(id).await?;
                }
            }
            tx.commit().await?;
        }
        Ok(())
    }
}

/// `object` with what it asks for.
pub(super) fn asking(object: SharedObject, requirements: Requirements) -> SharedObject {
    let masks = Arc::new(requirements.masks.clone());
    let view = object.view.map(|view| SharedView { masks, ..view });
    SharedObject { view, requirements: Some(Arc::new(requirements)), ..object }
}
