//! Issuers: which ones a configuration may name, and how.

use super::{load, problems};

const ISSUER: &str = "[[identity.issuer]]\nurl = \"https://login.example.org\"\naudiences = [\"weir\"]\n";

#[test]
fn issuers_and_operators_sign_in_are_read() {
    let text = format!(
        "{ISSUER}jwks_uri = \"https://login.example.org/keys\"\nscope = \"read\"\n\
         [identity.operators]\nissuer = \"https://login.example.org\"\naudience = \"weir-admin\"\nrole_claim = \"groups\"\n\
         roles = {{ \"Weir Admins\" = \"admin\", audit = \"auditor\" }}\n"
    );
    let settings = load(&text, &[]).unwrap();
    let issuer = &settings.identity.issuer[0];
    assert_eq!((issuer.url.as_str(), issuer.scope.as_deref()), ("https://login.example.org", Some("read")));
    assert_eq!((issuer.token_endpoint.as_deref(), issuer.audiences.len()), (None, 1));
    let operators = &settings.identity.operators;
    assert_eq!((operators.roles.len(), operators.name_claim.as_str()), (2, "sub"));
    assert!(load("", &[]).unwrap().identity.issuer.is_empty());
    // An issuer for operators only needs no audience for recipients.
    let operators_alone = load(
        "[[identity.issuer]]\nurl = \"https://login.example.org\"\n[identity.operators]\n\
         issuer = \"https://login.example.org\"\naudience = \"a\"\nrole_claim = \"r\"\nroles = { x = \"support\" }\n",
        &[],
    );
    operators_alone.unwrap();
    let text = "[[identity.issuer]]\nurl = \"http://[::1]:8\"\naudiences = [\"a\"]\n";
    load(text, &[("WEIR__IDENTITY__ALLOW_HTTP_LOOPBACK", "true")]).unwrap();
}

#[test]
fn what_no_issuer_may_be_is_refused() {
    let operators = |line: &str| {
        let lines = [
            "issuer = \"https://login.example.org\"",
            "audience = \"b\"",
            "role_claim = \"r\"",
            "roles = { x = \"admin\" }",
        ];
        let key = line.split(' ').next().unwrap();
        let lines = lines.map(|own| if own.split(' ').next() == Some(key) { line } else { own });
        format!("{ISSUER}[identity.operators]\n{}\n", lines.join("\n"))
    };
    let issuer = |url: &str| format!("[[identity.issuer]]\nurl = \"{url}\"\naudiences = [\"a\"]\n");
    for (text, key, told) in [
        (issuer("login.example.org"), "identity.issuer[0].url", "no URL"),
        (issuer("http://login.example.org"), "identity.issuer[0].url", "not https"),
        (issuer("http://127.0.0.1:9000"), "identity.issuer[0].url", "not https"),
        (
            format!("[identity]\nallow_http_loopback = true\n{}", issuer("http://10.0.0.1")),
            "identity.issuer[0].url",
            "not https",
        ),
        (issuer("https://user:word@login.example.org"), "identity.issuer[0].url", "without user"),
        (issuer("https://login.example.org?x=1"), "identity.issuer[0].url", "query"),
        (format!("{ISSUER}{ISSUER}"), "identity.issuer[1].url", "twice"),
        (format!("{ISSUER}jwks_uri = \"http://login.example.org/keys\""), "identity.issuer[0].jwks_uri", "not https"),
        (format!("{ISSUER}token_endpoint = \"ftp://x\""), "identity.issuer[0].token_endpoint", "not https"),
        (
            "[[identity.issuer]]\nurl = \"https://a.example\"\n".to_owned(),
            "identity.issuer[0].audiences",
            "good for nobody",
        ),
        (
            "[[identity.issuer]]\nurl = \"https://a.example\"\naudiences = [\"\"]\n".to_owned(),
            "identity.issuer[0].audiences",
            "no audience",
        ),
        (format!("{ISSUER}keys = 5"), "identity.issuer[0].keys", "unknown field"),
        ("[identity]\nclock_skew_seconds = 301".to_owned(), "identity.clock_skew_seconds", "out of bounds"),
        ("[identity]\nfetch_timeout_seconds = 0".to_owned(), "identity.fetch_timeout_seconds", "out of bounds"),
        ("[identity.operators]\naudience = \"a\"".to_owned(), "identity.operators.issuer", "is empty"),
        (operators("issuer = \"https://other.example.org\""), "identity.operators.issuer", "add it there"),
        (operators("audience = \"weir\""), "identity.operators.audience", "use another"),
        (operators("audience = \"\""), "identity.operators.audience", "is empty"),
        (operators("role_claim = \"\""), "identity.operators.role_claim", "is empty"),
        (operators("roles = {}"), "identity.operators.roles", "is empty"),
        (operators("roles = { x = \"root\" }"), "identity.operators.roles.x", "unknown variant"),
    ] {
        let problems = problems(&text, &[]);
        let found = problems.lines().any(|line| line.starts_with(&format!("{key}: ")) && line.contains(told));
        assert!(found, "{text}\n{problems}");
    }
}
