//! `weir conformance` against `weir demo`, both run as an operator would.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// A running demo, stopped at the end of the test.
struct Demo(Child);

impl Demo {
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_weir"));
        let demo = demo.args(["demo", "--listen", &format!("127.0.0.1:{port}"), "--dir"]).arg(dir);
        let mut demo = Self(demo.stdout(Stdio::piped()).spawn().unwrap());
        // It listens before it prints this.
        let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("Serving on")), "the demo did not start");
        demo
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn conformance(profile: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["conformance", "--profile"]).arg(profile).args(more).output().unwrap()
}

#[test]
fn weir_itself_passes() {
    let folder = tempfile::tempdir().unwrap();
    let _demo = Demo::start(&folder.path().join("demo"));
    let profile = folder.path().join("demo/acme.share");
    let token = serde_json::from_slice::<Value>(&std::fs::read(&profile).unwrap()).unwrap()["bearerToken"].clone();

    let output = conformance(&profile, &["--output", "json"]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["summary"]["failed"], 0, "{stdout}");
    assert!(report["summary"]["passed"].as_u64().unwrap() >= 60, "{stdout}");
    assert!(output.status.success());
    assert!(stderr.contains("check 42: "), "progress is told: {stderr}");
    for secret in [token.as_str().unwrap(), "X-Amz-Signature"] {
        assert!(!stdout.contains(secret) && !stderr.contains(secret), "`{secret}` is printed");
    }

    let output = conformance(&profile, &["--output", "junit", "--table", "insurer.health.claims"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("failures=\"0\""), "{stdout}");
}

#[test]
fn table_that_is_not_shared_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let _demo = Demo::start(&folder.path().join("demo"));
    let output = conformance(&folder.path().join("demo/acme.share"), &["--table", "insurer.health.none"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("insurer.health.none cannot be looked at"), "{stderr}");
}
