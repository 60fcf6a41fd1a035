//! Is what is learned the mean negative log-likelihood of the agent's tokens, whatever the packing and the order?

use std::sync::Arc;

use super::dataset::DatasetFacts;
use super::rows::{LongRows, n_trained};
use super::*;
use crate::data::countries::parse_countries;
use crate::data::demos::Role;
use crate::prompt::Tokenizer;
use crate::prompt::demo::demonstrator;
use crate::testing::TablePolicy;
use crate::tool::ToolSpec;

const FACTS: &str = include_str!("../../../../recipes/quickstart/countries.csv");
const VOCABULARY: &[u8] = include_bytes!("../../../../recipes/quickstart/tokenizer.json");

fn run(sets: &[(&str, &str)]) -> SftRun {
    let recipe = "[sft]\ntokens = 40000\nbatch_tokens = 2000\nmax_batch_tokens = 2000\nlearning_rate = 3.0
schedule = 'constant'\nwarmup_share = 0.0";
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let renderer =
        Renderer::tags(Arc::new(Tokenizer::from_bytes(VOCABULARY).unwrap()), &ToolSpec::python_and_search()).unwrap();
    let countries = parse_countries("countries.csv", FACTS).unwrap();
    let demonstrator = Box::new(demonstrator(renderer.tokenizer(), &countries));
    let source = RowSource::Generated { demonstrator, renderer };
    SftRun { config: Config::resolve(recipe, "test", &sets).unwrap(), source }
}

fn vocab_size(run: &SftRun) -> usize {
    match &run.source {
        RowSource::Generated { renderer, .. } => renderer.tokenizer().vocab_size(),
        RowSource::File(_) => 50,
    }
}

fn model(run: &SftRun) -> TablePolicy {
    TablePolicy::new(vocab_size(run), 1024, Seed(3))
}

#[test]
fn only_written_tokens_are_targets_and_each_is_predicted_from_the_one_before() {
    let rows: Vec<Row> = vec![
        vec![
            (Role::Context, vec![1, 2]),
            (Role::Written, vec![3, 4]),
            (Role::Context, vec![5]),
            (Role::Written, vec![6]),
        ],
        vec![(Role::Written, vec![7, 8])],
        vec![(Role::Context, vec![9; 10]), (Role::Written, vec![10])],
    ];
    let batches = pack_rows(&rows, 8);
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].tokens, [1, 2, 3, 4, 5, 6, 7, 8]);
    let targets: Vec<(u32, u32)> = batches[0].targets.iter().map(|t| (t.from_idx, t.token)).collect();
    assert_eq!(targets, [(1, 3), (2, 4), (4, 6), (6, 8)]);
    assert_eq!(batches[0].segments.len(), 2);
    assert!(batches[0].segments.iter().all(|s| s.depth == 0 && s.parent.is_none()));
    assert_eq!(batches[1].targets.len(), 1);
}

#[test]
fn packing_changes_nothing_and_a_step_repeats() {
    let step = |sets: &[(&str, &str)]| {
        let run = run(sets);
        let mut policy = model(&run);
        let record = run.step(2, &mut policy).unwrap();
        (record, policy)
    };
    let (whole, a) = step(&[]);
    let (parts, b) = step(&[("sft.max_batch_tokens", "300")]);
    assert!(b.n_forwards > a.n_forwards);
    assert!((whole.loss - parts.loss).abs() < 1e-9);
    for (x, y) in a.logits.iter().flatten().zip(b.logits.iter().flatten()) {
        assert!((x - y).abs() < 1e-9);
    }
    assert_eq!(whole, step(&[]).0);
    assert!(whole.n_tokens <= 2000 && whole.n_trained < whole.n_tokens && whole.n_rows > 1);
}

#[test]
fn the_loss_is_the_mean_negative_log_likelihood_and_falls() {
    let run = run(&[]);
    let mut policy = model(&run);
    let n_vocab = policy.logits.len() as f64;
    let losses: Vec<f64> = (0..run.n_steps()).map(|s| run.step(s, &mut policy).unwrap().loss).collect();
    assert_eq!(losses.len(), 20);
    // Logits drawn from [−1.5, 1.5] are close to uniform: the loss starts near ln V.
    assert!((losses[0] - n_vocab.ln()).abs() < 1.0, "{} {}", losses[0], n_vocab.ln());
    assert!(losses[19] < losses[0] - 0.1, "{losses:?}");
}

#[test]
fn the_curriculum_moves_along_a_line_and_then_stays() {
    let run = run(&[("sft.copy_share", "[1.0, 0.0]"), ("sft.curriculum", "0.5")]);
    let shares: Vec<f64> = [0, 5, 10, 15].map(|s| run.demo_settings(s).copy_share).to_vec();
    assert_eq!(shares, [1.0, 0.5, 0.0, 0.0]);
}

#[test]
fn a_context_too_short_for_any_demonstration_is_an_error() {
    let run = run(&[]);
    let mut policy = TablePolicy::new(vocab_size(&run), 3, Seed(3));
    assert!(matches!(run.step(0, &mut policy), Err(SftError::NothingFits { max_row_tokens: 3, .. })));
}

const FILE: &str = "[prompt]\nprotocol = 'aepo'\n[sft]\ninit = 'm'\nsource = 'c.jsonl'\nbatch_tokens = 40\nmax_batch_tokens = 25\nlearning_rate = 3.0
schedule = 'constant'\nwarmup_share = 0.0\nepochs = 2";

/// Conversations of two turns: row `i` has 6 + i tokens, of which 3 + i are written.
fn conversations(n: u32) -> Vec<Row> {
    let turn = |i: u32| (0..=i).map(|t| 5 + (7 * i + t) % 40).collect::<Vec<u32>>();
    let row = |i: u32| {
        vec![
            (Role::Context, vec![1, 10 + i % 40]),
            (Role::Written, [turn(i), vec![2]].concat()),
            (Role::Context, vec![3]),
            (Role::Written, vec![2]),
        ]
    };
    (0..n).map(row).collect()
}

fn file_run(rows: Vec<Row>, sets: &[(&str, &str)]) -> Result<SftRun, SftError> {
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let config = Config::resolve(FILE, "test", &sets).unwrap();
    let data = Dataset::new(rows, &config.sft, 1024)?;
    Ok(SftRun { config, source: RowSource::File(data) })
}

fn data(run: &SftRun) -> &Dataset {
    match &run.source {
        RowSource::File(data) => data,
        RowSource::Generated { .. } => panic!("a file was asked for"),
    }
}

/// Mean −logp of the written tokens, by the table alone: no batches, no packing.
fn loss_of(rows: &[Row], policy: &TablePolicy) -> f64 {
    let (mut sum, mut n) = (0.0, 0);
    for row in rows {
        let flat: Vec<(Role, u32)> = row.iter().flat_map(|(r, ids)| ids.iter().map(|&id| (*r, id))).collect();
        for pair in flat.windows(2).filter(|pair| pair[1].0 == Role::Written) {
            sum -= policy.distribution(pair[0].1, 1.0).0[pair[1].1 as usize];
            n += 1;
        }
    }
    sum / f64::from(n)
}

#[test]
fn every_epoch_learns_every_row_once_in_another_order_and_steps_are_full() {
    let rows = conversations(12);
    let run = file_run(rows.clone(), &[]).unwrap();
    let data = data(&run);
    let steps: Vec<Vec<Row>> = (0..run.n_steps()).map(|step| data.rows_of(step)).collect();
    let all: Vec<Row> = steps.concat();
    assert_eq!(all.len(), 24);
    let key = |row: &Row| n_tokens(row);
    let order = |epoch: &[Row]| epoch.iter().map(key).collect::<Vec<_>>();
    let (first, second) = (order(&all[..12]), order(&all[12..]));
    assert_ne!(first, second);
    for mut epoch in [first, second] {
        epoch.sort_unstable();
        assert_eq!(epoch, (6..18).collect::<Vec<_>>());
    }
    let sizes: Vec<usize> = steps.iter().map(|rows| rows.iter().map(n_tokens).sum()).collect();
    assert!(sizes.iter().all(|&n| n <= 40), "{sizes:?}");
    for (i, size) in sizes.iter().enumerate().take(sizes.len() - 1) {
        assert!(size + n_tokens(&steps[i + 1][0]) > 40, "step {i} had room for another row");
    }
    assert_eq!((data.epochs_after(0), data.epochs_after(run.n_steps())), (0.0, 2.0));
    assert!(data.rows_of(run.n_steps()).is_empty() && data.rows_of(u64::MAX).is_empty());
    let other = file_run(rows, &[("sft.seed", "1")]).unwrap();
    assert_ne!(self::data(&other).rows_of(0), steps[0]);
}

#[test]
fn a_step_on_a_file_is_the_gradient_of_the_mean_loss_of_its_rows() {
    let run = file_run(conversations(12), &[]).unwrap();
    let mut policy = model(&run);
    for step in 0..run.n_steps() {
        let before = policy.clone();
        let record = run.step(step, &mut policy).unwrap();
        let rows = data(&run).rows_of(step);
        assert!((record.loss - loss_of(&rows, &before)).abs() < 1e-6, "step {step}");
        assert_eq!((record.n_rows, record.n_tokens), (rows.len(), rows.iter().map(n_tokens).sum()));
        assert_eq!(record.n_trained, rows.iter().map(n_trained).sum::<usize>());
        assert!(record.shares.is_none() && record.epoch > Some(0.0));
        // Plain gradient descent: each weight moved by 3 · dloss/dweight, here by a difference of the independent loss.
        let (last, next) = (2, 3);
        let mut nudged = before.clone();
        nudged.logits[last][next] += 1e-4;
        let slope = (loss_of(&rows, &nudged) - loss_of(&rows, &before)) / 1e-4;
        let moved = policy.logits[last][next] - before.logits[last][next];
        assert!((moved + 3.0 * slope).abs() < 1e-3, "{moved} {slope}");
    }
    let repeated = run.step(1, &mut model(&run)).unwrap();
    assert_eq!(repeated, run.step(1, &mut model(&run)).unwrap());
    assert!(matches!(run.step(99, &mut policy), Err(SftError::NoSuchStep { step: 99, .. })));
}

#[test]
fn what_is_held_out_is_measured_and_never_learned() {
    let run = file_run(conversations(12), &[("sft.holdout", "3")]).unwrap();
    let data = data(&run);
    assert_eq!((data.train.len(), data.holdout.len()), (9, 3));
    for step in 0..run.n_steps() {
        assert!(data.rows_of(step).iter().all(|row| !data.holdout.contains(row)));
    }
    let mut policy = model(&run);
    let report = run.measure(&mut policy, &|| true).unwrap().unwrap();
    assert!((report.loss - loss_of(&data.holdout, &policy)).abs() < 1e-6);
    assert_eq!(report.n_rows, 3);
    assert_eq!(report.n_trained, data.holdout.iter().map(n_trained).sum::<usize>());
    assert_eq!((policy.version, policy.n_steps), (0, 0));
    assert!(file_run(conversations(12), &[]).unwrap().measure(&mut policy, &|| true).unwrap().is_none());
    assert!(matches!(run.measure(&mut policy, &|| false), Err(SftError::Stopped)));
    assert!(matches!(
        file_run(conversations(3), &[("sft.holdout", "3")]),
        Err(SftError::HoldoutTooLarge { holdout: 3, n_rows: 3 })
    ));
    // Generated demonstrations are held out by a stream of their own.
    let run = self::run(&[("sft.holdout", "5")]);
    let mut policy = model(&run);
    let report = run.measure(&mut policy, &|| true).unwrap().unwrap();
    assert_eq!(report, run.measure(&mut policy, &|| true).unwrap().unwrap());
    assert!(report.n_rows == 5 && report.n_trained > 5 && report.loss > 1.0);
}

#[test]
fn rows_that_do_not_fit_are_left_out_or_cut_and_counted() {
    let mut rows = conversations(4);
    rows.push(vec![(Role::Context, vec![1; 4])]);
    rows.push(vec![(Role::Written, vec![1])]);
    rows.push(vec![(Role::Context, vec![1; 20]), (Role::Written, vec![4])]);
    let facts = |sets: &[(&str, &str)]| {
        let run = file_run(rows.clone(), sets).unwrap();
        data(&run).facts.clone()
    };
    let all = DatasetFacts {
        n_rows: 7,
        n_train: 5,
        n_holdout: 0,
        n_too_long: 0,
        n_nothing_to_train: 2,
        n_cut: 0,
        longest: 21,
        max_row_tokens: 1024,
        n_tokens: 6 + 7 + 8 + 9 + 21,
        n_trained: 3 + 4 + 5 + 6 + 1,
    };
    assert_eq!(facts(&[]), all);
    let short = [("sft.max_row_tokens", "7")];
    let left_out = DatasetFacts { n_train: 2, n_too_long: 3, max_row_tokens: 7, n_tokens: 13, n_trained: 7, ..all };
    assert_eq!(facts(&short), left_out);
    let cut = DatasetFacts {
        n_train: 4,
        n_too_long: 0,
        n_nothing_to_train: 3,
        n_cut: 2,
        n_tokens: 27,
        n_trained: 3 + 4 + 4 + 5,
        ..left_out
    };
    assert_eq!(facts(&[short[0], ("sft.long_rows", "cut")]), cut);
    let mut row = conversations(4).remove(3);
    let whole = row.clone();
    assert_eq!(rows::fit(&mut row, 7, LongRows::Cut), Fit::Cut);
    assert_eq!(row, [whole[0].clone(), (Role::Written, whole[1].1[..5].to_vec())]);
    assert!(matches!(
        file_run(rows, &[("sft.max_row_tokens", "2")]),
        Err(SftError::NothingFits { n_tried: 7, max_row_tokens: 2 })
    ));
}
