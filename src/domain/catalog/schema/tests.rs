use proptest::prelude::*;
use serde_json::json;

use super::*;

const WRITTEN: &str = concat!(
    r#"{"type":"struct","fields":["#,
    r#"{"name":"id","type":"long","nullable":false,"metadata":{"comment":"x","delta.columnMapping.id":1,"#,
    r#""delta.columnMapping.physicalName":"col-1"}},"#,
    r#"{"name":"amount","type":"decimal(10,2)","nullable":true,"metadata":{}},"#,
    r#"{"name":"s","type":{"type":"struct","fields":[{"name":"a.b","type":"timestamp_ntz","nullable":true,"metadata":{}}]},"#,
    r#""nullable":true,"metadata":{}},"#,
    r#"{"name":"l","type":{"type":"array","elementType":{"type":"struct","fields":[{"name":"x","type":"date","#,
    r#""nullable":false,"metadata":{}}]},"containsNull":false},"nullable":true,"metadata":{}},"#,
    r#"{"name":"m","type":{"type":"map","keyType":"string","valueType":"variant","valueContainsNull":true},"#,
    r#""nullable":true,"metadata":{}}]}"#,
);

fn path(text: &str) -> ColumnPath {
    ColumnPath::parse(text).unwrap()
}

fn of_type(name: &str) -> DataType {
    let schema = json!({"type": "struct", "fields": [{"name": "a", "type": name, "nullable": true, "metadata": {}}]});
    Schema::from_json(&schema).unwrap().fields.remove(0).data_type
}

#[test]
fn a_schema_is_written_as_it_was_read() {
    let schema = Schema::parse(WRITTEN).unwrap();
    assert_eq!(schema.schema_string(), WRITTEN);
    assert_eq!(serde_json::from_str::<Schema>(WRITTEN).unwrap(), schema);
    let id = &schema.fields[0];
    assert_eq!((id.physical_name(true), id.physical_name(false)), ("col-1", "id"));
    assert_eq!(schema.fields[1].physical_name(true), "amount");
    assert_eq!(
        schema.fields[3].data_type.to_string() + " " + &schema.fields[4].data_type.to_string(),
        "array<struct<x: date>> map<string, variant>"
    );
}

#[test]
fn types_are_read_by_their_names_and_unknown_ones_kept_apart() {
    for name in ["boolean", "byte", "short", "integer", "long", "float", "double", "string", "binary", "date"] {
        assert_eq!(of_type(name).to_string(), name);
        assert!(of_type(name).primitive().is_some(), "{name}");
    }
    let decimal = |precision, scale| DataType::Primitive(Primitive::Decimal { precision, scale });
    for (name, expected) in [
        ("decimal(38,38)", decimal(38, 38)),
        ("decimal( 5 , 0 )", decimal(5, 0)),
        ("decimal", decimal(10, 0)),
        ("varchar(20)", DataType::Primitive(Primitive::String)),
        ("char(1)", DataType::Primitive(Primitive::String)),
    ] {
        assert_eq!(of_type(name), expected);
    }
    for name in
        ["variant", "void", "decimal(39,0)", "decimal(5,6)", "decimal(5,-1)", "decimal(5)", "varchar(x)", "Long", ""]
    {
        assert_eq!(of_type(name), DataType::Other(name.to_owned()));
    }
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    let field = |rest: &str| format!(r#"{{"type":"struct","fields":[{{{rest}}}]}}"#);
    for (text, part) in [
        ("{".to_owned(), "not a schema"),
        (r#""long""#.to_owned(), "not a struct"),
        (r#"{"type":"struct"}"#.to_owned(), "`fields`"),
        (r#"{"fields":[]}"#.to_owned(), "no name"),
        (field(r#""type":"long","nullable":true"#), "no name"),
        (field(r#""name":"a","nullable":true"#), "`a`: its type"),
        (field(r#""name":"a","type":7,"nullable":true"#), "`a`: its type"),
        (field(r#""name":"a","type":"long""#), "`a`: `nullable`"),
        (field(r#""name":"a","type":"long","nullable":true,"metadata":7"#), "`a`: `metadata`"),
        (field(r#""name":"a","type":{"type":"array"},"nullable":true"#), "`a`: `elementType`"),
        (field(r#""name":"a","type":{"type":"array","elementType":"long"},"nullable":true"#), "`a`: `containsNull`"),
        (
            field(r#""name":"a","type":"long","nullable":true},{"name":"a","type":"date","nullable":true"#),
            "two columns are called `a`",
        ),
    ] {
        let message = Schema::parse(&text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let inner = (0..depth).fold(json!("long"), |inner, _| {
            json!({"type": "struct", "fields": [{"name": "a", "type": inner, "nullable": true, "metadata": {}}]})
        });
        serde_json::to_string(&inner).unwrap()
    };
    let deepest = Schema::parse(&nested(MAX_DEPTH)).unwrap();
    assert_eq!(deepest.leaves()[0].0.0.len(), MAX_DEPTH);
    assert_eq!(Schema::parse(&nested(MAX_DEPTH + 1)), Err(SchemaError::TooDeep));
    assert!(Schema::parse(&r#"{"type":"array","elementType":"#.repeat(100_000)).is_err());
    assert_eq!(ColumnPath::parse(&vec!["a"; MAX_DEPTH + 1].join(".")), Err(SchemaError::TooDeep));
}

#[test]
fn paths_lead_through_structs_lists_and_maps() {
    let schema = Schema::parse(WRITTEN).unwrap();
    let found = |text: &str| {
        let found = schema.lookup(&path(text)).unwrap();
        (
            found.data_type.to_string(),
            found.nullable(),
            found.steps.iter().map(Step::name).collect::<Vec<_>>().join("/"),
        )
    };
    assert_eq!(found("id"), ("long".into(), false, "id".into()));
    assert_eq!(found("s.`a.b`"), ("timestamp_ntz".into(), true, "s/a.b".into()));
    assert_eq!(found("l.element.x"), ("date".into(), true, "l/element/x".into()));
    assert_eq!(found("m.key"), ("string".into(), true, "m/key".into()));
    assert_eq!(found("m.value"), ("variant".into(), true, "m/value".into()));
    for (text, message) in [
        ("x", "there is no `x`"),
        ("ID", "there is no `ID`, but `id`; names are written in the case that the table has"),
        ("s.`A.B`", "there is no `s.`A.B``, but `s.`a.b``; names are written in the case that the table has"),
        ("s.a.b", "there is no `s.a`"),
        ("id.x", "`id` is of type long and has no `x`"),
        ("l.x", "`l` is of type array<struct<x: date>> and has no `x`; write `element` to step into it"),
        ("m.x", "`m` is of type map<string, variant> and has no `x`; write `key` or `value` to step into it"),
    ] {
        assert_eq!(schema.lookup(&path(text)).unwrap_err().to_string(), message);
    }
    assert!(schema.lookup(&ColumnPath(vec![])).is_err());
    let leaves: Vec<String> = schema.leaves().iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(leaves, ["id", "amount", "s.`a.b`", "l.element.x", "m.key", "m.value"]);
}

#[test]
fn names_that_differ_only_by_case_are_found_wherever_they_are() {
    let field =
        |name: &str, data_type: Value| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}});
    let inner = json!({"type": "struct", "fields": [field("x", json!("long")), field("X", json!("long")), field("y", json!("long"))]});
    let list = json!({"type": "array", "elementType": inner, "containsNull": true});
    let fields =
        [field("a", json!("long")), field("STRASSE", json!("long")), field("straße", list), field("b", json!("long"))];
    let schema = Schema::from_json(&json!({"type": "struct", "fields": fields})).unwrap();
    let found: Vec<String> = schema.case_variants().iter().map(ToString::to_string).collect();
    assert_eq!(found, ["STRASSE", "straße", "straße.element.X", "straße.element.x"]);
}

#[test]
fn types_are_taken_as_deltas_own_readers_take_them() {
    let schema = |data_type: &str| {
        format!(r#"{{"fields":[{{"name":"a","type":{data_type},"nullable":true,"metadata":{{}}}}],"type":"struct"}}"#)
    };
    let udt =
        r#"{"type":"udt","class":"x.Vector","sqlType":{"type":"array","elementType":"char(3)","containsNull":true}}"#;
    for (written, read) in [
        (udt, Some(r#"{"type":"array","elementType":"string","containsNull":true}"#)),
        (r#""char(10)""#, Some(r#""string""#)),
        (r#""varchar(20)""#, Some(r#""string""#)),
        (r#""decimal""#, Some(r#""decimal(10,0)""#)),
        (
            r#"{"type":"map","keyType":"varchar(1)","valueType":"long","valueContainsNull":true}"#,
            Some(r#"{"type":"map","keyType":"string","valueType":"long","valueContainsNull":true}"#),
        ),
        (r#""decimal(5,2)""#, None),
        (r#""string""#, None),
        (r#"{"type":"udt","class":"x"}"#, None),
        (r#""char(x)""#, None),
    ] {
        let found = as_readers_read(&schema(written)).map(|text| serde_json::from_str::<Value>(&text).unwrap());
        let expected = read.map(|read| serde_json::from_str::<Value>(&schema(read)).unwrap());
        assert_eq!(found, expected, "{written}");
    }
    assert_eq!(as_readers_read("{\"udt\""), None);
}

#[test]
fn pruning_keeps_what_is_named_and_physical_names() {
    let schema = Schema::parse(WRITTEN).unwrap();
    let paths = ["id", "l.element.x", "m"].map(path);
    let pruned = schema.pruned(&paths);
    let expected =
        [r#"{"name":"id","type":"long","nullable":false,"metadata":{"delta.columnMapping.physicalName":"col-1"}}"#];
    assert!(pruned.schema_string().contains(expected[0]), "{}", pruned.schema_string());
    let leaves: Vec<String> = pruned.leaves().iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(leaves, ["id", "l.element.x", "m.key", "m.value"]);
}

#[test]
fn paths_are_read_and_written_with_backticks_where_they_must() {
    for (text, names) in [
        ("a", vec!["a"]),
        ("a.b", vec!["a", "b"]),
        ("a b.c-d", vec!["a b", "c-d"]),
        ("`a.b`.c", vec!["a.b", "c"]),
        ("`a``b`", vec!["a`b"]),
        ("`a`", vec!["a"]),
    ] {
        assert_eq!(path(text).0, names);
    }
    for text in ["", ".", "a.", ".a", "a..b", "`a", "a`", "``", "`a`b", "a`b`", "`a`.."] {
        assert_eq!(ColumnPath::parse(text), Err(SchemaError::Path(text.to_owned())), "{text}");
    }
    assert!(SchemaError::Path("x".into()).to_string().contains("backticks"));
}

proptest! {
    #[test]
    fn every_path_is_read_back(names in prop::collection::vec("[a-z.`é ]{1,6}", 1..6)) {
        let path = ColumnPath(names);
        prop_assert_eq!(ColumnPath::parse(&path.to_string()), Ok(path.clone()));
        let json = serde_json::to_string(&path).unwrap();
        prop_assert_eq!(serde_json::from_str::<ColumnPath>(&json).unwrap(), path);
    }

    #[test]
    fn no_text_makes_reading_panic(text: String) {
        let _ = (Schema::parse(&text), ColumnPath::parse(&text), of_type(&text));
    }
}
