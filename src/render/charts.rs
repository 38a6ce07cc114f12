//! Charts as SVG that stands in a page, whose style has the colours.

use askama::Template;

use super::{RenderError, figures::number};

const WIDTH: i64 = 720;
const HEIGHT: i64 = 220;
const LEFT: i64 = 64;
const BOTTOM: i64 = 28;
const TOP: i64 = 10;
/// The place of the zero line.
const BASE: f64 = (HEIGHT - BOTTOM) as f64;
/// The share of a column's place that it fills.
const FILLED: f64 = 0.76;

/// A column of two parts, the second on top of the first.
pub(super) struct Stack {
    /// What it stands for.
    pub name: String,
    /// How large its parts are.
    pub parts: [i64; 2],
    /// What is written below it.
    pub mark: Option<String>,
}

/// Writes a chart of columns. `kinds` says what their parts are, as a word that is a class of the style, too.
pub(super) fn columns(label: &str, kinds: [&str; 2], stacks: &[Stack]) -> Result<String, RenderError> {
    Ok(Columns::of(label, kinds, stacks).render()?)
}

/// Answers how wide a bar is, in percent of the widest; what is there is seen.
pub(super) fn bar(size: i64, most: i64) -> String {
    format!("{:.1}", (size as f64 / most as f64 * 100.0).max(0.3))
}

/// The chart; places are written as the drawing has them.
#[derive(Template)]
#[template(path = "columns.svg")]
struct Columns<'a> {
    label: &'a str,
    kinds: [&'a str; 2],
    ticks: Vec<Tick>,
    columns: Vec<Column<'a>>,
}

struct Tick {
    y: String,
    text_y: String,
    text: String,
}

struct Column<'a> {
    bar: Option<Bar<'a>>,
    /// Where the mark stands, and what it is.
    mark: Option<(String, &'a str)>,
}

struct Bar<'a> {
    name: &'a str,
    counts: [String; 2],
    x: String,
    width: String,
    y: [String; 2],
    heights: [String; 2],
}

impl<'a> Columns<'a> {
    /// Where the axis ends, at the left.
    const LEFT: i64 = LEFT;
    const WIDTH: i64 = WIDTH;
    const HEIGHT: i64 = HEIGHT;
    const TICK_X: i64 = LEFT - 8;
    const MARK_Y: i64 = HEIGHT - BOTTOM + 18;

    fn of(label: &'a str, kinds: [&'a str; 2], stacks: &'a [Stack]) -> Self {
        let most = stacks.iter().map(|stack| stack.parts.iter().sum::<i64>()).max().unwrap_or_default().max(1);
        let step = step(most);
        let scale = (most + step - 1) / step * step;
        let height = |count: i64| count as f64 / scale as f64 * (HEIGHT - TOP - BOTTOM) as f64;
        let tick = |count: i64| {
            let y = BASE - height(count);
            Tick { y: format!("{y:.1}"), text_y: format!("{:.1}", y + 4.0), text: number(count) }
        };
        let slot = (WIDTH - LEFT) as f64 / stacks.len().max(1) as f64;
        let column = |(i, stack): (usize, &'a Stack)| {
            let x = LEFT as f64 + i as f64 * slot;
            let [lower, upper] = stack.parts.map(height);
            let bar = stack.parts.iter().any(|part| *part > 0).then(|| Bar {
                name: &stack.name,
                counts: stack.parts.map(number),
                x: format!("{:.1}", x + slot * (1.0 - FILLED) / 2.0),
                width: format!("{:.1}", slot * FILLED),
                y: [BASE - lower, BASE - lower - upper].map(|y| format!("{y:.1}")),
                heights: [lower, upper].map(|height| format!("{height:.1}")),
            });
            let mark = stack.mark.as_deref().map(|mark| (format!("{:.1}", x + slot / 2.0), mark));
            Column { bar, mark }
        };
        Self {
            label,
            kinds,
            ticks: (0..=scale / step).map(|i| tick(i * step)).collect(),
            columns: stacks.iter().enumerate().map(column).collect(),
        }
    }
}

/// The distance between two lines of a scale that reaches `most` with at most five of them: 1, 2 or 5 times a power of
/// ten, and never a fraction.
fn step(most: i64) -> i64 {
    let mut power: i64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if step.saturating_mul(5) >= most {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_whole_numbers_and_reach_what_is_shown() {
        for (most, expected) in
            [(1, 1), (3, 1), (5, 1), (6, 2), (10, 2), (11, 5), (25, 5), (26, 10), (51, 20), (9_999, 2_000)]
        {
            assert_eq!(step(most), expected, "{most}");
        }
        assert!(step(i64::MAX) > 0);
    }

    #[test]
    fn columns_stand_on_the_base_and_say_what_they_are() {
        let stack =
            |name: &str, parts, mark: Option<&str>| Stack { name: name.into(), parts, mark: mark.map(Into::into) };
        let stacks = [stack("<Mon>", [3, 1], Some("1")), stack("Tue", [0, 0], None)];
        let chart = columns("Requests, \"all\"", ["answered", "refused"], &stacks).unwrap();
        assert!(chart.starts_with("<svg class=\"chart\" viewBox=\"0 0 720 220\" role=\"img\""), "{chart}");
        assert!(chart.contains("aria-label=\"Requests, &quot;all&quot;\""), "{chart}");
        assert!(chart.contains("<title>&lt;Mon&gt;: 3 answered, 1 refused</title>"), "{chart}");
        // Of a plot of 182, three quarters and one.
        assert!(
            chart.contains("<rect class=\"answered\" x=\"103.4\" y=\"55.5\" width=\"249.3\" height=\"136.5\"/>"),
            "{chart}"
        );
        assert!(
            chart.contains("<rect class=\"refused\" x=\"103.4\" y=\"10.0\" width=\"249.3\" height=\"45.5\"/>"),
            "{chart}"
        );
        assert_eq!((chart.matches("<g>").count(), chart.matches("text-anchor=\"middle\"").count()), (1, 1));
        assert!(columns("", ["a", "b"], &[]).unwrap().ends_with("</svg>"));
    }

    #[test]
    fn what_is_there_is_seen() {
        assert_eq!((bar(50, 100), bar(1, i64::MAX)), ("50.0".into(), "0.3".into()));
    }
}
