//! The `impact` of a dry run: which shown columns a change of classes would mask otherwise, and whom it would cut off.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    domain::{access::decision::Reason, catalog::view::mask::Mask},
    service::catalog::impact::{Impact, ImpactedColumn, ImpactedObject},
};

/// What a change would mean for what is shared.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImpactView {
    /// The shared objects that it would reach; empty if readers would notice nothing.
    pub objects: Vec<ImpactedObjectView>,
}

/// What a change would mean for a shared object.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImpactedObjectView {
    /// The object: `share.schema.table`.
    pub object: String,
    /// The columns that would be masked otherwise. If there are any, streams on the table begin again.
    pub columns: Vec<ImpactedColumnView>,
    /// Who reads it now, and would not then.
    pub cut_off: Vec<CutOffView>,
    /// Who has a grant and does not read it now, and would then.
    pub let_in: Vec<String>,
}

/// A column that would be masked otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImpactedColumnView {
    /// The name that readers see.
    pub name: String,
    /// The mask in effect now; null for none.
    pub before: Option<Value>,
    /// The mask in effect then; null for none.
    pub after: Option<Value>,
    /// Whether its type would change.
    pub retyped: bool,
}

/// A recipient that would be cut off.
#[derive(Debug, Serialize, ToSchema)]
pub struct CutOffView {
    /// The recipient.
    pub recipient: String,
    /// The reason code that it would be refused with.
    #[schema(example = "AGREEMENT_MISSING")]
    pub reason: &'static str,
}

impl From<Impact> for ImpactView {
    fn from(impact: Impact) -> Self {
        Self { objects: impact.objects.into_iter().map(Into::into).collect() }
    }
}

impl From<ImpactedObject> for ImpactedObjectView {
    fn from(of: ImpactedObject) -> Self {
        let ImpactedObject { object, columns, cut_off, let_in } = of;
        let cut_off =
            cut_off.into_iter().map(|(recipient, reason)| CutOffView { recipient, reason: Reason::code(reason) });
        Self { object, columns: columns.into_iter().map(Into::into).collect(), cut_off: cut_off.collect(), let_in }
    }
}

impl From<ImpactedColumn> for ImpactedColumnView {
    fn from(column: ImpactedColumn) -> Self {
        let json = |mask: Option<Mask>| mask.as_ref().map(Mask::to_json);
        let ImpactedColumn { name, before, after, is_retyped } = column;
        Self { name, before: json(before), after: json(after), retyped: is_retyped }
    }
}
