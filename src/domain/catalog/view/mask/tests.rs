use proptest::prelude::*;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::core::seal::{RootKey, unhex};

use super::*;

const VECTORS: &str = include_str!("../../../../../docs/mask-vectors.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "about")]
    _about: String,
    root_key: String,
    key_version: u32,
    recipient: Uuid,
    share: Uuid,
    today: NaiveDate,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    mask: Mask,
    /// The subject of a shift, and its type.
    subject: Option<Json>,
    subject_type: Option<String>,
    r#type: String,
    input: Json,
    output_type: String,
    output: Json,
}

fn data_type(name: &str) -> DataType {
    let text = format!(r#"{{"type":"struct","fields":[{{"name":"a","type":"{name}","nullable":true}}]}}"#);
    let schema = crate::domain::catalog::schema::Schema::parse(&text).unwrap();
    assert!(schema.fields[0].data_type.primitive().is_some(), "{name}");
    schema.fields[0].data_type.clone()
}

fn keys(root: u8, version: u32, recipient: u128, share: u128) -> PseudonymKeys {
    let root = RootKey::new(Zeroizing::new([root; 32]));
    PseudonymKeys::new(&root, version, Uuid::from_u128(recipient), Uuid::from_u128(share))
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn mask(json: Json) -> Mask {
    Mask::from_json(&json).unwrap()
}

/// Masks a cell of a column of type `name`; the result is owned.
fn masked(json: Json, name: &str, cell: Cell<'_>) -> Result<String, Overflow> {
    let bound = mask(json).bind(&data_type(name), &keys(1, 1, 2, 3), day("2026-01-15")).unwrap();
    bound.apply(cell).map(|cell| format!("{cell:?}"))
}

fn cell<'a>(json: &'a Json, data_type: &DataType, bytes: &'a mut Vec<u8>) -> Cell<'a> {
    let primitive = data_type.primitive().unwrap();
    match json {
        Json::Null => Cell::Null,
        Json::String(hex) if primitive == Primitive::Binary => {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            *bytes = (0..hex.len()).step_by(2).map(byte).collect();
            Cell::Binary(bytes)
        }
        _ => match Value::from_json(json, primitive).unwrap_or_else(|| panic!("{json} is no {primitive}")) {
            Value::Boolean(value) => Cell::Boolean(value),
            Value::Integer(value) => Cell::Integer(value),
            Value::Float(value) => Cell::Float(value),
            Value::Decimal(value) => Cell::Decimal(value),
            Value::Text(value) => Cell::Text(value.into()),
            Value::Date(value) => Cell::Date(value),
            Value::Timestamp(value) => Cell::Timestamp(value),
        },
    }
}

/// A masked cell without what it borrows from its mask; masks make no bytes.
fn owned(cell: Cell<'_>) -> Cell<'static> {
    match cell {
        Cell::Null | Cell::Binary(_) => Cell::Null,
        Cell::Boolean(value) => Cell::Boolean(value),
        Cell::Integer(value) => Cell::Integer(value),
        Cell::Float(value) => Cell::Float(value),
        Cell::Decimal(value) => Cell::Decimal(value),
        Cell::Text(text) => Cell::Text(text.into_owned().into()),
        Cell::Date(value) => Cell::Date(value),
        Cell::Timestamp(value) => Cell::Timestamp(value),
    }
}

#[test]
fn the_published_vectors_hold() {
    let file: Vectors = serde_json::from_str(VECTORS).unwrap();
    let root = RootKey::new(Zeroizing::new(unhex(&file.root_key).unwrap()));
    let keys = PseudonymKeys::new(&root, file.key_version, file.recipient, file.share);
    let mut seen = std::collections::BTreeSet::new();
    for vector in &file.vectors {
        let what = format!("{} of {} {}", vector.mask.to_json(), vector.r#type, vector.input);
        seen.insert(vector.mask.name());
        let (input, output) = (data_type(&vector.r#type), data_type(&vector.output_type));
        assert_eq!(vector.mask.output_type(&input), Ok(output.clone()), "{what}");
        let (mut one, mut other, mut third) = (Vec::new(), Vec::new(), Vec::new());
        let expected = cell(&vector.output, &output, &mut one);
        let given = cell(&vector.input, &input, &mut other);
        let made = match &vector.mask {
            Mask::Shift(shift) => {
                let subject = data_type(vector.subject_type.as_ref().unwrap());
                let bound = shift.bind(subject.primitive().unwrap(), &keys);
                // A null subject is written as `null`, which serde takes for none.
                let subject = cell(vector.subject.as_ref().unwrap_or(&Json::Null), &subject, &mut third);
                bound.apply(&given, bound.days_of(&subject).unwrap())
            }
            Mask::Surrogate { .. } => {
                let digests = vector.mask.surrogate_digests(&input, &keys).unwrap();
                assert_eq!(digests.of(&given), Ok(None), "{what}");
                Ok(Cell::Null)
            }
            mask => mask.bind(&input, &keys, file.today).unwrap().apply(given).map(owned),
        };
        assert_eq!(made, Ok(expected.clone()), "{what}");
        assert!(vector.mask.output_nullable(true) || expected != Cell::Null, "{what}");
    }
    assert_eq!(seen.len(), 12, "every mask has vectors: {seen:?}");
}

#[test]
fn masks_are_read_from_names_and_objects_and_written_shortest() {
    for (given, written) in [
        (json!("null"), json!("null")),
        (json!({"null": {}}), json!("null")),
        (json!("redact"), json!("redact")),
        (json!({"redact": {"keep_nulls": false}}), json!("redact")),
        (json!({"redact": {"keep_nulls": true}}), json!({"redact": {"keep_nulls": true}})),
        (json!({"constant": {"value": [1]}}), json!({"constant": {"value": [1]}})),
        (json!({"hash": {"domain": "m"}}), json!({"hash": {"domain": "m", "per": "recipient"}})),
        (json!({"hash": {"domain": "m", "per": "global"}}), json!({"hash": {"domain": "m", "per": "global"}})),
        (json!({"surrogate": {"domain": "m"}}), json!({"surrogate": {"domain": "m"}})),
        (
            json!({"shift": {"key": "a.`b.c`"}}),
            json!({"shift": {"key": "a.`b.c`", "domain": "subject", "per": "recipient", "max_days": 182}}),
        ),
        (json!({"partial": {"last": 4}}), json!({"partial": {"first": 0, "last": 4}})),
        (json!({"date_trunc": {"unit": "month"}}), json!({"date_trunc": {"unit": "month"}})),
        (
            json!({"date_trunc": {"unit": "year", "date_of": "birth", "cap_age": null}}),
            json!({"date_trunc": {"unit": "year", "date_of": "birth"}}),
        ),
        (json!({"year_only": {"date_of": "event"}}), json!({"year_only": {"date_of": "event"}})),
        (json!("year_only"), json!("year_only")),
        (json!({"year_only": {"cap_age": 89}}), json!({"year_only": {"cap_age": 89}})),
        (json!("zip3"), json!("zip3")),
        (json!("age_cap"), json!({"age_cap": {"cap": 89}})),
        (json!({"bucket": {"bounds": [1, 2.5, "3"]}}), json!({"bucket": {"bounds": [1, 2.5, "3"]}})),
    ] {
        let mask = Mask::from_json(&given).unwrap();
        assert_eq!(mask.to_json(), written);
        assert_eq!(Mask::from_json(&written), Ok(mask), "{written}");
    }
}

#[test]
fn unknown_masks_and_arguments_are_refused_by_name() {
    for (given, part) in [
        (json!("shuffle"), "shuffle"),
        (json!("hash"), "domain"),
        (json!({"hash": {"domain": "m", "salt": 1}}), "salt"),
        (json!({"hash": {"domain": "m", "per": "planet"}}), "planet"),
        (json!("surrogate"), "domain"),
        (json!({"surrogate": {"domain": "m", "per": "share"}}), "per"),
        (json!("shift"), "key"),
        (json!({"shift": {"key": "m", "days": 30}}), "days"),
        (json!({"shift": {"key": "m", "max_days": -1}}), "-1"),
        (json!({"constant": {}}), "value"),
        (json!({"zip3": {"digits": 3}}), ""),
        (json!({"redact": true}), "redact"),
        (json!({"redact": {}, "null": {}}), "one name"),
        (json!({}), "one name"),
        (json!(7), "name"),
        (json!({"partial": {"last": 300}}), "300"),
        (json!({"date_trunc": {"unit": "decade"}}), "decade"),
    ] {
        let message = Mask::from_json(&given).unwrap_err();
        assert!(message.contains(part), "{given}: {message}");
    }
}

#[test]
fn a_mask_says_where_it_does_not_fit() {
    for (given, name, part) in [
        (json!({"partial": {"last": 4}}), "long", "texts"),
        (json!({"partial": {}}), "string", "`redact`"),
        (json!({"date_trunc": {"unit": "month"}}), "string", "dates"),
        (json!({"date_trunc": {"unit": "hour"}}), "date", "week"),
        (json!({"date_trunc": {"unit": "day"}}), "date", "week"),
        (json!("year_only"), "integer", "dates"),
        (json!({"year_only": {"cap_age": 201}}), "date", "200"),
        (json!("zip3"), "integer", "ZIP"),
        (json!("age_cap"), "double", "integers"),
        (json!({"age_cap": {"cap": 127}}), "byte", "byte"),
        (json!({"age_cap": {"cap": i64::MAX}}), "long", "long"),
        (json!({"bucket": {"bounds": [1]}}), "date", "numbers"),
        (json!({"bucket": {"bounds": []}}), "integer", "1 to 200"),
        (json!({"bucket": {"bounds": [2, 1]}}), "integer", "larger"),
        (json!({"bucket": {"bounds": [1, 1]}}), "integer", "larger"),
        (json!({"bucket": {"bounds": [0.5]}}), "integer", "integer"),
        (json!({"bucket": {"bounds": ["0.001"]}}), "decimal(5,2)", "decimal(5,2)"),
        (json!({"constant": {"value": 300}}), "byte", "byte"),
        (json!({"constant": {"value": "x"}}), "date", "date"),
        (json!({"constant": {"value": null}}), "date", "`null`"),
        (json!({"constant": {"value": "x"}}), "binary", "`redact`"),
        (json!({"constant": {"value": "x".repeat(1_001)}}), "string", "1000"),
        (json!({"hash": {"domain": ""}}), "string", "domain"),
        (json!({"hash": {"domain": "a\u{1f}b"}}), "string", "domain"),
        (json!({"hash": {"domain": "x".repeat(65)}}), "string", "domain"),
        (json!({"surrogate": {"domain": ""}}), "string", "domain"),
        (json!({"shift": {"key": "m"}}), "string", "dates"),
        (json!({"shift": {"key": "m", "domain": "a b"}}), "date", "domain"),
        (json!({"shift": {"key": "m", "max_days": 29}}), "date", "30 to 3650"),
        (json!({"shift": {"key": "m", "max_days": 3_651}}), "timestamp", "30 to 3650"),
    ] {
        let mask = mask(given.clone());
        let message = mask.output_type(&data_type(name)).unwrap_err();
        assert!(message.contains(part), "{given} on {name}: {message}");
        assert!(mask.bind(&data_type(name), &keys(1, 1, 2, 3), day("2026-01-15")).is_err());
    }
    let list = DataType::Array { element: Box::new(data_type("string")), contains_null: true };
    assert_eq!(Mask::Null.output_type(&list), Ok(list.clone()));
    assert!(mask(json!("redact")).output_type(&list).unwrap_err().contains("array<string>"));
}

#[test]
fn only_null_and_kept_nulls_make_nulls() {
    assert!(Mask::Null.output_nullable(false));
    assert!(!mask(json!("redact")).output_nullable(true));
    assert!(mask(json!({"redact": {"keep_nulls": true}})).output_nullable(true));
    assert!(!mask(json!({"redact": {"keep_nulls": true}})).output_nullable(false));
    assert!(mask(json!({"shift": {"key": "m"}})).output_nullable(false));
    assert!(mask(json!("zip3")).output_nullable(true) && !mask(json!("zip3")).output_nullable(false));
}

#[test]
fn what_does_not_fit_its_type_is_an_overflow_without_a_value() {
    let year = json!({"date_trunc": {"unit": "year"}});
    assert_eq!(masked(year.clone(), "date", Cell::Date(i32::MIN)), Err(Overflow));
    assert_eq!(masked(year.clone(), "timestamp", Cell::Timestamp(i64::MIN)), Err(Overflow));
    assert_eq!(masked(json!({"date_trunc": {"unit": "hour"}}), "timestamp", Cell::Timestamp(i64::MIN)), Err(Overflow));
    assert!(masked(year, "date", Cell::Date(i32::MAX)).is_ok());
    assert_eq!(masked(json!("year_only"), "date", Cell::Date(i32::MIN)).unwrap(), "Integer(-5877641)");
    assert_eq!(masked(json!("year_only"), "timestamp", Cell::Timestamp(i64::MIN)).unwrap(), "Integer(-290308)");
    assert_eq!(Overflow.to_string(), "a mask's result does not fit its type");
}

#[test]
fn a_cell_of_another_type_than_the_columns_is_no_value() {
    for (json, name) in [
        (json!({"partial": {"last": 4}}), "string"),
        (json!("zip3"), "string"),
        (json!("age_cap"), "integer"),
        (json!("year_only"), "date"),
        (json!({"date_trunc": {"unit": "month"}}), "date"),
        (json!({"bucket": {"bounds": [1]}}), "integer"),
    ] {
        assert_eq!(masked(json.clone(), name, Cell::Boolean(true)), Err(Overflow), "{json}");
    }
    assert_eq!(masked(json!({"bucket": {"bounds": [1]}}), "integer", Cell::Float(1.0)), Err(Overflow));
    assert_eq!(masked(json!({"hash": {"domain": "m"}}), "long", Cell::Text("x".into())), Err(Overflow));
}

#[test]
fn numbers_that_are_none_have_a_bucket_and_a_pseudonym_of_their_own() {
    let bucket = json!({"bucket": {"bounds": [1]}});
    assert_eq!(masked(bucket.clone(), "double", Cell::Float(f64::NAN)).unwrap(), r#"Text("NaN")"#);
    assert_eq!(masked(bucket.clone(), "double", Cell::Float(f64::INFINITY)).unwrap(), r#"Text(">= 1")"#);
    assert_eq!(masked(bucket, "double", Cell::Float(f64::NEG_INFINITY)).unwrap(), r#"Text("< 1")"#);
    let hash = |value: f64| masked(json!({"hash": {"domain": "m"}}), "double", Cell::Float(value)).unwrap();
    assert_eq!(hash(f64::NAN), hash(-f64::NAN));
    assert_ne!(hash(f64::NAN), hash(f64::INFINITY));
}

#[test]
fn keys_and_bound_masks_are_never_printed() {
    let keys = keys(0xab, 4, 2, 3);
    assert_eq!(format!("{keys:?}"), "PseudonymKeys(version 4)");
    let bound = mask(json!({"constant": {"value": "secret"}})).bind(&data_type("string"), &keys, day("2026-01-15"));
    assert_eq!(format!("{:?}", bound.unwrap()), "BoundMask(***)");
}

fn pseudonym(keys: &PseudonymKeys, domain: &str, per: Scope, text: &str) -> String {
    let mask = Mask::Hash { domain: domain.to_owned(), per };
    let bound = mask.bind(&data_type("string"), keys, day("2026-01-15")).unwrap();
    match bound.apply(Cell::Text(text.into())).unwrap() {
        Cell::Text(text) => text.into_owned(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn pseudonyms_join_within_their_scope_and_nowhere_else(text: String, recipient: u128, share: u128) {
        use Scope::{Global, Recipient, Share};
        let of = |root, version, recipient, share, domain, per| {
            pseudonym(&keys(root, version, recipient, share), domain, per, &text)
        };
        let own = of(1, 1, recipient, share, "m", Recipient);
        prop_assert_eq!(own.len(), 29);
        prop_assert!(own[3..].bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')));
        let (other_recipient, other_share) = (recipient ^ 1, share ^ 1);
        prop_assert_eq!(&own, &of(1, 1, recipient, other_share, "m", Recipient));
        prop_assert_ne!(&own, &of(1, 1, other_recipient, share, "m", Recipient));
        prop_assert_ne!(&own, &of(1, 1, recipient, share, "n", Recipient));
        prop_assert_ne!(&own, &of(1, 2, recipient, share, "m", Recipient));
        prop_assert_ne!(&own[3..], &of(1, 2, recipient, share, "m", Recipient)[3..]);
        prop_assert_ne!(&own, &of(2, 1, recipient, share, "m", Recipient));
        let shared = of(1, 1, recipient, share, "m", Share);
        prop_assert_ne!(&own, &shared);
        prop_assert_eq!(&shared, &of(1, 1, other_recipient, share, "m", Share));
        prop_assert_ne!(&shared, &of(1, 1, recipient, other_share, "m", Share));
        let global = of(1, 1, recipient, share, "m", Global);
        prop_assert_eq!(&global, &of(1, 1, other_recipient, other_share, "m", Global));
        prop_assert_ne!(&global, &shared);
    }

    #[test]
    fn a_shift_keeps_the_days_between_the_dates_of_a_subject_and_shows_none_of_them(
        days in -719_162i32 + 3_650..2_932_896 - 3_650,
        gap in 0i32..20_000,
        time in 0i64..86_400_000_000,
        subject: String,
        max_days in 30u16..=3_650,
    ) {
        let Mask::Shift(shift) = mask(json!({"shift": {"key": "m", "max_days": max_days}})) else { panic!() };
        let bound = shift.bind(Primitive::String, &keys(1, 1, 2, 3));
        let other = shift.bind(Primitive::String, &keys(1, 1, 5, 3));
        let by = bound.days_of(&Cell::Text(subject.as_str().into())).unwrap();
        let moved = by.unwrap();
        prop_assert!(moved != 0 && moved.abs() <= i64::from(max_days));
        let later = (days + gap).min(2_932_896 - 3_650);
        let expected = |of: i32| Ok(Cell::Date(of + i32::try_from(moved).unwrap()));
        prop_assert_eq!(bound.apply(&Cell::Date(days), by), expected(days));
        prop_assert_eq!(bound.apply(&Cell::Date(later), by), expected(later));
        let instant = i64::from(days) * 86_400_000_000 + time;
        prop_assert_eq!(
            bound.apply(&Cell::Timestamp(instant), by),
            Ok(Cell::Timestamp(instant + moved * 86_400_000_000))
        );
        // Keys of another recipient move it by a number of their own.
        prop_assert!(other.days_of(&Cell::Text(subject.as_str().into())).is_ok());
        prop_assert_eq!(bound.apply(&Cell::Date(days), None), Ok(Cell::Null));
    }

    #[test]
    fn a_shift_neither_wraps_nor_fails_at_the_ends_of_time(days: i32, micros: i64, subject: i64) {
        let Mask::Shift(shift) = mask(json!({"shift": {"key": "m"}})) else { panic!() };
        let bound = shift.bind(Primitive::Long, &keys(1, 1, 2, 3));
        let by = bound.days_of(&Cell::Integer(subject)).unwrap();
        let inside = -719_162 + 182..=2_932_896 - 182;
        let shown = bound.apply(&Cell::Date(days), by).unwrap();
        prop_assert_eq!(shown == Cell::Null, !inside.contains(&i64::from(days)));
        let shown = bound.apply(&Cell::Timestamp(micros), by).unwrap();
        prop_assert_eq!(shown == Cell::Null, !inside.contains(&micros.div_euclid(86_400_000_000)));
        prop_assert_eq!(bound.apply(&Cell::Boolean(true), by), Err(Overflow));
        prop_assert!(bound.days_of(&Cell::Text("x".into())).is_err());
    }

    #[test]
    fn digests_of_surrogates_join_within_a_domain_and_a_recipient(text: String, recipient: u128) {
        let of = |domain: &str, recipient, version, text: &str| {
            let mask = Mask::Surrogate { domain: domain.to_owned() };
            let digests = mask.surrogate_digests(&data_type("string"), &keys(1, version, recipient, 3)).unwrap();
            digests.of(&Cell::Text(text.into())).unwrap().unwrap()
        };
        let own = of("m", recipient, 1, &text);
        prop_assert_eq!(own, of("m", recipient, 1, &text));
        prop_assert_ne!(own, of("n", recipient, 1, &text));
        prop_assert_ne!(own, of("m", recipient ^ 1, 1, &text));
        prop_assert_ne!(own, of("m", recipient, 2, &text));
        prop_assert_ne!(own, of("m", recipient, 1, &format!("{text}x")));
        // Neither the text nor a pseudonym can be told from what stands for it.
        let shown = surrogate_text(Uuid::from_u128(recipient));
        prop_assert_eq!(shown.len(), 28);
        prop_assert!(shown.starts_with("s_"));
    }

    #[test]
    fn ids_join_whatever_their_width(id: i32) {
        let hash = |name, cell| masked(json!({"hash": {"domain": "m"}}), name, cell).unwrap();
        let long = hash("long", Cell::Integer(id.into()));
        prop_assert_eq!(&long, &hash("integer", Cell::Integer(id.into())));
        prop_assert_eq!(&long, &hash("decimal(38,6)", Cell::Decimal(i128::from(id) * 1_000_000)));
        prop_assert_ne!(&long, &hash("string", Cell::Text(id.to_string().into())));
        prop_assert_ne!(&long, &hash("date", Cell::Date(id)));
    }

    #[test]
    fn different_values_have_different_pseudonyms(one: String, other: String) {
        use unicode_normalization::UnicodeNormalization;
        let keys = keys(1, 1, 2, 3);
        let [first, second] = [&one, &other].map(|text| pseudonym(&keys, "m", Scope::Recipient, text));
        prop_assert_eq!(first == second, one.nfc().eq(other.nfc()));
    }

    #[test]
    fn a_partial_text_keeps_no_more_than_it_says(text: String, first in 0u8..6, last in 1u8..6) {
        let mask = Mask::Partial { first, last };
        let bound = mask.bind(&data_type("string"), &keys(1, 1, 2, 3), day("2026-01-15")).unwrap();
        let Ok(Cell::Text(shown)) = bound.apply(Cell::Text(text.as_str().into())) else { panic!() };
        let (first, last) = (usize::from(first), usize::from(last));
        let length = text.chars().count();
        if length <= first + last + 2 {
            prop_assert_eq!(shown, REDACTED);
        } else {
            let shown: Vec<char> = shown.chars().collect();
            let text: Vec<char> = text.chars().collect();
            prop_assert_eq!(shown.len(), length);
            prop_assert_eq!(&shown[..first], &text[..first]);
            prop_assert_eq!(&shown[length - last..], &text[length - last..]);
            prop_assert!(shown[first..length - last].iter().all(|c| *c == '*'));
        }
    }

    #[test]
    fn a_zip_code_shows_three_digits_at_most(text in "[ 0-9-]{0,12}|\\PC{0,8}") {
        let bound = Mask::Zip3.bind(&data_type("string"), &keys(1, 1, 2, 3), day("2026-01-15")).unwrap();
        let Ok(Cell::Text(shown)) = bound.apply(Cell::Text(text.as_str().into())) else { panic!() };
        prop_assert!(shown == "000" || (shown.len() == 3 && text.trim().starts_with(&*shown)));
    }

    #[test]
    fn every_number_lies_in_its_bucket(value: i64, mut bounds in prop::collection::vec(any::<i64>(), 1..8)) {
        bounds.sort_unstable();
        bounds.dedup();
        let mask = Mask::Bucket { bounds: bounds.iter().map(|bound| json!(bound)).collect() };
        let bound = mask.bind(&data_type("long"), &keys(1, 1, 2, 3), day("2026-01-15")).unwrap();
        let Ok(Cell::Text(label)) = bound.apply(Cell::Integer(value)) else { panic!() };
        let below = bounds.iter().rev().find(|bound| **bound <= value);
        let above = bounds.iter().find(|bound| **bound > value);
        let expected = match (below, above) {
            (None, Some(above)) => format!("< {above}"),
            (Some(below), Some(above)) => format!("[{below}, {above})"),
            (Some(below), None) => format!(">= {below}"),
            (None, None) => panic!(),
        };
        prop_assert_eq!(label, expected);
    }

    #[test]
    fn no_cell_makes_a_mask_panic_and_each_time_it_makes_the_same(days: i32, micros: i64, number: i64, text: String) {
        let today = day("2026-01-15");
        for unit in [DateUnit::Year, DateUnit::Quarter, DateUnit::Month, DateUnit::Week, DateUnit::Day, DateUnit::Hour] {
            let mask = Mask::DateTrunc { unit, date_of: None, cap_age: None };
            for (name, cell) in [("date", Cell::Date(days)), ("timestamp", Cell::Timestamp(micros))] {
                if let Ok(bound) = mask.bind(&data_type(name), &keys(1, 1, 2, 3), today) {
                    let once = bound.apply(cell.clone());
                    prop_assert_eq!(&once, &bound.apply(cell.clone()));
                    if let Ok(once) = once {
                        prop_assert_eq!(bound.apply(once.clone()), Ok(once));
                    }
                }
            }
        }
        for (json, name, cell) in [
            (json!({"year_only": {"cap_age": 89}}), "date", Cell::Date(days)),
            (json!({"year_only": {"cap_age": 89}}), "timestamp", Cell::Timestamp(micros)),
            (json!("age_cap"), "long", Cell::Integer(number)),
            (json!("zip3"), "string", Cell::Text(text.as_str().into())),
            (json!({"partial": {"first": 3}}), "string", Cell::Text(text.as_str().into())),
        ] {
            let once = masked(json.clone(), name, cell.clone());
            prop_assert!(once.is_ok());
            prop_assert_eq!(once, masked(json, name, cell));
        }
    }
}
