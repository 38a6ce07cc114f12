//! Examines the machine: permissions of secret files, keys, clocks, disks, addresses and TLS.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use url::Url;

use crate::{
    config::{
        Settings, TlsFiles,
        keys::{KeyError, read_keys},
    },
    domain::core::{seal::RootKey, word::Words},
    geography::CountryFile,
    http::{
        certificates::{Validity, validity},
        listen::{FEW_CONNECTIONS, certificates, check_tls, is_authority, most_connections},
    },
    telemetry::error_chain,
};

use super::{Examined, Fault, Finding, MAX_SKEW, PATIENCE, Status, is_sqlite, patiently, spelled};

/// A certificate should be renewed before less than this is left.
const RENEWAL: TimeDelta = TimeDelta::days(14);

/// A country file older than this is replaced.
const OLD_COUNTRIES: TimeDelta = TimeDelta::days(90);

/// The result of examining the root keys.
pub(super) struct Keys {
    pub(super) findings: Vec<Finding>,
    /// The fingerprints of usable keys, the active one first.
    pub(super) fingerprints: Vec<String>,
}

/// Reports on the settings, and on who may read their files.
pub(super) fn configuration(settings: &Settings, file: Option<&Path>) -> Vec<Finding> {
    let told = file.map_or("the defaults and the environment".to_owned(), |file| format!("`{}`", file.display()));
    let mut findings = vec![Finding::new("configuration", Status::Ok, format!("{told} can be used"))];
    const CHECK: &str = "secret files";
    // Orchestrators mount secrets readable for everybody inside a container, so this is only a warning.
    let warnings = settings.warnings.iter().map(|text| Fault::of(text, "see docs/configuration.md"));
    findings.extend(warnings.map(|fault| Finding::warning(CHECK, fault)));
    let tls = settings.server.tls().map(|files| files.key_file);
    let database = settings.database.sqlite_file().filter(|file| file.exists());
    let exposed = tls.into_iter().chain(database).filter_map(|file| exposed(&file));
    findings.extend(exposed.map(|fault| Finding::of(CHECK, Err(fault))));
    if findings.len() == 1 {
        findings.push(Finding::new(CHECK, Status::Ok, "only this user can read the files of secrets"));
    }
    findings
}

/// Reports a file that other users may read.
fn exposed(file: &Path) -> Option<Fault> {
    let metadata = std::fs::metadata(file).ok()?;
    // Secrets mounted into a container belong to root and are readable by the container's group.
    let open_to_others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    let mode = metadata.mode() & 0o777;
    let shown = file.display();
    let detail = format!("`{shown}` is open to other users (mode {mode:o})");
    (mode & open_to_others != 0).then(|| Fault::new(detail, format!("run `chmod 600 {shown}`")))
}

/// Checks that the root keys can be used.
pub(super) fn keys(settings: &Settings) -> Keys {
    const CHECK: &str = "keys";
    match read_keys(&settings.secrets) {
        Ok(keys) => {
            let fingerprints: Vec<String> = keys.iter().map(RootKey::fingerprint).collect();
            let detail = format!(
                "{} can be used; the active one is {}",
                keys.len(),
                fingerprints.first().map_or("none", |active| active)
            );
            Keys { findings: vec![Finding::new(CHECK, Status::Ok, detail)], fingerprints }
        }
        Err(KeyError::Missing { path }) if is_sqlite(settings) && !database_exists(settings) => {
            let detail = format!("`{}` does not exist yet; the first start makes it", path.display());
            Keys { findings: vec![Finding::new(CHECK, Status::Skipped, detail)], fingerprints: Vec::new() }
        }
        Err(KeyError::Missing { path }) => {
            let detail = format!("`{}` does not exist", path.display());
            let remedy = "restore the key file from where it is kept; what it sealed cannot be opened without it";
            Keys { findings: vec![Finding::of(CHECK, Err(Fault::new(detail, remedy)))], fingerprints: Vec::new() }
        }
        Err(error) => {
            let fault = Fault::of(error, "let the user that the server runs as read the key file, and nobody else");
            Keys { findings: vec![Finding::of(CHECK, Err(fault))], fingerprints: Vec::new() }
        }
    }
}

fn database_exists(settings: &Settings) -> bool {
    settings.database.sqlite_file().is_some_and(|file| file.exists())
}

/// Compares this machine's clock with the clocks that were read.
pub(super) fn clocks(clocks: Vec<Option<(String, TimeDelta)>>) -> Finding {
    const CHECK: &str = "clock";
    let clocks: Vec<(String, TimeDelta)> = clocks.into_iter().flatten().collect();
    let Some((name, worst)) = clocks.iter().max_by_key(|(_, skew)| skew.abs()) else {
        return Finding::new(CHECK, Status::Skipped, "nothing that the server stands on has a clock of its own");
    };
    if worst.abs() > MAX_SKEW {
        let way = if *worst > TimeDelta::zero() { "behind" } else { "ahead of" };
        let detail = format!("this machine is {} {way} {name}", spelled(*worst));
        let remedy = "have both machines keep the time with NTP; signatures and ends of access depend on it";
        return Finding::of(CHECK, Err(Fault::new(detail, remedy)));
    }
    let names: Vec<&str> = clocks.iter().map(|(name, _)| name.as_str()).collect();
    Finding::new(CHECK, Status::Ok, format!("within {} of {}", spelled(MAX_SKEW), names.join(", ")))
}

/// Reports how many client connections the server can hold.
pub(super) fn connections(settings: &Settings) -> Finding {
    const CHECK: &str = "connections";
    let most = most_connections(usize::try_from(settings.database.max_connections).unwrap_or(usize::MAX));
    let detail = format!("there is room for {most} connections of clients");
    match most < FEW_CONNECTIONS {
        true => {
            let remedy = "let the server open more files: `ulimit -n`, or LimitNOFILE of its service";
            Finding::warning(CHECK, Fault::new(detail, remedy))
        }
        false => Finding::new(CHECK, Status::Ok, detail),
    }
}

/// Examines the country file as it is now; a running server may still hold an earlier one.
pub(super) fn countries(settings: &Settings) -> Finding {
    const CHECK: &str = "countries";
    let Some(file) = &settings.geography.database_file else {
        return Finding::new(CHECK, Status::Skipped, "no country file is named (geography.database_file)");
    };
    let read = match CountryFile::read(file) {
        Ok(read) => read,
        Err(error) => {
            let fault = Fault::of(error_chain(&error), "name a country file in MaxMind's format that can be read");
            return Finding::of(CHECK, Err(fault));
        }
    };
    let age = read.made_at().map(|at| Utc::now().signed_duration_since(at));
    let made = age.map_or("nobody says when".to_owned(), |age| format!("{} ago", spelled(age)));
    let mode = settings.geography.mode.as_str();
    let detail = format!("{} can be used, made {made}; geography.mode is \"{mode}\"", read.about());
    match age.is_none_or(|age| age > OLD_COUNTRIES) {
        true => Finding::warning(CHECK, Fault::new(detail, "put a newer file in its place; networks change countries")),
        false => Finding::new(CHECK, Status::Ok, detail),
    }
}

/// Checks the free space in the places on this machine where the server writes.
pub(super) fn disks(settings: &Settings, min_free: u64) -> Vec<Finding> {
    let views = settings.views.target().and_then(|target| target.local_root());
    let export = settings.audit.export.target().and_then(|target| target.local_root());
    let places = [
        ("database", settings.database.sqlite_file().map(|file| std::path::absolute(&file).unwrap_or(file))),
        ("views", views),
        ("export", export),
    ];
    let findings = places
        .into_iter()
        .filter_map(|(what, place)| Some(Finding::of(&format!("disk {what}"), room(&place?, min_free))));
    findings.collect()
}

fn room(place: &Path, min_free: u64) -> Examined {
    let there: PathBuf = place.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_owned();
    let shown = there.display();
    let found = rustix::fs::statvfs(&there).map_err(|error| {
        Fault::new(format!("`{shown}` cannot be looked at: {error}"), "check that its disk is mounted")
    })?;
    let (free, of) = (found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize));
    let detail = format!("{} MiB of {} MiB are free at `{shown}`", free >> 20, of >> 20);
    if free < min_free {
        return Err(Fault::new(detail, "make room or move it; without any, every request is answered 503"));
    }
    Ok(detail)
}

/// Checks that the server can listen on its addresses, or already does, and that the public URL can be right.
pub(super) async fn addresses(settings: &Settings) -> Vec<Finding> {
    let server = &settings.server;
    let mut findings = Vec::new();
    if let Some(files) = server.tls() {
        let examined = check_tls(&files).map(|()| "certificate and key can be read and belong together".to_owned());
        findings.push(Finding::of("tls", examined.map_err(|error| Fault::of(error, "mend server.tls"))));
        if is_authority(&files).unwrap_or_default() {
            let detail = "the certificate is its own authority (CA:TRUE), which most clients refuse, also where they are \
                          told to trust it";
            let remedy = "give the server one that is none, with `-addext basicConstraints=critical,CA:FALSE` where \
                          openssl makes it; see docs/production.md";
            findings.push(Finding::warning("tls authority", Fault::new(detail, remedy)));
        }
        findings.extend(expiry(&files));
    }
    for (key, address) in [("listen", Some(server.listen)), ("admin_listen", server.admin_listen)] {
        let Some(address) = address else { continue };
        findings.push(Finding::of(&format!("server.{key}"), listens(settings, address).await));
    }
    findings.push(Finding::of("server.public_url", public_url(&server.public_url)));
    findings
}

/// Reports the state of a running server's background tasks, from its metrics; skipped if no server runs.
pub(super) async fn tasks(settings: &Settings) -> Finding {
    const CHECK: &str = "tasks";
    let address = settings.server.admin_listen.unwrap_or(settings.server.listen);
    let told = async { ask(settings, address, "metrics").await.ok()?.error_for_status().ok()?.text().await.ok() };
    let told = told.await.unwrap_or_default();
    let states: Vec<(&str, bool)> = told.lines().filter_map(task_state).collect();
    let failing = states.iter().filter(|(_, fails)| *fails).map(|(task, _)| match last_error(&told, task) {
        Some(error) => format!("{task} ({error})"),
        None => (*task).to_owned(),
    });
    let failing: Vec<String> = failing.collect();
    match (states.len(), failing.is_empty()) {
        (0, _) => {
            Finding::new(CHECK, Status::Skipped, "no server runs here whose background tasks could be asked after")
        }
        (all, true) => {
            Finding::new(CHECK, Status::Ok, format!("the last run of each of {all} background tasks went well"))
        }
        (_, false) => {
            let detail = format!("the last run failed of the background tasks {}", failing.join(", "));
            let remedy = "the server's log says why, under `a background task failed`; docs/operations.md#background-tasks \
                          says what the words mean";
            Finding::of(CHECK, Err(Fault::new(detail, remedy)))
        }
    }
}

/// Reads a task's name from a line of metrics, and whether its last run failed.
fn task_state(line: &str) -> Option<(&str, bool)> {
    let (task, value) = line.strip_prefix("weir_task_failing{task=\"")?.split_once("\"}")?;
    Some((task, value.trim() != "0"))
}

/// Reads from metrics the class of the last failure of `task`. A server of an earlier version has none.
fn last_error<'a>(metrics: &'a str, task: &str) -> Option<&'a str> {
    let beginning = format!("weir_task_last_error_timestamp_seconds{{task=\"{task}\",error=\"");
    let errors = metrics.lines().filter_map(|line| {
        let (error, at) = line.strip_prefix(&beginning)?.split_once("\"}")?;
        Some((at.trim().parse::<i64>().ok()?, error))
    });
    errors.max().map(|(_, error)| error)
}

/// Reports when the server's certificates expire; `None` if they cannot be read, which is reported elsewhere.
fn expiry(files: &TlsFiles) -> Option<Finding> {
    const CHECK: &str = "tls expiry";
    const REMEDY: &str = "renew the certificate; a running server reads it again within seconds";
    let (chain, now) = (certificates(files).ok()?, Utc::now());
    let mut ends = None;
    for certificate in &chain {
        match validity(certificate, now) {
            Err(error) => {
                let detail = format!("a certificate is good at no time: {error}");
                return Some(Finding::of(CHECK, Err(Fault::new(detail, REMEDY))));
            }
            Ok(Validity::Begins(at)) => {
                let detail = format!("a certificate is not good before {}", spelled_time(at));
                return Some(Finding::of(CHECK, Err(Fault::new(detail, "check the clock, and the certificate"))));
            }
            Ok(Validity::Ends(at)) => ends = Some(ends.map_or(at, |ends: DateTime<Utc>| ends.min(at))),
            Ok(Validity::Open) => {}
        }
    }
    let ends = ends?;
    let left = ends - now;
    Some(if left <= TimeDelta::zero() {
        let detail = format!("a certificate ended {} ago, at {}", spelled(left), spelled_time(ends));
        Finding::of(CHECK, Err(Fault::new(detail, REMEDY)))
    } else if left < RENEWAL {
        let detail = format!("a certificate ends in {}, at {}", spelled(left), spelled_time(ends));
        Finding::warning(CHECK, Fault::new(detail, REMEDY))
    } else {
        Finding::new(CHECK, Status::Ok, format!("the certificates are good for {}", spelled(left)))
    })
}

fn spelled_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

async fn listens(settings: &Settings, address: SocketAddr) -> Examined {
    let error = match TcpListener::bind(address) {
        Ok(_) => return Ok(format!("{address} is free; no server runs there")),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse => {}
        ErrorKind::PermissionDenied => {
            let detail = format!("{address} needs rights that this user does not have");
            return Err(Fault::new(
                detail,
                "choose a port above 1023, and let a proxy or a port mapping have the other",
            ));
        }
        _ => {
            let detail = format!("{address} cannot be had: {error}");
            return Err(Fault::new(detail, "name an address of this machine, or 0.0.0.0 for all of them"));
        }
    }
    let other = Fault::new(
        format!("{address} is taken by something that is no ready weir"),
        "stop what has the port, or choose another; if it is a weir, its log says why it is not ready",
    );
    let examined = patiently("see whether the server there hangs, and its log", async {
        Ok(ask(settings, address, "readyz").await.is_ok_and(|answer| answer.status().is_success()).to_string())
    });
    match examined.await?.as_str() {
        "true" => Ok(format!("a server runs at {address} and is ready")),
        _ => Err(other),
    }
}

/// Fetches `path` from the listener on `address`. The listener may be a stranger, so nothing secret is sent.
async fn ask(settings: &Settings, address: SocketAddr, path: &str) -> reqwest::Result<reqwest::Response> {
    let client = reqwest::Client::builder().timeout(PATIENCE).tls_danger_accept_invalid_certs(true).build()?;
    let scheme = if settings.server.tls().is_some() { "https" } else { "http" };
    let address = SocketAddr::new(reachable(address.ip()), address.port());
    client.get(format!("{scheme}://{address}/{path}")).send().await
}

/// An address that reaches a listener on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn public_url(text: &str) -> Examined {
    let url = Url::parse(text).map_err(|error| Fault::new(error.to_string(), "write https://share.example.org"))?;
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !is_loopback {
        let detail = format!("`{text}` would have recipients send their tokens in the clear");
        return Err(Fault::new(detail, "write the https address that recipients use into server.public_url"));
    }
    Ok(if is_loopback { format!("{text}, for recipients on this machine alone") } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_named_with_its_direction() {
        let named = |name: &str, seconds| Some((name.to_owned(), TimeDelta::seconds(seconds)));
        let finding = clocks(vec![named("the database", 2), named("storage lake", 3_600)]);
        assert_eq!(finding.status, Status::Failed);
        assert_eq!(finding.detail, "this machine is 60 minutes behind storage lake");
        assert!(clocks(vec![named("the database", -11)]).detail.contains("11 seconds ahead of the database"));
        assert_eq!(clocks(vec![named("the database", -10), None]).status, Status::Ok);
        assert_eq!(clocks(vec![None]).status, Status::Skipped);
    }

    #[test]
    fn a_task_that_fails_is_read_from_the_metrics() {
        assert_eq!(task_state("weir_task_failing{task=\"copies\"} 1"), Some(("copies", true)));
        assert_eq!(task_state("weir_task_failing{task=\"usage\"} 0"), Some(("usage", false)));
        assert_eq!(task_state("weir_tasks_failed_total{task=\"usage\"} 3"), None);
        let metrics = r#"
            weir_task_last_error_timestamp_seconds{task="copies",error="storage_denied"} 1790000001
            weir_task_last_error_timestamp_seconds{task="copies",error="database_full"} 1790000000
            weir_task_last_error_timestamp_seconds{task="usage",error="panic"} 1790000002"#;
        let metrics = metrics.replace("            ", "");
        assert_eq!(last_error(&metrics, "copies"), Some("storage_denied"));
        assert_eq!(last_error(&metrics, "reports"), None);
    }

    #[test]
    fn recipients_are_told_an_address_that_keeps_their_tokens() {
        for good in ["https://share.example.org", "http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:80"] {
            assert!(public_url(good).is_ok(), "{good}");
        }
        assert!(public_url("http://share.example.org").is_err());
    }
}
