//! How does a number develop? Curves over steps, one panel per algorithm before the others' shadows.

use crate::layout::{Scale, fit, short, tick, with_unit};
use crate::measure::Unit;
use crate::summary::{Band, CurveSummary, Summary};
use crate::svg::{Anchor, Colour, Look, Svg, WIDTH, look};

const LEFT: f64 = 48.0;
const TOP: f64 = 34.0;

/// Draws a curve of all algorithms: up to three in one panel, more in a panel each, on common axes.
pub fn lines(summary: &Summary<'_>, curve: &CurveSummary, title: &str) -> Svg {
    let mut svg = Svg::new(title, &format!("{} over training steps, per algorithm", curve.name));
    let n = curve.algorithms.len();
    let x = x_scale(&curve.steps);
    // Bands of few seeds can be wider than everything else; they are cut at twice the range of the means.
    let means: Vec<f64> = curve.algorithms.iter().flatten().flatten().map(|b| b.mean).collect();
    let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(l, h), m| (l.min(*m), h.max(*m)));
    let reach = 0.5 * (high - low);
    let ends = curve.algorithms.iter().flatten().flatten().filter_map(|b| b.interval).flatten();
    let ends = ends.map(|end| end.clamp(low - reach, high + reach));
    let floor = if low >= 0.0 { 0.0 } else { f64::MIN };
    // An interval may reach beyond what a share can be; the picture does not.
    let ceiling = if curve.unit == Unit::Share { 1.0 } else { f64::INFINITY };
    let (y, ticks, step) = fit(ends.chain(means.iter().copied()).map(|v| v.max(floor).min(ceiling)), 4);
    let axes = Axes { x, y, ticks, step };
    svg.text(0.0, TOP + 2.0, &with_unit(curve.name, curve.unit, false), Anchor::Start, 12.0, Colour::Muted);
    if n <= 3 {
        let (w, h, top) = (WIDTH - LEFT - 118.0, 236.0, TOP + 14.0);
        let panel = axes.frame(&mut svg, curve, (LEFT, top), (w, h), true, true);
        for i in order(n, summary.baseline()) {
            panel.band(&mut svg, &curve.steps, &curve.algorithms[i], look(i, summary.baseline()), true);
        }
        panel.labels(&mut svg, summary, curve, LEFT + w + 10.0);
        svg.text(LEFT + w / 2.0, top + h + 34.0, "training step", Anchor::Middle, 12.0, Colour::Muted);
        svg.set_height(top + h + 42.0);
        return svg;
    }
    let n_columns = if n == 4 { 2 } else { 3 };
    let (gap, h) = (16.0, 116.0);
    let w = (WIDTH - LEFT - gap * (n_columns - 1) as f64) / n_columns as f64;
    let n_rows = n.div_ceil(n_columns);
    for i in 0..n {
        let (row, column) = (i / n_columns, i % n_columns);
        let (left, top) = (LEFT + column as f64 * (w + gap), TOP + 30.0 + row as f64 * (h + 36.0));
        // The last panel of each column carries the steps.
        let is_lowest = i + n_columns >= n;
        let panel = axes.frame(&mut svg, curve, (left, top), (w, h), column == 0, is_lowest);
        let own = look(i, summary.baseline());
        for other in (0..n).filter(|o| *o != i && *o != summary.baseline()) {
            panel.mean(&mut svg, &curve.steps, &curve.algorithms[other], Colour::Shadow, 1.0, "");
        }
        if i != summary.baseline() {
            let (baseline, behind) = (summary.baseline(), look(summary.baseline(), summary.baseline()));
            panel.mean(&mut svg, &curve.steps, &curve.algorithms[baseline], Colour::Ink, 1.2, behind.dash);
        }
        panel.band(&mut svg, &curve.steps, &curve.algorithms[i], Look { dash: "", ..own }, false);
        svg.bold(left, top - 7.0, &short(&summary.algorithms[i].name, 24), Anchor::Start, 12.5, own.colour);
    }
    let bottom = TOP + 30.0 + n_rows as f64 * (h + 36.0);
    let baseline = short(&summary.context.baseline, 24);
    let legend = format!("across: training step; dashed: {baseline}; grey: the other algorithms");
    svg.text(LEFT, bottom + 8.0, &legend, Anchor::Start, 12.0, Colour::Muted);
    svg.set_height(bottom + 14.0);
    svg
}

/// The baseline last, so that nothing covers it.
fn order(n: usize, baseline: usize) -> impl Iterator<Item = usize> {
    (0..n).filter(move |i| *i != baseline).chain([baseline])
}

fn x_scale(steps: &[u64]) -> Scale {
    let (low, high) = (steps.first().copied().unwrap_or(0) as f64, steps.last().copied().unwrap_or(1) as f64);
    Scale { low, high: if high > low { high } else { low + 1.0 }, from: 0.0, to: 1.0 }
}

struct Axes {
    x: Scale,
    y: Scale,
    ticks: Vec<f64>,
    step: f64,
}

impl Axes {
    /// Grid, ticks, and the scales of one panel.
    fn frame(
        &self,
        svg: &mut Svg,
        curve: &CurveSummary,
        (left, top): (f64, f64),
        (w, h): (f64, f64),
        with_y: bool,
        with_x: bool,
    ) -> Panel {
        let (x, y) = (self.x.along(left, left + w), self.y.along(top + h, top));
        for value in &self.ticks {
            let at = y.at(*value);
            svg.line((left, at), (left + w, at), Colour::Faint, 1.0, "");
            if with_y {
                svg.text(left - 7.0, at + 4.0, &tick(curve.unit, *value, self.step), Anchor::End, 11.0, Colour::Muted);
            }
        }
        svg.line((left, top + h), (left + w, top + h), Colour::Shadow, 1.0, "");
        if with_x {
            let (_, ticks, step) = fit([self.x.low, self.x.high], (w / 60.0) as usize);
            for value in ticks.iter().filter(|v| **v >= self.x.low && **v <= self.x.high && v.fract() == 0.0) {
                let at = x.at(*value);
                svg.line((at, top + h), (at, top + h + 4.0), Colour::Shadow, 1.0, "");
                let label = tick(Unit::Count, *value, step);
                svg.text(at, top + h + 16.0, &label, Anchor::Middle, 11.0, Colour::Muted);
            }
        }
        Panel { x, y }
    }
}

struct Panel {
    x: Scale,
    y: Scale,
}

impl Panel {
    fn mean(&self, svg: &mut Svg, steps: &[u64], bands: &[Option<Band>], colour: Colour, width: f64, dash: &str) {
        let points: Vec<(f64, f64)> = self.points(steps, bands, |band| Some(band.mean));
        svg.path(&points, colour, width, dash);
    }

    fn points(&self, steps: &[u64], bands: &[Option<Band>], of: impl Fn(&Band) -> Option<f64>) -> Vec<(f64, f64)> {
        let all = steps.iter().zip(bands);
        all.filter_map(|(step, band)| Some((self.x.at(*step as f64), self.y.at(of(band.as_ref()?)?)))).collect()
    }

    /// The interval as a band, the mean as a line, and markers where there are few points.
    fn band(&self, svg: &mut Svg, steps: &[u64], bands: &[Option<Band>], look: Look, is_light: bool) {
        let mut outline = self.points(steps, bands, |band| band.interval.map(|i| i[0]));
        let high = self.points(steps, bands, |band| band.interval.map(|i| i[1]));
        outline.extend(high.into_iter().rev());
        svg.area(&outline, look.colour, if is_light { 0.13 } else { 0.2 });
        self.mean(svg, steps, bands, look.colour, 2.0, look.dash);
        if steps.len() <= 12 {
            for point in self.points(steps, bands, |band| Some(band.mean)) {
                svg.marker(point, look, 3.2, true);
            }
        }
    }

    /// Names at the ends of the lines, moved apart where they would overlap.
    fn labels(&self, svg: &mut Svg, summary: &Summary<'_>, curve: &CurveSummary, x: f64) {
        let end = |i: usize| Some((self.y.at(curve.algorithms[i].last()?.as_ref()?.mean), i));
        let mut ends: Vec<(f64, usize)> = (0..curve.algorithms.len()).filter_map(end).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let room = 16.0;
        for i in 1..ends.len() {
            let overlap = room - (ends[i].0 - ends[i - 1].0);
            if overlap > 0.0 {
                ends[i - 1].0 -= overlap / 2.0;
                ends[i].0 += overlap / 2.0;
            }
        }
        for (y, i) in ends {
            let look = look(i, summary.baseline());
            svg.bold(x, y + 4.0, &short(&summary.algorithms[i].name, 16), Anchor::Start, 12.5, look.colour);
        }
    }
}
