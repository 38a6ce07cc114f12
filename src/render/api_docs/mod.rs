//! The page to browse the admin API: its OpenAPI document for people. It needs no script; with one, calls can be found
//! by typing.

use askama::Template;
use serde_json::Value;

use super::{RenderError, written};

/// The page's look.
pub const STYLE: &str = include_str!("docs.css");
/// What the page does beyond being read.
pub const SCRIPT: &str = include_str!("docs.js");

/// Where an OpenAPI document keeps its schemas.
const SCHEMAS: &str = "#/components/schemas/";
/// The methods that operations have, in the order in which a path's are shown.
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// Writes the page that shows `document`, an OpenAPI document.
pub fn page(document: &Value) -> Result<String, RenderError> {
    written(&Page::of(document))
}

#[derive(Template)]
#[template(path = "api_docs/page.html")]
struct Page {
    title: String,
    version: String,
    about: Vec<Block>,
    groups: Vec<Group>,
    schemas: Vec<Schema>,
}

/// The operations of one tag.
struct Group {
    tag: String,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: Vec<Span>,
    about: Vec<Block>,
    roles: String,
    /// The command that makes the call, as one writes it at a shell.
    command: String,
    parameters: Vec<Member>,
    body: Vec<Content>,
    answers: Vec<Answer>,
}

/// A parameter, or a field of a schema.
struct Member {
    name: String,
    is_required: bool,
    /// Where a parameter stands.
    place: String,
    kind: Vec<Word>,
    about: Vec<Block>,
}

struct Answer {
    status: String,
    about: Vec<Block>,
    content: Vec<Content>,
}

struct Content {
    media_type: String,
    kind: Vec<Word>,
}

struct Schema {
    name: String,
    about: Vec<Block>,
    /// What it is, where that is more than its own members.
    kind: Vec<Word>,
    members: Vec<Member>,
}

/// A part of a type; one that is a schema's name leads there.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    text: String,
    is_schema: bool,
}

/// A paragraph or a table of a description in Markdown.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    Text(Vec<Span>),
    /// The heading's cells, and those of each row.
    Table(Cells, Vec<Cells>),
}

/// The cells of a row.
type Cells = Vec<Vec<Span>>;

/// A part of a description.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    text: String,
    is_code: bool,
}

impl Page {
    fn of(document: &Value) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (path, item) in members_of(&document["paths"]) {
            for method in METHODS {
                let Some(call) = item.get(method) else { continue };
                let tag = text(&call["tags"][0]);
                let operation = Operation::of(path, method, call);
                match groups.iter_mut().find(|group| group.tag == tag) {
                    Some(group) => group.operations.push(operation),
                    None => groups.push(Group { tag, operations: vec![operation] }),
                }
            }
        }
        let info = &document["info"];
        let schemas = members_of(&document["components"]["schemas"]);
        Self {
            title: text(&info["title"]),
            version: text(&info["version"]),
            about: blocks(&info["description"]),
            groups,
            schemas: schemas.map(|(name, schema)| Schema::of(name, schema)).collect(),
        }
    }
}

impl Operation {
    fn of(path: &str, method: &str, call: &Value) -> Self {
        let roles: Vec<String> = items_of(&call["x-required-roles"]).map(text).collect();
        let parameter = |parameter: &Value| Member {
            name: text(&parameter["name"]),
            is_required: parameter["required"] == true,
            place: text(&parameter["in"]),
            kind: kind(&parameter["schema"]),
            about: blocks(&parameter["description"]),
        };
        let answer = |(status, answer): (&String, &Value)| Answer {
            status: status.clone(),
            about: blocks(&answer["description"]),
            content: content(answer),
        };
        Self {
            id: text(&call["operationId"]),
            method: method.to_uppercase(),
            path: path.to_owned(),
            summary: spans(&text(&call["summary"])),
            about: blocks(&call["description"]),
            roles: roles.join(", "),
            command: text(&call["x-weir-cli"]["example"]),
            parameters: items_of(&call["parameters"]).map(parameter).collect(),
            body: content(&call["requestBody"]),
            answers: members_of(&call["responses"]).map(answer).collect(),
        }
    }
}

impl Schema {
    fn of(name: &str, schema: &Value) -> Self {
        // What is put together of others has its own members in one of the parts.
        let parts: Vec<&Value> = items_of(&schema["allOf"]).collect();
        let own = parts.iter().find(|part| part.get("properties").is_some()).copied().unwrap_or(schema);
        let others = parts.iter().filter(|part| !std::ptr::eq(**part, own));
        let kind = match (parts.is_empty(), own.get("properties")) {
            (true, Some(_)) => Vec::new(),
            (true, None) => kind(schema),
            (false, _) => joined(others.map(|part| kind(part)), " & "),
        };
        let member = |(member, property): (&String, &Value)| Member {
            name: member.clone(),
            is_required: items_of(&own["required"]).any(|required| required == member.as_str()),
            place: String::new(),
            kind: self::kind(property),
            about: blocks(&property["description"]),
        };
        Self {
            name: name.to_owned(),
            about: blocks(&schema["description"]),
            members: members_of(&own["properties"]).map(member).collect(),
            kind,
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn members_of(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items_of(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What a body or an answer holds, by media type.
fn content(holder: &Value) -> Vec<Content> {
    let content = members_of(&holder["content"]);
    content
        .map(|(media_type, content)| Content { media_type: media_type.clone(), kind: kind(&content["schema"]) })
        .collect()
}

/// A schema in short: `Name`, `string | null`, `array of Name`.
fn kind(schema: &Value) -> Vec<Word> {
    let plain = |text: String| vec![Word { text, is_schema: false }];
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix(SCHEMAS)) {
        return vec![Word { text: name.to_owned(), is_schema: true }];
    }
    for (key, between) in [("oneOf", " | "), ("anyOf", " | "), ("allOf", " & ")] {
        if schema.get(key).is_some() {
            return joined(items_of(&schema[key]).map(kind), between);
        }
    }
    if schema.get("enum").is_some() {
        return joined(items_of(&schema["enum"]).map(|value| plain(value.to_string())), " | ");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().map(text).collect(),
        one => vec![one.as_str().unwrap_or("any").to_owned()],
    };
    let each = types.into_iter().map(|name| match name.as_str() {
        "array" => {
            let mut words = plain("array of ".to_owned());
            words.extend(kind(&schema["items"]));
            words
        }
        _ => plain(name),
    });
    let mut words = joined(each, " | ");
    words.extend(schema["format"].as_str().into_iter().flat_map(|format| plain(format!(" ({format})"))));
    words
}

fn joined(parts: impl Iterator<Item = Vec<Word>>, between: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (i, part) in parts.enumerate() {
        if i > 0 {
            words.push(Word { text: between.to_owned(), is_schema: false });
        }
        words.extend(part);
    }
    words
}

/// The paragraphs and tables of a description.
fn blocks(description: &Value) -> Vec<Block> {
    let description = description.as_str().unwrap_or_default();
    description.split("\n\n").filter(|block| !block.trim().is_empty()).map(block).collect()
}

fn block(text: &str) -> Block {
    let lines = text.lines().map(str::trim);
    let cells = |line: &str| -> Cells { line.trim_matches('|').split('|').map(|cell| spans(cell.trim())).collect() };
    if !text.trim_start().starts_with('|') {
        return Block::Text(spans(&lines.collect::<Vec<_>>().join(" ")));
    }
    // Below the heading stands a line of dashes.
    let is_row = |line: &&str| line.contains(|c: char| !"|-: ".contains(c));
    let mut rows = lines.filter(is_row).map(cells);
    Block::Table(rows.next().unwrap_or_default(), rows.collect())
}

/// A text and what stands between its backticks.
fn spans(text: &str) -> Vec<Span> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(i, part)| Span { text: part.to_owned(), is_code: i % 2 == 1 }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(words: &[Word]) -> String {
        words.iter().map(|word| if word.is_schema { format!("<{}>", word.text) } else { word.text.clone() }).collect()
    }

    #[test]
    fn types_are_said_in_short() {
        for (schema, expected) in [
            (json!({"$ref": "#/components/schemas/Share"}), "<Share>"),
            (json!({"type": "integer", "format": "int64"}), "integer (int64)"),
            (json!({"type": ["string", "null"]}), "string | null"),
            (json!({"type": "array", "items": {"$ref": "#/components/schemas/Share"}}), "array of <Share>"),
            (json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Share"}]}), "null | <Share>"),
            (json!({"enum": ["a", 1]}), "\"a\" | 1"),
            (json!({}), "any"),
            (Value::Null, "any"),
        ] {
            assert_eq!(said(&kind(&schema)), expected, "{schema}");
        }
    }

    #[test]
    fn what_is_put_together_shows_its_own_members_and_names_the_rest() {
        let own = json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "at": {}}});
        let schema = Schema::of("ShareView", &json!({"allOf": [{"$ref": "#/components/schemas/ShareSpec"}, own]}));
        assert_eq!(said(&schema.kind), "<ShareSpec>");
        let members: Vec<_> = schema.members.iter().map(|member| (member.name.as_str(), member.is_required)).collect();
        assert_eq!(members, [("at", false), ("id", true)]);
    }

    #[test]
    fn descriptions_are_read_as_far_as_markdown_is_used_in_them() {
        let code = |text: &str| Span { text: text.into(), is_code: true };
        let plain = |text: &str| Span { text: text.into(), is_code: false };
        let read = blocks(&json!("Calls\n`a` twice.\n\n| code | means |\n|---|---|\n| `x` | 1 |"));
        let heading = vec![vec![plain("code")], vec![plain("means")]];
        let expected = [
            Block::Text(vec![plain("Calls "), code("a"), plain(" twice.")]),
            Block::Table(heading, vec![vec![vec![code("x")], vec![plain("1")]]]),
        ];
        assert_eq!(read, expected);
        assert_eq!(blocks(&Value::Null), []);
    }

    #[test]
    fn the_page_shows_every_call_and_escapes_what_it_shows() {
        let call = json!({
            "tags": ["shares"], "operationId": "put_share", "summary": "Makes `<b>`.", "description": "<script>",
            "x-required-roles": ["admin", "owner"], "x-weir-cli": {"example": "weir share put a&b"},
            "parameters": [{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}],
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Share"}}}},
            "responses": {"200": {"description": "Done"}},
        });
        let document = json!({
            "info": {"title": "An API", "version": "1 & 2", "description": "About it."},
            "paths": {"/shares/{name}": {"put": call, "parameters": []}},
            "components": {"schemas": {"Share": {"type": "object", "properties": {"comment": {"type": "string"}}}}},
        });
        let page = page(&document).unwrap();
        for part in [
            "<h1>An API 1 &amp; 2</h1>",
            "<details id=\"put_share\">",
            "<code>/shares/{name}</code>",
            "Makes <code>&lt;b&gt;</code>.",
            "&lt;script&gt;",
            "For the roles admin, owner",
            "At a shell: <code>weir share put a&amp;b</code>",
            "<a href=\"#schema-Share\">Share</a>",
            "id=\"schema-Share\"",
            "<code>comment</code>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("<script").count(), 1, "{page}");
    }
}
