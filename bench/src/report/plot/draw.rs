//! From axes and shapes to SVG, by plotters. The rest of the plots knows nothing of it.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::axis::Axis;
use super::colours::{Colour, GRID, INK};

/// The text in a plot.
const FONT: (&str, u32) = ("sans-serif", 15);

/// About how wide a character of that is.
const CHARACTER_WIDTH: usize = 8;

/// The width of a plot.
pub(super) const WIDTH: u32 = 960;

/// Something in a plot, by positions on its axes.
pub(super) enum Shape {
    /// Points joined by a line.
    Line(Colour, u32, Vec<(f64, f64)>),
    /// A filled dot.
    Dot(Colour, u32, (f64, f64)),
    /// A circle.
    Ring(Colour, u32, (f64, f64)),
    /// A thin line from bottom to top.
    Upright(Colour, f64),
}

/// Positions are numbers, drawn evenly from end to end; marks are where the axis has them.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (first, last): (i32, i32)) -> i32 {
        // What lies outside, if only by rounding, is drawn at the edge.
        let share = ((position - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.iter().map(|(position, _)| *position).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, position: &f64) -> String {
        self.mark_name(*position)
    }
}

/// The plot as an `svg` element. Its texts are escaped.
pub(super) fn draw(height: u32, x: &Axis, y: &Axis, shapes: &[Shape]) -> String {
    let mut svg = String::new();
    try_draw(&mut svg, height, x, y, shapes).expect("drawing into memory does not fail");
    svg
}

fn try_draw(
    svg: &mut String,
    height: u32,
    x: &Axis,
    y: &Axis,
    shapes: &[Shape],
) -> Result<(), Box<dyn std::error::Error>> {
    let longest = y
        .marks
        .iter()
        .map(|(_, name)| name.chars().count())
        .max()
        .unwrap_or(0);
    let title_room = if y.title.is_empty() { 0 } else { 24 };
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    {
        let mut chart = ChartBuilder::on(&root)
            .margin_top(8)
            .margin_right(32)
            .x_label_area_size(46)
            .y_label_area_size((longest * CHARACTER_WIDTH + 12 + title_room) as u32)
            .build_cartesian_2d(x.clone(), y.clone())?;
        let text = FONT.into_font().color(&INK.rgb());
        chart
            .configure_mesh()
            .x_desc(x.title.as_str())
            .y_desc(y.title.as_str())
            .axis_style(INK.rgb())
            .bold_line_style(GRID.rgb())
            .light_line_style(TRANSPARENT)
            .label_style(text.clone())
            .axis_desc_style(text)
            .draw()?;
        let drawn = chart.plotting_area();
        for shape in shapes {
            match shape {
                Shape::Line(colour, width, points) => {
                    drawn.draw(&PathElement::new(
                        points.clone(),
                        colour.rgb().stroke_width(*width),
                    ))?;
                }
                Shape::Dot(colour, radius, at) => {
                    drawn.draw(&Circle::new(*at, *radius, colour.rgb().filled()))?
                }
                Shape::Ring(colour, radius, at) => {
                    drawn.draw(&Circle::new(*at, *radius, colour.rgb().stroke_width(2)))?;
                }
                Shape::Upright(colour, at) => {
                    let ends = vec![(*at, y.from), (*at, y.to)];
                    drawn.draw(&PathElement::new(ends, colour.rgb().stroke_width(1)))?;
                }
            }
        }
    }
    root.present()?;
    drop(root);
    Ok(())
}
