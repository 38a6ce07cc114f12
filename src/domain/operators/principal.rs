//! Principals: who uses the admin API, in which roles, on which things, and the one rule that says who may do what
//! ([`may`]).
//!
//! The rule behind the matrix: whoever works with sharing may tighten at once; widening, and taking off what somebody put on
//! in an emergency, is for fewer. `admin` runs the server and, where duties are separated, reads no data. Never here: what a
//! route needs, which the router declares, and how somebody signs in.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::core::{
    message::echoed,
    name::{Name, NameKind, name_key},
    spec::FieldError,
    word::{AsWritten, Words, words_schema},
};

/// A principal's role: what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs the server: everything, other operators included, but for what only compliance approves.
    Admin,
    /// Manages what is shared, and with whom.
    Owner,
    /// Looks after tables: describes them, drafts views, looks at the rows that these show, and ends access.
    Steward,
    /// Watches over contracts, purposes and exceptions: reads everything, rows of views included, and ends access.
    Compliance,
    /// Writes policy: reads what is shared, and changes nothing by itself.
    PolicyAuthor,
    /// Reads everything but data, and changes nothing.
    Auditor,
    /// Helps partners: sees who may read what, and may end it.
    Support,
    /// A program that looks things up for somebody: sees what is shared.
    Agent,
}

impl Words for Role {
    const NOUN: &'static str = "role";
    const ALL: &'static [(&'static str, Self)] = &[
        ("admin", Self::Admin),
        ("owner", Self::Owner),
        ("share_owner", Self::Owner),
        ("steward", Self::Steward),
        ("compliance", Self::Compliance),
        ("policy_author", Self::PolicyAuthor),
        ("auditor", Self::Auditor),
        ("support", Self::Support),
        ("agent", Self::Agent),
    ];
}
words_schema!(Role, "Role", "A principal's role: what it may do. `share_owner` is an earlier word for `owner`.");

impl Role {
    /// Every role, from the highest rank to the lowest.
    pub const RANKED: [Self; 8] = [
        Self::Admin,
        Self::Owner,
        Self::Steward,
        Self::Compliance,
        Self::PolicyAuthor,
        Self::Auditor,
        Self::Support,
        Self::Agent,
    ];

    /// Whether it has a permission.
    pub fn has(self, permission: Permission, separation: Separation) -> bool {
        let is_separated = separation == Separation::Enforced && self == Self::Admin && permission.shows_data();
        permission.roles().contains(&self) && !is_separated
    }
}

/// Whether running the server and reading its data are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Separation {
    /// Admins may look at rows, and tokens may be shown to operators.
    #[default]
    Off,
    /// `admin` alone shows no row, and tokens leave by activation links only.
    Enforced,
}

impl Separation {
    /// The word for it in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Enforced => "enforced",
        }
    }
}

/// What kind of principal somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A person who works for the provider.
    Staff,
    /// A program that does the same every day.
    Service,
    /// A program that decides by itself what it asks.
    Agent,
}

impl Words for PrincipalKind {
    const NOUN: &'static str = "kind of principal";
    const ALL: &'static [(&'static str, Self)] =
        &[("staff", Self::Staff), ("service", Self::Service), ("agent", Self::Agent)];
}
words_schema!(
    PrincipalKind,
    "PrincipalKind",
    "A person, a program that does the same every day, or one that decides by itself."
);

/// What a route of the admin API needs; each route declares one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Being an operator at all.
    SignIn,
    /// Seeing tables, views, shares, objects and grants.
    ReadSharing,
    /// Seeing recipients, and which files were made for them.
    ReadRecipients,
    /// Seeing recipients' tokens, without the tokens themselves.
    ReadTokens,
    /// Seeing the audit trail, and what it comes to.
    ReadAudit,
    /// Seeing operators, their groups and their tokens, without the tokens themselves.
    ReadOperators,
    /// Seeing rows, as a recipient would read them.
    PreviewData,
    /// Ending grants, for now or for good.
    Tighten,
    /// Ending what a recipient may, whatever the share; freezing everything.
    TightenEverywhere,
    /// Changing tables and views, which shows nobody anything yet.
    ManageCatalog,
    /// Deciding what kind of data columns hold.
    ClassifyColumns,
    /// Changing what is shared, and granting it.
    ManageSharing,
    /// Changing recipients; issuing their tokens.
    ManageRecipients,
    /// Changing the purposes that grants may name, and what they are used for.
    ManagePurposes,
    /// Registering agreements, and recording that they begin, are interrupted and end.
    ManageAgreements,
    /// Saying what is asked wherever data of a class is shown.
    ManageControls,
    /// Proposing exceptions, and ending them.
    ManageExceptions,
    /// Approving exceptions that somebody else proposed.
    ApproveExceptions,
    /// Having the server do again, or record, what it does by itself: messages, reports, files of views, drills.
    Operate,
    /// Lifting a freeze.
    LiftFreeze,
    /// Changing operators and groups; issuing operators' tokens.
    ManageOperators,
}

impl Words for Permission {
    const NOUN: &'static str = "permission";
    const ALL: &'static [(&'static str, Self)] = &[
        ("sign_in", Self::SignIn),
        ("read_sharing", Self::ReadSharing),
        ("read_recipients", Self::ReadRecipients),
        ("read_tokens", Self::ReadTokens),
        ("read_audit", Self::ReadAudit),
        ("read_operators", Self::ReadOperators),
        ("preview_data", Self::PreviewData),
        ("tighten", Self::Tighten),
        ("tighten_everywhere", Self::TightenEverywhere),
        ("manage_catalog", Self::ManageCatalog),
        ("classify_columns", Self::ClassifyColumns),
        ("manage_sharing", Self::ManageSharing),
        ("manage_recipients", Self::ManageRecipients),
        ("manage_purposes", Self::ManagePurposes),
        ("manage_agreements", Self::ManageAgreements),
        ("manage_controls", Self::ManageControls),
        ("manage_exceptions", Self::ManageExceptions),
        ("approve_exceptions", Self::ApproveExceptions),
        ("operate", Self::Operate),
        ("lift_freeze", Self::LiftFreeze),
        ("manage_operators", Self::ManageOperators),
    ];
}

impl Permission {
    /// The roles that have it.
    pub fn roles(self) -> &'static [Role] {
        use Role::{Admin, Auditor, Compliance, Owner, PolicyAuthor, Steward, Support};
        match self {
            Self::SignIn | Self::ReadSharing => &Role::RANKED,
            Self::ReadRecipients => &[Admin, Owner, Steward, Compliance, PolicyAuthor, Auditor, Support],
            Self::ReadTokens | Self::ReadAudit => &[Admin, Owner, Compliance, Auditor],
            Self::ReadOperators => &[Admin, Compliance, Auditor],
            Self::PreviewData => &[Admin, Owner, Steward, Compliance],
            Self::Tighten | Self::TightenEverywhere => &[Admin, Owner, Steward, Compliance, Support],
            Self::ManageCatalog => &[Admin, Owner, Steward],
            Self::ClassifyColumns => &[Admin, Owner, Steward, Compliance],
            Self::ManageSharing | Self::ManageRecipients | Self::Operate => &[Admin, Owner],
            Self::ManagePurposes => &[Admin, Owner, Compliance],
            Self::ManageAgreements | Self::ManageControls | Self::ManageExceptions => &[Admin, Compliance],
            // Whoever runs the server does not judge what compliance answers for.
            Self::ApproveExceptions => &[Compliance],
            Self::LiftFreeze | Self::ManageOperators => &[Admin],
        }
    }

    /// The words for the roles that have it, also the earlier ones.
    pub fn role_words(self) -> impl Iterator<Item = &'static str> {
        Role::ALL.iter().filter(move |(_, role)| self.roles().contains(role)).map(|(word, _)| *word)
    }

    /// Whether it is about single things, so that holding it for some of them is enough to ask. All others are held for
    /// everything or not at all.
    pub fn is_scoped(self) -> bool {
        match self {
            Self::SignIn
            | Self::ReadSharing
            | Self::PreviewData
            | Self::Tighten
            | Self::ManageCatalog
            | Self::ClassifyColumns
            | Self::ManageSharing => true,
            Self::ReadRecipients
            | Self::ReadTokens
            | Self::ReadAudit
            | Self::ReadOperators
            | Self::TightenEverywhere
            | Self::ManageRecipients
            | Self::ManagePurposes
            | Self::ManageAgreements
            | Self::ManageControls
            | Self::ManageExceptions
            | Self::ApproveExceptions
            | Self::Operate
            | Self::LiftFreeze
            | Self::ManageOperators => false,
        }
    }

    fn shows_data(self) -> bool {
        self == Self::PreviewData
    }
}

/// Where a role counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleScope {
    /// Everywhere.
    Everything,
    /// On the tables and shares of a domain.
    Domain(Name),
    /// On a share and what is in it.
    Share(Name),
    /// On a registered table, the views over it and the objects that show it.
    Table(Name),
    /// Somewhere that this server does not know: nowhere.
    Unknown(String),
}

impl RoleScope {
    fn read(text: &str) -> Result<Self, String> {
        let form = || "write `*`, `domain:NAME`, `share:NAME` or `table:NAME`".to_owned();
        if text == "*" {
            return Ok(Self::Everything);
        }
        let (kind, name) = text.split_once(':').ok_or_else(form)?;
        let (kind, made): (NameKind, fn(Name) -> Self) = match kind {
            "domain" => (NameKind::Domain, Self::Domain),
            "share" => (NameKind::Share, Self::Share),
            "table" => (NameKind::RegisteredTable, Self::Table),
            _ => return Err(form()),
        };
        Name::parse(kind, name).map(made).map_err(|error| error.to_string())
    }

    /// The scope that `text` means; one that nobody knows is nowhere.
    pub fn parse(text: &str) -> Self {
        Self::read(text).unwrap_or_else(|_| Self::Unknown(text.to_owned()))
    }

    /// Whether `thing` lies in it.
    pub fn covers(&self, thing: &Thing) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain(name) => thing.domain.as_deref() == Some(name.key()),
            Self::Share(name) => matches!(&thing.of, Of::Share(key) if key == name.key()),
            Self::Table(name) => matches!(&thing.of, Of::Table(key) if key == name.key()),
            Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for RoleScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Domain(name) => write!(f, "domain:{name}"),
            Self::Share(name) => write!(f, "share:{name}"),
            Self::Table(name) => write!(f, "table:{name}"),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

impl Serialize for RoleScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoleScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

/// A role somewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = BindingBody)]
pub struct Binding {
    /// The role.
    #[schema(value_type = Role)]
    pub role: AsWritten<Role>,
    /// Where it counts: `*`, `domain:NAME`, `share:NAME` or `table:NAME`.
    #[schema(value_type = String, example = "share:insurer")]
    pub scope: RoleScope,
}

impl Binding {
    /// A role that counts everywhere.
    pub fn everywhere(role: AsWritten<Role>) -> Self {
        Self { role, scope: RoleScope::Everything }
    }

    fn gives(&self, permission: Permission, separation: Separation) -> bool {
        self.role.means().is_some_and(|role| role.has(permission, separation))
    }

    /// Whether `wider` gives all that it gives. What nobody knows is only as wide as itself.
    fn is_within(&self, wider: &Self) -> bool {
        let scope = wider.scope == RoleScope::Everything || wider.scope == self.scope;
        let role = match (self.role.means(), wider.role.means()) {
            (Some(role), Some(wider)) => Permission::ALL.iter().all(|(_, permission)| {
                wider.has(*permission, Separation::Off) || !role.has(*permission, Separation::Off)
            }),
            _ => self.role == wider.role,
        };
        scope && role
    }
}

/// Notes what is wrong with bindings that `field` names.
pub fn check_bindings(field: &str, bindings: &[Binding], problems: &mut Vec<FieldError>) {
    for (index, Binding { role, scope }) in bindings.iter().enumerate() {
        role.check(&format!("{field}[{index}].role"), problems);
        if let RoleScope::Unknown(text) = scope {
            let why = RoleScope::read(text).err().unwrap_or_default();
            let message = format!("`{}` is no scope: {why}", echoed(text, 64));
            problems.push(FieldError::new(format!("{field}[{index}].scope"), message));
        }
    }
}

/// Notes that a thing's domain is no name.
pub fn check_domain(domain: Option<&str>, problems: &mut Vec<FieldError>) {
    if let Some(Err(error)) = domain.map(|domain| Name::parse(NameKind::Domain, domain)) {
        problems.push(FieldError::new("domain", error.to_string()));
    }
}

/// Whether bindings give nothing that others do not give.
pub fn are_within<'a>(
    bindings: impl IntoIterator<Item = &'a Binding>,
    wider: impl IntoIterator<Item = &'a Binding> + Clone,
) -> bool {
    bindings.into_iter().all(|binding| wider.clone().into_iter().any(|wider| binding.is_within(wider)))
}

/// What is acted upon, as far as scopes tell things apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    of: Of,
    /// The key of its domain.
    domain: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    /// No single thing: the server.
    Everything,
    /// A share, by its key.
    Share(String),
    /// A table, by its key.
    Table(String),
}

impl Thing {
    /// What belongs to no single share or table.
    pub const EVERYTHING: Self = Self { of: Of::Everything, domain: None };

    /// A share, with its domain where it has one. A name that nothing has is a thing, too: whoever may not act on it is told
    /// the same.
    pub fn share(name: &str, domain: Option<&str>) -> Self {
        Self { of: Of::Share(name_key(name)), domain: domain.map(name_key) }
    }

    /// A registered table, which stands for the views over it and the objects that show it, too.
    pub fn table(name: &str, domain: Option<&str>) -> Self {
        Self { of: Of::Table(name_key(name)), domain: domain.map(name_key) }
    }

    /// A domain itself, be it declared or not.
    pub fn domain(name: &str) -> Self {
        Self { of: Of::Everything, domain: Some(name_key(name)) }
    }

    /// Its domain alone: what a role covers that counts there, and no role that counts for this thing by name.
    pub fn domain_alone(&self) -> Self {
        Self { of: Of::Everything, domain: self.domain.clone() }
    }
}

/// Who acts, as the rule sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// Its roles, its groups' included, and where each counts.
    pub bindings: Vec<Binding>,
    /// Whether duties are separated.
    pub separation: Separation,
}

impl Principal {
    /// The server itself, which does what nobody else may stop.
    pub fn server() -> Self {
        let bindings = Role::RANKED.into_iter().map(|role| Binding::everywhere(role.into())).collect();
        Self { bindings, separation: Separation::Off }
    }

    /// Whether it may at all what a route needs: for single things, on any of them; otherwise on everything.
    pub fn holds(&self, permission: Permission) -> bool {
        if permission == Permission::SignIn {
            return true;
        }
        if !permission.is_scoped() {
            return may(self, permission, &Thing::EVERYTHING);
        }
        self.bindings.iter().any(|binding| {
            !matches!(binding.scope, RoleScope::Unknown(_)) && binding.gives(permission, self.separation)
        })
    }

    /// Whether it sees everything that is shared, so that messages may name what it did not ask for.
    pub fn sees_everything(&self) -> bool {
        may(self, Permission::ReadSharing, &Thing::EVERYTHING)
            && may(self, Permission::ReadRecipients, &Thing::EVERYTHING)
    }
}

/// Whether a principal may do something to a thing. Nothing else says so.
pub fn may(principal: &Principal, permission: Permission, thing: &Thing) -> bool {
    let allows = |binding: &Binding| binding.scope.covers(thing) && binding.gives(permission, principal.separation);
    principal.bindings.iter().any(allows)
}

/// Why a principal may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// None of its roles has the permission.
    Role(Permission),
    /// A role has it, and counts elsewhere.
    Scope(Permission),
    /// `admin` has it only where duties are not separated.
    Separated(Permission),
}

/// Decides whether a principal may do something to a thing, and why not.
pub fn decide(principal: &Principal, permission: Permission, thing: &Thing) -> Result<(), Lack> {
    if may(principal, permission, thing) {
        return Ok(());
    }
    let has = |separation| principal.bindings.iter().any(|binding| binding.gives(permission, separation));
    Err(match (has(principal.separation), has(Separation::Off)) {
        (true, _) => Lack::Scope(permission),
        (false, true) => Lack::Separated(permission),
        (false, false) => Lack::Role(permission),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn principal(bindings: &[(&str, &str)], separation: Separation) -> Principal {
        let bindings =
            bindings.iter().map(|(role, scope)| Binding { role: AsWritten::new(role), scope: RoleScope::parse(scope) });
        Principal { bindings: bindings.collect(), separation }
    }

    fn things() -> Vec<(&'static str, Thing)> {
        vec![
            ("everything", Thing::EVERYTHING),
            ("share a in d", Thing::share("A", Some("D"))),
            ("share b", Thing::share("b", None)),
            ("table a in d", Thing::table("a", Some("d"))),
            ("table c", Thing::table("c", None)),
        ]
    }

    /// Who, what, and the things on which that is allowed.
    type Row<'a> = (&'a [(&'a str, &'a str)], Separation, Permission, &'a [&'a str]);

    #[test]
    fn who_may_what_on_which_thing() {
        use Permission::{ManageCatalog, ManageOperators, ManageSharing, PreviewData, ReadAudit, ReadSharing, Tighten};
        use Separation::{Enforced, Off};
        let all = ["everything", "share a in d", "share b", "table a in d", "table c"];
        let rows: &[Row<'_>] = &[
            (&[("admin", "*")], Off, ManageOperators, &all),
            (&[("admin", "*")], Off, PreviewData, &all),
            (&[("admin", "*")], Enforced, PreviewData, &[]),
            (&[("admin", "*")], Enforced, ManageSharing, &all),
            (&[("admin", "*"), ("steward", "table:c")], Enforced, PreviewData, &["table c"]),
            (&[("share_owner", "*")], Enforced, PreviewData, &all),
            (&[("owner", "*")], Off, ManageSharing, &all),
            (&[("owner", "share:a")], Off, ManageSharing, &["share a in d"]),
            (&[("owner", "share:A")], Off, ReadSharing, &["share a in d"]),
            (&[("owner", "share:a")], Off, ReadAudit, &["share a in d"]),
            (&[("owner", "table:a")], Off, ManageSharing, &["table a in d"]),
            (&[("owner", "domain:d")], Off, ManageSharing, &["share a in d", "table a in d"]),
            (&[("owner", "share:a"), ("owner", "table:c")], Off, ManageSharing, &["share a in d", "table c"]),
            (&[("support", "share:b")], Off, Tighten, &["share b"]),
            (&[("support", "share:b")], Off, ManageSharing, &[]),
            (&[("steward", "table:c")], Off, ManageCatalog, &["table c"]),
            (&[("steward", "table:c")], Off, ManageSharing, &[]),
            (&[("compliance", "table:c")], Enforced, PreviewData, &["table c"]),
            (&[("auditor", "*")], Off, ReadSharing, &all),
            (&[("auditor", "*")], Off, PreviewData, &[]),
            (&[("policy_author", "*")], Off, ManageSharing, &[]),
            (&[("agent", "*")], Off, ReadSharing, &all),
            (&[("agent", "*")], Off, Tighten, &[]),
            (&[("emperor", "*")], Off, ReadSharing, &[]),
            (&[("owner", "galaxy:a")], Off, ReadSharing, &[]),
            (&[], Off, ReadSharing, &[]),
        ];
        for (bindings, separation, permission, expected) in rows {
            let principal = principal(bindings, *separation);
            let allowed: Vec<&str> = things()
                .into_iter()
                .filter(|(_, thing)| may(&principal, *permission, thing))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(allowed, *expected, "{bindings:?} {separation:?} {permission:?}");
            for (name, thing) in things() {
                assert_eq!(decide(&principal, *permission, &thing).is_ok(), allowed.contains(&name), "{name}");
            }
        }
    }

    #[test]
    fn a_refusal_says_what_is_lacking() {
        let why = |bindings: &[(&str, &str)], permission| {
            decide(&principal(bindings, Separation::Enforced), permission, &Thing::table("t", None)).unwrap_err()
        };
        let preview = Permission::PreviewData;
        assert_eq!(why(&[("auditor", "*")], preview), Lack::Role(preview));
        assert_eq!(why(&[("admin", "*")], preview), Lack::Separated(preview));
        assert_eq!(why(&[("admin", "*"), ("owner", "table:u")], preview), Lack::Scope(preview));
    }

    #[test]
    fn what_is_not_about_single_things_is_held_everywhere_or_not_at_all() {
        for (_, permission) in Permission::ALL.iter().filter(|(_, permission)| *permission != Permission::SignIn) {
            let role = permission.roles()[0].as_str();
            let somewhere = principal(&[(role, "share:a")], Separation::Off);
            assert_eq!(somewhere.holds(*permission), permission.is_scoped(), "{permission:?}");
            assert!(principal(&[(role, "*")], Separation::Off).holds(*permission), "{permission:?}");
            assert!(!principal(&[(role, "galaxy:a")], Separation::Off).holds(*permission), "{permission:?}");
        }
        assert!(principal(&[], Separation::Off).holds(Permission::SignIn));
    }

    #[test]
    fn admins_may_everything_auditors_change_nothing_and_support_only_tightens() {
        let may = |role: Role| {
            let has = move |permission: &Permission| role.has(*permission, Separation::Off);
            Permission::ALL.iter().map(|(_, permission)| *permission).filter(has)
        };
        let kept_apart = |permission: &Permission| *permission == Permission::ApproveExceptions;
        assert_eq!(may(Role::Admin).filter(kept_apart).count(), 0);
        assert_eq!(may(Role::Admin).count(), Permission::ALL.len() - 1);
        let reads = |permission: &Permission| {
            use Permission::{ReadAudit, ReadOperators, ReadRecipients, ReadSharing, ReadTokens, SignIn};
            matches!(permission, SignIn | ReadSharing | ReadRecipients | ReadTokens | ReadAudit | ReadOperators)
        };
        assert!(may(Role::Auditor).all(|permission| reads(&permission)));
        assert_eq!(may(Role::Auditor).count(), 6, "an auditor reads everything but data");
        for role in [Role::PolicyAuthor, Role::Agent] {
            assert!(may(role).all(|permission| reads(&permission)), "{role:?}");
        }
        let changes: Vec<_> = may(Role::Support).filter(|permission| !reads(permission)).collect();
        assert_eq!(changes, [Permission::Tighten, Permission::TightenEverywhere]);
    }

    #[test]
    fn every_role_has_its_rank_and_its_word() {
        for role in Role::RANKED {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        for (word, role) in Role::ALL {
            assert!(Role::RANKED.contains(role), "{word}");
        }
        assert_eq!(Role::parse("share_owner"), Some(Role::Owner));
    }

    #[test]
    fn scopes_are_written_as_they_are_read_and_others_cover_nothing() {
        for text in ["*", "domain:claims", "share:Insurer", "table:claims.claims", "galaxy:x", "share:", ""] {
            let scope: RoleScope = serde_json::from_value(json!(text)).unwrap();
            assert_eq!(serde_json::to_value(&scope).unwrap(), json!(text));
            let is_known = !matches!(scope, RoleScope::Unknown(_));
            assert_eq!(is_known, !["galaxy:x", "share:", ""].contains(&text), "{text}");
        }
        let bindings = principal(&[("owner", "*"), ("root", "share:a b"), ("owner", "all")], Separation::Off).bindings;
        let mut problems = Vec::new();
        check_bindings("bindings", &bindings, &mut problems);
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["bindings[1].role", "bindings[1].scope", "bindings[2].scope"]);
        assert!(problems[1].message.contains("space") && problems[2].message.contains("`share:NAME`"), "{problems:?}");
    }

    #[test]
    fn fewer_roles_and_narrower_scopes_lie_within_wider_ones() {
        let bindings = |of: &[(&str, &str)]| principal(of, Separation::Off).bindings;
        for (narrow, wide, expected) in [
            (&[("owner", "share:a")][..], &[("owner", "*")][..], true),
            (&[("owner", "*")], &[("owner", "share:a")], false),
            (&[("support", "share:a")], &[("owner", "share:a")], true),
            (&[("owner", "share:a")], &[("support", "share:a"), ("owner", "share:b")], false),
            (&[("share_owner", "*")], &[("owner", "*")], true),
            (&[("auditor", "*")], &[("admin", "*")], true),
            (&[("auditor", "*")], &[("owner", "*")], false),
            (&[("emperor", "*")], &[("admin", "*")], false),
            (&[("emperor", "*")], &[("emperor", "*")], true),
            (&[], &[], true),
        ] {
            assert_eq!(are_within(&bindings(narrow), &bindings(wide)), expected, "{narrow:?} {wide:?}");
        }
    }
}
