use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::domain::catalog::{
    schema::{PHYSICAL_NAME, Primitive},
    view::ViewColumn,
};

use super::*;

/// Parses a schema of `name: type` and `name: type not null`, nested as `struct<…>`, `array<…>`, `map<key, value>`.
fn schema(text: &str) -> Schema {
    let mut rest = text;
    let fields = fields(&mut rest);
    assert_eq!(rest, "", "{text}");
    Schema { fields }
}

fn fields(rest: &mut &str) -> Vec<Field> {
    let mut fields = Vec::new();
    loop {
        let (name, behind) = rest.split_once(": ").unwrap();
        *rest = behind;
        let data_type = data_type(rest);
        let nullable = !eat(rest, " not null");
        fields.push(Field { name: name.into(), data_type, nullable, metadata: Default::default() });
        if !eat(rest, ", ") {
            return fields;
        }
    }
}

fn data_type(rest: &mut &str) -> DataType {
    if eat(rest, "struct<") {
        let fields = fields(rest);
        assert!(eat(rest, ">"));
        return DataType::Struct(fields);
    }
    if eat(rest, "array<") {
        let element = Box::new(data_type(rest));
        let contains_null = !eat(rest, " not null");
        assert!(eat(rest, ">"));
        return DataType::Array { element, contains_null };
    }
    if eat(rest, "map<") {
        let key = Box::new(data_type(rest));
        assert!(eat(rest, ", "));
        let value = Box::new(data_type(rest));
        let value_contains_null = !eat(rest, " not null");
        assert!(eat(rest, ">"));
        return DataType::Map { key, value, value_contains_null };
    }
    let arguments = rest.starts_with("decimal(").then(|| rest.find(')')).flatten().unwrap_or(0);
    let end = rest[arguments..].find([',', '>', ' ']).map_or(rest.len(), |end| arguments + end);
    let (name, behind) = rest.split_at(end);
    *rest = behind;
    let json = json!({"type": "struct", "fields": [{"name": "a", "type": name, "nullable": true}]});
    Schema::from_json(&json).unwrap().fields.remove(0).data_type
}

fn eat(rest: &mut &str, prefix: &str) -> bool {
    rest.strip_prefix(prefix).map(|behind| *rest = behind).is_some()
}

/// Writes a schema in the form that [`schema`] reads.
fn written(schema: &Schema) -> String {
    fn fields(fields: &[Field]) -> String {
        let fields = fields.iter().map(|field| format!("{}: {}", field.name, one(&field.data_type, field.nullable)));
        fields.collect::<Vec<_>>().join(", ")
    }
    fn one(data_type: &DataType, nullable: bool) -> String {
        let written = match data_type {
            DataType::Primitive(primitive) => primitive.to_string(),
            DataType::Other(name) => name.clone(),
            DataType::Struct(inner) => format!("struct<{}>", fields(inner)),
            DataType::Array { element, contains_null } => format!("array<{}>", one(element, *contains_null)),
            DataType::Map { key, value, value_contains_null } => {
                format!("map<{}, {}>", one(key, true), one(value, *value_contains_null))
            }
        };
        format!("{written}{}", if nullable { "" } else { " not null" })
    }
    fields(&schema.fields)
}

fn path(text: &str) -> ColumnPath {
    ColumnPath::parse(text).unwrap()
}

/// Builds a definition from columns in JSON; a plain text is a column name.
fn definition(columns: Json, row_filter: Option<&str>) -> ViewDefinition {
    let columns = columns.as_array().unwrap().iter().map(|column| match column {
        Json::String(name) => json!({"name": name}),
        column => column.clone(),
    });
    serde_json::from_value(json!({"columns": columns.collect::<Vec<_>>(), "row_filter": row_filter})).unwrap()
}

fn plan(source: &str, columns: Json) -> ViewPlan {
    plan_of(source, &[], columns, None).unwrap()
}

fn plan_of(
    source: &str,
    partitions: &[&str],
    columns: Json,
    filter: Option<&str>,
) -> Result<ViewPlan, Vec<(String, String)>> {
    let partitions: Vec<String> = partitions.iter().map(|name| name.to_string()).collect();
    ViewPlan::new(&definition(columns, filter), &schema(source), &partitions)
        .map_err(|problems| problems.into_iter().map(|problem| (problem.field, problem.message)).collect())
}

fn value(from: &[&str], name: &str) -> Output {
    let DataType::Primitive(primitive) = data_type(&mut &*name) else { panic!() };
    let from = from.iter().map(|name| name.to_string()).collect();
    Output::Value { from, data_type: DataType::Primitive(primitive), mask: None }
}

fn field(name: &str, output: Output) -> OutputField {
    OutputField { name: name.to_owned(), output }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

const CLAIMS: &str = "claim_id: long not null, member: struct<id: string not null, address: struct<zip: string, \
                      street: string> not null>, birth: date, plan: string, diagnoses: array<struct<code: string not \
                      null, note: string>>, amounts: map<string, decimal(10,2)>, tags: array<string not null> not null";

#[test]
fn a_view_shows_what_it_names_in_its_order() {
    let plan = plan(
        CLAIMS,
        json!(["plan", {"name": "claim", "from": "claim_id"}, {"name": "zip", "from": "member.address.zip"}]),
    );
    assert_eq!(written(&plan.schema), "plan: string, claim: long not null, zip: string");
    assert_eq!(
        plan.outputs,
        [
            field("plan", value(&["plan"], "string")),
            field("claim", value(&["claim_id"], "long")),
            field("zip", value(&["member", "address", "zip"], "string")),
        ]
    );
    let needed: Vec<String> = plan.needed.iter().map(|need| need.path.to_string()).collect();
    assert_eq!(needed, ["claim_id", "member.address.zip", "plan"]);
    assert_eq!(
        written(&plan.pinned.source),
        "claim_id: long not null, member: struct<address: struct<zip: string> not null>, plan: string"
    );
}

#[test]
fn a_column_with_parts_is_shown_as_it_is_at_the_time() {
    let plan = plan(CLAIMS, json!(["member", "diagnoses", "amounts", "tags"]));
    // A non-null field below a nullable struct may be NULL when it is shown by itself.
    assert_eq!(
        written(&plan.schema),
        "member: struct<id: string, address: struct<zip: string, street: string>>, diagnoses: array<struct<code: \
         string, note: string>>, amounts: map<string, decimal(10,2)>, tags: array<string not null> not null"
    );
    let member = Output::Struct {
        fields: vec![
            field("id", value(&["member", "id"], "string")),
            field(
                "address",
                Output::Struct {
                    fields: vec![
                        field("zip", value(&["member", "address", "zip"], "string")),
                        field("street", value(&["member", "address", "street"], "string")),
                    ],
                    nulls_from: Some(names(&["member", "address"])),
                },
            ),
        ],
        nulls_from: Some(names(&["member"])),
    };
    let diagnoses = Output::List {
        from: names(&["diagnoses"]),
        element: Box::new(Output::Struct {
            fields: vec![field("code", value(&["code"], "string")), field("note", value(&["note"], "string"))],
            nulls_from: Some(vec![]),
        }),
    };
    let amounts = Output::Map {
        from: names(&["amounts"]),
        key: Box::new(value(&[], "string")),
        value: Box::new(Output::Value {
            from: vec![],
            data_type: DataType::Primitive(Primitive::Decimal { precision: 10, scale: 2 }),
            mask: None,
        }),
    };
    let tags = Output::List { from: names(&["tags"]), element: Box::new(value(&[], "string")) };
    let expected = [member, diagnoses, amounts, tags];
    for (shown, expected) in plan.outputs.iter().zip(&expected) {
        assert_eq!(shown.output, *expected, "{}", shown.name);
    }
}

#[test]
fn dotted_names_build_structs_of_whatever_they_name() {
    let plan = plan(
        "a: struct<x: long, y: long> not null, b: struct<z: long>, c: long not null",
        json!([
            {"name": "s.one", "from": "a.x"},
            {"name": "s.two", "from": "a.y"},
            {"name": "t.one", "from": "a.x"},
            {"name": "t.deep.two", "from": "b.z"},
            {"name": "t.deep.three", "from": "c"},
            {"name": "u.z", "from": "b.z"},
        ]),
    );
    assert_eq!(
        written(&plan.schema),
        "s: struct<one: long, two: long> not null, t: struct<one: long, deep: struct<two: long, three: long not null> \
         not null> not null, u: struct<z: long>"
    );
    let nulls = plan.outputs.iter().map(|field| match &field.output {
        Output::Struct { nulls_from, .. } => nulls_from.clone(),
        other => panic!("{other:?}"),
    });
    // `s` comes from `a` alone, `t` from both, `u` from `b`.
    assert_eq!(nulls.collect::<Vec<_>>(), [Some(names(&["a"])), None, Some(names(&["b"]))]);
}

#[test]
fn lists_and_maps_are_pruned_renamed_and_rebuilt_from_inside() {
    let plan = plan(
        "d: array<struct<code: string, note: string, more: array<struct<n: long, m: long>>>>, m: map<string, struct<v: long, w: long>>",
        json!([
            {"name": "codes.element", "from": "d.element.code"},
            {"name": "pairs.element.kind.code", "from": "d.element.code"},
            {"name": "pairs.element.numbers.element", "from": "d.element.more.element.n"},
            "m.key",
            {"name": "m.value.only", "from": "m.value.w"},
        ]),
    );
    assert_eq!(
        written(&plan.schema),
        "codes: array<string>, pairs: array<struct<kind: struct<code: string>, numbers: array<long>>>, m: map<string, struct<only: long>>"
    );
    let Output::List { element, .. } = &plan.outputs[1].output else { panic!() };
    let Output::Struct { fields, nulls_from } = &**element else { panic!() };
    assert_eq!(*nulls_from, Some(vec![]));
    assert_eq!(fields[1].output, Output::List { from: names(&["more"]), element: Box::new(value(&["n"], "long")) });
}

#[test]
fn fields_that_are_called_like_steps_are_told_apart() {
    let shapes = [
        ("a: array<struct<element: long>>", "a: array<struct<element: long>>"),
        ("a: struct<element: array<long>>", "a: struct<element: array<long>>"),
        ("a: struct<key: map<string, struct<value: long>>>", "a: struct<key: map<string, struct<value: long>>>"),
    ];
    for (source, expected) in shapes {
        let source = schema(source);
        let leaves: Vec<String> = source.leaves().iter().map(|(path, _)| path.to_string()).collect();
        for columns in [json!(["a"]), json!(leaves)] {
            let plan = ViewPlan::new(&definition(columns, None), &source, &[]).unwrap();
            assert_eq!(written(&plan.schema), expected);
            assert!(plan.is_identity_over(&source, &[]));
        }
    }
}

#[test]
fn masks_set_types_and_nullability_and_reach_into_lists() {
    let plan = plan(
        CLAIMS,
        json!([
            {"name": "claim_id", "mask": {"hash": {"domain": "claim"}}},
            {"name": "birth", "mask": "year_only"},
            {"name": "plan", "mask": "redact"},
            {"name": "member", "mask": "null"},
            {"name": "tags", "mask": {"partial": {"first": 1}}},
            {"name": "diagnoses.element.code", "mask": "null"},
            {"name": "diagnoses.element.note", "mask": {"redact": {"keep_nulls": true}}},
            "amounts.key",
            {"name": "amounts.value", "mask": {"constant": {"value": "0.00"}}},
        ]),
    );
    assert_eq!(
        written(&plan.schema),
        "claim_id: string not null, birth: integer, plan: string not null, member: struct<id: string not null, address: \
         struct<zip: string, street: string> not null>, tags: array<string not null> not null, diagnoses: \
         array<struct<code: string, note: string>>, amounts: map<string, decimal(10,2) not null>"
    );
    assert_eq!(plan.needed.iter().filter(|need| need.path.0[0] == "member").count(), 3);
    let masks: Vec<_> = plan
        .shown()
        .into_iter()
        .map(|shown| (shown.from.to_string(), shown.data_type.to_string(), shown.mask.is_some()))
        .collect();
    assert!(masks.contains(&("diagnoses.element.note".into(), "string".into(), true)), "{masks:?}");
    assert!(masks.contains(&("tags.element".into(), "string".into(), true)), "{masks:?}");
    assert!(masks.contains(&("birth".into(), "integer".into(), true)), "{masks:?}");
}

#[test]
fn only_the_views_comments_are_shown() {
    let mut source = schema("a: long, s: struct<x: long>");
    for field in &mut source.fields {
        field.metadata.insert("comment".into(), json!("internal"));
        field.metadata.insert("delta.generationExpression".into(), json!("b + 1"));
    }
    if let DataType::Struct(fields) = &mut source.fields[1].data_type {
        fields[0].metadata.insert("comment".into(), json!("internal"));
    }
    let columns = json!([{"name": "a", "comment": "shown"}, {"name": "s", "comment": "too"}, {"name": "n", "from": "s", "mask": "null"}]);
    let plan = ViewPlan::new(&definition(columns, None), &source, &[]).unwrap();
    assert_eq!(
        plan.schema.schema_string(),
        r#"{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{"comment":"shown"}},{"name":"s","type":{"type":"struct","fields":[{"name":"x","type":"long","nullable":true,"metadata":{}}]},"nullable":true,"metadata":{"comment":"too"}},{"name":"n","type":{"type":"struct","fields":[{"name":"x","type":"long","nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}}]}"#
    );
    assert!(!plan.pinned.source.schema_string().contains("internal"));
}

#[test]
fn partition_columns_stay_unless_masked_nested_or_alone() {
    let of = |columns| plan_of("p: string, q: date, a: long", &["p", "q"], columns, None).unwrap().partition_columns;
    assert_eq!(of(json!(["a", "q", "p"])), ["q", "p"]);
    assert_eq!(of(json!(["a", {"name": "plan", "from": "p"}])), ["plan"]);
    assert_eq!(of(json!(["a", {"name": "p", "mask": "redact"}, {"name": "s.q", "from": "q"}])), Vec::<String>::new());
    assert_eq!(of(json!(["p", "q"])), ["p"]);
    assert_eq!(of(json!(["p"])), Vec::<String>::new());
    let plan = plan_of("p: string, q: date, a: long", &["p", "q"], json!(["a"]), Some("p = 'x'")).unwrap();
    assert_eq!(plan.pinned.partition_columns, ["p"]);
    assert!(plan.needed.iter().find(|need| need.path == path("p")).unwrap().is_partition);
}

#[test]
fn everything_wrong_is_told_with_its_place() {
    let one = |columns: Json| plan_of(CLAIMS, &[], columns, None).unwrap_err();
    for (columns, place, part) in [
        (json!([]), "columns", "1 to 2000"),
        (json!(["claim"]), "columns[0].name", "there is no `claim`"),
        (json!(["Claim_ID"]), "columns[0].name", "but `claim_id`"),
        (json!([{"name": "a", "from": "member.ID"}]), "columns[0].from", "but `member.id`"),
        (json!([{"name": "a", "from": "plan.x"}]), "columns[0].from", "`plan` is of type string"),
        (json!([{"name": "a", "from": "tags.x"}]), "columns[0].from", "write `element`"),
        (json!(["plan", "plan"]), "columns[1].name", "columns[0] is called `plan` too"),
        (json!(["plan", {"name": "Plan", "from": "birth"}]), "columns[1].name", "only by case"),
        (json!([{"name": "s.a", "from": "plan"}, {"name": "S.b", "from": "birth"}]), "columns[1].name", "only by case"),
        (
            json!([{"name": "s.\u{e9}", "from": "plan"}, {"name": "s.E\u{301}", "from": "birth"}]),
            "columns[1].name",
            "by case",
        ),
        (json!(["member", {"name": "member.plan", "from": "plan"}]), "columns[1].name", "columns[0] shows as a whole"),
        (json!([{"name": "member.plan", "from": "plan"}, "member"]), "columns[0].name", "columns[1] shows as a whole"),
        (json!([{"name": "code", "from": "diagnoses.element.code"}]), "columns[0].name", "has `element` in it"),
        (
            json!(["diagnoses.element.code", {"name": "diagnoses.element.tag", "from": "tags.element"}]),
            "columns[1].name",
            "made of `diagnoses`",
        ),
        (
            json!([{"name": "x.element", "from": "tags.element"}, {"name": "x.plan", "from": "plan"}]),
            "columns[1].name",
            "one of a struct, a list and a map",
        ),
        (json!(["amounts.value"]), "columns[0].name", "both its `key` and its `value`"),
        (json!(["amounts.key"]), "columns[0].name", "both its `key` and its `value`"),
        (json!([{"name": "amounts.key", "mask": "redact"}, "amounts.value"]), "columns[0].mask", "keys"),
        (json!([{"name": "plan", "mask": "year_only"}]), "columns[0].mask", "dates"),
        (json!([{"name": "member", "mask": "redact"}]), "columns[0].mask", "name its parts"),
        (json!([{"name": "diagnoses", "mask": "redact"}]), "columns[0].mask", "name its parts"),
        (json!([{"name": "my plan", "from": "plan"}]), "columns[0].name", "no blanks"),
        (json!([{"name": "a=b", "from": "plan"}]), "columns[0].name", "give it another"),
        (json!([{"name": "tags.element", "comment": "x"}]), "columns[0].comment", "no comment of their own"),
        (json!([{"name": "plan", "comment": "x".repeat(4_001)}]), "columns[0].comment", "4000"),
        (json!([{"name": "x".repeat(256), "from": "plan"}]), "columns[0].name", "255"),
    ] {
        let problems = one(columns.clone());
        assert!(
            problems.iter().any(|(field, message)| field == place && message.contains(part)),
            "{columns}: {problems:?}"
        );
    }
    let both = plan_of(CLAIMS, &[], json!(["x", {"name": "y", "from": "z"}]), Some("rand() < 0.5")).unwrap_err();
    let places: Vec<&str> = both.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(places, ["row_filter", "columns[0].name", "columns[1].from"]);
}

#[test]
fn types_that_views_do_not_know_are_refused_by_name_but_may_be_there() {
    let source = "a: long, v: variant, s: struct<x: long, v: variant>";
    assert_eq!(written(&plan(source, json!(["a", "s.x"])).schema), "a: long, s: struct<x: long>");
    for column in [
        json!("v"),
        json!("s"),
        json!({"name": "v", "mask": "null"}),
        json!({"name": "s", "mask": "null"}),
        json!({"name": "v", "mask": "redact"}),
    ] {
        let problems = plan_of(source, &[], json!([column]), None).unwrap_err();
        assert!(problems[0].1.contains("variant"), "{problems:?}");
    }
    let mut blank = schema("s: struct<x: long>");
    if let DataType::Struct(fields) = &mut blank.fields[0].data_type {
        fields[0].name = "a b".into();
    }
    for column in [json!("s"), json!({"name": "s", "mask": "null"})] {
        let problems = ViewPlan::new(&definition(json!([column]), None), &blank, &[]).unwrap_err();
        assert!(problems[0].field == "columns[0].name" && problems[0].message.contains("no blanks"), "{problems:?}");
    }
    let mut empty = schema("a: long");
    empty.fields.push(Field {
        name: "e".into(),
        data_type: DataType::Struct(vec![]),
        nullable: true,
        metadata: Default::default(),
    });
    assert!(
        ViewPlan::new(&definition(json!(["e"]), None), &empty, &[]).unwrap_err()[0].message.contains("without fields")
    );
    assert!(!ViewPlan::new(&definition(json!(["a"]), None), &empty, &[]).unwrap().is_identity_over(&empty, &[]));
}

#[test]
fn a_source_with_two_names_that_readers_confuse_is_refused_where_it_matters() {
    let source = "ssn: string, SSN: string, a: long, s: struct<x: long, X: long, y: long>";
    assert_eq!(written(&plan(source, json!(["a", "s.y"])).schema), "a: long, s: struct<y: long>");
    for column in ["ssn", "SSN", "s.x", "s"] {
        let problems = plan_of(source, &[], json!([column]), None).unwrap_err();
        assert!(problems[0].1.contains("only by case"), "{column}: {problems:?}");
    }
    let problems = plan_of(source, &[], json!(["a"]), Some("ssn = '1'")).unwrap_err();
    assert_eq!(problems[0].0, "row_filter");
    let hidden = json!([{"name": "s", "mask": "null"}]);
    assert!(plan_of(source, &[], hidden, None).unwrap_err()[0].1.contains("`s.X` only by case"));
    let plan = plan("a: long, b: long", json!(["a"]));
    assert!(plan.misfits(&schema("a: long, A: long"), &[])[0].contains("only by case"));
    assert!(plan.misfits(&schema("a: long, b: long, B: long"), &[]).is_empty());
}

#[test]
fn bounds_hold() {
    let wide: Vec<String> = (0..2_001).map(|at| format!("c{at}: long")).collect();
    let columns: Vec<String> = (0..2_001).map(|at| format!("c{at}")).collect();
    let problems = plan_of(&wide.join(", "), &[], json!(columns), None).unwrap_err();
    assert_eq!(problems[0].0, "columns");
    let fields: Vec<String> = (0..6_000).map(|at| format!("f{at}: long")).collect();
    let source = format!("s: struct<{}>", fields.join(", "));
    let twice = json!([{"name": "one", "from": "s"}, {"name": "two", "from": "s"}]);
    assert!(plan_of(&source, &[], twice, None).unwrap_err()[0].1.contains("10000"));
    let hidden = json!([{"name": "s", "mask": "null"}]);
    assert!(plan_of(&format!("{source}, t: long"), &[], hidden, None).is_ok());
    let wider: Vec<String> = (0..10_001).map(|at| format!("f{at}: long")).collect();
    let hidden = json!([{"name": "s", "mask": "null"}]);
    let problems = plan_of(&format!("s: struct<{}>", wider.join(", ")), &[], hidden, None).unwrap_err();
    assert!(problems[0].1.contains("10000"));
    let unknown: Vec<Json> = (0..500).map(|at| json!(format!("x{at}"))).collect();
    assert_eq!(plan_of("a: long", &[], json!(unknown), None).unwrap_err().len(), 50);
    let deep = vec!["a"; 40].join(".");
    let column = ViewColumn { name: ColumnPath(vec!["a".into(); 40]), from: path("a"), mask: None, comment: None };
    let definition = ViewDefinition { columns: vec![column], row_filter: None, layout: None };
    assert!(ViewPlan::new(&definition, &schema("a: long"), &[]).unwrap_err()[0].message.contains("32 parts"));
    assert!(ColumnPath::parse(&deep).is_err());
}

#[test]
fn a_later_schema_fits_as_long_as_what_is_read_stays() {
    let columns = json!(["claim_id", "member", "diagnoses.element.code", "plan"]);
    let plan = plan_of(CLAIMS, &["plan"], columns, Some("birth IS NOT NULL")).unwrap();
    let misfits = |from: &str, to: &str, partitions: &[&str]| {
        let changed = CLAIMS.replace(from, to);
        assert!(from.is_empty() || changed != CLAIMS, "{from}");
        plan.misfits(&schema(&changed), &names(partitions))
    };
    assert_eq!(misfits("", "", &["plan"]), Vec::<String>::new());
    for (from, to) in [
        ("zip: string", "zip: string, city: string"),
        ("birth: date", "born: long, birth: date"),
        (", tags: array<string not null> not null", ""),
        ("note: string", "note: long"),
        ("plan: string", "plan: string not null"),
        ("amounts: map<string, decimal(10,2)>", "amounts: long"),
    ] {
        assert_eq!(misfits(from, to, &["plan"]), Vec::<String>::new(), "{to}");
    }
    for (from, to, part) in [
        ("birth: date", "born: date", "`birth` is gone"),
        ("claim_id: long", "claim_id: string", "`claim_id` was long and is string"),
        ("zip: string", "zap: string", "`member.address.zip` is gone"),
        (
            "diagnoses: array<struct<code: string not null, note: string>>",
            "diagnoses: struct<code: string>",
            "`diagnoses.element.code` is gone",
        ),
        ("claim_id: long not null", "claim_id: long", "`claim_id` may now be NULL"),
    ] {
        let misfits = misfits(from, to, &["plan"]);
        assert!(misfits.iter().any(|misfit| misfit.contains(part)), "{to}: {misfits:?}");
    }
    assert_eq!(misfits("", "", &[]), ["the table is no longer partitioned by `plan`"]);
    assert_eq!(misfits("", "", &["plan", "birth"]), ["the table is now partitioned by `birth`"]);
    assert_eq!(misfits("", "", &["plan", "tags"]), Vec::<String>::new());
    let list = plan_of("d: array<struct<x: long> not null>", &[], json!(["d"]), None).unwrap();
    assert_eq!(list.misfits(&schema("d: array<struct<x: long>>"), &[]), ["`d` may now be NULL where it could not"]);
    // A column that only the filter reads, or whose NULLs readers never see, may become nullable.
    let masked = plan_of("a: long not null", &[], json!([{"name": "a", "mask": "redact"}]), Some("a > 1")).unwrap();
    assert!(masked.misfits(&schema("a: long"), &[]).is_empty());
}

#[test]
fn another_column_under_the_same_name_does_not_fit() {
    let mapped = |physical: [&str; 2]| {
        let mut source = schema("notes: string, s: struct<x: string>");
        let mark = |field: &mut Field, name: &str| {
            field.metadata.insert(PHYSICAL_NAME.into(), json!(name));
        };
        mark(&mut source.fields[0], physical[0]);
        if let DataType::Struct(fields) = &mut source.fields[1].data_type {
            mark(&mut fields[0], physical[1]);
        }
        source
    };
    let definition = definition(json!(["notes", "s"]), None);
    let plan = ViewPlan::new(&definition, &mapped(["col-1", "col-2"]), &[]).unwrap();
    assert!(plan.misfits(&mapped(["col-1", "col-2"]), &[]).is_empty());
    assert!(plan.misfits(&mapped(["col-3", "col-2"]), &[])[0].starts_with("`notes` is another column"));
    assert!(plan.misfits(&mapped(["col-1", "col-3"]), &[])[0].starts_with("`s.x` is another column"));
    assert!(plan.misfits(&schema("notes: string, s: struct<x: string>"), &[])[0].contains("another column"));
    // Older versions with another column are not read either; older versions without the column are.
    assert!(plan.reads(&mapped(["col-1", "col-2"]), &[]));
    assert!(!plan.reads(&mapped(["col-3", "col-2"]), &[]));
    assert!(!plan.reads(&mapped(["col-1", "col-3"]), &[]));
    let younger = |columns: &[usize]| {
        let fields = mapped(["col-1", "col-2"]).fields;
        Schema { fields: columns.iter().map(|at| fields[*at].clone()).collect() }
    };
    assert!(plan.reads(&younger(&[0]), &[]) && plan.reads(&younger(&[1]), &[]) && plan.reads(&younger(&[]), &[]));
    let mut other = mapped(["col-1", "col-2"]);
    other.fields[1].metadata.insert(PHYSICAL_NAME.into(), json!("col-4"));
    other.fields[1].data_type = DataType::Struct(Vec::new());
    assert!(!plan.reads(&other, &[]), "its NULLs would be another struct's");
    // Switching column mapping on keeps the names that files use.
    let plan = ViewPlan::new(&definition, &schema("notes: string, s: struct<x: string>"), &[]).unwrap();
    assert!(plan.misfits(&mapped(["notes", "x"]), &[]).is_empty());
    assert!(!plan.misfits(&mapped(["ssn", "x"]), &[]).is_empty());
}

#[test]
fn what_an_older_schema_lacks_is_read_as_it_was_pinned() {
    let source = "a: string, s: struct<x: string, y: long>, l: array<struct<z: long>>";
    let plan = plan_of(source, &[], json!(["a", "s.x", "l.element.z"]), None).unwrap();
    for (from, to) in [
        ("", ""),
        (", y: long", ""),
        ("a: string", "new: long, a: string"),
        ("a: string, ", ""),
        ("x: string, ", ""),
        ("s: struct<x: string, y: long>, ", ""),
        ("z: long", "w: long"),
    ] {
        let other = schema(&source.replace(from, to));
        assert!(plan.reads(&other, &[]), "{to}");
        let completed = plan.completed(&other);
        assert!(plan.misfits(&completed, &[]).is_empty(), "{to}");
        assert!(other.leaves().iter().all(|leaf| completed.leaves().contains(leaf)), "{to}");
    }
}

#[test]
fn what_may_not_be_null_has_to_be_there() {
    let plan = plan_of("a: long not null, b: struct<c: long not null>", &[], json!(["a", "b.c"]), None).unwrap();
    assert!(plan.reads(&schema("a: long not null"), &[]));
    assert!(!plan.reads(&schema("b: struct<c: long not null>"), &[]));
    assert!(!plan.reads(&schema("a: long not null, b: struct<d: long>"), &[]));
}

#[test]
fn a_pinned_view_comes_to_the_same_plan_from_its_json() {
    let columns = json!([{"name": "m", "from": "member", "comment": "who"}, {"name": "birth", "mask": {"year_only": {"cap_age": 89}}}, "diagnoses", "plan"]);
    let plan = plan_of(CLAIMS, &["plan"], columns, Some("claim_id > 7 AND plan IN recipient_list('plans')")).unwrap();
    let kept = serde_json::to_string(&plan.pinned).unwrap();
    assert_eq!(
        kept,
        r#"{"definition":{"columns":[{"name":"m","from":"member","comment":"who"},{"name":"birth","mask":{"year_only":{"cap_age":89}}},{"name":"diagnoses"},{"name":"plan"}],"row_filter":"claim_id > 7 AND plan IN recipient_list('plans')"},"source":{"type":"struct","fields":[{"name":"claim_id","type":"long","nullable":false,"metadata":{}},{"name":"member","type":{"type":"struct","fields":[{"name":"id","type":"string","nullable":false,"metadata":{}},{"name":"address","type":{"type":"struct","fields":[{"name":"zip","type":"string","nullable":true,"metadata":{}},{"name":"street","type":"string","nullable":true,"metadata":{}}]},"nullable":false,"metadata":{}}]},"nullable":true,"metadata":{}},{"name":"birth","type":"date","nullable":true,"metadata":{}},{"name":"plan","type":"string","nullable":true,"metadata":{}},{"name":"diagnoses","type":{"type":"array","elementType":{"type":"struct","fields":[{"name":"code","type":"string","nullable":false,"metadata":{}},{"name":"note","type":"string","nullable":true,"metadata":{}}]},"containsNull":true},"nullable":true,"metadata":{}}]},"partition_columns":["plan"]}"#
    );
    let again: PinnedView = serde_json::from_str(&kept).unwrap();
    assert_eq!(again.plan().unwrap(), plan);
    assert!(serde_json::from_str::<PinnedView>(&kept.replace("\"row_filter\"", "\"rows\"")).is_err());
}

#[test]
fn references_say_what_bytes_depend_on() {
    let of = |columns, filter| plan_of(CLAIMS, &[], columns, filter).unwrap().references();
    assert_eq!(of(json!(["plan"]), Some("plan = 'x'")), References::default());
    let references = of(
        json!([
            {"name": "member.id", "mask": {"hash": {"domain": "m"}}},
            {"name": "tags", "mask": {"hash": {"domain": "t", "per": "global"}}},
            {"name": "birth", "mask": {"year_only": {"cap_age": 89}}},
        ]),
        Some("plan IN recipient_list('plans') OR plan = recipient('plan')"),
    );
    assert_eq!(references.properties.iter().collect::<Vec<_>>(), ["plan", "plans"]);
    assert_eq!(references.scopes.into_iter().collect::<Vec<_>>(), [Scope::Recipient, Scope::Global]);
    assert_eq!(references.today, Today::Year);
    let capped = json!([{"name": "birth", "mask": {"year_only": {"cap_age": 89}}}]);
    assert_eq!(of(capped, Some("birth < today()")).today, Today::Day);
}

#[test]
fn only_the_whole_table_as_it_is_may_pass_through() {
    let source = schema("p: string, a: long, s: struct<x: long, y: array<long>>");
    let identity = |columns: Json, source: &Schema, partitions: &[&str]| {
        let partitions = names(partitions);
        ViewPlan::new(&definition(columns, None), source, &partitions).unwrap().is_identity_over(source, &partitions)
    };
    assert!(identity(json!(["p", "a", "s"]), &source, &["p"]));
    assert!(identity(json!(["s.y", "a", "s.x", "p"]), &source, &["p"]));
    for columns in [
        json!(["p", "a", "s.x"]),
        json!(["p", "a"]),
        json!([{"name": "p", "mask": "redact"}, "a", "s"]),
        json!(["p", {"name": "b", "from": "a"}, "s"]),
        json!(["p", "a", "s", {"name": "b", "from": "a"}]),
        json!([{"name": "a", "from": "p"}, {"name": "p", "from": "a"}, "s"]),
    ] {
        assert!(!identity(columns.clone(), &source, &["p"]), "{columns}");
    }
    let mut mapped = source.clone();
    mapped.fields[1].metadata.insert("delta.columnMapping.id".into(), json!(1));
    assert!(!identity(json!(["p", "a", "s"]), &mapped, &["p"]));
    let plan = ViewPlan::new(&definition(json!(["p", "a", "s"]), None), &source, &names(&["p"])).unwrap();
    assert!(
        !plan.is_identity_over(
            &schema("p: string, a: long, s: struct<x: long, y: array<long>>, b: long"),
            &names(&["p"])
        )
    );
    assert!(!plan.is_identity_over(&source, &names(&["p", "a"])));
}

#[test]
fn changes_say_what_readers_newly_see() {
    let before = plan_of(CLAIMS, &[], json!(["claim_id", "plan", {"name": "zip", "from": "member.address.zip", "mask": "zip3"}, {"name": "birth", "mask": "year_only"}, "tags"]), Some("plan = 'x'")).unwrap();
    let columns = json!([
        {"name": "claim_id", "mask": {"hash": {"domain": "c"}}},
        {"name": "plan", "comment": "only a comment"},
        {"name": "zip", "from": "member.address.zip"},
        {"name": "birth", "mask": {"year_only": {"cap_age": 89}}},
        "diagnoses",
    ]);
    let after = plan_of(CLAIMS, &[], columns.clone(), None).unwrap();
    let told = |changes: Vec<Change>| -> Vec<(String, ColumnEffect)> {
        let told = changes.into_iter().map(|change| match change {
            Change::Column { name, effect, .. } => (name.to_string(), effect),
            Change::Filter { effect, .. } => ("row_filter".to_owned(), effect),
            Change::Layout { effect, .. } => ("layout".to_owned(), effect),
        });
        told.collect()
    };
    let expected = [
        ("claim_id", ColumnEffect::Hides),
        ("zip", ColumnEffect::Discloses),
        ("birth", ColumnEffect::Changes),
        ("diagnoses.element.code", ColumnEffect::Discloses),
        ("diagnoses.element.note", ColumnEffect::Discloses),
        ("tags.element", ColumnEffect::Hides),
        ("row_filter", ColumnEffect::Discloses),
    ];
    assert_eq!(told(changes(&before, &after, &[])), expected.map(|(name, effect)| (name.to_owned(), effect)));
    assert!(told(changes(&after, &after, &[])).is_empty());
    let filtered = |filter| plan_of(CLAIMS, &[], columns.clone(), Some(filter)).unwrap();
    assert_eq!(told(changes(&after, &filtered("plan = 'x'"), &[])), [("row_filter".to_owned(), ColumnEffect::Hides)]);
    assert_eq!(
        told(changes(&filtered("plan = 'x'"), &filtered("plan = 'y'"), &[])),
        [("row_filter".to_owned(), ColumnEffect::Changes)]
    );
    assert!(told(changes(&filtered("plan = 'x'"), &filtered("  plan\n= 'x'"), &[])).is_empty());
    let laid_out = |layout| {
        let mut plan = filtered("plan = 'x'");
        plan.pinned.layout = Some(layout);
        plan
    };
    let (source, mixed) = (laid_out(Layout::Source), laid_out(Layout::Mixed));
    let layout = |effect| [("layout".to_owned(), effect)];
    assert_eq!(told(changes(&source, &mixed, &[])), layout(ColumnEffect::Hides));
    assert_eq!(told(changes(&mixed, &source, &[])), layout(ColumnEffect::Discloses));
    // A hidden partition column that was not acknowledged forces the mixed layout already, so nothing changes.
    assert!(told(changes(&source, &mixed, &names(&["birth"]))).is_empty());
}

// Tests the meaning of plans over rows as JSON: structs are objects, maps are lists of `{"key", "value"}`.

fn at<'a>(mut value: &'a Json, path: &[String]) -> &'a Json {
    for name in path {
        value = value.get(name).unwrap_or(&Json::Null);
    }
    value
}

fn made(output: &Output, context: &Json) -> Json {
    match output {
        Output::Value { from, mask: None, .. } => at(context, from).clone(),
        Output::Value { mask: Some(Mask::Null), .. } => Json::Null,
        Output::Value { from, mask: Some(Mask::Redact { keep_nulls: true }), .. } if at(context, from).is_null() => {
            Json::Null
        }
        Output::Value { mask: Some(_), .. } => json!("REDACTED"),
        Output::Struct { nulls_from: Some(path), .. } if at(context, path).is_null() => Json::Null,
        Output::Struct { fields, .. } => {
            Json::Object(fields.iter().map(|field| (field.name.clone(), made(&field.output, context))).collect())
        }
        Output::List { from, element } => match at(context, from) {
            Json::Array(elements) => elements.iter().map(|own| made(element, own)).collect(),
            _ => Json::Null,
        },
        Output::Map { from, key, value } => match at(context, from) {
            Json::Array(entries) => entries
                .iter()
                .map(|own| json!({"key": made(key, &own["key"]), "value": made(value, &own["value"])}))
                .collect(),
            _ => Json::Null,
        },
    }
}

fn row(plan: &ViewPlan, row: &Json) -> Json {
    Json::Object(plan.outputs.iter().map(|field| (field.name.clone(), made(&field.output, row))).collect())
}

/// Whether `value` has the type `data_type`, with NULL only where it is allowed and no fields beyond the type's.
fn conforms(value: &Json, data_type: &DataType, nullable: bool) -> bool {
    match (value, data_type) {
        (Json::Null, _) => nullable,
        (Json::String(_), DataType::Primitive(_)) => true,
        (Json::Object(parts), DataType::Struct(fields)) => {
            parts.len() == fields.len()
                && fields.iter().all(|field| {
                    parts.get(&field.name).is_some_and(|own| conforms(own, &field.data_type, field.nullable))
                })
        }
        (Json::Array(elements), DataType::Array { element, contains_null }) => {
            elements.iter().all(|own| conforms(own, element, *contains_null))
        }
        (Json::Array(entries), DataType::Map { key, value, value_contains_null }) => entries
            .iter()
            .all(|entry| conforms(&entry["key"], key, false) && conforms(&entry["value"], value, *value_contains_null)),
        _ => false,
    }
}

/// Makes a value of a type in which every leaf says its path; `coins` decide which nullable parts are NULL.
fn sample(data_type: &DataType, nullable: bool, path: &str, coins: &mut impl Iterator<Item = bool>) -> Json {
    if nullable && coins.next().unwrap() {
        return Json::Null;
    }
    match data_type {
        DataType::Primitive(_) | DataType::Other(_) => json!(format!("<{path}>")),
        DataType::Struct(fields) => Json::Object(sample_fields(fields, path, coins)),
        DataType::Array { element, contains_null } => {
            (0..2).map(|_| sample(element, *contains_null, &format!("{path}.element"), coins)).collect()
        }
        DataType::Map { key, value, value_contains_null } => {
            let mut entry = || {
                json!({
                    "key": sample(key, false, &format!("{path}.key"), coins),
                    "value": sample(value, *value_contains_null, &format!("{path}.value"), coins),
                })
            };
            Json::Array(vec![entry(), entry()])
        }
    }
}

fn sample_fields(
    fields: &[Field],
    path: &str,
    coins: &mut impl Iterator<Item = bool>,
) -> serde_json::Map<String, Json> {
    let mut parts = serde_json::Map::new();
    for field in fields {
        let below = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        parts.insert(field.name.clone(), sample(&field.data_type, field.nullable, &below, coins));
    }
    parts
}

/// Cuts a value down to the leaves with the chosen paths.
fn cut(value: &Json, data_type: &DataType, path: &str, chosen: &BTreeSet<String>) -> Json {
    let is_shown = |path: &str| chosen.iter().any(|own| own == path || own.starts_with(&format!("{path}.")));
    match (value, data_type) {
        (Json::Object(parts), DataType::Struct(fields)) => {
            let mut kept = serde_json::Map::new();
            for field in fields {
                let below = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                if is_shown(&below) {
                    kept.insert(field.name.clone(), cut(&parts[&field.name], &field.data_type, &below, chosen));
                }
            }
            Json::Object(kept)
        }
        (Json::Array(elements), DataType::Array { element, .. }) => {
            elements.iter().map(|own| cut(own, element, &format!("{path}.element"), chosen)).collect()
        }
        (Json::Array(entries), DataType::Map { key, value, .. }) => {
            let entry = |own: &Json| {
                json!({
                    "key": cut(&own["key"], key, &format!("{path}.key"), chosen),
                    "value": cut(&own["value"], value, &format!("{path}.value"), chosen),
                })
            };
            entries.iter().map(entry).collect()
        }
        _ => value.clone(),
    }
}

fn any_type() -> impl Strategy<Value = DataType> {
    let leaf = Just(DataType::Primitive(Primitive::String));
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            any_fields(inner.clone()).prop_map(DataType::Struct),
            (inner.clone(), any::<bool>())
                .prop_map(|(element, contains_null)| DataType::Array { element: Box::new(element), contains_null }),
            (inner.clone(), inner, any::<bool>()).prop_map(|(key, value, value_contains_null)| DataType::Map {
                key: Box::new(key),
                value: Box::new(value),
                value_contains_null
            }),
        ]
    })
}

fn any_fields(inner: impl Strategy<Value = DataType>) -> impl Strategy<Value = Vec<Field>> {
    let names = prop::sample::subsequence(vec!["a", "b", "element", "key", "value", "zz"], 1..=4);
    (names, prop::collection::vec((inner, any::<bool>()), 4)).prop_map(|(names, types)| {
        let fields = names.iter().zip(types);
        fields
            .map(|(name, (data_type, nullable))| Field {
                name: name.to_string(),
                data_type,
                nullable,
                metadata: Default::default(),
            })
            .collect()
    })
}

fn any_schema() -> impl Strategy<Value = Schema> {
    any_fields(any_type()).prop_map(|fields| Schema { fields })
}

/// Adds a new column to a schema, and a new field to every struct except those of keys.
fn grown(fields: &[Field]) -> Vec<Field> {
    fn below(data_type: &DataType) -> DataType {
        match data_type {
            DataType::Primitive(_) | DataType::Other(_) => data_type.clone(),
            DataType::Struct(fields) => DataType::Struct(grown(fields)),
            DataType::Array { element, contains_null } => {
                DataType::Array { element: Box::new(below(element)), contains_null: *contains_null }
            }
            DataType::Map { key, value, value_contains_null } => DataType::Map {
                key: key.clone(),
                value: Box::new(below(value)),
                value_contains_null: *value_contains_null,
            },
        }
    }
    let mut grown: Vec<Field> =
        fields.iter().map(|field| Field { data_type: below(&field.data_type), ..field.clone() }).collect();
    grown.insert(0, schema("new: string").fields.remove(0));
    grown
}

/// Chooses some leaves of a schema, and all keys of every map that has a chosen value.
fn chosen(source: &Schema, coins: &[bool]) -> BTreeSet<String> {
    let leaves: Vec<String> = source.leaves().iter().map(|(path, _)| path.to_string()).collect();
    let mut chosen: BTreeSet<String> =
        leaves.iter().zip(coins.iter().cycle()).filter(|(_, coin)| **coin).map(|(leaf, _)| leaf.clone()).collect();
    loop {
        let mut missing = BTreeSet::new();
        for leaf in &chosen {
            let path = path(leaf);
            let found = source.lookup(&path).unwrap();
            for (end, step) in found.steps.iter().enumerate() {
                let part = |name: &str| ColumnPath(path.0[..end].to_vec()).join(name).to_string();
                let whole = match step {
                    Step::Value { .. } => vec![part(KEY)],
                    // A map needs both its key and its value.
                    Step::Key => vec![part(KEY), part(VALUE)],
                    _ => vec![],
                };
                for whole in whole {
                    let below: Vec<&String> = leaves
                        .iter()
                        .filter(|leaf| **leaf == whole || leaf.starts_with(&format!("{whole}.")))
                        .collect();
                    let is_key = whole.ends_with(KEY);
                    if is_key {
                        missing.extend(below.into_iter().cloned());
                    } else if !below.iter().any(|leaf| chosen.contains(*leaf)) {
                        missing.extend(below.into_iter().take(1).cloned());
                    }
                }
            }
        }
        let before = chosen.len();
        chosen.extend(missing);
        if chosen.len() == before {
            return chosen;
        }
    }
}

#[test]
fn partition_columns_are_hidden_unless_they_are_shown_as_they_are() {
    let source = "id: long, region: string, zip: string, born: date";
    let partitions = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let hidden = |columns: Json, by: &[&str]| {
        let plan = plan_of(source, by, columns, None).unwrap();
        plan.hidden_partitions(&partitions(by)).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(hidden(json!(["id"]), &[]), partitions(&[]));
    assert_eq!(hidden(json!(["id"]), &["region"]), ["region"]);
    assert_eq!(hidden(json!(["id", "region"]), &["region"]), partitions(&[]));
    assert_eq!(hidden(json!(["id", {"name": "area", "from": "region"}]), &["region"]), partitions(&[]));
    assert_eq!(hidden(json!(["id", {"name": "at.region", "from": "region"}]), &["region"]), partitions(&[]));
    for (column, mask) in [
        ("region", json!("redact")),
        ("region", json!("null")),
        ("region", json!({"hash": {"domain": "d"}})),
        ("zip", json!("zip3")),
        ("born", json!({"year_only": {"cap_age": 89}})),
        ("born", json!({"date_trunc": {"unit": "month"}})),
    ] {
        let shown = json!(["id", {"name": column, "mask": mask}]);
        assert_eq!(hidden(shown, &[column]), [column], "{mask}");
    }
    assert_eq!(hidden(json!(["id", "region"]), &["zip", "region", "born"]), ["born", "zip"]);
}

#[test]
fn the_sources_layout_is_served_as_long_as_it_tells_no_more_than_was_acknowledged() {
    let by = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let mut plan = plan_of("id: long, region: string, zip: string", &["region"], json!(["id"]), None).unwrap();
    assert_eq!(
        (plan.default_layout(&by(&["region"])), plan.default_layout(&by(&["id"]))),
        (Layout::Mixed, Layout::Source)
    );
    let kept = |plan: &ViewPlan| serde_json::to_string(&plan.pinned).unwrap();
    // A version from before layouts existed.
    assert!(!kept(&plan).contains("layout") && !kept(&plan).contains("acknowledged"));
    assert_eq!((plan.layout_over(&by(&["region", "zip"])), layout_of(&kept(&plan))), (Layout::Source, Layout::Source));
    plan.pinned.layout = Some(Layout::Source);
    plan.pinned.acknowledged = by(&["region"]).into_iter().collect();
    for (partitions, layout) in [
        (&[][..], Layout::Source),
        (&["id"], Layout::Source),
        (&["region"], Layout::Source),
        (&["zip"], Layout::Mixed),
        (&["region", "zip"], Layout::Mixed),
    ] {
        let again = serde_json::from_str::<PinnedView>(&kept(&plan)).unwrap().plan().unwrap();
        assert_eq!(again.layout_over(&by(partitions)), layout, "{partitions:?}");
    }
    plan.pinned.layout = Some(Layout::Mixed);
    assert_eq!((plan.layout_over(&[]), layout_of(&kept(&plan))), (Layout::Mixed, Layout::Mixed));
}

proptest! {
    #[test]
    fn a_view_shows_the_leaves_it_names_and_no_other(
        source in any_schema(),
        choice in prop::collection::vec(any::<bool>(), 1..12),
        coins in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let chosen = chosen(&source, &choice);
        prop_assume!(!chosen.is_empty());
        let definition = definition(json!(chosen.iter().collect::<Vec<_>>()), None);
        let plan = ViewPlan::new(&definition, &source, &[]).unwrap();
        let needed: BTreeSet<String> = plan.needed.iter().map(|need| need.path.to_string()).collect();
        prop_assert_eq!(&needed, &chosen);
        let own = Json::Object(sample_fields(&source.fields, "", &mut coins.iter().copied().cycle()));
        let shown = row(&plan, &own);
        prop_assert_eq!(&shown, &cut(&own, &DataType::Struct(source.fields.clone()), "", &chosen));
        prop_assert!(conforms(&shown, &DataType::Struct(plan.schema.fields.clone()), false), "{} {shown}", written(&plan.schema));
        // Written, read and planned again, it is the same.
        let kept = serde_json::to_string(&plan.pinned).unwrap();
        prop_assert_eq!(serde_json::from_str::<PinnedView>(&kept).unwrap().plan().unwrap(), plan);
    }

    #[test]
    fn what_the_source_gains_stays_out(source in any_schema(), coins in prop::collection::vec(any::<bool>(), 1..40)) {
        let whole: Vec<&str> = source.fields.iter().map(|field| field.name.as_str()).collect();
        let definition = definition(json!(whole), None);
        let plan = ViewPlan::new(&definition, &source, &[]).unwrap();
        prop_assert!(plan.is_identity_over(&source, &[]));
        let grown = Schema { fields: grown(&source.fields) };
        prop_assert!(plan.misfits(&grown, &[]).is_empty(), "{:?}", plan.misfits(&grown, &[]));
        prop_assert!(!plan.is_identity_over(&grown, &[]));
        let own = Json::Object(sample_fields(&grown.fields, "", &mut coins.iter().copied().cycle()));
        let shown = row(&plan, &own);
        prop_assert!(!shown.to_string().contains("new"), "{shown}");
        prop_assert!(conforms(&shown, &DataType::Struct(plan.schema.fields.clone()), false));
    }

    #[test]
    fn whatever_is_built_of_whatever_conforms_to_its_schema(
        source in any_schema(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0usize..5, 0usize..4), 1..6),
        coins in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let leaves = source.leaves();
        let masks = [None, Some(json!("null")), Some(json!("redact")), Some(json!({"redact": {"keep_nulls": true}}))];
        let columns = picks.iter().enumerate().map(|(at, (leaf, nest, mask))| {
            let from = &leaves[leaf.index(leaves.len())].0;
            let found = source.lookup(from).unwrap();
            let mut name: Vec<String> = found.steps.iter().filter(|step| step.is_into_collection()).map(|step| step.name().to_owned()).collect();
            name.insert(0, if *nest < 3 { format!("n{nest}") } else { format!("c{at}") });
            if *nest != 4 {
                name.push(format!("x{at}"));
            }
            let mut column = json!({"name": ColumnPath(name).to_string(), "from": from.to_string()});
            if let Some(mask) = &masks[*mask] {
                column["mask"] = mask.clone();
            }
            column
        });
        let definition = definition(columns.collect(), None);
        // Most of these are refused: lists made from different lists, maps without keys.
        if let Ok(plan) = ViewPlan::new(&definition, &source, &[]) {
            for _ in 0..4 {
                let own = Json::Object(sample_fields(&source.fields, "", &mut coins.iter().copied().cycle()));
                let shown = row(&plan, &own);
                prop_assert!(conforms(&shown, &DataType::Struct(plan.schema.fields.clone()), false), "{} {shown}", written(&plan.schema));
                for shown in plan.shown() {
                    prop_assert!(definition.columns.iter().any(|column| column.name == shown.name && column.from == shown.from && column.mask == shown.mask));
                }
            }
        }
    }
}
