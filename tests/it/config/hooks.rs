//! Hooks: where their secrets come from, and that nothing prints them.

use super::{Folder, load, problems};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn a_hooks_secrets_come_from_files_or_the_environment_and_are_not_printed() {
    assert!(load("", &[]).unwrap().hooks.agreement_secrets().is_empty(), "nothing is heard by default");
    let folder = Folder::new();
    let file = folder.file("secret", format!("{SECRET}\n"));
    let file = file.to_str().unwrap();
    let text = format!("[hooks]\nagreement_secret_file = \"{file}\"\n");
    for settings in [
        load(&text, &[]).unwrap(),
        load("", &[("WEIR__HOOKS__AGREEMENT_SECRET_FILE", file)]).unwrap(),
        load("", &[("WEIR__HOOKS__AGREEMENT_SECRET", SECRET)]).unwrap(),
    ] {
        assert_eq!(settings.hooks.agreement_secrets().len(), 1);
        for printed in [settings.render_redacted(), format!("{settings:?}")] {
            assert!(!printed.contains(SECRET), "{printed}");
        }
        assert!(settings.render_redacted().contains("agreement_secret = \"***\""), "{}", settings.render_redacted());
    }
    let both = format!("{text}previous_agreement_secret = \"{SECRET}\"\n");
    assert_eq!(load(&both, &[]).unwrap().hooks.agreement_secrets().len(), 2);
}

#[test]
fn what_no_hooks_secret_may_be_is_refused() {
    for (lines, told) in [
        ("agreement_secret = \"hunter2\"".to_owned(), "hooks.agreement_secret: is no secret of Standard Webhooks"),
        (format!("previous_agreement_secret = \"{SECRET}\""), "is set without hooks.agreement_secret"),
        (
            format!("agreement_secret = \"{SECRET}\"\nprevious_agreement_secret = \"hunter2\""),
            "hooks.previous_agreement_secret: is no secret",
        ),
        ("agreement_secret = 7".to_owned(), "hooks.agreement_secret: must be of type string"),
        ("agrement_secret = \"hunter2\"".to_owned(), "did you mean `agreement_secret`?"),
        ("agreement_secret_file = \"/nowhere\"".to_owned(), "hooks.agreement_secret_file: `/nowhere` cannot be read"),
    ] {
        let said = problems(&format!("[hooks]\n{lines}\n"), &[]);
        assert!(said.contains(told), "{said}");
        assert!(!said.contains("hunter2") && !said.contains(SECRET), "{said}");
    }
    assert!(problems("[sharing]\nprefix = \"/hooks\"\n", &[]).contains("is taken"));
}

#[test]
fn the_settings_that_restrict_sharing_say_whether_they_are_off() {
    let off = |text: &str| {
        let safeguards = load(text, &[]).unwrap().safeguards();
        let off = safeguards.into_iter().filter(|safeguard| safeguard.is_off);
        off.map(|safeguard| format!("{} = {}", safeguard.setting, safeguard.value)).collect::<Vec<_>>()
    };
    let all = [
        "governance.separation = off",
        "governance.require_classification = false",
        "sharing.require_purpose = false",
        "sharing.require_agreement = false",
        "sharing.raw = allow",
    ];
    assert_eq!(off(""), all);
    assert_eq!(off("[sharing]\nrequire_acknowledge = true\nrequire_purpose = true\n"), [all[0], all[1], all[3]]);
    let on = "[governance]\nseparation = \"enforced\"\nrequire_classification = true\n[sharing]\nraw = \"refuse\"\nrequire_purpose = true\n\
              require_agreement = true\n";
    assert!(off(on).is_empty());
}
