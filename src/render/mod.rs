//! All that has a look: pages, charts and spreadsheets, as texts made of plain values.
//!
//! A page is a template beside the code that fills it in; the binary carries both. What a template prints goes through
//! [`Escape`], the only escaper. Never here: headers, decisions, or where values come from.

pub mod activation;
pub mod api_docs;
mod charts;
pub mod csv;
mod figures;
mod html;
pub mod report;

use askama::Template;

pub use self::html::Escape;

/// A page that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("a page could not be written: {0}")]
pub struct RenderError(#[from] askama::Error);

/// Writes a page, which ends with a line break.
fn written(template: &impl Template) -> Result<String, RenderError> {
    let mut page = template.render()?;
    page.push('\n');
    Ok(page)
}
