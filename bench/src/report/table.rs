//! A table that text and HTML both print.

/// The widest that a line of text may be.
pub(super) const LINE: usize = 110;

/// No column of words is made narrower than this to fit the line.
const NARROWEST: usize = 12;

/// Between columns.
const GAP: usize = 2;

/// Rows under headings.
pub(super) struct Table {
    /// The headings, and whether a column holds numbers.
    pub(super) columns: Vec<(&'static str, Kind)>,
    /// As many cells in each as there are columns.
    pub(super) rows: Vec<Vec<String>>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Words: to the left, and wrapped where they are long.
    Words,
    /// Numbers: to the right, never wrapped.
    Number,
}

impl Table {
    /// A table with these columns and no rows.
    pub(super) fn new(columns: impl IntoIterator<Item = (&'static str, Kind)>) -> Table {
        Table {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The table as text, no wider than [`LINE`] unless numbers alone are.
    pub(super) fn to_text(&self) -> String {
        let widths = self.widths();
        let headings = self
            .columns
            .iter()
            .map(|(heading, _)| (*heading).to_owned())
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            self.push_row(&mut text, row, &widths);
        }
        text
    }

    /// Each column's width: as much as it needs, the widest column of words giving way until a row
    /// fits the line.
    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .map(|(heading, _)| length(heading))
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(length(cell));
            }
        }
        loop {
            let total = widths.iter().sum::<usize>() + GAP * (widths.len() - 1);
            let widest = widths
                .iter_mut()
                .zip(&self.columns)
                .filter(|(width, (_, kind))| *kind == Kind::Words && **width > NARROWEST)
                .map(|(width, _)| width)
                .max();
            match widest {
                Some(width) if total > LINE => *width -= 1,
                _ => return widths,
            }
        }
    }

    fn push_row(&self, text: &mut String, row: &[String], widths: &[usize]) {
        let cells: Vec<Vec<String>> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| wrap(cell, *width))
            .collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..lines {
            let mut joined = String::new();
            for ((cell, width), (_, kind)) in cells.iter().zip(widths).zip(&self.columns) {
                let part = cell.get(line).map_or("", String::as_str);
                match kind {
                    Kind::Words => joined.push_str(&format!("{part:<width$}")),
                    Kind::Number => joined.push_str(&format!("{part:>width$}")),
                }
                joined.push_str(&" ".repeat(GAP));
            }
            text.push_str(joined.trim_end());
            text.push('\n');
        }
    }
}

/// Lines of at most so many characters, broken between words; a word longer than a line is cut.
/// Spaces at the beginning stay. Control characters, line breaks among them, become spaces.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut lines = Vec::new();
    let mut line: String = plain
        .chars()
        .take_while(|c| *c == ' ')
        .take(width - 1)
        .collect();
    let mut begun = false;
    for word in plain.split(' ').filter(|word| !word.is_empty()) {
        if begun && length(&line) + 1 + length(word) > width {
            lines.push(std::mem::take(&mut line));
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        begun = true;
        for character in word.chars() {
            if length(&line) == width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    lines.push(line);
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new([("name", Kind::Words), ("time", Kind::Number)]);
        table.row(["a".into(), "1.00 µs".into()]);
        table.row(["longer".into(), "20 ns".into()]);
        assert_eq!(
            table.to_text(),
            "name       time\na       1.00 µs\nlonger    20 ns\n"
        );
    }

    #[test]
    fn long_words_are_wrapped_so_that_the_line_fits() {
        let mut table = Table::new([
            ("what", Kind::Words),
            ("why", Kind::Words),
            ("n", Kind::Number),
        ]);
        table.row(["word ".repeat(30), "short".into(), "1".into()]);
        let text = table.to_text();
        assert!(
            text.lines().all(|line| line.chars().count() <= LINE),
            "{text}"
        );
        assert_eq!(text.matches("word").count(), 30);
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn wrapping_breaks_between_words_and_cuts_what_is_longer_than_a_line() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("a\x1b[31m\nb", 20), ["a [31m b"]);
        assert_eq!(wrap("  one two", 6), ["  one", "two"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
