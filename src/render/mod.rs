//! Pages, as texts made of plain values.
//!
//! A page is a template beside the code that fills it in; the binary carries both. What a template prints goes through
//! [`Escape`]. Never here: headers, decisions, or where values come from.

pub mod activation;
pub mod api_docs;

use std::fmt;

use askama::{Template, filters::Escaper};

use crate::domain::core::html::Escaped;

/// A page that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("a page could not be written: {0}")]
pub struct RenderError(#[from] askama::Error);

/// Escapes text for templates; `askama.toml` names it for every one of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Escape;

impl Escaper for Escape {
    fn write_escaped_str<W: fmt::Write>(&self, mut out: W, text: &str) -> fmt::Result {
        write!(out, "{}", Escaped(text))
    }
}

/// Writes a page, which ends with a line break.
fn written(template: &impl Template) -> Result<String, RenderError> {
    let mut page = template.render()?;
    page.push('\n');
    Ok(page)
}
