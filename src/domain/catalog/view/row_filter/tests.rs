use proptest::prelude::*;
use serde_json::json;

use super::*;

fn schema() -> Schema {
    let types = [
        ("plan", "string"),
        ("state", "string"),
        ("age", "integer"),
        ("tiny", "byte"),
        ("id", "long"),
        ("paid", "decimal(7,2)"),
        ("score", "double"),
        ("ratio", "float"),
        ("is_test", "boolean"),
        ("is_open", "boolean"),
        ("service_date", "date"),
        ("date", "date"),
        ("seen", "timestamp"),
        ("local", "timestamp_ntz"),
        ("digest", "binary"),
        ("my col", "string"),
        ("and", "long"),
        ("v", "variant"),
    ];
    let mut fields: Vec<Json> = types.iter().map(|(name, data_type)| field(name, json!(data_type))).collect();
    let inner = json!({"type": "struct", "fields": [field("id", json!("string")), field("and", json!("string"))]});
    fields.push(field("member", inner.clone()));
    fields.push(field("list", json!({"type": "array", "elementType": inner, "containsNull": true})));
    Schema::from_json(&json!({"type": "struct", "fields": fields})).unwrap()
}

fn field(name: &str, data_type: Json) -> Json {
    json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
}

fn parse(text: &str) -> RowFilter {
    RowFilter::parse(text, &schema()).unwrap_or_else(|problem| panic!("{text}: {}", problem.message))
}

fn refused(text: &str) -> String {
    let problem = RowFilter::parse(text, &schema()).expect_err(text);
    assert_eq!(problem.field, "row_filter");
    problem.message
}

fn today() -> NaiveDate {
    "2026-01-15".parse().unwrap()
}

fn properties(json: Json) -> BTreeMap<String, Json> {
    serde_json::from_value(json).unwrap()
}

fn bound(text: &str, given: Json) -> Condition {
    parse(text).bind(&properties(given), today())
}

/// Evaluates a filter without properties on a row; columns that are not given are NULL.
fn outcome(text: &str, row: &[(&str, Value)]) -> Option<bool> {
    let value = |path: &ColumnPath| row.iter().find(|(name, _)| *name == path.to_string()).map(|(_, own)| own.clone());
    bound(text, json!({})).evaluate(&value)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn column(path: &str) -> ColumnPath {
    ColumnPath::parse(path).unwrap()
}

#[test]
fn every_form_is_read_and_written_in_one_way() {
    for (given, written) in [
        ("plan='HMO'", "plan = 'HMO'"),
        ("'HMO' = plan", "plan = 'HMO'"),
        ("5 < age", "age > 5"),
        ("5 <= age AND 5 > age and 5>=age", "age >= 5 AND age < 5 AND age <= 5"),
        ("plan != 'a'", "plan <> 'a'"),
        ("plan = 'it''s'", "plan = 'it''s'"),
        ("`my col` = ''", "`my col` = ''"),
        ("`and` = 1", "`and` = 1"),
        ("member.and = 'x'", "member.and = 'x'"),
        ("age = -5", "age = -5"),
        ("age = + 5", "age = 5"),
        ("age BETWEEN 1 AND 5", "age >= 1 AND age <= 5"),
        ("age NOT BETWEEN 1 AND 5 OR is_test", "NOT (age >= 1 AND age <= 5) OR is_test"),
        ("plan in ('a', recipient('p'))", "plan IN ('a', recipient('p'))"),
        ("plan NOT IN recipient_list('p')", "NOT plan IN recipient_list('p')"),
        ("plan LIKE 'HM%'", "plan LIKE 'HM%'"),
        ("plan NOT LIKE '%'", "NOT plan LIKE '%'"),
        ("plan IS NULL or plan is not null", "plan IS NULL OR NOT plan IS NULL"),
        ("NOT is_test", "NOT is_test"),
        ("NOT NOT (is_test)", "NOT NOT is_test"),
        ("TRUE AND (is_test OR FALSE)", "TRUE AND (is_test OR FALSE)"),
        ("is_test = true", "is_test = TRUE"),
        ("is_test <> is_open", "is_test <> is_open"),
        ("plan = state", "plan = state"),
        ("date >= DATE '2023-01-01'", "date >= DATE '2023-01-01'"),
        ("service_date < today()", "service_date < today()"),
        ("service_date >= TODAY() - 30", "service_date >= today() - 30"),
        ("service_date IN (today() + 1, date '2020-02-29')", "service_date IN (today() + 1, DATE '2020-02-29')"),
        ("seen > TIMESTAMP '2024-01-01T00:00:00+01:00'", "seen > TIMESTAMP '2023-12-31 23:00:00.000000Z'"),
        ("local > timestamp '2024-01-01 00:00:00.5'", "local > TIMESTAMP '2024-01-01 00:00:00.500000'"),
        ("paid = 1.50", "paid = 1.5"),
        ("paid < -1", "paid < -1"),
        ("score > 1.5e3", "score > 1500"),
        ("score > 1e300", "score > 1e300"),
        ("ratio > 0.1", "ratio > 0.1"),
        (" ( ( age = 1 ) ) ", "age = 1"),
        ("age\n=\t1", "age = 1"),
    ] {
        let filter = parse(given);
        assert_eq!(filter.to_string(), written);
        assert_eq!(parse(written), filter, "{written}");
    }
}

#[test]
fn what_is_not_in_the_language_is_refused_at_its_place() {
    for (given, at, part) in [
        ("plan", 5, "a comparison"),
        ("plan =", 7, "the filter ends where a column"),
        ("plan = 'a' AND", 15, "the filter ends"),
        ("plan = 'a' plan = 'b'", 12, "`plan` stands where AND, OR or the end"),
        ("(plan = 'a'", 12, "`)`"),
        ("plan = 'a')", 11, "`)` stands"),
        ("plan = 'a", 8, "closing `'`"),
        ("`plan = 'a'", 1, "backtick"),
        ("plan = \"a\"", 8, "single quotes"),
        ("nope = 1", 1, "there is no `nope`"),
        ("PLAN = 'a'", 1, "but `plan`"),
        ("x = 'ü' OR nope = 1", 1, "there is no `x`"),
        ("plan = 'ü' OR nope = 1", 15, "there is no `nope`"),
        ("member = 'a'", 1, "not a single value"),
        ("v = 'a'", 1, "variant"),
        ("list.element.id = 'a'", 1, "inside a list or map"),
        ("plan.x = 'a'", 1, "`plan` is of type string"),
        ("plan = 5", 8, "write 'text'"),
        ("age = '5'", 7, "which is integer"),
        ("age = 5.0", 7, "which is integer"),
        ("age = 2147483648", 7, "which is integer"),
        ("tiny IN (1, 128)", 13, "which is byte"),
        ("paid = 1.234", 8, "decimal(7,2)"),
        ("paid = 1e1", 8, "decimal(7,2)"),
        ("ratio = 16777217", 9, "which is float"),
        ("score = 1e999", 9, "which is double"),
        ("service_date = '2023-01-01'", 16, "DATE 'YYYY-MM-DD'"),
        ("service_date = DATE '2023-02-30'", 16, "DATE 'YYYY-MM-DD'"),
        ("seen > DATE '2023-01-01'", 8, "TIMESTAMP"),
        ("seen > today()", 8, "TIMESTAMP"),
        ("seen > TIMESTAMP '2023-01-01'", 8, "TIMESTAMP"),
        ("local > TIMESTAMP '2023-01-01 00:00:00Z'", 9, "without a zone"),
        ("is_test = 1", 11, "TRUE or FALSE"),
        ("is_test > FALSE", 1, "only = and <>"),
        ("is_test < is_open", 1, "only = and <>"),
        ("digest = 'x'", 10, "only IS NULL"),
        ("digest IN recipient_list('x')", 11, "only IS NULL"),
        ("plan = NULL", 8, "IS NULL"),
        ("plan IN ('a', NULL)", 15, "IS NULL"),
        ("age = id", 1, "only columns of one type"),
        ("1 = 1", 1, "one side of a comparison is a column"),
        ("recipient('a') = 'b'", 1, "one side of a comparison is a column"),
        ("plan = recipient_list('p')", 8, "only behind IN"),
        ("plan IN (recipient_list('p'))", 10, "only behind IN"),
        ("plan IN recipient('p')", 9, "behind IN stands"),
        ("plan IN 'a'", 9, "behind IN stands"),
        ("plan IN ()", 10, "`)` stands"),
        ("plan IN (state)", 10, "a list holds values"),
        ("plan IN ('a' 'b')", 14, "a text stands"),
        ("'a' IN ('a')", 1, "a column stands on the left"),
        ("plan LIKE 'a'", 11, "ends with `%`"),
        ("plan LIKE '%a%'", 11, "one `%` at its end"),
        ("plan LIKE 'a_b%'", 11, "one `%` at its end"),
        ("plan LIKE 'a\\%'", 11, "one `%` at its end"),
        ("plan LIKE recipient('p')", 11, "a 'text%'"),
        ("age LIKE '1%'", 1, "LIKE is for texts"),
        ("rand() < 0.5", 1, "`rand` is no function"),
        ("service_date < now()", 16, "`now` is no function"),
        ("upper(plan) = 'A'", 1, "`upper` is no function"),
        ("age + 1 = 2", 5, "a comparison"),
        ("age = 1 + 1", 9, "`+` stands"),
        ("age = (1)", 7, "`(` stands"),
        ("age IN (SELECT id FROM x)", 9, "there is no `SELECT`"),
        ("EXISTS (SELECT 1)", 1, "`EXISTS` is no function"),
        ("service_date < today() - age", 26, "a number of days"),
        ("service_date < today() - 1.5", 26, "a number of days"),
        ("service_date < today() - 100001", 26, "a number of days"),
        ("service_date < today(1)", 22, "`)`"),
        ("plan = recipient(p)", 18, "a property as a 'text'"),
        ("plan = recipient('')", 18, "1 to 255"),
        ("plan = recipient('a', 'b')", 21, "`)`"),
        ("age = 5abc", 7, "`5abc` is no number"),
        ("age = --5", 8, "a number"),
        ("plan = 'a'; DROP TABLE x", 11, "`;` has no meaning"),
        ("plan = 'a' -- x", 12, "`-` stands"),
        ("plan = 'a' /* x */", 12, "`/` has no meaning"),
        ("plan = 'a' || 'b'", 12, "`|` has no meaning"),
        ("(plan) = 'a'", 6, "a comparison"),
        ("(is_test) = TRUE", 11, "AND, OR or `)`"),
        ("plan IS 'a'", 9, "NULL or NOT NULL"),
        ("plan IS NOT TRUE", 13, "NULL"),
        ("plan NOT = 'a'", 6, "a comparison"),
        ("age BETWEEN 1 OR 5", 15, "AND"),
        ("AND plan = 'a'", 1, "`AND` stands"),
        ("NOT", 4, "the filter ends"),
        ("member. = 'a'", 9, "the name of a field"),
        ("age == 5", 6, "`=` stands"),
    ] {
        let message = refused(given);
        let place = format!("character {at}: ");
        assert!(message.starts_with(&place) && message.contains(part), "{given}: {message}");
    }
    assert!(refused(" ").contains("leave it out"));
}

#[test]
fn filters_are_bounded() {
    let deep = |depth| format!("{}is_test{}", "(".repeat(depth), ")".repeat(depth));
    parse(&deep(MAX_DEPTH));
    assert!(refused(&deep(MAX_DEPTH + 1)).contains("deep"));
    assert!(refused(&format!("{} is_test", "NOT ".repeat(MAX_DEPTH + 1))).contains("deep"));
    let wide = |leaves| vec!["is_test"; leaves].join(" OR ");
    parse(&wide(MAX_LEAVES));
    assert!(refused(&wide(MAX_LEAVES + 1)).contains("200 conditions"));
    let list = |values| format!("age IN ({})", vec!["1"; values].join(","));
    parse(&list(MAX_LIST));
    assert!(refused(&list(MAX_LIST + 1)).contains("1000 values"));
    assert!(refused(&format!("plan = '{}'", "ü".repeat(MAX_CHARACTERS))).contains("10000 characters"));
    let long = json!(vec![1; MAX_PROPERTY_LIST + 1]);
    assert_eq!(bound("age IN recipient_list('ages')", json!({ "ages": long })), Condition::Known(false));
}

#[test]
fn a_filter_says_what_it_reads() {
    let filter = parse(
        "plan = recipient('p') AND (member.id IN ('x', recipient('q')) OR age IN recipient_list('ages')) AND seen IS NULL AND plan = state",
    );
    assert_eq!(filter.columns(), ["age", "member.id", "plan", "seen", "state"].map(column).into());
    assert_eq!(filter.properties(), ["ages", "p", "q"].map(String::from).into());
    assert!(!filter.uses_today());
    assert!(
        parse("date = today() AND age = 1").uses_today() && parse("date IN (DATE '2020-01-01', today())").uses_today()
    );
    let condition = filter.bind(&properties(json!({"p": "a", "q": "b", "ages": [1]})), today());
    assert_eq!(condition.columns(), filter.columns());
}

#[test]
fn properties_are_typed_by_the_column_they_meet() {
    for (filter, given, fits) in [
        ("plan = recipient('p')", json!("HMO"), true),
        ("plan = recipient('p')", json!(5), false),
        ("plan = recipient('p')", json!(["HMO"]), false),
        ("plan = recipient('p')", json!(null), false),
        ("plan IN recipient_list('p')", json!(["HMO", "PPO"]), true),
        ("plan IN recipient_list('p')", json!([]), true),
        ("plan IN recipient_list('p')", json!("HMO"), false),
        ("plan IN recipient_list('p')", json!(["HMO", 5]), false),
        ("age = recipient('p')", json!(5), true),
        ("age = recipient('p')", json!(5.5), false),
        ("age = recipient('p')", json!("5"), false),
        ("tiny = recipient('p')", json!(500), false),
        ("paid = recipient('p')", json!("1.50"), true),
        ("paid = recipient('p')", json!("1.505"), false),
        ("score = recipient('p')", json!(1.5), true),
        ("is_test = recipient('p')", json!(true), true),
        ("is_test = recipient('p')", json!("true"), false),
        ("service_date >= recipient('p')", json!("2023-01-01"), true),
        ("service_date >= recipient('p')", json!("2023-13-01"), false),
        ("seen >= recipient('p')", json!("2023-01-01T00:00:00Z"), true),
        ("seen >= recipient('p')", json!("2023-01-01"), false),
        ("local >= recipient('p')", json!("2023-01-01T00:00:00"), true),
    ] {
        let filter = parse(filter);
        let given = properties(json!({"p": given}));
        let missing = filter.missing(&given);
        assert_eq!(missing.is_empty(), fits, "{filter} {given:?}: {missing:?}");
        assert!(fits || filter.bind(&given, today()) == Condition::Known(false), "{filter} {given:?}");
    }
    let filter = parse("plan IN recipient_list('plans') AND paid < recipient('most') AND age = recipient('most')");
    assert_eq!(
        filter.missing(&properties(json!({"plans": "secret", "most": 5}))),
        ["property `plans` does not fit: `plan` needs a list of values of type string (texts)"]
    );
    assert_eq!(filter.missing(&properties(json!({}))).len(), 3);
}

#[test]
fn whoever_sees_no_row_for_the_sake_of_a_property_is_told_which() {
    let starving = |filter: &str, given: Json| {
        let unmet = parse(filter).starving(&properties(given), today());
        unmet.into_iter().map(|unmet| unmet.property).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(starving("plan IN recipient_list('plans')", json!({"plans": ["HMO"]})), none);
    assert_eq!(starving("plan IN recipient_list('plans')", json!({"plans": []})), ["plans"]);
    assert_eq!(starving("plan IN recipient_list('plans')", json!({"plans": "HMO"})), ["plans"]);
    assert_eq!(starving("plan IN recipient_list('plans') AND age = recipient('age')", json!({})), ["age", "plans"]);
    // An empty list that still leaves rows is intended.
    assert_eq!(starving("NOT plan IN recipient_list('plans')", json!({"plans": []})), none);
    assert_eq!(starving("plan IN recipient_list('plans') OR is_test", json!({"plans": []})), none);
    assert_eq!(starving("FALSE", json!({})), none);
}

#[test]
fn a_missing_property_shows_nothing_wherever_it_stands() {
    for filter in [
        "plan = recipient('p')",
        "plan <> recipient('p')",
        "NOT plan = recipient('p')",
        "TRUE OR plan = recipient('p')",
        "is_test OR NOT (FALSE AND plan IN ('x', recipient('p')))",
        "NOT plan IN recipient_list('p')",
    ] {
        assert_eq!(bound(filter, json!({"q": "x"})), Condition::Known(false), "{filter}");
    }
}

#[test]
fn text_in_a_property_is_a_value_and_nothing_else() {
    let hostile = "x' OR '1'='1";
    let compare = Condition::Compare { column: column("plan"), comparison: Comparison::Equal, value: text(hostile) };
    assert_eq!(bound("plan = recipient('p')", json!({"p": hostile})), compare);
    let written = format!("plan = {}", text(hostile).literal(Primitive::String));
    assert_eq!(bound(&written, json!({})), compare);
    assert_eq!(parse(&written).to_string(), "plan = 'x'' OR ''1''=''1'");
    assert_eq!(
        bound("plan IN recipient_list('p')", json!({"p": ["%", "recipient('q')"]})),
        Condition::OneOf { column: column("plan"), values: vec![text("%"), text("recipient('q')")] }
    );
}

#[test]
fn binding_keeps_only_what_is_not_known() {
    let one = Condition::Compare { column: column("age"), comparison: Comparison::Equal, value: Value::Integer(1) };
    for (filter, expected) in [
        ("age = 1 AND TRUE", one.clone()),
        ("age = 1 OR FALSE", one.clone()),
        ("age = 1 AND FALSE", Condition::Known(false)),
        ("age = 1 OR TRUE", Condition::Known(true)),
        ("NOT NOT age = 1", one.clone()),
        ("NOT (age = 1 AND FALSE)", Condition::Known(true)),
        ("TRUE AND TRUE", Condition::Known(true)),
        ("FALSE OR FALSE", Condition::Known(false)),
        ("age IN recipient_list('none')", Condition::Known(false)),
        ("NOT age IN recipient_list('none')", Condition::Known(true)),
        (
            "date = today() - 15",
            Condition::Compare { column: column("date"), comparison: Comparison::Equal, value: Value::Date(20_453) },
        ),
        ("age = 1 AND is_test", Condition::All(vec![one.clone(), Condition::IsTrue { column: column("is_test") }])),
    ] {
        assert_eq!(bound(filter, json!({"none": []})), expected, "{filter}");
    }
}

#[test]
fn three_values_hold() {
    let (yes, no) = (Some(true), Some(false));
    let row = [("age", Value::Integer(5)), ("is_test", Value::Boolean(true)), ("plan", text("HMO"))];
    for (filter, expected) in [
        ("age = 5", yes),
        ("age <> 5", no),
        ("age < 6 AND age <= 5 AND age > 4 AND age >= 5", yes),
        ("age IN (4, 6)", no),
        ("age NOT IN (4, 6)", yes),
        ("plan LIKE 'HM%'", yes),
        ("plan LIKE 'PM%'", no),
        ("plan < 'Ha'", yes),
        ("is_test", yes),
        ("is_test = FALSE", no),
        // `id` and `is_open` are NULL.
        ("id = 5", None),
        ("id <> 5", None),
        ("NOT id = 5", None),
        ("id IN (1)", None),
        ("id NOT IN (1)", None),
        ("state LIKE 'a%'", None),
        ("is_open", None),
        ("NOT is_open", None),
        ("plan = state", None),
        ("id IS NULL", yes),
        ("id IS NOT NULL", no),
        ("age IS NULL", no),
        ("id = 5 OR age = 5", yes),
        ("id = 5 OR age = 6", None),
        ("id = 5 AND age = 5", None),
        ("id = 5 AND age = 6", no),
    ] {
        assert_eq!(outcome(filter, &row), expected, "{filter}");
    }
}

#[test]
fn nan_compares_with_nothing_and_zero_has_no_sign() {
    let of = |filter: &str, value: f64| outcome(filter, &[("score", Value::Float(value))]);
    for filter in
        ["score = 1", "score <> 1", "score > 1", "NOT score > 1", "score IN (1)", "score NOT IN (1)", "score = score"]
    {
        assert_eq!(of(filter, f64::NAN), None, "{filter}");
    }
    assert_eq!(of("score IS NULL", f64::NAN), Some(false));
    assert_eq!(of("score = 0", -0.0), Some(true));
    assert_eq!(of("score IN (-0.0)", 0.0), Some(true));
    assert_eq!(of("score > 1e300", f64::INFINITY), Some(true));
}

#[test]
fn partitions_decide_where_nothing_else_is_read() {
    let partitions = ["plan".to_owned(), "date".to_owned()];
    for (filter, expected) in [
        ("plan = 'x' OR NOT date < today()", true),
        ("TRUE", true),
        ("plan IS NULL", true),
        ("plan = 'x' AND age = 1", false),
        ("plan = state", false),
        ("member.id = 'x'", false),
        // A condition already decided by a constant reads no column.
        ("plan = 'x' AND (age = 1 OR TRUE)", true),
    ] {
        assert_eq!(bound(filter, json!({})).on_partitions_only(&partitions), expected, "{filter}");
    }
    assert!(!bound("member.id = 'x'", json!({})).on_partitions_only(&["member".into(), "member.id".into()]));
}

#[test]
fn some_values_leave_out_what_no_others_bring_back() {
    let known = |path: &ColumnPath| (path.to_string() == "plan").then(|| Some(text("x")));
    for (filter, expected) in [
        ("plan = 'y' AND age = 1", false),
        ("plan = 'x' AND age = 1", true),
        ("NOT (plan = 'x' OR age = 1)", false),
        ("NOT (plan = 'y' OR age = 1)", true),
        ("plan = 'y' AND (age IS NULL OR age = 1 OR is_test)", false),
        ("(plan = 'y' AND age = 1) OR is_test", true),
        ("plan IS NULL", false),
        ("age IS NULL", true),
        ("plan = state", true),
        ("FALSE", false),
        ("plan IN recipient_list('plans') AND age > 0", false),
    ] {
        assert_eq!(bound(filter, json!({"plans": ["y", "z"]})).may_hold(&known), expected, "{filter}");
    }
}

fn any_operand(primitive: Primitive) -> BoxedStrategy<Operand> {
    let value = match primitive {
        Primitive::String => ".{0,6}".prop_map(Value::Text).boxed(),
        Primitive::Integer => (-3i64..4).prop_map(Value::Integer).boxed(),
        Primitive::Long => any::<i64>().prop_map(Value::Integer).boxed(),
        Primitive::Decimal { .. } => (-9_999_999i128..=9_999_999).prop_map(Value::Decimal).boxed(),
        Primitive::Double => {
            any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|v| Value::Float(v + 0.0)).boxed()
        }
        Primitive::Float => any::<f32>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|v| Value::Float(f64::from(v) + 0.0))
            .boxed(),
        Primitive::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Primitive::Date => (-719_162i32..2_932_896).prop_map(Value::Date).boxed(),
        _ => (-62_135_596_800_000_000i64..253_402_300_799_999_999).prop_map(Value::Timestamp).boxed(),
    };
    let recipient = "[a-z']{1,3}".prop_map(Operand::Recipient);
    let day = (-100_000i32..=100_000).prop_map(Operand::Today);
    let value = value.prop_map(Operand::Value);
    if primitive == Primitive::Date {
        prop_oneof![4 => value, 1 => recipient, 1 => day].boxed()
    } else {
        prop_oneof![4 => value, 1 => recipient].boxed()
    }
}

fn any_column() -> impl Strategy<Value = Column> {
    let names = ["plan", "age", "id", "paid", "score", "ratio", "is_test", "date", "seen", "local", "my col", "and"];
    let mut columns: Vec<ColumnPath> = names.iter().map(|name| ColumnPath(vec![name.to_string()])).collect();
    columns.extend(["member.id", "member.and"].map(column));
    prop::sample::select(columns).prop_map(|path| {
        let primitive = schema().lookup(&path).unwrap().data_type.primitive().unwrap();
        Column { path, primitive }
    })
}

fn any_leaf() -> impl Strategy<Value = Node> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let comparison = prop::sample::select(vec![Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual]);
    (any_column(), comparison, 0u8..10).prop_flat_map(|(column, comparison, kind)| {
        let comparison = match column.primitive {
            Primitive::Boolean if comparison != Equal => NotEqual,
            _ => comparison,
        };
        let own = column.clone();
        match (kind, column.primitive) {
            (0, _) => Just(Node::IsNull(column)).boxed(),
            (1, _) => Just(Node::CompareColumns(column.clone(), comparison, column)).boxed(),
            (2, Primitive::String) => {
                "[a-z' ]{0,4}".prop_map(move |prefix| Node::StartsWith(own.clone(), prefix)).boxed()
            }
            (2, Primitive::Boolean) => Just(Node::IsTrue(column)).boxed(),
            (3, _) => "[a-z]{1,3}".prop_map(move |property| Node::OneOf(own.clone(), List::Property(property))).boxed(),
            (4 | 5, primitive) => prop::collection::vec(any_operand(primitive), 1..4)
                .prop_map(move |values| Node::OneOf(own.clone(), List::Values(values)))
                .boxed(),
            (6, _) => any::<bool>().prop_map(Node::Known).boxed(),
            (_, primitive) => {
                any_operand(primitive).prop_map(move |value| Node::Compare(own.clone(), comparison, value)).boxed()
            }
        }
    })
}

fn any_node() -> impl Strategy<Value = Node> {
    any_leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::Any),
            inner.prop_map(|node| Node::Not(Box::new(node))),
        ]
    })
}

/// Evaluates a filter directly from its tree, without simplification.
fn meaning(node: &Node, row: &dyn Fn(&ColumnPath) -> Option<Value>) -> Option<bool> {
    let value = |operand: &Operand| match operand {
        Operand::Value(value) => value.clone(),
        Operand::Today(days) => Value::Date(today().to_epoch_days() + days),
        Operand::Recipient(property) => panic!("{property}"),
    };
    let leaf = |condition: Condition| condition.evaluate(row);
    match node {
        Node::Known(known) => Some(*known),
        Node::All(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| meaning(part, row)).collect();
            if parts.contains(&Some(false)) {
                Some(false)
            } else if parts.contains(&None) {
                None
            } else {
                Some(true)
            }
        }
        Node::Any(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| meaning(part, row)).collect();
            if parts.contains(&Some(true)) {
                Some(true)
            } else if parts.contains(&None) {
                None
            } else {
                Some(false)
            }
        }
        Node::Not(inner) => meaning(inner, row).map(|known| !known),
        Node::Compare(column, comparison, operand) => {
            leaf(Condition::Compare { column: column.path.clone(), comparison: *comparison, value: value(operand) })
        }
        Node::OneOf(column, List::Values(values)) => {
            // `IN` means one equality OR another.
            let equal = |operand| Node::Compare(column.clone(), Comparison::Equal, Operand::Value(value(operand)));
            meaning(&Node::Any(values.iter().map(equal).collect()), row)
        }
        Node::OneOf(_, List::Property(property)) => panic!("{property}"),
        Node::CompareColumns(left, comparison, right) => leaf(Condition::CompareColumns {
            left: left.path.clone(),
            comparison: *comparison,
            right: right.path.clone(),
        }),
        Node::StartsWith(column, prefix) => {
            leaf(Condition::StartsWith { column: column.path.clone(), prefix: prefix.clone() })
        }
        Node::IsNull(column) => leaf(Condition::IsNull { column: column.path.clone() }),
        Node::IsTrue(column) => leaf(Condition::IsTrue { column: column.path.clone() }),
    }
}

fn names_no_property(node: &Node) -> bool {
    RowFilter { root: node.clone() }.properties().is_empty()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(root in any_node()) {
        let filter = RowFilter { root };
        let written = filter.to_string();
        prop_assert_eq!(RowFilter::parse(&written, &schema()).map_err(|problem| format!("{written}: {}", problem.message)), Ok(filter));
    }

    #[test]
    fn binding_changes_no_meaning(
        root in any_node().prop_filter("no properties", names_no_property),
        nulls in prop::collection::vec(any::<bool>(), 6),
        known: [bool; 6],
        age in -3i64..4,
        plan in "[a-z' ]{0,4}",
        score in prop::sample::select(vec![f64::NAN, 0.0, -0.0, 1.0]),
    ) {
        let value = |path: &ColumnPath| {
            let null = |at: usize, value: Value| (!nulls[at]).then_some(value);
            match path.to_string().as_str() {
                "plan" | "my col" | "member.id" | "member.and" => null(0, text(&plan)),
                "age" | "id" | "and" => null(1, Value::Integer(age)),
                "score" | "ratio" => null(2, Value::Float(score)),
                "is_test" => null(3, Value::Boolean(age > 0)),
                "paid" => null(4, Value::Decimal(age.into())),
                "date" => null(5, Value::Date(i32::try_from(age).unwrap())),
                _ => null(5, Value::Timestamp(age)),
            }
        };
        let filter = RowFilter { root: root.clone() };
        let condition = filter.bind(&BTreeMap::new(), today());
        prop_assert_eq!(condition.evaluate(&value), meaning(&root, &value));
        // A condition that is true of a row may hold when only some of the row's values are known.
        for known in [[true; 6], [false; 6], known] {
            let partly = |path: &ColumnPath| known[path.to_string().len() % 6].then(|| value(path));
            prop_assert!(condition.evaluate(&value) != Some(true) || condition.may_hold(&partly));
        }
        prop_assert_eq!(condition.evaluate(&value) == Some(true), condition.may_hold(&|path| Some(value(path))));
    }

    #[test]
    fn no_text_makes_parsing_panic(given in "[a-z'`(),.=<>% 0-9]{0,40}|\\PC{0,20}") {
        let _ = RowFilter::parse(&given, &schema());
        let _ = RowFilter::parse(&format!("plan = '{given}"), &schema());
    }

    #[test]
    fn any_text_is_a_literal_and_a_property(given: String) {
        let expected = Condition::Compare { column: column("plan"), comparison: Comparison::Equal, value: text(&given) };
        prop_assert_eq!(&bound("plan = recipient('p')", json!({"p": given})), &expected);
        prop_assert_eq!(&bound(&format!("plan = '{}'", given.replace('\'', "''")), json!({})), &expected);
    }
}
