//! What commands print: tables for people, JSON for programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

use clap::ValueEnum;
use serde_json::Value;

use super::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON object per line.
    Json,
}

/// Standard output behind a large buffer. The standard library's own handle flushes at every line,
/// which for records means a system call each.
pub(super) fn stdout() -> io::Result<BufWriter<File>> {
    let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(BufWriter::with_capacity(256 << 10, File::from(descriptor)))
}

/// Prints bytes.
pub(super) fn write_all(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = stdout()?;
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Prints objects, one per line.
pub(super) fn write_json(objects: impl IntoIterator<Item = Value>) -> Result<(), Failure> {
    let mut text = String::new();
    for object in objects {
        text.push_str(&object.to_string());
        text.push('\n');
    }
    write_all(text.as_bytes())
}

/// Prints one sentence, or one object.
pub(super) fn say(output: Output, sentence: String, object: Value) -> Result<(), Failure> {
    match output {
        Output::Table => write_all(format!("{sentence}\n").as_bytes()),
        Output::Json => write_json([object]),
    }
}

/// Rows under headings, each column as wide as it needs to be.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new<const N: usize>(headings: [&str; N]) -> Table {
        Table {
            rows: vec![headings.map(str::to_owned).to_vec()],
        }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// The table as text. Columns that hold nothing but numbers are aligned to the right.
    pub(super) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let numeric = |column: usize| {
            self.rows[1..]
                .iter()
                .all(|row| row[column].parse::<f64>().is_ok())
        };
        let shape: Vec<_> = (0..columns)
            .map(|column| (width(column), numeric(column)))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&shape)
                .map(|(cell, &(width, numeric))| {
                    if numeric {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                })
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints the table.
    pub(super) fn print(&self) -> Result<(), Failure> {
        write_all(self.render().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new(["name", "size"]);
        table.row(["a".into(), "1000".into()]);
        table.row(["longer".into(), "2".into()]);
        assert_eq!(table.render(), "name    size\na       1000\nlonger     2\n");
    }
}
