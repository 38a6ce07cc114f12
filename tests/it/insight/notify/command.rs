//! The server and the command line as processes, with a receiver that they notify.

use reqwest::Method;
use serde_json::json;

use super::SECRET;
use crate::support::{
    process::{Installation, until},
    receiver::{Mood, TestReceiver},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_tells_and_the_command_tries_whether_it_would() {
    let receiver = TestReceiver::start();
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let weir = Installation::on(
        &format!("sqlite://{}", folder.path().join("weir.db").display()),
        &format!(
            "[[notify.webhook]]\nname = \"ops\"\nurl = \"{}\"\nsecret_file = \"{}\"\ntimeout_seconds = 1",
            receiver.url,
            secret.display()
        ),
    );
    let said = weir.run_well(&["notify", "test", "ops"]);
    let ping = receiver.received().remove(0);
    assert!(ping.is_signed_by(SECRET) && ping.json()["type"] == "test.ping", "{ping:?}");
    assert!(said.contains(ping.id()), "{said}");
    receiver.is(Mood::status(500));
    let failed = weir.run(&["notify", "test", "ops"]);
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("did not take the message") && said.contains("500") && !said.contains("s3cr3t"), "{said}");
    let unknown = String::from_utf8(weir.run(&["notify", "test", "opps"]).stderr).unwrap();
    assert!(unknown.contains("no webhook `opps`; there is: ops"), "{unknown}");

    // The first attempt fails; the server retries by itself, even after a restart.
    let mut server = weir.start().await;
    server.admin(Method::POST, "/freeze", json!({"reason": "an incident"})).await;
    until("attempt", async || (receiver.told("freeze.create").len() == 1).then_some(())).await;
    receiver.is(Mood::Well);
    server.kill();
    server.start_again().await;
    until("message", async || (receiver.told("freeze.create").len() >= 2).then_some(())).await;
    let ids: Vec<String> = receiver.received().iter().skip(2).map(|message| message.id().to_owned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    until("delivery", async || {
        let listed = server.admin(Method::GET, "/notifications?state=delivered", json!(null)).await;
        (listed["items"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
}
