//! How well scans propose classes: precision and recall over columns with known classes.
//!
//! `make classification` prints the figures, which stand in docs/classification.md.

mod corpus;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use weir::domain::{
    catalog::{classes::propose, column::Class},
    core::word::Words,
};

use corpus::{Labelled, columns};

/// With fewer columns of a class than this, its figures say nothing.
const ENOUGH: usize = 5;

#[derive(Clone, Copy, Default)]
struct Counts {
    labelled: usize,
    proposed: usize,
    right: usize,
}

impl Counts {
    fn precision(self) -> f64 {
        if self.proposed == 0 { 1.0 } else { self.right as f64 / self.proposed as f64 }
    }

    fn recall(self) -> f64 {
        if self.labelled == 0 { 1.0 } else { self.right as f64 / self.labelled as f64 }
    }
}

/// The figures of some columns, by class and in all, and what was proposed wrongly.
struct Figures {
    columns: usize,
    traps: usize,
    classes: BTreeMap<&'static str, Counts>,
    all: Counts,
    wrong: Vec<String>,
}

fn measure(held_out: bool) -> Figures {
    let mut tables: BTreeMap<&str, Vec<Labelled>> = BTreeMap::new();
    for column in columns().into_iter().filter(|column| column.held_out == held_out) {
        tables.entry(column.table).or_default().push(column);
    }
    let mut figures =
        Figures { columns: 0, traps: 0, classes: BTreeMap::new(), all: Counts::default(), wrong: Vec::new() };
    for (table, columns) in tables {
        let sampled: Vec<_> = columns.iter().map(|labelled| labelled.column.clone()).collect();
        for (labelled, proposal) in columns.iter().zip(propose(&sampled)) {
            let found = proposal.as_ref().map(|proposal| proposal.class);
            figures.columns += 1;
            figures.traps += usize::from(labelled.class.is_none());
            for (class, is_label) in [(labelled.class, true), (found, false)] {
                let Some(class) = class else { continue };
                let of_class = figures.classes.entry(class.as_str()).or_default();
                for counts in [of_class, &mut figures.all] {
                    counts.labelled += usize::from(is_label);
                    counts.proposed += usize::from(!is_label);
                    counts.right += usize::from(is_label && found == Some(class));
                }
            }
            if found != labelled.class {
                let path = labelled.column.path.join(".");
                figures.wrong.push(format!("{table}.{path}: {:?} instead of {:?} {proposal:?}", found, labelled.class));
            }
        }
    }
    figures
}

fn table(figures: &Figures) -> String {
    let mut text =
        "| class | columns | proposed | right | precision | recall |\n|---|---|---|---|---|---|\n".to_owned();
    let rows = Class::ALL.iter().filter_map(|(word, _)| Some((*word, *figures.classes.get(word)?)));
    for (class, counts) in rows.chain([("all", figures.all)]) {
        let Counts { labelled, proposed, right } = counts;
        let (precision, recall) = (counts.precision(), counts.recall());
        writeln!(text, "| {class} | {labelled} | {proposed} | {right} | {precision:.3} | {recall:.3} |").unwrap();
    }
    text
}

#[test]
fn classes_are_proposed_with_the_figures_that_the_documentation_states() {
    let (tuned, held_out) = (measure(false), measure(true));
    let mut wanting = Vec::new();
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/classification.md")).unwrap();
    for (name, figures) in [("tuned on", &tuned), ("held out", &held_out)] {
        let table = table(figures);
        println!("\n{name}: {} columns, {} of them traps\n{table}", figures.columns, figures.traps);
        figures.wrong.iter().for_each(|wrong| println!("wrong: {wrong}"));
        if !docs.contains(&table) {
            wanting.push(format!("docs/classification.md does not have the table of the columns {name}"));
        }
    }
    assert!(tuned.columns >= 60 && tuned.traps >= 20 && held_out.columns >= 30);
    let classes = tuned.classes.iter().filter(|(_, counts)| counts.labelled >= ENOUGH);
    for (class, counts) in classes.chain([(&"all", &tuned.all)]) {
        if counts.precision() < 0.95 || counts.recall() < 0.9 {
            wanting.push(format!("{class}: precision {:.3}, recall {:.3}", counts.precision(), counts.recall()));
        }
    }
    // Nobody tuned on these, so that they show how detectors fare elsewhere: right nearly always, and not always there.
    let (precision, recall) = (held_out.all.precision(), held_out.all.recall());
    if precision < 0.95 || recall < 0.8 {
        wanting.push(format!("held out: precision {precision:.3}, recall {recall:.3}"));
    }
    assert!(wanting.is_empty(), "{}", wanting.join("\n"));
}
