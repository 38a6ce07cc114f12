//! Specs: no field can be forgotten.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;
use weir::domain::{
    access::{
        agreement::AgreementSpec, exception::ExceptionSpec, purpose::PurposeSpec, recipient::RecipientSpec,
        use_case::UseCaseSpec,
    },
    catalog::{
        column::ColumnSpec,
        control::ControlSpec,
        domain::DomainSpec,
        share::{ObjectSpec, ShareSpec},
        table::TableSpec,
        view::ViewSpec,
    },
    core::spec::Spec,
    operators::{OperatorSpec, group::GroupSpec},
};

/// Checks that each field of a spec states the effect of a change. Returns the spec's name.
fn tried<S: Spec>(example: serde_json::Value) -> String {
    let spec: S = serde_json::from_value(example).unwrap();
    let name = std::any::type_name::<S>().rsplit("::").next().unwrap().to_owned();
    let fields = spec.fields();
    assert!(!fields.is_empty(), "{name}");
    for field in fields.keys() {
        assert!(S::effect(field, &spec, &spec).is_some(), "say what a change of {name}.{field} means");
    }
    assert!(S::effect("no_such_field", &spec, &spec).is_none(), "{name}");
    name
}

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_field_of_every_spec_says_what_a_change_of_it_means() {
    let tried = [
        tried::<ShareSpec>(json!({})),
        tried::<TableSpec>(json!({"location": "s3://lake/t"})),
        tried::<ColumnSpec>(json!({})),
        tried::<DomainSpec>(json!({})),
        tried::<ObjectSpec>(json!({"source": {"table": "t"}, "start_version": 0})),
        tried::<RecipientSpec>(json!({})),
        tried::<ViewSpec>(json!({"source": {"table": "t"}})),
        tried::<PurposeSpec>(json!({"description": "d"})),
        tried::<AgreementSpec>(json!({
            "recipient": "r", "type": "custom", "document": {"uri": "u"}, "valid_from": "2026-01-01T00:00:00Z",
        })),
        tried::<UseCaseSpec>(json!({
            "recipient": "r", "purpose": "p", "decision_supported": "d", "sponsor": "s",
        })),
        tried::<ControlSpec>(json!({})),
        tried::<ExceptionSpec>(json!({
            "rule": "raw_class", "object": "table:t", "reason": "r", "expires_at": "2026-01-01T00:00:00Z",
        })),
        tried::<OperatorSpec>(json!({"role": "auditor"})),
        tried::<GroupSpec>(json!({})),
    ];
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain"), &mut text);
    let declared = text.split("\nimpl Spec for ").skip(1).map(|rest| rest.split(' ').next().unwrap().to_owned());
    assert_eq!(declared.collect::<BTreeSet<_>>(), BTreeSet::from(tried));
}
