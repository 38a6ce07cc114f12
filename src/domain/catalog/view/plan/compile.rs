//! Compiles a definition over a schema into a plan.
//!
//! Every column is expanded into its leaves; their names form a tree of shown structs, lists and maps; then each node
//! of the tree finds the struct, list or map of the source from which it is made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value as Json};

use crate::domain::catalog::{
    requirements::EffectiveMasks,
    schema::{ColumnPath, DataType, Field, Found, KEY, Schema, Step},
    view::{Problem, ViewColumn, ViewDefinition, mask::Mask, row_filter::RowFilter},
};

use super::{
    Needed, Output, OutputField, PinnedView, ViewPlan,
    leaves::{Leaf, MAX_LEAVES, Unfit, leaves, too_many},
    parts::{Part, aligned, names, path},
};

/// The most columns of a definition.
const MAX_COLUMNS: usize = 2_000;
/// The longest comment, in characters.
const MAX_COMMENT: usize = 4_000;
/// The most problems that are reported at once.
const MAX_PROBLEMS: usize = 50;

/// Compiles `definition` with these masks in effect instead of its own, or reports everything that is wrong with it.
pub(super) fn compile(
    definition: &ViewDefinition,
    source: &Schema,
    partition_columns: &[String],
    effective: &EffectiveMasks,
) -> Result<ViewPlan, Vec<Problem>> {
    let mut compiler = Compiler {
        source,
        effective,
        variants: source.case_variants(),
        leaves: Vec::new(),
        nodes: vec![Node::default()],
        problems: Vec::new(),
    };
    let filter = compiler.filter(definition.row_filter.as_deref());
    compiler.columns(&definition.columns);
    let made = if compiler.problems.is_empty() { compiler.fields(ROOT, 0) } else { None };
    match made {
        Some(made) if compiler.problems.is_empty() => Ok(compiler.plan(definition, partition_columns, filter, made)),
        _ => {
            compiler.problems.truncate(MAX_PROBLEMS);
            Err(compiler.problems)
        }
    }
}

const ROOT: usize = 0;

/// A node of the tree of shown names.
#[derive(Default)]
struct Node {
    children: Vec<(Part, usize)>,
    /// The index of each child, by the key of its part.
    index: HashMap<Part, usize>,
    /// Some leaf at or below this node.
    some_leaf: usize,
    is_leaf: bool,
    /// For a list or map, the number of parts that lead to the source's list or map.
    collection: Option<usize>,
    comment: Option<String>,
}

/// How a shown value is made, and its resulting type.
struct Made {
    output: Output,
    data_type: DataType,
    nullable: bool,
    /// The source's struct that contains it, as a path from the row or element.
    inside: Option<Vec<String>>,
}

struct Compiler<'a> {
    source: &'a Schema,
    effective: &'a EffectiveMasks,
    variants: BTreeSet<ColumnPath>,
    leaves: Vec<Leaf>,
    nodes: Vec<Node>,
    problems: Vec<Problem>,
}

impl<'a> Compiler<'a> {
    fn problem(&mut self, column: usize, part: &str, message: impl Into<String>) {
        self.problems.push(Problem { field: format!("columns[{column}].{part}"), message: message.into() });
    }

    fn filter(&mut self, text: Option<&str>) -> Option<RowFilter> {
        match RowFilter::parse(text?, self.source) {
            Ok(filter) => {
                for column in filter.columns() {
                    if let Some(message) = ambiguity(&self.variants, &column) {
                        self.problems.push(Problem { field: "row_filter".to_owned(), message });
                    }
                }
                Some(filter)
            }
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn columns(&mut self, columns: &[ViewColumn]) {
        if !(1..=MAX_COLUMNS).contains(&columns.len()) {
            let message = format!("a view names 1 to {MAX_COLUMNS} columns; what it does not name is not shown");
            self.problems.push(Problem { field: "columns".to_owned(), message });
            return;
        }
        let mut claims: HashMap<Vec<Part>, usize> = HashMap::with_capacity(columns.len());
        let mut resolved = Vec::with_capacity(columns.len());
        for (at, column) in columns.iter().enumerate() {
            if self.problems.len() >= MAX_PROBLEMS {
                return;
            }
            let Some((name, found)) = self.resolve(at, column) else { continue };
            match claims.get(&name) {
                Some(first) => {
                    let message = format!("columns[{first}] is called `{}` too", column.name);
                    self.problem(at, "name", message);
                }
                None => {
                    claims.insert(name.clone(), at);
                    resolved.push((at, column, name, found));
                }
            }
        }
        for (at, column, name, found) in resolved {
            let whole = (1..name.len()).find_map(|end| claims.get(&name[..end]));
            if let Some(whole) = whole {
                let message = format!("`{}` is a part of what columns[{whole}] shows as a whole", column.name);
                self.problem(at, "name", message);
            } else if self.problems.len() < MAX_PROBLEMS {
                self.expand(at, column, name, &found);
            }
        }
    }

    /// Finds the shown name and the source of a column.
    fn resolve(&mut self, at: usize, column: &ViewColumn) -> Option<(Vec<Part>, Found<'a>)> {
        // Without `from`, the name gives both.
        let from = if column.from == column.name { "name" } else { "from" };
        let found = match self.source.lookup(&column.from) {
            Ok(found) => found,
            Err(error) => {
                self.problem(at, from, error.to_string());
                return None;
            }
        };
        if let Some(message) = ambiguity(&self.variants, &column.from) {
            self.problem(at, from, message);
            return None;
        }
        let parts: Vec<Part> = found.steps.iter().map(Part::from).collect();
        let Some(name) = aligned(&column.name.0, &parts) else {
            let inside: Vec<&str> = parts.iter().filter(|part| !part.is_field()).map(Part::name).collect();
            let message = format!(
                "`{}` is inside a list or map, and a row has more than one of it; a name that leads into a list or map \
                 in the same way has `{}` in it",
                column.from,
                inside.join("`, then `")
            );
            self.problem(at, "name", message);
            return None;
        };
        if let Some(comment) = &column.comment {
            if !name.last().is_some_and(Part::is_field) {
                self.problem(at, "comment", "elements, keys and values have no comment of their own");
            } else if comment.chars().nth(MAX_COMMENT).is_some() {
                self.problem(at, "comment", format!("a comment has at most {MAX_COMMENT} characters"));
            }
        }
        Some((name, found))
    }

    /// Expands a column into its leaves and places them in the tree.
    fn expand(&mut self, at: usize, column: &ViewColumn, name: Vec<Part>, found: &Found<'_>) {
        let from = if column.from == column.name { "name" } else { "from" };
        let leaves = match leaves(at, name, found, column.mask.as_ref()) {
            Ok(leaves) => leaves,
            Err(Unfit::Name(message)) => return self.problem(at, "name", message),
            Err(Unfit::Source(message)) => return self.problem(at, from, message),
            Err(Unfit::Mask(message)) => return self.problem(at, "mask", message),
        };
        if let Some(subject) = column.mask.as_ref().and_then(Mask::subject)
            && let Err(message) = self.check_subject(subject, &leaves)
        {
            return self.problem(at, "mask", message);
        }
        if self.leaves.len() + leaves.len() > MAX_LEAVES {
            return self.problem(at, from, too_many());
        }
        for mut leaf in leaves {
            if let Some(mask) = self.effective.get(&path(&leaf.name)) {
                if leaf.source.contains(&Part::Key) {
                    return self.problem(at, "mask", "the keys of a map are not masked");
                }
                leaf.mask = Some(mask.clone());
            }
            self.leaves.push(leaf);
            if let Err(message) = self.place(self.leaves.len() - 1, column) {
                return self.problem(at, "name", message);
            }
        }
    }

    /// Checks the column that names the subjects of `leaves`: a row has one value of it, and one of each leaf.
    fn check_subject(&self, subject: &ColumnPath, leaves: &[Leaf]) -> Result<(), String> {
        let found = self.source.lookup(subject).map_err(|error| format!("`key`: {error}"))?;
        if let Some(message) = ambiguity(&self.variants, subject) {
            return Err(format!("`key`: {message}"));
        }
        let is_field = |step: &Step<'_>| matches!(step, Step::Field(_));
        if found.data_type.primitive().is_none() || !found.steps.iter().all(is_field) {
            return Err(format!("`key` names a single value of each row, and `{subject}` is none"));
        }
        if leaves.iter().any(|leaf| !leaf.source.iter().all(Part::is_field)) {
            return Err("dates inside a list or map are not shifted; cut them with `date_trunc`".to_owned());
        }
        Ok(())
    }

    /// Places a leaf in the tree; the error says what is in its way.
    fn place(&mut self, leaf: usize, column: &ViewColumn) -> Result<(), String> {
        let Some(own) = self.leaves.get(leaf) else { return Ok(()) };
        let mut at = ROOT;
        // The number of parts that lead to each list or map that the source path steps into.
        let mut collections = own.source.iter().enumerate().filter(|(_, part)| !part.is_field()).map(|(end, _)| end);
        for (depth, part) in own.name.iter().enumerate() {
            let here = || path(&own.name[..depth]);
            let node = &mut self.nodes[at];
            if node.children.first().is_some_and(|(other, _)| other.parent() != part.parent()) {
                return Err(format!("`{}` is one of a struct, a list and a map, not two", here()));
            }
            if !part.is_field() {
                let end = collections.next().unwrap_or(0);
                let other = &self.leaves[node.some_leaf].source[..*node.collection.get_or_insert(end)];
                if !node.children.is_empty() && *other != own.source[..end] {
                    let (here, own, other) = (here(), path(&own.source[..end]), path(other));
                    return Err(format!("`{here}` is made of `{other}`, and cannot be made of `{own}` as well"));
                }
            }
            let key = part.key();
            let child = match self.nodes[at].index.get(&key) {
                Some(child) => {
                    let (other, child) = &self.nodes[at].children[*child];
                    if other != part {
                        let (one, other) = (here().join(part.name()), here().join(other.name()));
                        return Err(format!("`{one}` and `{other}` differ only by case; readers take them for one"));
                    }
                    *child
                }
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node { some_leaf: leaf, ..Node::default() });
                    let node = &mut self.nodes[at];
                    node.index.insert(key, node.children.len());
                    node.children.push((part.clone(), child));
                    child
                }
            };
            at = child;
            if depth + 1 == column.name.0.len() {
                self.nodes[at].comment.clone_from(&column.comment);
            }
        }
        self.nodes[at].is_leaf = true;
        Ok(())
    }

    /// Makes the node from the row or element at the first `context` parts of the source.
    fn node(&mut self, at: usize, context: usize) -> Option<Made> {
        let node = &self.nodes[at];
        if node.is_leaf {
            return self.value(node.some_leaf, context);
        }
        match node.children.first() {
            Some((Part::Field(_), _)) => self.fields(at, context),
            Some((Part::Element, child)) => self.list(at, *child, context),
            Some((Part::Key | Part::Value, _)) => self.map(at, context),
            None => None,
        }
    }

    fn value(&mut self, leaf: usize, context: usize) -> Option<Made> {
        let leaf = self.leaves.get(leaf)?;
        let may_be_null = leaf.may_be_null(context, leaf.source.len());
        let (data_type, nullable) = match &leaf.mask {
            None => (leaf.data_type.clone(), may_be_null),
            Some(mask) => match mask.output_type(&leaf.data_type) {
                Ok(data_type) => (data_type, mask.output_nullable(may_be_null)),
                Err(message) => {
                    let column = leaf.column;
                    self.problem(column, "mask", message);
                    return None;
                }
            },
        };
        let from = names(&leaf.source[context..]);
        let inside = parent(&from);
        let output = Output::Value { from, data_type: leaf.data_type.clone(), mask: leaf.mask.clone() };
        Some(Made { output, data_type, nullable, inside })
    }

    fn fields(&mut self, at: usize, context: usize) -> Option<Made> {
        let children = std::mem::take(&mut self.nodes[at].children);
        let mut fields = Vec::with_capacity(children.len());
        let mut shown = Vec::with_capacity(children.len());
        let mut inside: Option<Option<Vec<String>>> = None;
        for (part, child) in &children {
            let made = self.node(*child, context)?;
            inside = Some(match inside {
                None => made.inside,
                Some(so_far) => so_far.zip(made.inside).map(|(one, other)| common(one, &other)),
            });
            let comment = self.nodes[*child].comment.take();
            let metadata = comment.map(|comment| ("comment".to_owned(), Json::String(comment)));
            fields.push(Field {
                name: part.name().to_owned(),
                data_type: made.data_type,
                nullable: made.nullable,
                metadata: metadata.into_iter().collect::<Map<_, _>>(),
            });
            shown.push(OutputField { name: part.name().to_owned(), output: made.output });
        }
        self.nodes[at].children = children;
        // A row is never null, but an element (named by an empty path) may be.
        let nulls_from = inside.flatten().filter(|path| context > 0 || !path.is_empty());
        let leaf = self.leaves.get(self.nodes[at].some_leaf)?;
        let nullable = nulls_from.as_ref().is_some_and(|path| leaf.may_be_null(context, context + path.len()));
        Some(Made {
            // A struct made from a whole element has no other struct around it.
            inside: nulls_from.as_deref().map(|path| parent(path).unwrap_or_default()),
            output: Output::Struct { fields: shown, nulls_from },
            data_type: DataType::Struct(fields),
            nullable,
        })
    }

    fn list(&mut self, at: usize, child: usize, context: usize) -> Option<Made> {
        let end = self.nodes[at].collection?;
        let element = self.node(child, end + 1)?;
        let leaf = self.leaves.get(self.nodes[at].some_leaf)?;
        let from = names(&leaf.source[context..end]);
        Some(Made {
            inside: parent(&from),
            output: Output::List { from, element: Box::new(element.output) },
            data_type: DataType::Array { element: Box::new(element.data_type), contains_null: element.nullable },
            nullable: leaf.may_be_null(context, end),
        })
    }

    fn map(&mut self, at: usize, context: usize) -> Option<Made> {
        let end = self.nodes[at].collection?;
        let some_leaf = self.nodes[at].some_leaf;
        let (column, from_source) = {
            let leaf = self.leaves.get(some_leaf)?;
            (leaf.column, path(&leaf.source[..end]))
        };
        let child = |part| self.nodes[at].index.get(&part).map(|index| self.nodes[at].children[*index].1);
        let (Some(key), Some(value)) = (child(Part::Key), child(Part::Value)) else {
            self.problem(column, "name", format!("`{from_source}` is a map: show both its `key` and its `value`"));
            return None;
        };
        let key = self.node(key, end + 1)?;
        let value = self.node(value, end + 1)?;
        let whole_key = self.source.lookup(&from_source.join(KEY)).ok().map(|found| found.data_type.leaves());
        if whole_key.is_none_or(|whole| whole != key.data_type.leaves()) {
            let message =
                format!("the keys of `{from_source}` are shown as they are or not at all, or two might become one");
            self.problem(column, "name", message);
            return None;
        }
        let leaf = self.leaves.get(some_leaf)?;
        let from = names(&leaf.source[context..end]);
        Some(Made {
            inside: parent(&from),
            output: Output::Map { from, key: Box::new(key.output), value: Box::new(value.output) },
            data_type: DataType::Map {
                key: Box::new(key.data_type),
                value: Box::new(value.data_type),
                value_contains_null: value.nullable,
            },
            nullable: leaf.may_be_null(context, end),
        })
    }

    fn plan(
        self,
        definition: &ViewDefinition,
        partition_columns: &[String],
        filter: Option<RowFilter>,
        made: Made,
    ) -> ViewPlan {
        let (fields, outputs) = match (made.data_type, made.output) {
            (DataType::Struct(shown), Output::Struct { fields, .. }) => (shown, fields),
            _ => (Vec::new(), Vec::new()),
        };
        let mut needed: BTreeMap<ColumnPath, DataType> = BTreeMap::new();
        for leaf in &self.leaves {
            for (below, data_type) in leaf.data_type.leaves() {
                let mut path = path(&leaf.source);
                path.0.extend(below);
                needed.insert(path, data_type.clone());
            }
        }
        let subjects = self.leaves.iter().filter_map(|leaf| leaf.mask.as_ref()?.subject().cloned());
        for column in filter.iter().flat_map(RowFilter::columns).chain(subjects) {
            if let Ok(found) = self.source.lookup(&column) {
                needed.insert(column.clone(), found.data_type.clone());
            }
        }
        let is_partition = |path: &ColumnPath| matches!(path.0.as_slice(), [name] if partition_columns.contains(name));
        let pinned = PinnedView {
            definition: definition.clone(),
            source: self.source.pruned(needed.keys()),
            partition_columns: partition_columns
                .iter()
                .filter(|name| needed.contains_key(&ColumnPath(vec![(*name).clone()])))
                .cloned()
                .collect(),
            layout: None,
            acknowledged: BTreeSet::new(),
        };
        let mut shown_partitions: Vec<String> = outputs
            .iter()
            .filter(|field| match &field.output {
                Output::Value { from, mask: None, .. } => is_partition(&ColumnPath(from.clone())),
                _ => false,
            })
            .map(|field| field.name.clone())
            .collect();
        if shown_partitions.len() == outputs.len() {
            shown_partitions.pop();
        }
        ViewPlan {
            schema: Schema { fields },
            partition_columns: shown_partitions,
            outputs,
            filter,
            needed: needed
                .into_iter()
                .map(|(path, data_type)| Needed { is_partition: is_partition(&path), path, data_type })
                .collect(),
            pinned,
            effective: self.effective.clone(),
        }
    }
}

/// Why a source path cannot be read: some readers of its files would confuse it, or something below it, with another
/// column.
pub(super) fn ambiguity(variants: &BTreeSet<ColumnPath>, path: &ColumnPath) -> Option<String> {
    if variants.is_empty() {
        return None;
    }
    let above = (1..path.0.len()).map(|end| ColumnPath(path.0[..end].to_vec())).find(|part| variants.contains(part));
    // Paths below a path sort directly after it.
    let below = || variants.range(path..).next().filter(|first| first.0.starts_with(&path.0)).cloned();
    above.or_else(below).map(|part| {
        format!("the table has another column whose name differs from `{part}` only by case; rename one of them there")
    })
}

/// The path without its last name.
fn parent(path: &[String]) -> Option<Vec<String>> {
    path.split_last().map(|(_, parent)| parent.to_vec())
}

/// The common beginning of two paths.
fn common(mut one: Vec<String>, other: &[String]) -> Vec<String> {
    one.truncate(one.iter().zip(other).take_while(|(one, other)| one == other).count());
    one
}
