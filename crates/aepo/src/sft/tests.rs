//! Is the cold start the mean negative log-likelihood of the agent's tokens, whatever the packing?

use std::sync::Arc;

use super::*;
use crate::data::countries::parse_countries;
use crate::prompt::Tokenizer;
use crate::prompt::demo::demonstrator;
use crate::testing::TablePolicy;

const FACTS: &str = include_str!("../../../../recipes/quickstart/countries.csv");
const VOCABULARY: &[u8] = include_bytes!("../../../../recipes/quickstart/tokenizer.json");

fn run(sets: &[(&str, &str)]) -> SftRun {
    let recipe = "[sft]\ntokens = 40000\nbatch_tokens = 2000\nmax_batch_tokens = 2000\nlearning_rate = 3.0
schedule = 'constant'\nwarmup_share = 0.0";
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let renderer = Renderer::tags(Arc::new(Tokenizer::from_bytes(VOCABULARY).unwrap())).unwrap();
    let countries = parse_countries("countries.csv", FACTS).unwrap();
    let demonstrator = demonstrator(renderer.tokenizer(), &countries);
    SftRun { config: Config::resolve(recipe, "test", &sets).unwrap(), demonstrator, renderer }
}

fn model(run: &SftRun) -> TablePolicy {
    TablePolicy::new(run.renderer.tokenizer().vocab_size(), 1024, Seed(3))
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
    let batches = pack_demos(&rows, 8);
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
    assert!(whole.n_tokens <= 2000 && whole.n_trained < whole.n_tokens && whole.n_demos > 1);
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
    let mut policy = TablePolicy::new(run.renderer.tokenizer().vocab_size(), 3, Seed(3));
    assert!(matches!(run.step(0, &mut policy), Err(SftError::NothingFits { context_len: 3, .. })));
}
