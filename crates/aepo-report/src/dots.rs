//! How do the algorithms stand side by side? One row each: mean, interval, and every seed.

use crate::layout::{fit, short, tick, with_unit};
use crate::measure::Unit;
use crate::stats::Estimate;
use crate::summary::Summary;
use crate::svg::{Anchor, Colour, Svg, WIDTH, look};
use crate::words;

/// One measure of all algorithms.
pub struct Panel<'a> {
    /// What it shows.
    pub title: String,
    /// Its unit.
    pub unit: Unit,
    /// `[n_algorithms]`, the value.
    pub values: Vec<Option<&'a Estimate>>,
    /// `[n_algorithms]`, the value before training, drawn hollow; empty without.
    pub before: Vec<Option<&'a Estimate>>,
    /// A value to compare with, and its name.
    pub reference: Option<(f64, &'static str)>,
    /// Whether the values are differences: 0 is marked, and signs are written.
    pub is_difference: bool,
}

const LEFT: f64 = 112.0;
const ROW: f64 = 25.0;
const NUMBERS: f64 = 76.0;

/// Draws panels, three in a line.
pub fn dots(summary: &Summary<'_>, panels: &[Panel<'_>], title: &str) -> Svg {
    let names: Vec<&str> = panels.iter().map(|p| p.title.as_str()).collect();
    let mut svg = Svg::new(title, &format!("{}, per algorithm with intervals over seeds", names.join("; ")));
    let n_columns = panels.len().clamp(1, 3);
    let gap = 18.0;
    let w = (WIDTH - LEFT - gap * (n_columns - 1) as f64) / n_columns as f64;
    let rows = |panel: &Panel<'_>| -> Vec<usize> {
        (0..panel.values.len()).filter(|i| !panel.is_difference || *i != summary.baseline()).collect()
    };
    let mut top = 54.0;
    for line in panels.chunks(n_columns) {
        let shown = rows(&line[0]);
        let h = ROW * shown.len() as f64;
        for (row, i) in shown.iter().enumerate() {
            let (y, look) = (top + ROW * (row as f64 + 0.5), look(*i, summary.baseline()));
            svg.bold(LEFT - 12.0, y + 4.0, &short(&summary.algorithms[*i].name, 15), Anchor::End, 12.0, look.colour);
        }
        for (column, panel) in line.iter().enumerate() {
            draw(&mut svg, summary, panel, &shown, (LEFT + column as f64 * (w + gap), top), (w - NUMBERS, h));
        }
        let has_reference = line.iter().any(|panel| panel.reference.is_some());
        top += h + if has_reference { 70.0 } else { 58.0 };
    }
    svg.set_height(top - 38.0);
    svg
}

fn draw(svg: &mut Svg, summary: &Summary<'_>, panel: &Panel<'_>, shown: &[usize], at: (f64, f64), size: (f64, f64)) {
    let ((left, top), (w, h)) = (at, size);
    let estimates = || panel.values.iter().chain(&panel.before).flatten();
    let seeds = estimates().flat_map(|e| e.values.iter().map(|(_, v)| *v));
    let ends = estimates().filter_map(|e| e.interval).flatten();
    let extra = panel.reference.map(|(v, _)| v).into_iter().chain(panel.is_difference.then_some(0.0));
    let (scale, ticks, step) = fit(seeds.chain(ends).chain(extra), (w / 34.0) as usize);
    let x = scale.along(left, left + w);
    svg.text(
        left,
        top - 12.0,
        &with_unit(&panel.title, panel.unit, panel.is_difference),
        Anchor::Start,
        12.0,
        Colour::Ink,
    );
    for value in ticks {
        let at = x.at(value);
        svg.line((at, top), (at, top + h), Colour::Faint, 1.0, "");
        svg.text(at, top + h + 14.0, &tick(panel.unit, value, step), Anchor::Middle, 10.5, Colour::Muted);
    }
    if panel.is_difference {
        svg.line((x.at(0.0), top), (x.at(0.0), top + h), Colour::Muted, 1.4, "");
    }
    if let Some((value, name)) = panel.reference {
        svg.line((x.at(value), top - 4.0), (x.at(value), top + h), Colour::Muted, 1.2, "3 3");
        let anchor = if x.at(value) > left + w / 2.0 { Anchor::End } else { Anchor::Start };
        svg.text(x.at(value), top + h + 27.0, name, anchor, 10.5, Colour::Muted);
    }
    for (row, i) in shown.iter().enumerate() {
        let (y, look) = (top + ROW * (row as f64 + 0.5), look(*i, summary.baseline()));
        let (Some(value), before) = (panel.values[*i], panel.before.get(*i).copied().flatten()) else {
            svg.text(left + w + 8.0, y + 4.0, "–", Anchor::Start, 11.0, Colour::Muted);
            continue;
        };
        if let Some(before) = before {
            svg.line((x.at(before.mean), y), (x.at(value.mean), y), look.colour, 1.0, "2 2");
            svg.marker((x.at(before.mean), y), look, 4.0, false);
        }
        let seeds: Vec<(f64, f64)> = value.values.iter().map(|(_, v)| (x.at(*v), y + 7.5)).collect();
        if value.values.len() > 1 {
            svg.dots(&seeds, look.colour, 3.0, 0.55);
        }
        if let Some([low, high]) = value.interval {
            svg.line((x.at(low), y), (x.at(high), y), look.colour, 2.0, "");
            for end in [low, high] {
                svg.line((x.at(end), y - 3.5), (x.at(end), y + 3.5), look.colour, 1.4, "");
            }
        }
        svg.marker((x.at(value.mean), y), look, 4.4, true);
        let number = words::estimate(panel.unit, value, panel.is_difference);
        svg.text(left + w + 8.0, y + 4.0, &number, Anchor::Start, 10.5, Colour::Muted);
    }
}
