//! Cumulative curves as text: the share of trials that were over by then, on a logarithmic axis, as
//! in the paper.

use std::fmt::Write;
use std::time::Duration;

use super::Line;

const WIDTH: usize = 80;
const HEIGHT: usize = 16;

/// The axis begins here, and each decade has as many columns.
const FROM_MS: f64 = 10.0;
const DECADES: f64 = 4.0;

/// A curve, its name, and the marks of curves in the order of their appearance.
pub(super) struct Curve<'a> {
    name: String,
    sorted: &'a [Duration],
}

const MARKS: [char; 6] = ['a', 'b', 'c', 'd', 'e', 'f'];

impl Curve<'_> {
    pub(super) fn of(line: &Line) -> Curve<'_> {
        let (shortest, longest) = line.timeouts_ms;
        Curve {
            name: format!("{shortest}-{longest} ms"),
            sorted: &line.without_leader,
        }
    }

    /// The share of trials that were over after so many milliseconds.
    fn share(&self, milliseconds: f64) -> f64 {
        let over = self
            .sorted
            .partition_point(|trial| trial.as_secs_f64() * 1e3 <= milliseconds);
        over as f64 / self.sorted.len() as f64
    }
}

pub(super) fn cumulative(curves: &[Curve<'_>]) -> String {
    let mut grid = vec![[' '; WIDTH]; HEIGHT];
    for (curve, mark) in curves.iter().zip(MARKS) {
        let mut below = HEIGHT;
        for column in 0..WIDTH {
            let milliseconds = FROM_MS * 10f64.powf(DECADES * column as f64 / (WIDTH - 1) as f64);
            let share = curve.share(milliseconds);
            if share == 0.0 {
                continue;
            }
            let row = HEIGHT - 1 - (share * (HEIGHT - 1) as f64) as usize;
            // A steep piece is a line, too.
            for cells in &mut grid[row..below.max(row + 1)] {
                cells[column] = mark;
            }
            below = row;
        }
    }
    let mut text = String::new();
    for (row, cells) in grid.iter().enumerate() {
        let percent = 100.0 * (HEIGHT - 1 - row) as f64 / (HEIGHT - 1) as f64;
        let cells: String = cells.iter().collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{percent:>4.0} % |{}", cells.trim_end());
    }
    let _ = writeln!(text, "       +{}", "-".repeat(WIDTH));
    let decade = WIDTH / DECADES as usize;
    let axis = ["10 ms", "100 ms", "1 s", "10 s"].map(|label| format!("{label:<decade$}"));
    let _ = writeln!(text, "        {}100 s", axis.concat());
    let names = curves
        .iter()
        .zip(MARKS)
        .map(|(curve, mark)| format!("{mark}: {}", curve.name));
    let _ = writeln!(
        text,
        "        {}",
        names.collect::<Vec<String>>().join("   ")
    );
    text
}
