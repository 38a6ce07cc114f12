//! Discovery: which catalogs the settings may name.

use super::{load, problems};

#[test]
fn catalogs_are_named_by_addresses_that_keep_a_token_secret() {
    let settings = |urls: &str| load(&format!("[discovery]\nunity_urls = {urls}\n"), &[]);
    assert!(load("", &[]).unwrap().discovery.unity_urls.is_empty());
    let named =
        settings("[\"https://uc.example.org/base\", \"http://127.0.0.1:8080\", \"http://localhost:1\"]").unwrap();
    assert_eq!(named.discovery.unity_urls.len(), 3);
    for (url, told) in [
        ("uc.example.org", "is no valid URL"),
        ("http://uc.example.org", "is not https"),
        ("ftp://localhost", "is not https"),
        ("https://weir:hunter2@uc.example.org", "must be without user"),
        ("https://uc.example.org?token=hunter2", "must be without user"),
        ("https://uc.example.org/#hunter2", "must be without user"),
    ] {
        let said = problems(&format!("[discovery]\nunity_urls = [\"https://good.example.org\", \"{url}\"]\n"), &[]);
        assert!(said.starts_with("discovery.unity_urls[1]: ") && said.contains(told), "{url}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(problems("[discovery]\nunity_urls = \"https://x\"\n", &[]).starts_with("discovery.unity_urls: "));
    assert!(problems("[discovery]\nunity_url = []\n", &[]).contains("did you mean `unity_urls`"));
}
