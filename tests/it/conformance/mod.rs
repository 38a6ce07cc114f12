//! The conformance runner: against Weir itself, and against a small server that is correct or has one fault.

mod faults;
mod server;
mod tables;
mod weir;

use std::{collections::BTreeSet, fmt::Write};

use ::weir::conformance::{
    self, Selection,
    profile::Profile,
    report::{Ending, Report},
};
use futures::{StreamExt, stream};

use self::faults::{FAULTS, Fault};

/// The checks that do not apply to the small server.
const NEVER_ASKED: [u16; 3] = [29, 73, 134];

/// Runs `checks`, or all if there are none.
async fn run_against(fault: Option<Fault>, checks: &[u16]) -> Report {
    let profile = Profile::parse(server::start(fault).await.as_bytes()).unwrap();
    let selection = Selection { checks: checks.to_vec(), ..Selection::default() };
    conformance::run(&profile, &selection, |_| {}).await.unwrap()
}

fn numbers(report: &Report, ending: Ending) -> Vec<u16> {
    report.results.iter().filter(|result| result.outcome == ending).map(|result| result.number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_faults_passes() {
    let report = run_against(None, &[]).await;
    assert_eq!(report.count(Ending::Fail), 0, "{}", report.to_text());
    // Not applicable: a recipient without shares, directory access, and asynchronous queries.
    assert_eq!(numbers(&report, Ending::NotApplicable), NEVER_ASKED, "{}", report.to_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_fault_is_named_by_its_check() {
    let runs = stream::iter(FAULTS).map(async |(fault, check)| {
        let report = run_against(Some(*fault), &[*check]).await;
        let [result] = &report.results[..] else { panic!("one check was asked for") };
        let what = format!("{fault:?} is not named by check {check}: {:?}", result.reason);
        (result.outcome != Ending::Fail).then_some(what)
    });
    let missed: Vec<String> = runs.buffer_unordered(4).filter_map(async |missed| missed).collect().await;
    assert!(missed.is_empty(), "{} of {}:\n{}", missed.len(), FAULTS.len(), missed.join("\n"));
}

#[test]
fn every_check_has_a_planted_fault() {
    let planted: BTreeSet<u16> = FAULTS.iter().map(|(_, check)| *check).chain(NEVER_ASKED).collect();
    let unproved = conformance::catalogue().into_iter().filter(|check| !planted.contains(&check.number));
    assert_eq!(unproved.map(|check| check.number).collect::<Vec<_>>(), [] as [u16; 0]);
}

#[tokio::test]
async fn unknown_check_is_refused() {
    let profile = Profile::parse(server::start(None).await.as_bytes()).unwrap();
    let selection = Selection { checks: vec![4], ..Selection::default() };
    let error = conformance::run(&profile, &selection, |_| {}).await.unwrap_err();
    assert!(error.to_string().starts_with("there is no check 4"), "{error}");
}

#[test]
fn documentation_lists_every_check() {
    let mut list = String::from("| number | what holds where it passes | protocol |\n|---|---|---|\n");
    for check in conformance::catalogue() {
        writeln!(list, "| {} | {} | {} |", check.number, check.title, check.section).unwrap();
    }
    let text = include_str!("../../../docs/conformance.md");
    assert!(text.ends_with(&list), "docs/conformance.md has to end with:\n{list}");
}
