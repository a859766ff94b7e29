//! Lines on a plane, as SVG that needs nothing but a style sheet. Pure: numbers in, text out.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

#[derive(Debug)]
pub struct Plot<'a> {
    /// What it shows, for those who cannot see it.
    pub title: &'a str,
    pub across: Axis<'a>,
    pub up: &'a str,
    pub lines: Vec<Line<'a>>,
}

#[derive(Debug)]
pub enum Axis<'a> {
    /// From zero to the last value.
    Linear(&'a str),
    /// Quantiles: every further nine takes the same room.
    Nines(&'a str),
}

#[derive(Debug)]
pub struct Line<'a> {
    pub name: &'a str,
    /// Pieces of the line; between them there is nothing to show.
    pub pieces: Vec<Vec<(f64, f64)>>,
}

impl<'a> Line<'a> {
    /// A line with gaps where there is no value.
    pub fn new(name: &'a str, points: impl Iterator<Item = (f64, Option<f64>)>) -> Self {
        let mut pieces = vec![Vec::new()];
        for (x, y) in points {
            match (y, pieces.last_mut()) {
                (Some(y), Some(piece)) => piece.push((x, y)),
                (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
                _ => {}
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        Self { name, pieces }
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.pieces.iter().flatten()
    }
}

impl Plot<'_> {
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        // Writing into a text does not fail.
        self.draw(&mut svg).ok();
        svg
    }

    fn draw(&self, svg: &mut String) -> std::fmt::Result {
        let all = || self.lines.iter().flat_map(Line::points);
        let most_x = all()
            .map(|(x, _)| self.along(*x))
            .fold(0.0, f64::max)
            .max(1e-9);
        let most_y = all().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-9);
        let steps_y = ticks(most_y);
        let most_y = steps_y.last().copied().unwrap_or(most_y).max(most_y);
        let x = |value: f64| LEFT + self.along(value) / most_x * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / most_y * (HEIGHT - TOP - BOTTOM);
        let title = escape(self.title);
        write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
        )?;
        for step in steps_y {
            let (at, right, text_at) = (y(step), WIDTH - RIGHT, LEFT - 6.0);
            write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
                 <text class=\"end\" x=\"{text_at}\" y=\"{:.1}\">{}</text>",
                at + 4.0,
                short(step)
            )?;
        }
        let base = HEIGHT - BOTTOM;
        for (value, text) in self.marks(most_x) {
            let at = x(value);
            write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{base}\"/>\
                 <text class=\"middle\" x=\"{at:.1}\" y=\"{}\">{text}</text>",
                base + 16.0
            )?;
        }
        let (Axis::Linear(across) | Axis::Nines(across)) = &self.across;
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        write!(
            svg,
            "<text class=\"middle\" x=\"{middle}\" y=\"{}\">{}</text>\
             <text class=\"middle\" transform=\"translate(14 {}) rotate(-90)\">{}</text>",
            HEIGHT - 6.0,
            escape(across),
            (TOP + base) / 2.0,
            escape(self.up)
        )?;
        for (number, line) in self.lines.iter().enumerate() {
            for piece in &line.pieces {
                let points: Vec<_> = piece
                    .iter()
                    .map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py)))
                    .collect();
                // A single point would not be seen.
                let points = match points.as_slice() {
                    [one] => format!("{one} {one}"),
                    points => points.join(" "),
                };
                write!(svg, "<polyline class=\"l{number}\" points=\"{points}\"/>")?;
            }
            let (at, text) = (LEFT + 10.0 + 110.0 * number as f64, escape(line.name));
            let to = at + 18.0;
            write!(
                svg,
                "<line class=\"l{number}\" x1=\"{at}\" y1=\"{}\" x2=\"{to}\" y2=\"{}\"/>\
                 <text x=\"{}\" y=\"{}\">{text}</text>",
                TOP + 6.0,
                TOP + 6.0,
                to + 5.0,
                TOP + 10.0
            )?;
        }
        svg.push_str("</svg>");
        Ok(())
    }

    /// Where a value lies along the axis, in the axis's own measure.
    fn along(&self, value: f64) -> f64 {
        match self.across {
            Axis::Linear(_) => value,
            Axis::Nines(_) => -(1.0 - value).max(1e-9).log10(),
        }
    }

    fn marks(&self, most: f64) -> Vec<(f64, String)> {
        match self.across {
            Axis::Linear(_) => {
                let within = |value: &f64| *value <= most * 1.0001;
                ticks(most)
                    .into_iter()
                    .filter(within)
                    .map(|v| (v, short(v)))
                    .collect()
            }
            Axis::Nines(_) => {
                let nines = [
                    (0.0, "0 %"),
                    (0.9, "90 %"),
                    (0.99, "99 %"),
                    (0.999, "99.9 %"),
                    (0.9999, "99.99 %"),
                ];
                let within = |(value, _): &(f64, &str)| self.along(*value) <= most * 1.0001;
                nines
                    .into_iter()
                    .filter(within)
                    .map(|(v, text)| (v, text.to_owned()))
                    .collect()
            }
        }
    }
}

/// Round numbers from zero to at least `most`: four to nine of them.
fn ticks(most: f64) -> Vec<f64> {
    let rough = most / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= rough);
    let step = factor.unwrap_or(10.0) * power;
    let count = (most / step).ceil().min(20.0) as u32;
    (0..=count).map(|n| f64::from(n) * step).collect()
}

/// A number without needless zeros.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() {
        "0".into()
    } else {
        text.into()
    }
}

/// Text that stands for itself in a page.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            // What no page may hold.
            c if c.is_control() && c != '\n' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.7), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8]);
        for most in [1e-9, 0.013, 3.0, 99.0, 12_345.0, 1e9] {
            let ticks = ticks(most);
            assert!(
                ticks.last().is_some_and(|last| *last >= most),
                "{most}: {ticks:?}"
            );
            assert!((2..=21).contains(&ticks.len()));
        }
        assert_eq!(
            (short(0.6000000000000001), short(1500.0), short(0.0)),
            ("0.6".into(), "1500".into(), "0".into())
        );
    }

    #[test]
    fn a_line_is_where_its_values_are() {
        let line = Line::new(
            "p99",
            [(0.0, Some(0.0)), (5.0, None), (10.0, Some(4.0))].into_iter(),
        );
        assert_eq!(line.pieces.len(), 2);
        let plot = Plot {
            title: "a < b",
            across: Axis::Linear("seconds"),
            up: "ms",
            lines: vec![line],
        };
        let svg = plot.svg();
        // The origin, and the upper right corner: 4 is the highest tick.
        assert!(svg.contains("points=\"64.0,220.0 64.0,220.0\""), "{svg}");
        assert!(svg.contains("points=\"708.0,12.0 708.0,12.0\""), "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
    }

    #[test]
    fn every_nine_takes_the_same_room() {
        let line = Line::new(
            "latency",
            [(0.0, Some(1.0)), (0.9, Some(1.0)), (0.99, Some(1.0))].into_iter(),
        );
        let plot = Plot {
            title: "",
            across: Axis::Nines("quantile"),
            up: "ms",
            lines: vec![line],
        };
        let svg = plot.svg();
        assert!(svg.contains("64.0,12.0 386.0,12.0 708.0,12.0"), "{svg}");
        assert!(svg.contains(">99 %<") && !svg.contains(">99.9 %<"));
    }
}
