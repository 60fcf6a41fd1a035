//! Where do the rollouts of a step lie? One plane for all runs, a panel per algorithm.

use crate::diversity::{RunClusters, StepDiversity};
use crate::layout::{Scale, short};
use crate::measure::Unit;
use crate::scope::Scope;
use crate::svg::{Anchor, Colour, Svg, WIDTH, look};
use crate::words;

/// Points per panel at most; beyond, every n-th is drawn, so that a file stays small.
pub const MAX_POINTS: usize = 400;

/// Draws the plane of a step.
pub fn plane(scope: &Scope<'_>, step: &StepDiversity, title: &str) -> Svg {
    let mut svg = Svg::new(title, "Rollouts in the plane of their first two principal components, per algorithm");
    let percent = step.explained.map(|share| format!("{:.0} %", 100.0 * share));
    let axes = format!("right: component 1 ({} of the variance); up: component 2 ({})", percent[0], percent[1]);
    svg.text(0.0, 36.0, &axes, Anchor::Start, 12.0, Colour::Muted);
    let n = scope.algorithms.len();
    let n_columns = if n <= 4 { n.clamp(1, 4) } else { n.div_ceil(n.div_ceil(4)) };
    let gap = 14.0;
    let w = ((WIDTH - gap * (n_columns - 1) as f64) / n_columns as f64).min(330.0);
    let h = w.min(230.0);
    let all = || step.runs.iter().flatten().flat_map(|run| &run.points);
    let (x, y) = (range(all().map(|p| p[0])), range(all().map(|p| p[1])));
    for (i, algorithm) in scope.algorithms.iter().enumerate() {
        let (row, column) = (i / n_columns, i % n_columns);
        let (left, top) = (column as f64 * (w + gap), 80.0 + row as f64 * (h + 50.0));
        let (x, y) = (x.along(left + 6.0, left + w - 6.0), y.along(top + h - 6.0, top + 6.0));
        let frame = [(left, top), (left + w, top), (left + w, top + h), (left, top + h), (left, top)];
        svg.path(&frame, Colour::Faint, 1.0, "");
        svg.line((x.at(0.0), top), (x.at(0.0), top + h), Colour::Faint, 1.0, "");
        svg.line((left, y.at(0.0)), (left + w, y.at(0.0)), Colour::Faint, 1.0, "");
        let runs: Vec<&RunClusters> = scope.of(algorithm).filter_map(|run| step.runs[run].as_ref()).collect();
        let points: Vec<([f64; 2], bool)> =
            runs.iter().flat_map(|run| run.points.iter().copied().zip(run.clustered.iter().copied())).collect();
        let every = points.len().div_ceil(MAX_POINTS).max(1);
        let drawn = |in_cluster: bool| -> Vec<(f64, f64)> {
            let drawn = points.iter().step_by(every).filter(|(_, clustered)| *clustered == in_cluster);
            drawn.map(|(p, _)| (x.at(p[0]), y.at(p[1]))).collect()
        };
        let look = look(i, scope.baseline);
        svg.crosses(&drawn(false), Colour::Muted, 5.0, 0.75);
        svg.dots(&drawn(true), look.colour, 5.2, 0.55);
        svg.bold(left, top - 20.0, &short(algorithm, 20), Anchor::Start, 12.5, look.colour);
        let mean = |of: fn(&RunClusters) -> usize| {
            let sum: usize = runs.iter().map(|run| of(run)).sum();
            words::number(Unit::Count, sum as f64 / runs.len().max(1) as f64, false)
        };
        let counts = format!("{} clusters, {} alone", mean(|run| run.n_clusters), mean(|run| run.n_noise));
        svg.text(left, top - 6.0, &counts, Anchor::Start, 11.0, Colour::Muted);
    }
    svg.set_height(80.0 + n.div_ceil(n_columns) as f64 * (h + 50.0) - 46.0);
    svg
}

fn range(values: impl Iterator<Item = f64>) -> Scale {
    let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if high > low { (low, high) } else { (-1.0, 1.0) };
    Scale { low, high, from: 0.0, to: 1.0 }
}
