//! Which pictures are drawn, and what does each say? The caption names units, what is averaged over what, and the
//! seed paper's figure with its value.

use crate::bars;
use crate::diversity::{EPS, MIN_POINTS, StepDiversity};
use crate::dots::{Panel, dots};
use crate::lines::lines;
use crate::measure::Group;
use crate::scatter::{self, MAX_POINTS};
use crate::scope::Scope;
use crate::summary::Summary;
use crate::svg::Svg;
use crate::words;

/// A picture and what is said about it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Name of its file, without folder and ending.
    pub name: String,
    /// The picture.
    pub svg: Svg,
    /// What it shows.
    pub caption: String,
    /// Where it is told.
    pub group: Group,
}

impl Figure {
    /// Its file in the report.
    pub fn path(&self) -> String {
        format!("plots/{}.svg", self.name)
    }
}

struct Figures<'a> {
    summary: &'a Summary<'a>,
    list: Vec<Figure>,
}

/// Every picture of the report, in its order.
pub fn figures(summary: &Summary<'_>, scope: &Scope<'_>, diversity: &[StepDiversity]) -> Vec<Figure> {
    let mut figures = Figures { summary, list: Vec::new() };
    accuracy(&mut figures);
    behaviour(&mut figures);
    for step in diversity {
        figures.push(Group::Diversity, &format!("rollouts-step-{:06}", step.step), plane(scope, step), {
            let (all, n) = (step.runs.iter().flatten().map(|r| r.points.len()).sum::<usize>(), step.n_tasks);
            format!(
                "Step {}: {all} rollouts of all runs and seeds, for the first {} of the step, in the plane in which \
                 they differ most. Coloured discs belong to a cluster of their own run, grey crosses to none. At most \
                 about {MAX_POINTS} are drawn per panel.{} The paper shows such a plane with 54 clusters before and 62 \
                 with AEPO.",
                step.step,
                words::count(n, "question"),
                if step.step == 0 { FIRST_STEP } else { "" },
            )
        });
    }
    clusters(&mut figures, diversity);
    gradient(&mut figures);
    cost(&mut figures);
    figures.list
}

const FIRST_STEP: &str = " At step 0 all algorithms have the same weights and questions: what differs here differs by \
    the way of sampling alone.";

fn plane(scope: &Scope<'_>, step: &StepDiversity) -> Svg {
    scatter::plane(scope, step, &format!("Rollouts of step {} and their clusters", step.step))
}

impl Figures<'_> {
    fn push(&mut self, group: Group, name: &str, svg: Svg, caption: String) {
        self.list.push(Figure { name: name.to_owned(), svg, caption, group });
    }

    /// The runs behind a mean.
    fn seeds(&self) -> String {
        let counts: Vec<usize> = self.summary.algorithms.iter().map(|a| a.seeds.len()).collect();
        let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
        match (least, most) {
            (1, 1) => "one seed, so there is no interval".to_owned(),
            (least, most) if least == most => format!("{most} seeds with the 95 % interval of the mean"),
            (least, most) => format!("{least} to {most} seeds with the 95 % interval of the mean, where there are two"),
        }
    }

    fn curve(&mut self, group: Group, key: &str, name: &str, title: &str, what: &str, paper: &str) {
        let Some(curve) = self.summary.curve(key) else { return };
        let smooth = match curve.window {
            1 => String::new(),
            n => format!(" Each run is smoothed by a centred moving mean over {n} steps."),
        };
        let svg = lines(self.summary, curve, title);
        let band = "A band that is wider than the picture is cut.";
        self.push(group, name, svg, format!("{what}: mean over {}.{smooth} {band} {paper}", self.seeds()));
    }

    /// A panel of a measure; `None` where no run has it.
    fn panel(&self, key: &str, before: Option<&str>, reference: Option<(f64, &'static str)>) -> Option<Panel<'_>> {
        let measure = self.summary.measure(key).filter(|m| m.estimates.iter().any(Option::is_some))?;
        let values = measure.estimates.iter().map(Option::as_ref).collect();
        let before = before.and_then(|key| self.summary.measure(key));
        let before: Vec<_> = before.map_or(Vec::new(), |m| m.estimates.iter().map(Option::as_ref).collect());
        // With the value before beside it, a name says no time.
        let name = measure.name.strip_suffix(" after").filter(|_| !before.is_empty());
        let (title, unit) = (name.unwrap_or(&measure.name).to_owned(), measure.unit);
        Some(Panel { title, unit, values, before, reference, is_difference: false })
    }

    fn difference(&self, key: &str) -> Option<Panel<'_>> {
        let measure = self.summary.measure(key).filter(|m| m.differences.iter().any(Option::is_some))?;
        let values = measure.differences.iter().map(|d| d.as_ref().map(|d| &d.estimate)).collect();
        let (title, unit) = (measure.name.clone(), measure.unit);
        Some(Panel { title, unit, values, before: Vec::new(), reference: None, is_difference: true })
    }

    fn dots(&mut self, group: Group, name: &str, title: &str, panels: Vec<Option<Panel<'_>>>, caption: String) {
        let panels: Vec<Panel<'_>> = panels.into_iter().flatten().collect();
        if !panels.is_empty() {
            let svg = dots(self.summary, &panels, title);
            self.push(group, name, svg, caption);
        }
    }
}

fn accuracy(f: &mut Figures<'_>) {
    let summary = f.summary;
    let (seeds, baseline) = (f.seeds(), &summary.context.baseline);
    let paper = "The paper reports about +5 points over GRPO on average over ten benchmarks.";
    let first = summary.eval_steps.first().copied().unwrap_or(0);
    let g = Group::Accuracy;
    let shown = Figures { summary, list: Vec::new() };
    let panels = vec![
        shown.panel("pass_at_1_after", Some("pass_at_1_before"), None),
        shown.panel("pass_at_n_after", Some("pass_at_n_before"), None),
    ];
    let caption = format!(
        "Share of held-out questions, in per cent: answered right by one sample, and by at least one of several. Hollow: \
         after {first} steps; filled: after training, {seeds}; small points: the seeds. {paper}"
    );
    f.dots(g, "accuracy", "Held-out accuracy before and after training", panels, caption);
    let panels = ["pass_at_1_after", "pass_at_n_after", "pass_at_1_area"].map(|key| shown.difference(key)).into();
    let caption = format!(
        "The same less {baseline} with the same seed, in percentage points: mean over the seeds that both have, with its \
         95 % interval. Where a whisker crosses the line at 0, these seeds do not tell the two apart. {paper}"
    );
    f.dots(g, "differences", &format!("Held-out accuracy less {baseline}, seed by seed"), panels, caption);
    let what = "Share of right answers to the held-out questions, in per cent, at each evaluation";
    f.curve(g, "pass_at_1", "learning-curves", "Held-out Pass@1 over training", what, paper);
    let what = "Accuracy of a step's training rollouts, in per cent";
    let paper =
        "Algorithms that fork sample paths that share beginnings, so this is no fair contest; held-out accuracy is.";
    f.curve(g, "accuracy", "training-accuracy", "Accuracy of training rollouts", what, paper);
}

fn behaviour(f: &mut Figures<'_>) {
    let what = "Mean entropy of the distributions that sampled tokens came from, nats per token";
    let paper = "The paper draws AEPO's entropy as high and stable over training.";
    f.curve(Group::Entropy, "entropy", "entropy", "Token entropy over training", what, paper);
    let paper = "The paper counts about 250 to 300 calls a step for AEPO, 400 to 450 for GRPO.";
    let what = "Tool calls on the way from the root to an answer, mean over the trajectories of a step";
    f.curve(Group::Tools, "calls_per_trajectory", "calls-per-trajectory", "Tool calls per trajectory", what, paper);
    let what = "Tool calls of a step, calls before a fork counted once";
    f.curve(Group::Tools, "calls_per_step", "calls-per-step", "Tool calls per step", what, paper);

    let shown = Figures { summary: f.summary, list: Vec::new() };
    let seeds = f.seeds();
    let paper = "The paper finds 56.5 % of the high-entropy rounds consecutive, in chains of up to 6.";
    let panels = vec![
        shown.panel("high_entropy_rate", None, None),
        shown.panel("consecutive_share", None, Some((0.565, "paper: 56.5 %"))),
        shown.panel("longest_chain", None, Some((6.0, "paper: 6"))),
    ];
    let caption = format!(
        "Rounds after a tool result whose entropy is high, as a share of all such rounds; the share of these that have \
         another one right before or after them on their trajectory; and the longest chain of a run. All steps of a \
         run, {seeds}. {paper}"
    );
    f.dots(Group::Chains, "chains", "High-entropy tool rounds, and how many are consecutive", panels, caption);
    let svg =
        bars::chains(f.summary, "High-entropy rounds by the length of their chain", (0.435, "paper: 43.5 % alone"));
    let caption = format!(
        "Of 100 high-entropy rounds, how many lie on chains of 1, 2, … rounds in a row; all steps of a run, mean over \
         its seeds. Right of the first field begins what is consecutive. {paper}"
    );
    f.push(Group::Chains, "chain-lengths", svg, caption);

    let paper = "The paper sees ARPO branch on 2 to 3 of 8 trajectories and AEPO on 8 of 8.";
    let panels = vec![
        shown.panel("branches_per_tree", None, None),
        shown.panel("forking", None, None),
        shown.panel("on_fork", None, None),
    ];
    let k = shown.summary.measure("trajectories_per_tree").and_then(|m| m.estimates.iter().flatten().next());
    let k = k.map_or(String::new(), |k| format!(" A tree has {:.0} trajectories.", k.mean));
    let caption = format!(
        "Per tree: trajectories that do not start at the root; trajectories that forked themselves; trajectories with any fork between the root \
         and their end. Mean over trees and steps, then over {seeds}.{k} {paper}"
    );
    f.dots(Group::Branches, "branches", "Branches, and the trajectories they reach", panels, caption);
    let what = "Trajectories that do not start at the root, per tree, mean over the trees of a step";
    f.curve(Group::Branches, "branches_per_tree", "branches-over-training", "Branches per tree", what, paper);
}

fn clusters(f: &mut Figures<'_>, diversity: &[StepDiversity]) {
    let shown = Figures { summary: f.summary, list: Vec::new() };
    let mut panels = Vec::new();
    for name in ["clusters", "noise"] {
        panels.extend(diversity.iter().map(|d| shown.panel(&format!("{name}_step_{}", d.step), None, None)));
    }
    let first = if diversity.iter().any(|d| d.step == 0) { FIRST_STEP } else { "" };
    let caption = format!(
        "DBSCAN clusters (distance {EPS}, at least {MIN_POINTS} rollouts) of the rollouts of one run and step, and \
         rollouts in none; mean over {}. A number of clusters depends on how many questions and rollouts there are: \
         only a comparison within a panel means anything.{first} The paper counts 54 clusters before and 62 with AEPO.",
        f.seeds()
    );
    f.dots(Group::Diversity, "clusters", "Ways that rollouts go: clusters, and rollouts in none", panels, caption);
}

fn gradient(f: &mut Figures<'_>) {
    let shown = Figures { summary: f.summary, list: Vec::new() };
    let seeds = f.seeds();
    let panels = ["grad_share_high", "grad_lost_high", "grad_lost_rest"].map(|key| shown.panel(key, None, None)).into();
    let paper = "The paper argues that clipping takes the gradient of high-entropy tokens first and gives no share.";
    let caption = format!(
        "Of the surrogate's gradient Σ|∂L/∂logp|, in per cent: the share on the fifth of the tokens with the \
         highest entropy; how much of theirs clipping took away; how much of the others'. Mean over steps, then over \
         {seeds}. {paper}"
    );
    f.dots(Group::Gradient, "gradient", "Gradient of high-entropy tokens: kept, and lost to clipping", panels, caption);
    let panels = ["clip_frac_high", "clip_frac_low", "clip_frac_dual"].map(|key| shown.panel(key, None, None)).into();
    let caption = format!(
        "Trained tokens whose ratio left the clip band, in per cent of all: upwards with A > 0, downwards with A < 0, \
         and beyond the dual clip. Mean over steps, then over {seeds}. A token counted here may keep its gradient: that \
         is what algorithms differ in. The paper gives no number."
    );
    f.dots(Group::Gradient, "clipping", "Tokens outside the clip band", panels, caption);
    let what = "Share of the gradient Σ|∂L/∂logp| on the fifth of the tokens with the highest entropy, in per cent";
    f.curve(
        Group::Gradient,
        "grad_share_high",
        "gradient-over-training",
        "Gradient on high-entropy tokens",
        what,
        paper,
    );
}

fn cost(f: &mut Figures<'_>) {
    let shown = Figures { summary: f.summary, list: Vec::new() };
    let of_runs = ["seconds", "cpu_secs"].map(|key| shown.panel(key, None, None));
    // Where runs are uneven, only the time of a step can be compared.
    let of_steps = if of_runs.iter().all(Option::is_none) { shown.panel("secs_per_step", None, None) } else { None };
    let tokens = ["sampled_tokens", "unique_tokens", "unrolled_tokens"].map(|key| shown.panel(key, None, None));
    let memory = shown.panel("peak_memory_mb", None, None);
    let panels = tokens.into_iter().chain([of_steps]).chain(of_runs).chain([memory]).collect();
    let caption = format!(
        "Thousands of tokens per step: sampled; of whole trees, each once (these are computed); of the trajectories, \
         each on its own. Seconds of a run, or of a step where runs have different numbers of steps; memory of the \
         process. Mean over {}. Runs that shared a machine took each other's time: this is no benchmark. The paper \
         gives none of these.",
        f.seeds()
    );
    f.dots(Group::Cost, "cost", "What it cost: tokens, time, memory", panels, caption);
}
