//! How is a whole divided? One bar per algorithm, from length 1 on.

use crate::layout::short;
use crate::summary::Summary;
use crate::svg::{Anchor, Colour, Svg, WIDTH, look};

/// Lengths that are told apart; the last takes all longer ones.
const N_LENGTHS: usize = 6;

/// Draws the share of high-entropy rounds by the length of their chain. `alone` is the share of lone rounds elsewhere.
pub fn chains(summary: &Summary<'_>, title: &str, alone: (f64, &str)) -> Svg {
    let mut svg = Svg::new(title, "Share of high-entropy rounds on chains of each length, per algorithm");
    let (left, top, row, w) = (112.0, 76.0, 26.0, WIDTH - 112.0 - 22.0);
    svg.text(left, 42.0, "length of the chain", Anchor::Start, 12.0, Colour::Muted);
    for length in 0..N_LENGTHS {
        let x = left + 132.0 + 62.0 * length as f64;
        svg.rect((x, 31.0), (14.0, 14.0), Colour::Level(length));
        let name = if length + 1 == N_LENGTHS { format!("{N_LENGTHS}+") } else { (length + 1).to_string() };
        svg.text(x + 19.0, 42.0, &name, Anchor::Start, 12.0, Colour::Ink);
    }
    let bottom = top + row * summary.chains.len() as f64;
    for (i, chains) in summary.chains.iter().enumerate() {
        let (y, look) = (top + row * i as f64, look(i, summary.baseline()));
        let name = short(&summary.algorithms[i].name, 15);
        svg.bold(left - 12.0, y + row / 2.0 + 4.0, &name, Anchor::End, 12.0, look.colour);
        if chains.shares.is_empty() {
            svg.text(left, y + row / 2.0 + 4.0, "no high-entropy round", Anchor::Start, 11.0, Colour::Muted);
        }
        let mut x = left;
        for length in 0..N_LENGTHS {
            let is_last = length + 1 == N_LENGTHS;
            let share: f64 = chains.shares.iter().skip(length).take(if is_last { usize::MAX } else { 1 }).sum();
            svg.rect((x, y + 4.0), (w * share, row - 8.0), Colour::Level(length));
            x += w * share;
        }
    }
    let at = left + w * alone.0;
    svg.line((at, top - 6.0), (at, bottom + 4.0), Colour::Ink, 1.3, "3 3");
    svg.text(at, top - 10.0, alone.1, Anchor::Middle, 11.0, Colour::Muted);
    for percent in [0, 25, 50, 75, 100] {
        let x = left + w * f64::from(percent) / 100.0;
        svg.text(x, bottom + 18.0, &format!("{percent} %"), Anchor::Middle, 11.0, Colour::Muted);
    }
    svg.set_height(bottom + 26.0);
    svg
}
