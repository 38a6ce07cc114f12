//! Webhooks: what a configuration may contain, and what of it is never printed.

use super::{Folder, load, problems};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn webhook(lines: &str) -> String {
    format!("[[notify.webhook]]\nname = \"ops\"\nsecret = \"{SECRET}\"\n{lines}\n")
}

#[test]
fn webhooks_are_read_and_their_secrets_come_from_files() {
    let folder = Folder::new();
    let (secret, url) = (folder.file("secret", SECRET), folder.file("url", "https://hooks.example.org/hunter2\n"));
    let text = format!(
        "[[notify.webhook]]\nname = \"ops\"\nurl_file = \"{}\"\nsecret_file = \"{}\"\nevents = [\"schema.hold\"]\n",
        url.display(),
        secret.display()
    );
    let settings = load(&text, &[]).unwrap();
    let ops = &settings.notify.webhook[0];
    assert_eq!((ops.url.expose(), ops.secret.expose()), ("https://hooks.example.org/hunter2", SECRET));
    assert_eq!((ops.timeout_seconds, ops.allow_http, ops.events.len()), (10, false, 1));
    for printed in [settings.render_redacted(), format!("{settings:?}")] {
        assert!(!printed.contains("hunter2") && !printed.contains(SECRET), "{printed}");
    }
    assert!(settings.render_redacted().contains("https://hooks.example.org/***"));
    assert!(load("", &[]).unwrap().notify.webhook.is_empty());
    for plain in
        ["url = \"http://127.0.0.1:8/\"", "url = \"http://localhost/\"", "url = \"http://hooks/\"\nallow_http = true"]
    {
        load(&webhook(plain), &[]).unwrap();
    }
}

#[test]
fn what_no_webhook_may_be_is_refused() {
    let url = "url = \"https://hooks.example.org/\"";
    for (lines, told) in [
        ("url = \"http://hooks.example.org/hunter2\"".to_owned(), "notify.webhook[0].url: is not https"),
        ("url = \"ftp://hooks.example.org/hunter2\"".to_owned(), "notify.webhook[0].url: is not https"),
        ("url = \"hunter2\"".to_owned(), "notify.webhook[0].url: is no valid URL"),
        ("url = \"https://weir:hunter2@hooks.example.org/\"".to_owned(), "must be without user"),
        (String::new(), "missing field `url`"),
        (format!("{url}\nprevious_secret = \"hunter2\""), "notify.webhook[0].previous_secret: is no secret"),
        (format!("{url}\nevents = [\"token.ended\"]"), "`token.ended` is no kind of signal; use token.ending"),
        (format!("{url}\ntimeout_seconds = 0"), "notify.webhook[0].timeout_seconds: `0` is out of bounds"),
        (format!("{url}\ncolour = \"blue\""), "unknown field `colour`"),
        (format!("{url}\n{}{url}", webhook("")), "notify.webhook[1].name: `ops` names two webhooks"),
        (format!("{url}\n[notify]\ndenials = 0"), "notify.denials: `0` is out of bounds"),
    ] {
        let said = problems(&webhook(&lines), &[]);
        assert!(said.contains(told), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let said = problems("[[notify.webhook]]\nname = \"o p s\"\nurl = \"https://h/\"\nsecret = \"hunter2\"\n", &[]);
    assert!(said.contains("notify.webhook[0].name: is no name") && !said.contains("hunter2"), "{said}");
}
