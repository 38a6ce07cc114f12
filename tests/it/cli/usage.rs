//! `weir usage` on the command line.

use super::on_each_database;

#[tokio::test]
async fn usage_is_listed_by_what_it_is_grouped_by_and_compared_with_the_trail() {
    on_each_database(async |installation, weir, shell| {
        installation.share(weir).await;
        let listed = shell.run_well(&["usage", "--output", "csv"]);
        assert!(listed.starts_with("recipient_id,recipient,table_id,table,events,requests,"), "{listed}");
        let of_days = shell.run_well(&["usage", "--group-by", "share,day", "--output", "csv"]);
        assert!(of_days.starts_with("start,share_id,share,events,requests,"), "{of_days}");
        assert!(shell.json(&["usage", "--group-by", "recipient"])["items"].is_array());
        assert!(shell.run_well(&["usage"]).starts_with("RECIPIENT "));
        let token = std::fs::read_to_string(&shell.token_file).unwrap();
        let named = shell.run_well(&["usage", "--url", &shell.url, "--token", token.trim(), "--output", "csv"]);
        assert_eq!(named.lines().next(), listed.lines().next());
        let said = shell.run_well(&["usage", "verify"]);
        assert!(said.starts_with("usage and audit trail say the same: "), "{said}");
        let said = shell.run_badly(1, &["usage", "--group-by", "colour"]);
        assert!(said.contains("group_by"), "{said}");
    })
    .await;
}
