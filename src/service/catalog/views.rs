//! Views: which part of a table is shown. A view is drafted, previewed as a partner would see it, and published version
//! by version.
//!
//! A draft discloses nothing; a published version never changes; an object names the version that it shows. Never here:
//! making files ([`crate::service::materialize`]).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        access::recipient::Recipient,
        audit::{
            Event, Object,
            action::{Action, Kind},
            timestamp,
        },
        catalog::{
            requirements::EffectiveMasks,
            schema::Schema,
            share::{ShareSpec, SharedView},
            table::Table,
            view::{
                Layout, Problem, View, ViewDefinition, ViewSource, ViewSpec, ViewVersion,
                plan::{self, ViewPlan},
                row_filter::Condition,
            },
        },
        core::{
            canonical,
            message::quoted,
            name::{Name, NameKind, name_key},
            spec::Mode,
        },
        materialize::copy::CopyKind,
        operators::{Permission, principal::Thing},
    },
    engine::EngineError,
    service::{
        audit::write,
        core::{
            change::{Named, Put, audited, changed_spec, confirm, differing, named, new_spec},
            context::OperatorContext,
            error::{FieldError, ServiceError},
            lookup,
            page::{Page, PageRequest},
            precondition::Precondition,
            unit::attempt,
        },
        materialize::{Entitled, Preparation, PublishedView, Source, SurrogateFault, plan_of},
    },
    store::Tx,
};

use super::{Catalog, tables};

/// The most versions of a view that are listed; older ones can be requested by number.
const LISTED_VERSIONS: u32 = 100;
/// The default number of rows in a preview.
pub const PREVIEW_ROWS: usize = 100;
/// The most rows in a preview.
pub const MAX_PREVIEW_ROWS: usize = 1_000;
/// The number of files whose rows are counted at a time.
const COUNTED_AT_ONCE: usize = 2;

/// A view with the things it refers to.
#[derive(Clone, Debug)]
pub struct ViewDetail {
    /// The view.
    pub view: View,
    /// Its source.
    pub table: Table,
    /// Published versions, the newest first.
    pub versions: Vec<ViewVersion>,
    /// The progress of materializations that are being read; only if a single view was requested.
    pub preparation: Vec<Preparation>,
}

/// The result of publishing.
#[derive(Clone, Debug)]
pub struct Published {
    /// The view.
    pub view: View,
    /// The newest version.
    pub version: ViewVersion,
    /// The layout of its rows in files.
    pub layout: Layout,
    /// Whether it was published just now; if false, nothing had changed since.
    pub is_new: bool,
}

/// A request for a preview.
#[derive(Clone, Debug, Default)]
pub struct PreviewRequest {
    /// The recipient to see as.
    pub recipient: String,
    /// The share through which it would read, if pseudonyms are per share.
    pub share: Option<String>,
    /// The published version; by default the draft, or the newest version if there is no draft.
    pub version: Option<i64>,
    /// The most rows to show.
    pub limit: Option<usize>,
}

/// A recorded sample of what a recipient would read.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The request and the rows found, as JSON.
    pub evidence: Map<String, Value>,
    /// SHA-256 of [`Self::evidence`] in canonical JSON (RFC 8785), in hex.
    pub digest: String,
}

/// What changes for readers between two versions.
#[derive(Clone, Debug)]
pub struct ViewDiff {
    /// The older version.
    pub from: i64,
    /// The newer one.
    pub to: i64,
    /// The differences by column, and in the filter.
    pub changes: Vec<plan::Change>,
    /// The effect on the rows of one recipient, if one was named.
    pub rows: Option<RowDiff>,
}

/// How many rows a recipient sees under two versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowDiff {
    /// The version of the source in which rows were counted.
    pub table_version: u64,
    /// Rows in all.
    pub total: u64,
    /// Rows seen under the older version.
    pub before: u64,
    /// Rows seen under the newer one.
    pub after: u64,
    /// Rows seen only under the newer version.
    pub newly_visible: u64,
    /// Rows seen only under the older version.
    pub no_longer_visible: u64,
}

pub(in crate::service) fn not_found(name: &str) -> ServiceError {
    ServiceError::NotFound { kind: "view", name: name.to_owned() }
}

/// What scopes see of the view of this name: its table; the name itself where there is no view.
fn thing(name: &str, found: Option<&(View, Table)>) -> Thing {
    found.map_or_else(|| Thing::table(name, None), |(_, table)| table.thing())
}

fn event(ctx: &OperatorContext, action: Action, view: &View) -> Event {
    Event {
        table_id: Some(view.table_id),
        registered_table: Some(view.spec.source.table.clone()),
        ..ctx.event(action, Object { kind: Kind::View, id: Some(view.id), name: Some(view.name.to_string()) })
    }
}

/// The event of seeing a version as a recipient.
fn seen_as(
    ctx: &OperatorContext,
    view: &View,
    recipient: &Recipient,
    version: String,
    source: &Source,
    started: Instant,
) -> Event {
    Event {
        recipient: Some(recipient.name.to_string()),
        recipient_id: Some(recipient.id),
        view: Some(version),
        table_version: Some(source.snapshot.version()),
        duration_ms: Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
        ..event(ctx, Action::ViewPreview, view)
    }
}

fn invalid(problems: Vec<Problem>) -> ServiceError {
    let error = |problem: Problem| FieldError { field: problem.field, message: problem.message };
    ServiceError::Invalid(problems.into_iter().map(error).collect())
}

/// Compiles the definition over the newest schema of its source; the error lists the problems.
fn plan_over(definition: &ViewDefinition, source: &Source) -> Result<ViewPlan, ServiceError> {
    plan_under(definition, source, &EffectiveMasks::default())
}

fn plan_under(definition: &ViewDefinition, source: &Source, masks: &EffectiveMasks) -> Result<ViewPlan, ServiceError> {
    let metadata = source.snapshot.metadata();
    let schema = Schema::parse(&metadata.schema_string).map_err(ServiceError::internal)?;
    ViewPlan::under(definition, &schema, &metadata.partition_columns, masks).map_err(invalid)
}

/// Refuses the source's layout if it reveals a hidden partition column that is not acknowledged. Also refuses names
/// that acknowledge nothing.
fn check_acknowledged(
    layout: Layout,
    hidden: &BTreeSet<String>,
    acknowledged: &BTreeSet<String>,
) -> Result<(), ServiceError> {
    if let Some(other) = acknowledged.difference(hidden).next() {
        let message =
            format!("names `{other}`, which is no partition column of the table that the view hides or masks");
        return Err(ServiceError::invalid("acknowledge", message));
    }
    let lacking = hidden.difference(acknowledged).filter(|_| layout == Layout::Source);
    let error = |column: &String| FieldError {
        field: "acknowledge".into(),
        message: format!(
            "must name `{column}`: the table is partitioned by it and the view hides or masks it, but with `layout: \
             source` each file holds the rows of one of its values; `layout: mixed` does not tell"
        ),
    };
    let errors: Vec<FieldError> = lacking.map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(ServiceError::Unacknowledged(errors)) }
}

/// Splits `name@vN` into name and version; a bare name has no version.
pub fn parse_reference(text: &str) -> Result<(&str, Option<i64>), ServiceError> {
    let Some((name, version)) = text.rsplit_once('@') else { return Ok((text, None)) };
    let number = version.strip_prefix('v').and_then(|digits| digits.parse().ok()).filter(|number| *number > 0);
    match number {
        Some(number) => Ok((name, Some(number))),
        None => Err(ServiceError::invalid("source.view", "must name a version, as in `claims.claims_fraud@v1`")),
    }
}

impl Catalog {
    /// Drafts a view, or confirms that it is as described. The error lists all problems at once.
    pub async fn put_view(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<ViewDetail>, ServiceError> {
        attempt(|| self.try_put_view(ctx, name, named)).await
    }

    /// Tries once to draft a view. `None` if its table was another one once the chain's lock was held.
    async fn try_put_view(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Option<Put<ViewDetail>>, ServiceError> {
        let name =
            Name::parse(NameKind::View, name).map_err(|error| ServiceError::invalid("name", error.to_string()))?;
        let known = self.core.db.find_view(name.key()).await?;
        if let Some((_, table)) = &known {
            ctx.require(Permission::ManageCatalog, &table.thing())?;
        }
        let asked: ViewSpec = match &known {
            Some((known, _)) => changed_spec(&known.spec, named, Mode::Whole)?,
            None => new_spec(named)?,
        };
        let table = match known {
            Some((known, table)) if known.spec.source == asked.source => table,
            _ => self.registered(ctx, Permission::ManageCatalog, &asked.source.table).await?,
        };
        let spec = ViewSpec { source: ViewSource { table: table.name.to_string() }, ..asked };
        let source = self.source_of(&table).await?;

        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        if let Some((view, table)) = tx.find_view(name.key()).await? {
            ctx.require(Permission::ManageCatalog, &table.thing())?;
            confirm("view", name.as_str(), &view.spec, &spec)?;
            return Ok(Some(Put::Confirmed(detail(tx, view, table).await?)));
        }
        let Some(table) = tables::still(tx, ctx, Permission::ManageCatalog, &table).await? else {
            return Ok(None);
        };
        plan_over(&spec.definition(), &source)?;
        let view = View {
            id: Uuid::now_v7(),
            name,
            table_id: table.id,
            spec,
            is_draft: true,
            created_at: ctx.now,
            updated_at: ctx.now,
            revision: 1,
        };
        tx.insert_view(&view).await?;
        let event = audited(None, Some(&view.spec)).told_by(event(ctx, Action::ViewCreate, &view));
        write::append(tx, event, ctx.now).await?;
        unit.commit().await?;
        Ok(Some(Put::Created(ViewDetail { view, table, versions: Vec::new(), preparation: Vec::new() })))
    }

    /// A view, and how far its copies are.
    pub async fn get_view(&self, ctx: &OperatorContext, name: &str) -> Result<ViewDetail, ServiceError> {
        let (view, table) = self.find_view(ctx, Permission::ReadSharing, name).await?;
        let versions = self.core.db.list_view_versions(&[view.id], LISTED_VERSIONS).await?;
        let preparation = self.materializer.preparations(&view).await?;
        Ok(ViewDetail { view, table, versions, preparation })
    }

    /// Views by name, as far as the operator may see them.
    pub async fn list_views(
        &self,
        ctx: &OperatorContext,
        page: &PageRequest,
    ) -> Result<Page<ViewDetail>, ServiceError> {
        let opened = self.core.begin_page(page, "views".into())?;
        let views = self.core.db.list_views(opened.after.as_deref(), opened.limit).await?;
        let ids: Vec<Uuid> = views.iter().map(|(view, _)| view.id).collect();
        let mut versions: HashMap<Uuid, Vec<ViewVersion>> = HashMap::new();
        for version in self.core.db.list_view_versions(&ids, LISTED_VERSIONS).await? {
            versions.entry(version.view_id).or_default().push(version);
        }
        let detailed = views.into_iter().map(|(view, table)| {
            let versions = versions.remove(&view.id).unwrap_or_default();
            ViewDetail { view, table, versions, preparation: Vec::new() }
        });
        let detailed = detailed.collect();
        let page = self.core.end_page(opened, detailed, |detail: &ViewDetail| detail.view.name.key().to_owned());
        Ok(page.filter(|detail| ctx.may(Permission::ReadSharing, &detail.table.thing())))
    }

    /// Changes the draft of a view's next version; published versions stay as they are.
    pub async fn update_view(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<ViewDetail, ServiceError> {
        let (view, table) = self.find_view(ctx, Permission::ManageCatalog, name).await?;
        let asked = changed_spec(&view.spec, named, Mode::Merge)?;
        if name_key(&asked.source.table) != table.name.key() {
            let message = "cannot change: another table is another view; make one under another name";
            return Err(ServiceError::invalid("source", message));
        }
        let source = self.source_of(&table).await?;
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let (before, table) = tx.find_view(view.name.key()).await?.ok_or_else(|| not_found(name))?;
        ctx.require(Permission::ManageCatalog, &table.thing())?;
        Precondition::check(condition, before.id, before.revision)?;
        let asked = changed_spec(&before.spec, named, Mode::Merge)?;
        let mut after = View { spec: ViewSpec { source: before.spec.source.clone(), ..asked }, ..before.clone() };
        let ViewDetail { versions, .. } = detail(tx, before.clone(), table.clone()).await?;
        if differing(&before.spec, &after.spec).is_empty() {
            return Ok(ViewDetail { view: before, table, versions, preparation: Vec::new() });
        }
        let definition = after.spec.definition();
        plan_over(&definition, &source)?;
        after.is_draft = match versions.first() {
            Some(newest) => plan_of(newest)?.pinned.definition != definition,
            None => true,
        };
        after.updated_at = ctx.now;
        let after = tx.update_view(after).await?;
        let event = audited(Some(&before.spec), Some(&after.spec)).told_by(event(ctx, Action::ViewUpdate, &after));
        write::append(tx, event, ctx.now).await?;
        unit.commit().await?;
        Ok(ViewDetail { view: after, table, versions, preparation: Vec::new() })
    }

    /// Deletes a view that no object shows, and its materializations.
    pub async fn delete_view(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let found = match lookup::key(NameKind::View, name) {
            Ok(key) => tx.find_view(&key).await?,
            Err(_) => None,
        };
        ctx.require(Permission::ManageCatalog, &thing(name, found.as_ref()))?;
        let (view, _) = found.ok_or_else(|| not_found(name))?;
        Precondition::check(condition, view.id, view.revision)?;
        let users = users(tx, view.id).await?;
        if !users.is_empty() {
            let message = format!("view `{name}` is shared as {}; remove it there first", quoted(&users));
            return Err(ServiceError::conflict(message));
        }
        tx.delete_view(view.id, view.revision).await?;
        let event = audited(Some(&view.spec), None).told_by(event(ctx, Action::ViewDelete, &view));
        write::append(tx, event, ctx.now).await?;
        unit.commit().await?;
        Ok(())
    }

    /// Publishes the draft as the next version, over the source's current schema. If there is no draft, and the newest
    /// version's layout is the one it would get now, answers with that version.
    ///
    /// Partition columns that the view hides but the source's layout reveals must all be `acknowledged`.
    pub async fn publish_view(
        &self,
        ctx: &OperatorContext,
        name: &str,
        acknowledged: &BTreeSet<String>,
    ) -> Result<Published, ServiceError> {
        let (view, table) = self.find_view(ctx, Permission::ManageCatalog, name).await?;
        self.materializer.root()?;
        let source = self.source_of(&table).await?;
        let partition_columns = &source.snapshot.metadata().partition_columns;
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let (view, table) = tx.find_view(view.name.key()).await?.ok_or_else(|| not_found(name))?;
        ctx.require(Permission::ManageCatalog, &table.thing())?;
        let mut detail = detail(tx, view, table).await?;
        let newest = detail.versions.first().cloned();
        let planned = plan_over(&detail.view.spec.definition(), &source);
        if let (false, Some(version)) = (detail.view.is_draft, &newest) {
            let published = plan_of(version)?.layout_over(partition_columns);
            let layout = match &planned {
                Ok(plan) => detail.view.spec.layout.unwrap_or_else(|| plan.default_layout(partition_columns)),
                Err(_) => published,
            };
            if layout == published {
                return Ok(Published { view: detail.view, version: version.clone(), layout, is_new: false });
            }
        }
        let mut plan = planned?;
        let hidden = plan.hidden_partitions(partition_columns);
        let layout = detail.view.spec.layout.unwrap_or_else(|| plan.default_layout(partition_columns));
        check_acknowledged(layout, &hidden, acknowledged)?;
        plan.pinned.layout = Some(layout);
        if layout == Layout::Source {
            plan.pinned.acknowledged = hidden;
        }
        let version = ViewVersion {
            view_id: detail.view.id,
            version: newest.map_or(1, |newest| newest.version + 1),
            definition: serde_json::to_string(&plan.pinned).map_err(ServiceError::internal)?,
            published_by: ctx.operator_name(),
            published_at: ctx.now,
        };
        tx.insert_view_version(&version).await?;
        detail.view.is_draft = false;
        detail.view.updated_at = ctx.now;
        let view = tx.update_view(detail.view.clone()).await?;
        let mut change = audited(None, Some(&detail.view.spec)).change;
        change["after"]["layout"] = json!(layout);
        if !plan.pinned.acknowledged.is_empty() {
            change["after"]["acknowledged"] = json!(plan.pinned.acknowledged);
        }
        let event = Event {
            view: Some(format!("{}@v{}", view.name, version.version)),
            change: Some(change),
            table_version: Some(source.snapshot.version()),
            ..event(ctx, Action::ViewPublish, &view)
        };
        write::append(tx, event, ctx.now).await?;
        unit.commit().await?;
        Ok(Published { view, version, layout, is_new: true })
    }

    /// Shows rows as a recipient's connector would read them, made by the same steps as its files. The preview is
    /// recorded as an access to data before it is answered.
    pub async fn preview_view(
        &self,
        ctx: &OperatorContext,
        name: &str,
        request: &PreviewRequest,
    ) -> Result<Preview, ServiceError> {
        let limit = request.limit.unwrap_or(PREVIEW_ROWS);
        if !(1..=MAX_PREVIEW_ROWS).contains(&limit) {
            return Err(ServiceError::invalid("limit", format!("must be between 1 and {MAX_PREVIEW_ROWS}")));
        }
        let started = Instant::now();
        let (view, table) = self.find_view(ctx, Permission::PreviewData, name).await?;
        let recipient = self.named_recipient(ctx, &request.recipient).await?;
        let share_id = match &request.share {
            None => Uuid::nil(),
            Some(share) => self.core.read_declared::<ShareSpec>(ctx, share).await?.id,
        };
        let source = self.source_of(&table).await?;
        let published = self.version_or_draft(&view, &source, request.version).await?;
        if !published.fits(source.snapshot.metadata()) {
            return Err(misfit(&published, &source));
        }
        let entitled = self.materializer.entitle_to(published, &recipient, share_id, ctx.now).await?;
        let rows = self.preview_rows(&entitled, &source, limit).await?;
        let counted = self.count_rows(&entitled, &source, std::slice::from_ref(&entitled.rules.condition)).await?;
        let evidence = evidence(&entitled, &table, &source, &recipient, &rows, counted.as_ref(), ctx.now)?;
        let digest = canonical::digest(&evidence).map_err(ServiceError::internal)?;
        let event = seen_as(ctx, &view, &recipient, entitled.published.label(), &source, started);
        let rows = Some(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        self.core.audit_writer.record(Event { rows, ..event }).await?;
        Ok(Preview { evidence, digest })
    }

    /// Compares two published versions, optionally by the rows of one recipient; their number is recorded as an access to
    /// data before it is answered.
    pub async fn diff_view(
        &self,
        ctx: &OperatorContext,
        name: &str,
        (from, to): (i64, i64),
        recipient: Option<&str>,
    ) -> Result<ViewDiff, ServiceError> {
        // Rows are counted by filters that whoever drafts the view chooses: that tells of the data.
        let needed = if recipient.is_some() { Permission::PreviewData } else { Permission::ReadSharing };
        let (view, table) = self.find_view(ctx, needed, name).await?;
        let source = self.source_of(&table).await?;
        let before = self.version_or_draft(&view, &source, Some(from)).await?;
        let after = self.version_or_draft(&view, &source, Some(to)).await?;
        let partition_columns = &source.snapshot.metadata().partition_columns;
        let changes = plan::changes(&before.plan, &after.plan, partition_columns);
        let rows = match recipient {
            None => None,
            Some(recipient) => {
                let started = Instant::now();
                let recipient = self.named_recipient(ctx, recipient).await?;
                let rows = self.diff_rows(&before, &after, &recipient, &source, ctx.now).await?;
                for version in BTreeSet::from([before.label(), after.label()]) {
                    let seen = seen_as(ctx, &view, &recipient, version, &source, started);
                    self.core.audit_writer.record(seen).await?;
                }
                rows
            }
        };
        Ok(ViewDiff { from, to, changes, rows })
    }

    async fn diff_rows(
        &self,
        before: &Arc<PublishedView>,
        after: &Arc<PublishedView>,
        recipient: &Recipient,
        source: &Source,
        now: DateTime<Utc>,
    ) -> Result<Option<RowDiff>, ServiceError> {
        for published in [before, after] {
            if !published.fits(source.snapshot.metadata()) {
                return Err(misfit(published, source));
            }
        }
        let condition = |entitled: &Entitled| entitled.rules.condition.clone().unwrap_or(Condition::Known(true));
        let earlier = self.materializer.entitle_to(Arc::clone(before), recipient, Uuid::nil(), now).await?;
        let entitled = self.materializer.entitle_to(Arc::clone(after), recipient, Uuid::nil(), now).await?;
        let (old, new) = (condition(&earlier), condition(&entitled));
        let both = Condition::All(vec![old.clone(), new.clone()]);
        let counted = self.count_rows(&entitled, source, &[Some(old), Some(new), Some(both)]).await?;
        Ok(counted.map(|Counts { live, shown }| {
            let [before, after, both] = [0, 1, 2].map(|index: usize| shown.get(index).copied().unwrap_or_default());
            RowDiff {
                table_version: source.snapshot.version(),
                total: live,
                before,
                after,
                newly_visible: after.saturating_sub(both),
                no_longer_visible: before.saturating_sub(both),
            }
        }))
    }

    /// Reads governed rows from the first files that have any.
    async fn preview_rows(
        &self,
        view: &Entitled,
        source: &Source,
        limit: usize,
    ) -> Result<Vec<Map<String, Value>>, ServiceError> {
        let schema = Arc::new(source_schema(source)?);
        let mut rows = Vec::new();
        for need in self.materializer.needs(view, &source.snapshot, CopyKind::File)?.all {
            let left = limit - rows.len();
            let engine = self.materializer.engine();
            let rules = self.materializer.rules_for_file(view, source, &schema, need.index, left).await;
            let rules = rules.map_err(undrawn)?;
            let preview = |file| engine.preview(file, Arc::clone(&rules), left);
            let more = self.materializer.with_file(source, &schema, need.index, preview).await;
            rows.extend(more.map_err(failed)?);
            if rows.len() >= limit {
                break;
            }
        }
        Ok(rows)
    }

    /// Counts the live rows, and the rows that each of `conditions` shows; `None` if counting takes too long.
    async fn count_rows(
        &self,
        view: &Entitled,
        source: &Source,
        conditions: &[Option<Condition>],
    ) -> Result<Option<Counts>, ServiceError> {
        let schema = Arc::new(source_schema(source)?);
        let files = 0..source.snapshot.files().len();
        let counts = stream::iter(files)
            .map(|index| {
                let schema = Arc::clone(&schema);
                async move {
                    let mut counts = Counts { live: 0, shown: vec![0; conditions.len()] };
                    for (shown, condition) in counts.shown.iter_mut().zip(conditions) {
                        let count = |file| self.materializer.engine().count(file, condition.clone());
                        let counted = self.materializer.with_file(source, &schema, index, count).await?;
                        (counts.live, *shown) = (counted.live, counted.shown);
                    }
                    Ok::<_, EngineError>(counts)
                }
            })
            .buffer_unordered(COUNTED_AT_ONCE)
            .fold(Ok(Counts { live: 0, shown: vec![0; conditions.len()] }), |sum, counts| async move {
                let (mut sum, counts) = (sum?, counts?);
                sum.live += counts.live;
                sum.shown.iter_mut().zip(counts.shown).for_each(|(sum, shown)| *sum += shown);
                Ok::<_, EngineError>(sum)
            });
        let patience = Duration::from_secs(self.materializer.settings().wait_seconds);
        match tokio::time::timeout(patience, counts).await {
            Ok(counts) => counts.map(Some).map_err(failed),
            Err(_) => {
                tracing::info!(view = view.published.label(), "counting a view's rows took too long");
                Ok(None)
            }
        }
    }

    /// Loads a published version; without a number the draft, or the newest version if there is no draft.
    async fn version_or_draft(
        &self,
        view: &View,
        source: &Source,
        version: Option<i64>,
    ) -> Result<Arc<PublishedView>, ServiceError> {
        let shared = |version, masks| SharedView { id: view.id, name: view.name.clone(), version, masks };
        let version = match (version, view.is_draft) {
            (None, true) => {
                let plan = plan_over(&view.spec.definition(), source)?;
                let masks = self.masks_in_effect(view, &plan, None).await?;
                let plan = plan_under(&view.spec.definition(), source, &masks)?;
                return Ok(Arc::new(PublishedView::draft(shared(0, masks), plan, view.updated_at)));
            }
            (None, false) => self.core.db.list_view_versions(&[view.id], 1).await?.pop(),
            (Some(version), _) => self.core.db.find_view_version(view.id, version).await?,
        };
        let version = version.ok_or_else(|| {
            ServiceError::invalid("version", format!("view `{}` has no such published version", view.name))
        })?;
        let masks = self.masks_in_effect(view, &plan_of(&version)?, Some(version.version)).await?;
        self.materializer.published_view(&shared(version.version, masks)).await
    }

    /// The version of a view that an object names.
    pub(in crate::service) async fn shared_view(
        &self,
        ctx: &OperatorContext,
        reference: &str,
    ) -> Result<(SharedView, Table), ServiceError> {
        let (name, version) = parse_reference(reference)?;
        let Some(version) = version else {
            let message =
                format!("must name a version, as in `{name}@v1`; publish one with POST /views/{name}/publish");
            return Err(ServiceError::invalid("source.view", message));
        };
        let found = match lookup::key(NameKind::View, name) {
            Ok(key) => self.core.db.find_view(&key).await?,
            Err(_) => None,
        };
        ctx.require(Permission::ManageSharing, &thing(name, found.as_ref()))?;
        let Some((view, table)) = found else {
            let message = match ctx.sees_everything() {
                true => self.core.no_view(name).await,
                false => "names no view".to_owned(),
            };
            return Err(ServiceError::invalid("source.view", message));
        };
        if self.core.db.find_view_version(view.id, version).await?.is_none() {
            let message = format!("version {version} is not published; POST /views/{name}/publish does that");
            return Err(ServiceError::invalid("source.view", message));
        }
        // Which masks are in effect is known once an object shows it.
        Ok((SharedView { id: view.id, name: view.name, version, masks: Arc::default() }, table))
    }

    /// A view with its table, where the operator has a permission for that.
    async fn find_view(
        &self,
        ctx: &OperatorContext,
        permission: Permission,
        name: &str,
    ) -> Result<(View, Table), ServiceError> {
        let found = match lookup::key(NameKind::View, name) {
            Ok(key) => self.core.db.find_view(&key).await?,
            Err(_) => None,
        };
        ctx.require(permission, &thing(name, found.as_ref()))?;
        found.ok_or_else(|| not_found(name))
    }

    async fn source_of(&self, table: &Table) -> Result<Source, ServiceError> {
        let snapshot = self.snapshot_of(table).await?;
        Ok(Source { snapshot, location: self.storages.locate(&table.spec.location)? })
    }

    pub(super) async fn named_recipient(&self, ctx: &OperatorContext, name: &str) -> Result<Recipient, ServiceError> {
        let found = match lookup::key(NameKind::Recipient, name) {
            Ok(key) => self.core.db.find_recipient(&key).await?,
            Err(_) => None,
        };
        match found {
            Some(recipient) => Ok(recipient),
            None if !ctx.sees_everything() => Err(ServiceError::invalid("recipient", "names no recipient")),
            None => {
                let near = self.core.suggest("recipient", name).await.map(|near| format!("did you mean `{near}`?"));
                let next = near.unwrap_or_else(|| "GET /recipients lists them".to_owned());
                Err(ServiceError::invalid("recipient", format!("names no recipient; {next}")))
            }
        }
    }
}

async fn detail(tx: &mut Tx, view: View, table: Table) -> Result<ViewDetail, ServiceError> {
    let versions = tx.list_view_versions(&[view.id], LISTED_VERSIONS).await?;
    Ok(ViewDetail { view, table, versions, preparation: Vec::new() })
}

/// Lists the objects that show a view, up to a message's length.
async fn users(tx: &mut Tx, view_id: Uuid) -> Result<Vec<String>, ServiceError> {
    let objects = tx.list_objects_of_view(view_id, 20).await?;
    Ok(objects.iter().map(|(share, object, _)| format!("{}.{}.{}", share.name, object.schema, object.name)).collect())
}

fn source_schema(source: &Source) -> Result<Schema, ServiceError> {
    Schema::parse(&source.snapshot.metadata().schema_string).map_err(ServiceError::internal)
}

fn misfit(published: &PublishedView, source: &Source) -> ServiceError {
    let misfits = published.misfits(source.snapshot.metadata()).join("; ");
    ServiceError::Unsupported(format!("the view does not fit its table as it is now: {misfits}; publish a new version"))
}

/// Explains to operators why a file cannot be read for the view.
fn failed(error: EngineError) -> ServiceError {
    match error {
        EngineError::Unavailable(_) | EngineError::Stopped => {
            ServiceError::Unavailable { what: "the table's storage", source: error.into() }
        }
        error => ServiceError::Unreadable { message: error.to_string(), source: error.into() },
    }
}

/// Explains to operators why the surrogates of a preview could not be drawn.
fn undrawn(fault: SurrogateFault) -> ServiceError {
    match fault {
        SurrogateFault::File(error) => failed(error),
        SurrogateFault::Store(error) => error.into(),
        SurrogateFault::Ended => ServiceError::NotReady(format!("{fault}; try again")),
        SurrogateFault::TooMany { .. } => ServiceError::conflict(fault.to_string()),
    }
}

/// The number of live rows, and of rows shown under several conditions.
#[derive(Debug)]
struct Counts {
    live: u64,
    shown: Vec<u64>,
}

fn evidence(
    view: &Entitled,
    table: &Table,
    source: &Source,
    recipient: &Recipient,
    rows: &[Map<String, Value>],
    counted: Option<&Counts>,
    now: DateTime<Utc>,
) -> Result<Map<String, Value>, ServiceError> {
    let shown = view.published.plan.shown();
    let seen: BTreeSet<_> = shown.iter().map(|shown| &shown.from).collect();
    let schema = source_schema(source)?;
    let leaves = schema.leaves();
    let hidden: Vec<String> =
        leaves.iter().filter(|(path, _)| !seen.contains(path)).map(|(path, _)| path.to_string()).collect();
    let column = |shown: &plan::ShownLeaf| {
        json!({
            "name": shown.name.to_string(),
            "from": shown.from.to_string(),
            "type": shown.data_type.to_string(),
            "mask": shown.mask.as_ref().map(|mask| mask.to_json()),
        })
    };
    Ok(named(json!({
        "view": view.published.label(),
        "recipient": recipient.name.to_string(),
        "table": table.name.to_string(),
        "table_version": source.snapshot.version(),
        "at": timestamp(now),
        "columns": shown.iter().map(column).collect::<Vec<_>>(),
        "hidden_columns": hidden,
        "row_filter": view.published.plan.pinned.definition.row_filter,
        "rows_visible": counted.and_then(|counts| counts.shown.first()),
        "rows_total": counted.map(|counts| counts.live),
        "rows": rows,
    })))
}
