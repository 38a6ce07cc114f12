//! (being written)
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}
pub(super) async fn run(_: Arguments) -> anyhow::Result<()> {
    Ok(())
}
