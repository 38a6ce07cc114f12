//! The files for operators refer only to things that exist: metrics, runbooks, and pods without extra rights.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use chrono::TimeDelta;
use serde_json::Value;
use weir::{config::DEFAULT, telemetry::Metrics};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every `weir_…` name in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("weir_"));
    words.map(str::to_owned).collect()
}

/// The samples of a server on which everything has happened once, with the names of their labels.
fn samples() -> BTreeMap<String, String> {
    let metrics = Metrics::new(["lake"]);
    metrics.request_answered("GET", Some("/readyz"), 503, Duration::from_millis(1));
    metrics.decided("table.query", "deny", "GRANT_EXPIRED");
    metrics.files_issued("presigned", 1, 1);
    metrics.snapshot_loaded(Duration::from_millis(1));
    metrics.audit_committed(1, Duration::from_millis(1));
    metrics.audit_waits(TimeDelta::zero(), TimeDelta::seconds(7));
    metrics.storage_failed("lake");
    metrics.notification_attempted("hook", "dead");
    metrics.database_answers(true);
    metrics.jobs_are(&[]);
    let page = metrics.encode().unwrap();
    assert!(page.contains("weir_audit_unexported_seconds 7"), "{page}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let mut samples: BTreeMap<String, String> = BTreeMap::new();
    for line in lines {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        samples.entry(name.to_owned()).or_default().push_str(rest);
    }
    samples
}

/// Checks that an expression uses existing samples and their labels.
fn check(expression: &str, samples: &BTreeMap<String, String>) {
    let names = named(expression);
    assert!(!names.is_empty() || expression.starts_with("up{"), "{expression}");
    for name in &names {
        let labels = samples.get(name).unwrap_or_else(|| panic!("there is no metric {name}, which {expression} names"));
        let behind = &expression[expression.find(name.as_str()).unwrap() + name.len()..];
        let asked = behind.strip_prefix('{').and_then(|behind| behind.split('}').next()).unwrap_or_default();
        for label in asked.split(',').filter(|label| !label.is_empty()) {
            let label = label.split(['=', '!']).next().unwrap();
            assert!(labels.contains(&format!("{label}=\"")), "{name} has no label {label}, which {expression} names");
        }
    }
}

#[test]
fn every_alert_names_metrics_and_a_runbook_that_are_there() {
    let (rules, samples) = (read("deploy/alerts.yaml"), samples());
    let lines: Vec<&str> = rules.lines().map(str::trim).collect();
    let expressions: Vec<&str> = lines.windows(2).filter(|pair| pair[0] == "expr: >-").map(|pair| pair[1]).collect();
    let alerts: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("- alert: ")).collect();
    let runbooks: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("runbook: ")).collect();
    assert!(alerts.len() >= 8 && alerts.len() == expressions.len() && alerts.len() == runbooks.len(), "{alerts:?}");
    expressions.iter().for_each(|expression| check(expression, &samples));
    let index = read("docs/runbooks/README.md");
    for (alert, runbook) in alerts.iter().zip(runbooks) {
        assert!(read(runbook).contains("## Do"), "{runbook}");
        let file = Path::new(runbook).file_name().unwrap().to_str().unwrap();
        assert!(index.lines().any(|line| line.contains(alert) && line.contains(&format!("({file})"))), "{alert}");
    }
}

/// Runs Prometheus's rule checker, which must report nothing. If it is not installed, this is skipped with a message,
/// or fails in CI.
fn promtool(arguments: &[&str]) {
    let run = Command::new("promtool").args(arguments).current_dir(root().join("deploy")).output();
    let Ok(run) = run else {
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "promtool must be installed in CI");
        println!("skipped: `promtool` is not installed");
        return;
    };
    let (said, faults) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{arguments:?}: {said}{faults}");
}

#[test]
fn prometheus_takes_the_rules_and_fires_them_when_it_should() {
    promtool(&["check", "rules", "alerts.yaml"]);
    promtool(&["test", "rules", "alerts_test.yaml"]);
}

#[test]
fn every_alert_is_tried_firing_and_quiet_and_in_a_rolling_restart() {
    let (rules, trials) = (read("deploy/alerts.yaml"), read("deploy/alerts_test.yaml"));
    let (each, rolling) = trials.split_once("- name: \"All are quiet: a rolling restart").unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let of = |name: String| each.split("  - name: \"").find(|trial| trial.starts_with(&name));
        let (fires, quiet) = (of(format!("{alert}: ")), of(format!("{alert} is quiet: ")));
        assert!(fires.is_some_and(|trial| trial.contains("exp_alerts:")), "{alert} is not tried firing");
        assert!(quiet.is_some_and(|trial| !trial.contains("exp_alerts:")), "{alert} is not tried quiet");
        assert!(rolling.contains(&format!("alertname: {alert},")), "{alert} is not tried in a rolling restart");
    }
}

/// The whole number after `key` in a text.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
    let digits: String =
        line.unwrap_or_else(|| panic!("there is no {key}")).chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The longest time that a stopping server takes: it drains, lets running answers finish, and seals the trail.
fn stops_within(settings: &str) -> u64 {
    number(settings, "drain_seconds =") + number(settings, "shutdown_grace_seconds =") + 5
}

#[test]
fn orchestrators_give_a_stopping_server_its_time_and_notice_that_it_drains() {
    let pods = read("deploy/kubernetes.yaml");
    assert!(number(&pods, "terminationGracePeriodSeconds:") > stops_within(&pods));
    let probe = pods.split("readinessProbe:").nth(1).unwrap();
    let noticed = number(probe, "periodSeconds:") * number(probe, "failureThreshold:");
    assert!(noticed < number(&pods, "drain_seconds ="), "a pod is gone before anybody notices");

    // Compose's server runs with the default settings, like servers that rely on an orchestrator's default of 30 s.
    let own = read("docker/weir.toml");
    assert!(!own.contains("drain_seconds") && !own.contains("shutdown_grace_seconds"));
    assert!(stops_within(DEFAULT) <= 30);
    assert!(number(&read("docker/compose.yaml"), "stop_grace_period:") > stops_within(DEFAULT));
}

#[test]
fn every_panel_of_the_dashboard_names_metrics_that_are_there() {
    let (board, samples) = (serde_json::from_str::<Value>(&read("deploy/grafana.json")).unwrap(), samples());
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() >= 10);
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            check(target["expr"].as_str().unwrap(), &samples);
        }
    }
}

#[test]
fn pods_and_containers_give_up_what_they_do_not_need() {
    let pods = read("deploy/kubernetes.yaml");
    let workloads: Vec<&str> =
        pods.split("\n---\n").filter(|part| part.contains("kind: Job") || part.contains("kind: Deployment")).collect();
    assert_eq!(workloads.len(), 2);
    for workload in workloads {
        for line in [
            "runAsNonRoot: true",
            "seccompProfile: { type: RuntimeDefault }",
            "allowPrivilegeEscalation: false",
            "readOnlyRootFilesystem: true",
            "capabilities: { drop: [ALL] }",
            "automountServiceAccountToken: false",
        ] {
            assert!(workload.contains(line), "{line} is missing in {workload}");
        }
    }
    let compose = read("docker/compose.yaml");
    let services = compose.split("\nservices:\n").nth(1).unwrap();
    let services = services.lines().take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    let services: Vec<&str> = services.collect();
    let is_name = |line: &&&str| line.starts_with("  ") && line.as_bytes()[2].is_ascii_lowercase();
    let confined = services.iter().filter(|line| line.trim() == "<<: *confined").count();
    assert_eq!(services.iter().filter(is_name).count(), confined);
    assert!(confined >= 3);
}
