//! How does a table look? Curves over one axis, as SVG.

use aepo_report::layout::{fit, tick};
use aepo_report::measure::Unit;
use aepo_report::svg::{Anchor, Colour, Look, Svg, WIDTH, look};

/// One curve.
pub struct Curve {
    /// Written at its end.
    pub name: String,
    /// By the axis across, whose unit is the distance between two marks where these are names.
    pub points: Vec<(f64, f64)>,
}

/// What numbers up an axis mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Themselves.
    Count,
    /// Shares of 1.
    Share,
    /// Logarithms.
    PowerOfTen,
}

/// A picture.
pub struct Picture<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What is across, and up.
    pub across: &'a str,
    /// See there.
    pub up: &'a str,
    /// See there.
    pub scale: Scale,
    /// Names of the places 0, 1, 2 … across; empty where these are numbers.
    pub places: Vec<String>,
    /// The curves; the last is the one that others are compared with, in ink.
    pub curves: Vec<Curve>,
}

/// Where the panel lies.
const LEFT: f64 = 52.0;
const TOP: f64 = 52.0;
const HEIGHT: f64 = 240.0;
/// For the curves' names.
const RIGHT: f64 = 150.0;

/// Draws it.
pub fn draw(picture: &Picture<'_>) -> Svg {
    let mut svg = Svg::new(&format!("{} (simulated)", picture.title), &format!("{} by {}", picture.up, picture.across));
    let points = || picture.curves.iter().flat_map(|curve| &curve.points);
    let (y, ticks, step) = fit(points().map(|p| p.1).chain([0.0]), 5);
    let tick_name = |value: f64| match picture.scale {
        Scale::Count => tick(Unit::Count, value, step),
        Scale::Share => tick(Unit::Share, value, step),
        Scale::PowerOfTen => 10f64.powf(value).to_string(),
    };
    let width = WIDTH - LEFT - RIGHT;
    let at_y = |value: f64| TOP + HEIGHT * (1.0 - (value - y.low) / (y.high - y.low));
    let (x_low, x_high, x_marks) = match picture.places.len() {
        0 => {
            let (x, ticks, step) = fit(points().map(|p| p.0), 6);
            (x.low, x.high, ticks.iter().map(|&t| (t, tick(Unit::Count, t, step))).collect())
        }
        n => (0.0, (n - 1).max(1) as f64, (0..n).map(|i| (i as f64, picture.places[i].clone())).collect::<Vec<_>>()),
    };
    let at_x = |value: f64| LEFT + width * (value - x_low) / (x_high - x_low);
    svg.text(0.0, TOP - 14.0, picture.up, Anchor::Start, 12.0, Colour::Muted);
    for &value in &ticks {
        svg.line((LEFT, at_y(value)), (LEFT + width, at_y(value)), Colour::Faint, 1.0, "");
        svg.text(LEFT - 8.0, at_y(value) + 4.0, &tick_name(value), Anchor::End, 12.0, Colour::Muted);
    }
    for (value, name) in &x_marks {
        svg.text(at_x(*value), TOP + HEIGHT + 18.0, name, Anchor::Middle, 12.0, Colour::Muted);
    }
    svg.text(LEFT + width / 2.0, TOP + HEIGHT + 38.0, picture.across, Anchor::Middle, 12.0, Colour::Muted);
    let n = picture.curves.len();
    // Names stand at the ends of their curves, moved apart where they would touch.
    let end = |i: usize| picture.curves[i].points.last().map_or(y.low, |p| p.1);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| end(b).total_cmp(&end(a)));
    let mut name_y = f64::MIN;
    for i in order {
        let curve = &picture.curves[i];
        let Look { colour, dash, marker } = look(i, n - 1);
        let look = Look { colour, dash, marker };
        let line: Vec<(f64, f64)> = curve.points.iter().map(|&(a, b)| (at_x(a), at_y(b))).collect();
        svg.path(&line, colour, 1.8, dash);
        if !picture.places.is_empty() {
            line.iter().for_each(|&point| svg.marker(point, look, 3.5, true));
        }
        name_y = (at_y(end(i)) + 4.0).max(name_y + 16.0);
        svg.bold(LEFT + width + 12.0, name_y, &curve.name, Anchor::Start, 12.0, colour);
    }
    svg.set_height(TOP + HEIGHT + 46.0);
    svg
}
