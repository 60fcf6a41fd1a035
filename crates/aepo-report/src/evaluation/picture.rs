//! How do the sets stand side by side? A row each: the score, its interval, and what the paper found.

use super::Evaluation;
use crate::figures::Figure;
use crate::layout::{fit, short, tick};
use crate::measure::{Group, Unit};
use crate::svg::{Anchor, Colour, Svg, WIDTH, look};

const LEFT: f64 = 172.0;
const ROW: f64 = 26.0;
const NUMBERS: f64 = 130.0;

/// Draws the scores; `None` without a set.
pub(super) fn scores(e: &Evaluation) -> Option<Figure> {
    if e.sets.is_empty() {
        return None;
    }
    let papers = |name: &str| -> Vec<f64> {
        let figures = e.paper.into_iter().flat_map(aepo::eval::paper::Paper::figures);
        figures.filter(|f| f.k == 1 && f.benchmark == name).map(|f| f.percent / 100.0).collect()
    };
    let mut svg = Svg::new("Scores", "Score of each benchmark with its 95 % interval over questions");
    let (top, width) = (44.0, WIDTH - LEFT - NUMBERS);
    let height = ROW * e.sets.len() as f64;
    let values = e.sets.iter().flat_map(|s| [s.score.value, s.score.interval[0], s.score.interval[1]]);
    let published: Vec<f64> = e.sets.iter().flat_map(|s| papers(&s.name)).collect();
    let (scale, ticks, step) = fit(values.chain(published.iter().copied()).chain([0.0]), 8);
    let x = scale.along(LEFT, LEFT + width);
    for value in ticks {
        let at = x.at(value);
        svg.line((at, top), (at, top + height), Colour::Faint, 1.0, "");
        svg.text(at, top + height + 15.0, &tick(Unit::Share, value, step), Anchor::Middle, 10.5, Colour::Muted);
    }
    let own = look(1, 0);
    for (row, set) in e.sets.iter().enumerate() {
        let y = top + ROW * (row as f64 + 0.5);
        svg.bold(LEFT - 12.0, y + 4.0, &short(&set.title, 22), Anchor::End, 12.0, Colour::Ink);
        for value in papers(&set.name) {
            svg.line((x.at(value), y - 8.0), (x.at(value), y + 8.0), Colour::Muted, 2.0, "");
        }
        if set.score.n_questions == 0 {
            svg.text(LEFT + width + 10.0, y + 4.0, "–", Anchor::Start, 11.0, Colour::Muted);
            continue;
        }
        let [low, high] = set.score.interval;
        svg.line((x.at(low), y), (x.at(high), y), own.colour, 2.0, "");
        for end in [low, high] {
            svg.line((x.at(end), y - 3.5), (x.at(end), y + 3.5), own.colour, 1.4, "");
        }
        svg.marker((x.at(set.score.value), y), own, 4.4, true);
        svg.text(LEFT + width + 10.0, y + 4.0, &super::tell::told(&set.score), Anchor::Start, 10.5, Colour::Muted);
    }
    svg.set_height(top + height + 24.0);
    let beside = match published.is_empty() {
        true => "",
        false => " Upright strokes: the paper's figures, of each of its models one.",
    };
    let caption = format!(
        "Score in per cent by the metric of each benchmark; the line is the 95 % interval over questions.{beside}"
    );
    Some(Figure { name: "scores".to_owned(), svg, caption, group: Group::Accuracy })
}
