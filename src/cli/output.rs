//! Where words go: results to stdout, talk to stderr, each with or without colour as its terminal allows. Commands hold one of
//! these and never write elsewhere, so a test can read all they say.

use std::io::{IsTerminal, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::args::Global;

pub struct Output {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Machine output was asked for.
    pub json: bool,
    /// More talk was asked for.
    pub verbose: bool,
    /// A person reads stdout.
    pub out_is_terminal: bool,
    /// A person reads stderr.
    pub err_is_terminal: bool,
    color: bool,
}

/// What a piece of text is; decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Heading,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Heading => Style::new().bold(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// This process's stdout and stderr.
    pub fn of_process(global: &Global) -> Self {
        Self {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            json: global.json,
            verbose: global.verbose,
            out_is_terminal: std::io::stdout().is_terminal(),
            err_is_terminal: std::io::stderr().is_terminal(),
            color: !global.no_color,
        }
    }

    /// A line of the result.
    pub fn line(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A table of the result; the first row is the heading.
    pub fn rows(&mut self, rows: &[Vec<String>]) -> std::io::Result<()> {
        for (place, line) in table(rows).iter().enumerate() {
            match place {
                0 => self.line(&self.paint(Tone::Heading, line))?,
                _ => self.line(line)?,
            }
        }
        Ok(())
    }

    /// Bytes of the result, just as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// The result for machines: one JSON document on one line.
    pub fn document(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    /// A line of talk.
    pub fn talk(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.err, "{text}")
    }

    /// A line of talk without its end, for a question.
    pub fn ask(&mut self, text: &str) -> std::io::Result<()> {
        write!(self.err, "{text}")?;
        self.err.flush()
    }

    /// Text for stdout in its colour, if it has one there.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.color && self.out_is_terminal, tone, text)
    }

    /// Text for stderr in its colour, if it has one there.
    pub fn paint_talk(&self, tone: Tone, text: &str) -> String {
        paint(self.color && self.err_is_terminal, tone, text)
    }
}

fn paint(color: bool, tone: Tone, text: &str) -> String {
    if !color {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// Columns as wide as their widest cell; the last one is not padded. The first row is the heading.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths);
            let padded = cells.map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
pub mod captured {
    //! An output that keeps what it was given.

    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::Output;

    #[derive(Debug, Clone, Default)]
    pub struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).expect("output is UTF-8")
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// An output to no terminal, and its stdout and stderr.
    pub fn output(json: bool) -> (Output, Sink, Sink) {
        let (out, err) = (Sink::default(), Sink::default());
        let output = Output {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            json,
            verbose: false,
            out_is_terminal: false,
            err_is_terminal: false,
            color: false,
        };
        (output, out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let rows = [
            vec!["NAME".to_owned(), "MEMORY".to_owned()],
            vec!["größe".to_owned(), "1".to_owned()],
        ];
        assert_eq!(table(&rows), ["NAME   MEMORY", "größe  1"]);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(12), "12 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(50 * 1024 * 1024), "50.0 MiB");
    }

    #[test]
    fn colour_is_only_where_it_is_allowed() {
        assert_eq!(paint(false, Tone::Bad, "x"), "x");
        assert!(paint(true, Tone::Bad, "x").starts_with("\u{1b}["));
    }
}
