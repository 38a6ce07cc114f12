//! The use cases: what operators and recipients can do, one file per capability.
//!
//! Only this layer decides, opens transactions and writes to the audit trail. Never here: HTTP, SQL, reading Delta
//! logs. Start with [`sharing`], which handles recipients' requests.

pub mod access;
pub mod audit;
pub mod catalog;
pub mod core;
pub mod insight;
pub mod materialize;
pub mod operators;
pub mod sharing;

use std::{ops::Deref, sync::Arc};

use crate::{
    config::{GovernanceSettings, HookSettings, ReportSettings, SharingSettings, UsageSettings},
    domain::core::seal::Sealer,
    identity::Identities,
    lake::Lake,
    storage::Storages,
    store::{Reached, Sought},
    unity::UnityServers,
};

use self::{
    audit::seal::AuditSealer,
    catalog::schema_holds::SchemaHolds,
    core::{
        lookup_batcher::LookupBatcher,
        rate_limiter::{RateLimiter, RateLimits},
    },
    materialize::MaterializerParts,
    sharing::{SharingParts, first_reads::FirstReads, preparers::Preparers},
};

pub use self::{
    access::Access,
    audit::AuditLog,
    catalog::Catalog,
    core::{Core, jobs::Jobs},
    insight::Insight,
    materialize::Materializer,
    operators::Operators,
    sharing::Sharing,
};

/// The use cases. Cheap to clone, since every layer around a request clones them.
#[derive(Clone, Debug)]
pub struct Services(Arc<All>);

/// A service for each capability. None depends on one below it.
#[derive(Debug)]
pub struct All {
    /// What every service works with, and the nouns that are only a name and a spec.
    pub core: Core,
    /// Who operates the server: sign-in, roles, groups.
    pub operators: Operators,
    /// Usage, reports, notifications.
    pub insight: Insight,
    /// Makes and keeps the copies of views.
    pub materializer: Materializer,
    /// Tables, views, shares and their objects.
    pub catalog: Catalog,
    /// Work that nobody waits for.
    pub jobs: Jobs,
    /// Recipients, their grants and tokens.
    pub access: Access,
    /// What recipients do.
    pub sharing: Sharing,
    /// Reads, seals, exports and verifies the audit trail.
    pub audit: AuditLog,
}

/// What the services are built from.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// What every service works with.
    pub core: Core,
    /// Seals the audit trail and signs reports.
    pub audit_sealer: AuditSealer,
    /// Reads Delta tables.
    pub lake: Lake,
    /// The object stores.
    pub storages: Arc<Storages>,
    /// The Unity Catalog servers that may be asked for tables.
    pub unity: UnityServers,
    /// What copies are made with.
    pub materializer: MaterializerParts,
    /// Looks up the facts for decisions, for concurrent requests together.
    pub lookups: LookupBatcher<Sought, Reached>,
    /// Prepares the chunks of large answers.
    pub preparers: Preparers,
    /// Seals file URLs.
    pub files: Sealer,
    /// The file URLs whose first read is already recorded.
    pub first_reads: Arc<FirstReads>,
    /// Counts requests and refusals in this server's memory.
    pub rate_limiter: Arc<RateLimiter>,
    /// The objects whose recipients are not served their table's newest version.
    pub schema_holds: Arc<SchemaHolds>,
    /// The trusted OpenID Connect issuers.
    pub identities: Identities,
    /// The sharing settings.
    pub settings: Arc<SharingSettings>,
    /// The governance settings.
    pub governance: GovernanceSettings,
    /// The settings of hooks.
    pub hooks: HookSettings,
    /// The usage settings.
    pub usage: UsageSettings,
    /// The report settings.
    pub reports: ReportSettings,
    /// The address that clients know the server by, without a trailing slash.
    pub public_url: Arc<str>,
}

impl Services {
    /// Builds the services, and gives each what it depends on.
    pub fn new(parts: Dependencies) -> Self {
        let Dependencies { core, lake, storages, settings, identities, rate_limiter, public_url, .. } = parts;
        let operators = Operators {
            core: core.clone(),
            identities: identities.clone(),
            rate_limiter: Arc::clone(&rate_limiter),
            failure_limits: RateLimits::of_failures(&settings),
        };
        let insight = Insight {
            core: core.clone(),
            audit_sealer: parts.audit_sealer.clone(),
            usage: parts.usage,
            reports: parts.reports,
        };
        let materializer = Materializer::new(&core, &lake, &storages, &settings, parts.materializer);
        let catalog = Catalog {
            core: core.clone(),
            materializer: materializer.clone(),
            lake: lake.clone(),
            storages: Arc::clone(&storages),
            unity: parts.unity,
            schema_holds: parts.schema_holds,
            settings: Arc::clone(&settings),
            require_classification: parts.governance.require_classification,
        };
        let jobs = Jobs { core: core.clone(), insight: insight.clone(), catalog: catalog.clone() };
        let access = Access {
            core: core.clone(),
            catalog: catalog.clone(),
            materializer: materializer.clone(),
            identities: identities.clone(),
            rate_limiter: Arc::clone(&rate_limiter),
            files: parts.files.clone(),
            agreement_secrets: parts.hooks.agreement_secrets().into(),
            settings: Arc::clone(&settings),
            public_url: Arc::clone(&public_url),
        };
        let sharing = Sharing::from(SharingParts {
            core: core.clone(),
            catalog: catalog.clone(),
            materializer: materializer.clone(),
            lake,
            storages,
            identities,
            lookups: parts.lookups,
            preparers: parts.preparers,
            files: parts.files,
            first_reads: parts.first_reads,
            rate_limiter,
            settings,
            require_classification: parts.governance.require_classification,
            public_url,
        });
        let audit = AuditLog { core: core.clone(), sealer: parts.audit_sealer };
        Self(Arc::new(All { core, operators, insight, jobs, materializer, catalog, access, sharing, audit }))
    }
}

impl Deref for Services {
    type Target = All;

    fn deref(&self) -> &All {
        &self.0
    }
}
