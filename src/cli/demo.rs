//! `weir demo`: a small insurer's lake, shared with a partner, in one folder.
//!
//! It is an ordinary server with an ordinary configuration, stored in the folder. Everything is done as an operator
//! would do it through the admin API.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{SecondsFormat, TimeDelta};
use rand::Rng;
use serde_json::json;

use crate::{
    app::{App, Migrate},
    config::{Settings, Sources},
    domain::{
        access::{
            agreement::AgreementStep,
            profile::Profile,
            purpose::PurposeSpec,
            token::{BearerToken, TokenState},
        },
        catalog::{control::ControlSpec, share::ShareSpec},
    },
    lake::demo::{DemoLake, write_demo_lake},
    service::{
        Services,
        access::{
            grants::{GrantsQuery, NewGrant},
            tokens::{Issued, NewToken},
        },
        catalog::{
            columns::{ColumnDecision, PATIENCE_SECONDS, ScanOutcome},
            objects::ObjectPath,
        },
        core::{
            change::{Named, named},
            context::OperatorContext,
            error::ServiceError,
            page::PageRequest,
        },
    },
    store::{Seeker, Sought},
    telemetry,
};

use super::{print, serve::stop_signals};

const SHARE: &str = "insurer";
const SCHEMA: &str = "health";
const RECIPIENT: &str = "acme";

/// The share of a second partner: claims through a view, and the directory of providers unchanged.
const GOVERNED_SHARE: &str = "insurer_governed";
const GOVERNED_RECIPIENT: &str = "northwind";
const VIEW: &str = "insurer.claims_by_plan";

/// What the data is used for.
const FRAUD: &str = "fraud_analytics";
const PRICING: &str = "pricing";
/// The class of the members' data.
const HEALTH: &str = "PHI";

/// A contract with a partner.
struct Contract {
    name: &'static str,
    recipient: &'static str,
    kind: &'static str,
    purpose: &'static str,
    /// For how many days from the first start.
    lasts: i64,
}

/// One of them ends soon.
const CONTRACTS: [Contract; 3] = [
    Contract { name: "acme-baa", recipient: RECIPIENT, kind: "BAA", purpose: FRAUD, lasts: 365 },
    Contract { name: "acme-dpa", recipient: RECIPIENT, kind: "DPA", purpose: FRAUD, lasts: 365 },
    Contract { name: "northwind-baa", recipient: GOVERNED_RECIPIENT, kind: "BAA", purpose: PRICING, lasts: 14 },
];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder for everything that the demo creates
    #[arg(long, default_value = "weir-demo")]
    dir: PathBuf,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let signals = stop_signals()?;
    let folder = Folder::open(&arguments.dir)?;
    let lake = write_demo_lake(&folder.lake()).await?;
    folder.write_config(arguments.listen)?;
    let operator_token = folder.operator_token().display().to_string();
    let env = BTreeMap::from([("WEIR_BOOTSTRAP_TOKEN_FILE".to_owned(), operator_token)]);
    let settings = Settings::load(Sources { file: Some(folder.config()), env })?;
    let _lines = telemetry::init(&settings.log)?;
    let app = App::build(&settings, Some(folder.config()), Migrate::IfEmbedded).await?;
    contract(&app.service).await?;
    share(&app.service, &lake).await?;
    share_governed(&app.service).await?;
    let endpoint = app.service.access.endpoint();
    for recipient in [RECIPIENT, GOVERNED_RECIPIENT] {
        write_profile(&app.service, recipient, &folder.profile(recipient), &endpoint).await?;
    }
    // The server runs even if nobody can read this text.
    let mut stdout = print::out();
    drop(write!(stdout, "{}", welcome(&folder, &settings.server.public_url)).and_then(|()| stdout.flush()));
    app.serve(signals).await
}

/// Declares what the data may be used for, the partners with their contracts, and what health data asks for. If an earlier
/// start came to share data, everything stays as it is.
async fn contract(service: &Services) -> anyhow::Result<()> {
    let now = service.core.clock.now();
    let ctx = OperatorContext::system("demo", now);
    if was_granted(service, &ctx, SHARE, RECIPIENT).await? {
        return Ok(());
    }
    for (name, description, basis) in [
        (FRAUD, "Detecting fraud in claims", "contract with the members, section 7"),
        (PRICING, "Pricing of plans by actuaries", "contract with the members, section 9"),
    ] {
        let purpose = json!({"description": description, "legal_basis": basis});
        service.core.put_declared::<PurposeSpec>(&ctx, name, &named(purpose)).await?;
    }
    let acme = json!({"display_name": "Acme Fraud Analytics"});
    service.access.put_recipient(&ctx, RECIPIENT, &named(acme)).await?;
    let northwind = json!({"display_name": "Northwind Actuaries", "properties": {"plans": ["gold", "silver"]}});
    service.access.put_recipient(&ctx, GOVERNED_RECIPIENT, &named(northwind)).await?;
    let days = |days| (now + TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    for Contract { name, recipient, kind, purpose, lasts } in CONTRACTS {
        let spec = json!({
            "recipient": recipient,
            "type": kind,
            "document": {"uri": format!("clm://contracts/{name}"), "sha256": "0".repeat(64)},
            "purposes": [purpose],
            "classes": ["PHI", "confidential"],
            "valid_from": days(0),
            "valid_until": days(lasts),
        });
        if service.access.get_agreement(&ctx, name).await.is_err() {
            service.access.put_agreement(&ctx, name, &named(spec)).await?;
        }
        match service.access.move_agreement(&ctx, name, AgreementStep::Activate, "signed by both").await {
            // An earlier start has done that.
            Ok(_) | Err(ServiceError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let control = json!({
        "requires": ["BAA"],
        "min_mask": {"direct": "hash"},
        "description": "Health data of members leaves under a BAA alone, and in views never with its identifiers",
    });
    service.core.put_declared::<ControlSpec>(&ctx, HEALTH, &named(control)).await?;
    Ok(())
}

/// Registers the tables, shares them, and grants the share to the recipient. If an earlier start finished this,
/// everything stays as it is, whatever has been changed since.
async fn share(service: &Services, lake: &DemoLake) -> anyhow::Result<()> {
    let ctx = OperatorContext::system("demo", service.core.clock.now());
    if was_granted(service, &ctx, SHARE, RECIPIENT).await? {
        return Ok(());
    }
    let share = json!({"display_name": "An insurer's claims", "description": "Synthetic data: nobody in it exists"});
    service.core.put_declared::<ShareSpec>(&ctx, SHARE, &named(share)).await?;
    for table in &lake.tables {
        let registered = format!("{SHARE}.{}", table.name);
        let location = format!("file://{}", table.folder.display());
        let spec = json!({"location": location, "description": table.description});
        service.catalog.put_table(&ctx, &registered, &named(spec)).await?;
        classify(service, &ctx, &registered).await?;
        let path = ObjectPath { share: SHARE, schema: SCHEMA, name: table.name };
        let mut object = json!({"source": {"table": registered}});
        if table.name == "claims" {
            object["justification"] = "single claims are investigated, member by member".into();
        }
        service.catalog.put_object(&ctx, path, &named(object)).await?;
    }
    grant(service, &ctx, (SHARE, RECIPIENT), FRAUD, &["acme-baa", "acme-dpa"]).await
}

/// Has a table scanned, and decides about some columns of claims as the insurer would.
async fn classify(service: &Services, ctx: &OperatorContext, table: &str) -> anyhow::Result<()> {
    let outcome = service.catalog.scan_table(ctx, table, Duration::from_secs(PATIENCE_SECONDS)).await?;
    if table != format!("{SHARE}.claims") || !matches!(outcome, ScanOutcome::Done(_)) {
        return Ok(());
    }
    let decided = [
        ("member_id", "PHI", "direct"),
        ("birth_date", "PHI", "quasi"),
        ("zip", "PHI", "quasi"),
        ("plan", "internal", "business_key"),
        ("paid_amount", "confidential", "none"),
    ];
    let decisions = decided.map(|(path, class, role)| ColumnDecision {
        path: path.to_owned(),
        condition: None,
        named: named(json!({"class": class, "role": role})),
    });
    service.catalog.decide_columns(ctx, table, &decisions).await?;
    Ok(())
}

/// Shares claims a second time, with a partner that may not identify members and sees two plans, together with the
/// directory, which contains nothing confidential.
async fn share_governed(service: &Services) -> anyhow::Result<()> {
    let ctx = OperatorContext::system("demo", service.core.clock.now());
    if was_granted(service, &ctx, GOVERNED_SHARE, GOVERNED_RECIPIENT).await? {
        return Ok(());
    }
    service.catalog.put_view(&ctx, VIEW, &claims_by_plan()).await?;
    let version = service.catalog.publish_view(&ctx, VIEW, &Default::default()).await?.version.version;
    let share = json!({"display_name": "An insurer's claims, without its members"});
    service.core.put_declared::<ShareSpec>(&ctx, GOVERNED_SHARE, &named(share)).await?;
    for (name, source) in [
        ("claims", json!({"view": format!("{VIEW}@v{version}")})),
        ("provider_directory", json!({"table": format!("{SHARE}.provider_directory")})),
    ] {
        let path = ObjectPath { share: GOVERNED_SHARE, schema: SCHEMA, name };
        service.catalog.put_object(&ctx, path, &named(json!({"source": source}))).await?;
    }
    grant(service, &ctx, (GOVERNED_SHARE, GOVERNED_RECIPIENT), PRICING, &["northwind-baa"]).await
}

/// Claims with pseudonyms for members and no other identifying column, limited to the plans that the partner is
/// entitled to.
fn claims_by_plan() -> Named {
    let columns = json!([
        {"name": "claim_id"},
        {"name": "member_key", "from": "member_id", "mask": {"hash": {"domain": "member"}},
         "comment": "The same member has the same key, in this partner's data alone"},
        {"name": "birth_year", "from": "birth_date", "mask": {"year_only": {"cap_age": 89}}},
        {"name": "zip3", "from": "zip", "mask": "zip3"},
        {"name": "plan"},
        {"name": "service_month", "from": "service_date", "mask": {"date_trunc": {"unit": "month"}}},
        {"name": "procedure_code"},
        {"name": "paid_amount"},
        {"name": "status"},
    ]);
    named(json!({
        "source": {"table": format!("{SHARE}.claims")},
        "columns": columns,
        "row_filter": "plan IN recipient_list('plans')",
        "description": "Claims without members, by plan",
    }))
}

async fn grant(
    service: &Services,
    ctx: &OperatorContext,
    (share, recipient): (&str, &str),
    purpose: &str,
    agreements: &[&str],
) -> anyhow::Result<()> {
    let grant = NewGrant {
        share: share.to_owned(),
        recipient: recipient.to_owned(),
        valid_from: None,
        valid_until: None,
        purpose: Some(purpose.to_owned()),
        agreement: None,
        agreements: agreements.iter().map(|&name| name.to_owned()).collect(),
        replaces: None,
    };
    service.access.create_grant(ctx, grant).await?;
    Ok(())
}

/// Whether an earlier start came to its last step with a share.
async fn was_granted(service: &Services, ctx: &OperatorContext, share: &str, recipient: &str) -> anyhow::Result<bool> {
    let query = GrantsQuery { share: Some(share.to_owned()), recipient: Some(recipient.to_owned()), at: None };
    let first = PageRequest { max_results: Some(1), ..PageRequest::default() };
    match service.access.list_grants(ctx, &query, &first).await {
        Ok(page) => Ok(!page.items.is_empty()),
        // The share or the recipient may not exist yet.
        Err(ServiceError::NotFound { .. } | ServiceError::Parameter(_) | ServiceError::Invalid(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Keeps the profile if its token works; otherwise issues a token.
async fn write_profile(service: &Services, recipient: &str, path: &Path, endpoint: &str) -> anyhow::Result<()> {
    let now = service.core.clock.now();
    if let Some(mut profile) = read_profile(path)? {
        let token = BearerToken::presented(&profile.bearer_token);
        let sought = Sought { by: Seeker::Token(token.hash()), share: None, table: None };
        let bearer = service.sharing.lookups.find(sought).await?.and_then(|reached| reached.bearer);
        if bearer.is_some_and(|bearer| bearer.token.state(now) == TokenState::Active) {
            // The server may listen on another address this time.
            profile.endpoint = endpoint.to_owned();
            return write_private(path, &serde_json::to_vec_pretty(&profile)?);
        }
    }
    let ctx = OperatorContext::system("demo", now);
    // A credential has at most two live tokens; those whose profile is lost are useless.
    let recipient_id = service.access.get_recipient(recipient).await?.id;
    for token in service.core.db.list_live_tokens(recipient_id, now).await? {
        service.access.revoke_token(&ctx, recipient, token.id, Some("its profile is lost")).await?;
    }
    let asked = NewToken { reveal: true, ..NewToken::default() };
    let Issued::Revealed(issued) = service.access.issue_token(&ctx, recipient, asked).await? else {
        bail!("the token was not shown");
    };
    let profile = Profile::new(endpoint, issued.secret.reveal(), issued.expires_at);
    write_private(path, &serde_json::to_vec_pretty(&profile)?)
}

fn read_profile(path: &Path) -> anyhow::Result<Option<Profile>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// The demo's folder.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn open(dir: &Path) -> anyhow::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let made = builder.create(dir).and_then(|()| dir.canonicalize());
        let dir =
            made.with_context(|| format!("cannot make the folder `{}`; name another with --dir", dir.display()))?;
        if dir.to_str().is_none_or(|dir| dir.contains(['"', '\\', '%', '?', '#'])) {
            bail!("the path of `{}` holds characters that do not fit in a URL; name another with --dir", dir.display());
        }
        Ok(Self(dir))
    }

    fn lake(&self) -> PathBuf {
        self.0.join("lake")
    }

    fn config(&self) -> PathBuf {
        self.0.join("weir.toml")
    }

    fn profile(&self, recipient: &str) -> PathBuf {
        self.0.join(format!("{recipient}.share"))
    }

    fn operator_token(&self) -> PathBuf {
        self.0.join("operator.token")
    }

    /// Writes a configuration, with which `weir serve --config` also works.
    fn write_config(&self, listen: SocketAddr) -> anyhow::Result<()> {
        if !self.operator_token().exists() {
            let mut bits = [0u8; 32];
            rand::rng().fill_bytes(&mut bits);
            write_private(&self.operator_token(), BASE64_URL_SAFE_NO_PAD.encode(bits).as_bytes())?;
        }
        let dir = self.0.display();
        let config = format!(
            "# Written by `weir demo` on every start.\n\
             [server]\nlisten = \"{listen}\"\npublic_url = \"http://{listen}\"\n\n\
             [database]\nurl = \"sqlite://{dir}/weir.db\"\n\n\
             [secrets]\nkey_files = [\"{dir}/weir.key\"]\n\n\
             [log]\nlevel = \"warn\"\n\n\
             [views]\nroot = \"file://{dir}/copies\"\n\n\
             [[storage]]\nname = \"lake\"\nurl = \"file://{dir}/lake\"\n"
        );
        write_private(&self.config(), config.as_bytes())
    }
}

/// Replaces a file atomically; only the owner can read it.
fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

fn welcome(folder: &Folder, public_url: &str) -> String {
    let (profile, governed) = (folder.profile(RECIPIENT), folder.profile(GOVERNED_RECIPIENT));
    let (profile, governed, token) = (profile.display(), governed.display(), folder.operator_token());
    format!(
        "The insurer's demo lake is shared with `{RECIPIENT}`.\n\n\
         Profile: {profile}\n\n\
         Read it with pandas (pip install delta-sharing):\n\n    \
         import delta_sharing\n    \
         profile = \"{profile}\"\n    \
         print(delta_sharing.SharingClient(profile).list_all_tables())\n    \
         print(delta_sharing.load_as_pandas(profile + \"#{SHARE}.{SCHEMA}.claims\", limit=5))\n\n\
         A second partner, `{GOVERNED_RECIPIENT}`, reads the same claims through a governed view: two plans, and no\n\
         member. Its profile: {governed}, its table: {GOVERNED_SHARE}.{SCHEMA}.claims\n\n\
         The admin API: {public_url}/api/docs (operator token: {})\n\
         Serving on {public_url}; stop with Ctrl-C.\n",
        token.display()
    )
}
