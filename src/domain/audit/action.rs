//! The words of audit events: what was done ([`Action`]), and to what kind of thing ([`Kind`]).
//!
//! Writers know these words and no others. Readers know more: a newer server and an older release have words of their own,
//! and those are read as they stand ([`AsWritten`](crate::domain::core::word::AsWritten)). The documentation lists the same
//! words, and a test compares the two.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{AnyOfBuilder, Type},
    },
};

use super::ActorKind;
use crate::domain::core::{spec::Effect, word::Words};

/// The schema of a word that is read: these, and any other text.
fn schema_of(words: impl Iterator<Item = &'static str>) -> RefOr<Schema> {
    let known = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words));
    AnyOfBuilder::new().item(known).item(ObjectBuilder::new().schema_type(Type::String)).into()
}

/// Declares a closed set of words: each with its doc comment, its name in the code and its spelling.
macro_rules! words {
    (
        $(#[$of_all:meta])*
        $name:ident, called $noun:literal, shown as $shown:literal { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl Words for $name {
            const NOUN: &'static str = $noun;
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                schema_of(Self::ALL.iter().map(|(word, _)| *word))
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($shown)
            }
        }
    };
}

words! {
    /// What was done: dotted, noun first.
    Action, called "action", shown as "AuditAction" {
        /// A recipient listed its shares.
        SharesList = "shares.list",
        /// A recipient asked for one share.
        ShareGet = "share.get",
        /// A recipient listed a share's schemas.
        SchemasList = "schemas.list",
        /// A recipient listed the tables of a schema or share.
        TablesList = "tables.list",
        /// A recipient asked for a table's version.
        TableVersion = "table.version",
        /// A recipient asked for a table's metadata.
        TableMetadata = "table.metadata",
        /// A recipient queried a table, and was handed URLs of its files.
        TableQuery = "table.query",
        /// The answer of a query ended.
        TableQueryCompleted = "table.query.completed",
        /// The answer of a query broke off.
        TableQueryAborted = "table.query.aborted",
        /// A recipient asked for a table's changes, and was handed URLs of their files.
        TableChanges = "table.changes",
        /// The answer with changes ended.
        TableChangesCompleted = "table.changes.completed",
        /// The answer with changes broke off.
        TableChangesAborted = "table.changes.aborted",
        /// A recipient asked how an asynchronous query goes on; there are none.
        TableQueryStatus = "table.query_status",
        /// A recipient asked for storage credentials; there are none.
        TableCredentials = "table.credentials",
        /// A file's URL of this server was opened.
        FileRead = "file.read",
        /// Stands for a minute's further reads of one URL.
        FileReadSummary = "file.read.summary",
        /// Somebody sent what no route of the protocol takes.
        RequestUnknown = "request.unknown",
        /// Stands for the later refusals of a minute.
        RefusalsSummary = "refusals.summary",
        /// Somebody opened an activation link's page.
        ActivationView = "activation.view",
        /// An operator ended an activation link that nobody had used, and its token.
        ActivationCancel = "activation.cancel",
        /// A token was fetched by its activation link.
        TokenActivate = "token.activate",
        /// A token was issued.
        TokenIssue = "token.issue",
        /// A token was shown to the operator who issued it.
        TokenReveal = "token.reveal",
        /// A token was given a successor.
        TokenRotate = "token.rotate",
        /// A token was ended.
        TokenRevoke = "token.revoke",
        /// A grant was made.
        GrantCreate = "grant.create",
        /// A grant ended because another took its place.
        GrantReplace = "grant.replace",
        /// A grant was ended.
        GrantRevoke = "grant.revoke",
        /// A recipient was created.
        RecipientCreate = "recipient.create",
        /// A recipient was changed.
        RecipientUpdate = "recipient.update",
        /// A recipient was deleted.
        RecipientDelete = "recipient.delete",
        /// A recipient is refused everything until it is resumed.
        RecipientSuspend = "recipient.suspend",
        /// A suspended recipient may read again.
        RecipientResume = "recipient.resume",
        /// A recipient was ended for good, with its grants and tokens.
        RecipientOffboard = "recipient.offboard",
        /// Everybody is refused everything.
        FreezeCreate = "freeze.create",
        /// The freeze was lifted.
        FreezeLift = "freeze.lift",
        /// A table was registered.
        TableCreate = "table.create",
        /// A registered table was changed.
        TableUpdate = "table.update",
        /// A registered table was forgotten.
        TableDelete = "table.delete",
        /// Values of a table were read, to propose what its columns hold; or that was asked for.
        TableScan = "table.scan",
        /// Tables were looked for in a storage or a catalog, and their logs read; nothing was registered.
        TableDiscover = "table.discover",
        /// Somebody decided what a column holds.
        ColumnUpdate = "column.update",
        /// A domain was declared.
        DomainCreate = "domain.create",
        /// A domain was changed.
        DomainUpdate = "domain.update",
        /// A domain was deleted.
        DomainDelete = "domain.delete",
        /// A share was created.
        ShareCreate = "share.create",
        /// A share was changed.
        ShareUpdate = "share.update",
        /// A share was deleted.
        ShareDelete = "share.delete",
        /// A table or view was put into a share.
        ObjectCreate = "object.create",
        /// A shared object was changed.
        ObjectUpdate = "object.update",
        /// A shared object was taken out of its share.
        ObjectDelete = "object.delete",
        /// The schema that a shared object's table has now was accepted.
        ObjectAcceptSchema = "object.accept_schema",
        /// A view was drafted.
        ViewCreate = "view.create",
        /// A view's draft was changed.
        ViewUpdate = "view.update",
        /// A view was deleted.
        ViewDelete = "view.delete",
        /// A view's draft became a version.
        ViewPublish = "view.publish",
        /// An operator saw rows as a recipient would read them, or their number.
        ViewPreview = "view.preview",
        /// Governed files of a view were made.
        CopiesMake = "copies.make",
        /// Governed files that nobody is to read any more were deleted.
        CopiesDelete = "copies.delete",
        /// The register of governed files was compared with what lies in their place.
        CopiesReconcile = "copies.reconcile",
        /// The surrogates of a recipient that has ended were deleted.
        SurrogatesDelete = "surrogates.delete",
        /// A purpose was declared.
        PurposeCreate = "purpose.create",
        /// A purpose was changed.
        PurposeUpdate = "purpose.update",
        /// A purpose was deleted.
        PurposeDelete = "purpose.delete",
        /// An agreement was registered.
        AgreementCreate = "agreement.create",
        /// An agreement was changed.
        AgreementUpdate = "agreement.update",
        /// An agreement was deleted.
        AgreementDelete = "agreement.delete",
        /// An agreement is being reviewed or signed.
        AgreementSubmit = "agreement.submit",
        /// An agreement is in force.
        AgreementActivate = "agreement.activate",
        /// Grants that name an agreement allow nothing until it is resumed.
        AgreementSuspend = "agreement.suspend",
        /// A suspended agreement is in force again.
        AgreementResume = "agreement.resume",
        /// An agreement was ended for good.
        AgreementTerminate = "agreement.terminate",
        /// A use case was declared.
        UseCaseCreate = "use_case.create",
        /// A use case was changed.
        UseCaseUpdate = "use_case.update",
        /// A use case was deleted.
        UseCaseDelete = "use_case.delete",
        /// A control of a class was declared.
        ControlCreate = "control.create",
        /// A control of a class was changed.
        ControlUpdate = "control.update",
        /// A control of a class was deleted.
        ControlDelete = "control.delete",
        /// An exception was proposed.
        ExceptionCreate = "exception.create",
        /// An exception was changed; one that allows more by it is proposed again.
        ExceptionUpdate = "exception.update",
        /// An exception that allows nothing was deleted.
        ExceptionDelete = "exception.delete",
        /// A second operator approved an exception.
        ExceptionApprove = "exception.approve",
        /// An exception was ended.
        ExceptionEnd = "exception.end",
        /// An operator was created.
        OperatorCreate = "operator.create",
        /// An operator was changed.
        OperatorUpdate = "operator.update",
        /// An operator was deleted, with its tokens.
        OperatorDelete = "operator.delete",
        /// An operator is refused everything until it is enabled.
        OperatorDisable = "operator.disable",
        /// A disabled operator may sign in again.
        OperatorEnable = "operator.enable",
        /// An operator's token was issued.
        OperatorTokenIssue = "operator.token.issue",
        /// An operator's token was ended.
        OperatorTokenRevoke = "operator.token.revoke",
        /// Somebody signed in by an issuer for the first time.
        OperatorIdentityCreate = "operator.identity.create",
        /// Somebody who signs in by an issuer has another name there.
        OperatorIdentityUpdate = "operator.identity.update",
        /// Somebody who signed in by an issuer was forgotten.
        OperatorIdentityDelete = "operator.identity.delete",
        /// Somebody who signs in by an issuer is refused everything until enabled.
        OperatorIdentityDisable = "operator.identity.disable",
        /// Somebody who signs in by an issuer may do so again.
        OperatorIdentityEnable = "operator.identity.enable",
        /// A group of operators was created.
        GroupCreate = "group.create",
        /// A group of operators was changed.
        GroupUpdate = "group.update",
        /// A group of operators was deleted.
        GroupDelete = "group.delete",
        /// An operator was shown something, or changed nothing; `object` is the route.
        AdminRead = "admin.read",
        /// An operator's change was refused; `object` is the route.
        AdminChange = "admin.change",
        /// Somebody presented no valid operator token, or no valid signature of a hook; `object` is the route.
        AuthFailed = "auth.failed",
        /// A monthly report was asked for.
        ReportCreate = "report.create",
        /// A monthly report was made.
        ReportComplete = "report.complete",
        /// A notification could not be delivered.
        NotificationDead = "notification.dead",
        /// An operator has a notification delivered again.
        NotificationRetry = "notification.retry",
        /// A job was given up after its last attempt.
        JobDead = "job.dead",
        /// An operator has a dead job done again.
        JobRetry = "job.retry",
        /// The outcome of a drill was recorded.
        DrillRecord = "drill.record",
        /// A server started with another value of a setting that restricts sharing.
        SettingUpdate = "setting.update",
        /// A root key was made.
        KeyCreate = "key.create",
        /// A root key became the active one.
        KeyActivate = "key.activate",
        /// Personal parts of the trail were erased.
        AuditErase = "audit.erase",
        /// Exported months of the trail left the database.
        AuditDetach = "audit.detach",
        /// A database that was behind its export was brought up to it.
        AuditRecover = "audit.recover",
    }
}

words! {
    /// What kind of thing was acted upon.
    Kind, called "kind of thing", shown as "AuditObjectKind" {
        /// A share.
        Share = "share",
        /// A schema of a share.
        Schema = "schema",
        /// A registered table. Earlier releases called a shared object so, too, in what recipients did.
        Table = "table",
        /// A column of a registered table.
        Column = "column",
        /// A domain.
        Domain = "domain",
        /// A shared object: a table or view as it appears in a share.
        Object = "object",
        /// A file behind a URL of this server.
        File = "file",
        /// A view.
        View = "view",
        /// The register of governed files.
        Copies = "copies",
        /// A recipient.
        Recipient = "recipient",
        /// A grant.
        Grant = "grant",
        /// A recipient's token.
        Token = "token",
        /// A freeze of everything.
        Freeze = "freeze",
        /// A purpose.
        Purpose = "purpose",
        /// An agreement.
        Agreement = "agreement",
        /// A use case.
        UseCase = "use_case",
        /// A control of a class.
        Control = "control",
        /// An exception.
        Exception = "exception",
        /// An operator; of its tokens, too, which `token_id` names.
        Operator = "operator",
        /// Somebody who signs in to the admin API by an issuer.
        OperatorIdentity = "operator_identity",
        /// A group of operators.
        Group = "group",
        /// A route of the admin API, or of a hook.
        Route = "route",
        /// A monthly report.
        Report = "report",
        /// A notification.
        Notification = "notification",
        /// A job.
        Job = "job",
        /// A drill.
        Drill = "drill",
        /// A setting that restricts sharing, by its key.
        Setting = "setting",
        /// A root key, by its fingerprint.
        Key = "key",
    }
}

impl Words for ActorKind {
    const NOUN: &'static str = "kind of actor";
    const ALL: &'static [(&'static str, Self)] = &[
        ("anonymous", Self::Anonymous),
        ("recipient", Self::Recipient),
        ("operator", Self::Operator),
        ("system", Self::System),
        ("hook", Self::Hook),
    ];
}

impl Words for Effect {
    const NOUN: &'static str = "effect";
    const ALL: &'static [(&'static str, Self)] =
        &[("neutral", Self::Neutral), ("tightens", Self::Tightens), ("loosens", Self::Loosens)];
}

/// What is done to a noun that is no more than a name and a spec.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    /// It is created.
    pub create: Action,
    /// It is changed.
    pub update: Action,
    /// It is deleted.
    pub delete: Action,
}

impl Action {
    /// What it means for what anybody can read, whatever it was done to; `None` where it changes nothing that is declared.
    /// A change of a spec says itself what it means, and what stands here is for the noun as a whole.
    pub fn effect(self) -> Option<Effect> {
        match self {
            // Ends access. A grant that is replaced ends; its successor has an event of its own.
            Self::ActivationCancel
            | Self::TokenRotate
            | Self::TokenRevoke
            | Self::GrantReplace
            | Self::GrantRevoke
            | Self::RecipientDelete
            | Self::RecipientSuspend
            | Self::RecipientOffboard
            | Self::FreezeCreate
            | Self::ObjectDelete
            | Self::OperatorDelete
            | Self::OperatorDisable
            | Self::OperatorTokenRevoke
            | Self::OperatorIdentityDisable
            | Self::GroupDelete
            | Self::AgreementSuspend
            | Self::AgreementTerminate
            | Self::ExceptionEnd => Some(Effect::Tightens),
            // Gives access, or brings it back.
            Self::TokenActivate
            | Self::TokenIssue
            | Self::GrantCreate
            | Self::RecipientResume
            | Self::FreezeLift
            | Self::ObjectCreate
            | Self::ObjectAcceptSchema
            | Self::OperatorCreate
            | Self::OperatorEnable
            | Self::OperatorTokenIssue
            | Self::OperatorIdentityEnable
            | Self::OperatorIdentityDelete
            | Self::GroupCreate
            | Self::AgreementActivate
            | Self::AgreementResume
            | Self::ExceptionApprove => Some(Effect::Loosens),
            // Nobody reads more or less by it: nothing reads what is new, and what is in use is not deleted.
            Self::RecipientCreate
            | Self::RecipientUpdate
            | Self::TableCreate
            | Self::TableUpdate
            | Self::TableDelete
            | Self::ColumnUpdate
            | Self::DomainCreate
            | Self::DomainUpdate
            | Self::DomainDelete
            | Self::ShareCreate
            | Self::ShareUpdate
            | Self::ShareDelete
            | Self::ObjectUpdate
            | Self::ViewCreate
            | Self::ViewUpdate
            | Self::ViewDelete
            | Self::ViewPublish
            | Self::PurposeCreate
            | Self::PurposeUpdate
            | Self::PurposeDelete
            | Self::AgreementCreate
            | Self::AgreementUpdate
            | Self::AgreementDelete
            | Self::AgreementSubmit
            | Self::UseCaseCreate
            | Self::UseCaseUpdate
            | Self::UseCaseDelete
            | Self::ControlCreate
            | Self::ControlUpdate
            | Self::ControlDelete
            | Self::ExceptionCreate
            | Self::ExceptionUpdate
            | Self::ExceptionDelete
            | Self::OperatorUpdate
            | Self::OperatorIdentityCreate
            | Self::OperatorIdentityUpdate
            | Self::GroupUpdate => Some(Effect::Neutral),
            Self::SharesList
            | Self::ShareGet
            | Self::SchemasList
            | Self::TablesList
            | Self::TableVersion
            | Self::TableMetadata
            | Self::TableQuery
            | Self::TableQueryCompleted
            | Self::TableQueryAborted
            | Self::TableChanges
            | Self::TableChangesCompleted
            | Self::TableChangesAborted
            | Self::TableQueryStatus
            | Self::TableCredentials
            | Self::FileRead
            | Self::FileReadSummary
            | Self::RequestUnknown
            | Self::RefusalsSummary
            | Self::ActivationView
            | Self::TokenReveal
            | Self::ViewPreview
            | Self::TableScan
            | Self::TableDiscover
            | Self::CopiesMake
            | Self::CopiesDelete
            | Self::CopiesReconcile
            | Self::SurrogatesDelete
            | Self::AdminRead
            | Self::AdminChange
            | Self::AuthFailed
            | Self::ReportCreate
            | Self::ReportComplete
            | Self::NotificationDead
            | Self::NotificationRetry
            | Self::JobDead
            | Self::JobRetry
            | Self::DrillRecord
            | Self::SettingUpdate
            | Self::KeyCreate
            | Self::KeyActivate
            | Self::AuditErase
            | Self::AuditDetach
            | Self::AuditRecover => None,
        }
    }

    /// The action that tells how the answer of this one ended.
    pub fn ended(self, is_complete: bool) -> Self {
        match (self, is_complete) {
            (Self::TableChanges, true) => Self::TableChangesCompleted,
            (Self::TableChanges, false) => Self::TableChangesAborted,
            (_, true) => Self::TableQueryCompleted,
            (_, false) => Self::TableQueryAborted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::core::word::AsWritten;

    #[test]
    fn words_are_read_back_and_stand_once() {
        let actions: BTreeSet<&str> = Action::ALL.iter().map(|(_, action)| action.as_str()).collect();
        assert_eq!(actions.len(), Action::ALL.len());
        assert!(Action::ALL.iter().all(|(_, action)| Action::parse(action.as_str()) == Some(*action)));
        let kinds: BTreeSet<&str> = Kind::ALL.iter().map(|(_, kind)| kind.as_str()).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|(_, kind)| Kind::parse(kind.as_str()) == Some(*kind)));
    }

    #[test]
    fn a_word_that_is_not_known_is_read_as_itself() {
        for word in ["table.query", "contract.activate"] {
            let read: AsWritten<Action> = serde_json::from_value(word.into()).unwrap();
            assert_eq!(read.as_str(), word);
            assert_eq!(read.means(), Action::parse(word));
            assert_eq!(serde_json::to_value(&read).unwrap(), word);
        }
    }

    #[test]
    fn kinds_of_actors_and_effects_are_written_as_they_are_read() {
        for (_, kind) in ActorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for (_, effect) in Effect::ALL {
            assert_eq!(serde_json::to_value(effect).unwrap(), effect.as_str());
        }
    }
}
