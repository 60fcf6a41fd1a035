//! Is every wrong recipe refused with the key, the place and a way out, and does a right one say what it means?

use super::*;
use crate::algo::Algorithm;
use crate::rollout::branch::BranchRule;
use crate::rollout::budget::BudgetRule;
use crate::train::advantage::{AdvantageRule, Baseline, SharedTokens};
use crate::train::loss::{Aggregation, Clip, ClipRule, RatioScope};

const GROUP: AdvantageRule =
    AdvantageRule { baseline: Baseline::Group, shared: SharedTokens::Own, entropy_weight: 0.0 };

const VISIT: (&str, &str) = ("tools.offer", "['visit']");

fn resolve(recipe: &str, sets: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let sets: Vec<(String, String)> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::resolve(recipe, "r.toml", &sets)
}

fn refused(recipe: &str, sets: &[(&str, &str)]) -> String {
    resolve(recipe, sets).expect_err(recipe).to_string()
}

#[test]
fn an_empty_recipe_is_aepo_with_the_papers_constants() {
    let c = resolve("", &[]).unwrap();
    let rules = c.rules();
    assert_eq!(rules.budget, BudgetRule::Entropy { beta: 0.5 });
    assert_eq!(rules.branch, BranchRule::Entropy { alpha: 0.5, gamma: 0.2, tau: 0.5, penalty_slope: 0.05 });
    assert_eq!(rules.advantage, AdvantageRule { entropy_weight: 0.2, ..GROUP });
    assert_eq!(rules.loss.clip, ClipRule::Balanced(Clip { low: 0.2, high: 0.2, dual: None }));
    assert_eq!(rules.loss.aggregation, Aggregation::TokenMean);
    assert_eq!((c.rollout.k, c.rollout.entropy_tokens, c.rollout.branch_width, c.rollout.call_limit), (16, 20, 1, 6));
}

#[test]
fn grpo_is_a_bundle_of_its_own_rules() {
    let rules = resolve("[algorithm]\nname = 'grpo'", &[]).unwrap().rules();
    assert_eq!((rules.budget, rules.branch), (BudgetRule::AllGlobal, BranchRule::None));
    assert_eq!(rules.advantage, GROUP);
    assert!(matches!(rules.loss.clip, ClipRule::Ppo(_)));
    assert_eq!(rules.loss.aggregation, Aggregation::SeqMeanTokenMean);
}

#[test]
fn each_ablation_is_one_line() {
    let rules = |key, value| resolve("", &[(key, value)]).unwrap().rules();
    let full = resolve("", &[]).unwrap().rules();
    let no_monitor = rules("rollout.pre_monitor", "false");
    assert_eq!(no_monitor.budget, BudgetRule::Fixed { initial_rollouts: 8 });
    let small = resolve("[rollout]\nk = 6\npre_monitor = false", &[]).unwrap().rules();
    assert_eq!(small.budget, BudgetRule::Fixed { initial_rollouts: 3 });
    assert_eq!((no_monitor.branch, no_monitor.loss), (full.branch, full.loss));
    let no_penalty = rules("rollout.penalty_slope", "0");
    assert_eq!(no_penalty.branch, BranchRule::Entropy { alpha: 0.5, gamma: 0.2, tau: 0.5, penalty_slope: 0.0 });
    assert!(matches!(rules("loss.clip", "ppo").loss.clip, ClipRule::Ppo(_)));
    let no_entropy = rules("advantage.entropy_weight", "0");
    assert_eq!(no_entropy.advantage, GROUP);
}

#[test]
fn each_rival_has_its_papers_constants() {
    let rules = |name: &str| resolve("", &[("algorithm.name", name)]).unwrap().rules();
    assert_eq!(rules("dapo").loss.clip, ClipRule::Ppo(Clip { low: 0.2, high: 0.28, dual: None }));
    assert_eq!((rules("dapo").dynamic_sampling, rules("dapo").overlong_share), (true, 0.2));
    assert_eq!(rules("cispo").loss.clip, ClipRule::Cispo(Clip { low: 1.0, high: 0.2, dual: None }));
    assert!(matches!(rules("gppo").loss.clip, ClipRule::Gppo(_)));
    let gspo = rules("gspo").loss;
    assert_eq!(gspo.clip, ClipRule::Ppo(Clip { low: 3e-4, high: 4e-4, dual: None }));
    assert_eq!((gspo.ratio, gspo.aggregation), (RatioScope::Sequence, Aggregation::SeqMeanTokenMean));
    assert_eq!(rules("gigpo").advantage.baseline, Baseline::Anchors { omega: 1.0, gamma: 0.95 });
    assert_eq!(rules("rloo").advantage.baseline, Baseline::LeaveOneOut);
    assert_eq!(rules("ppo").advantage.baseline, Baseline::None);
    // REINFORCE++ has its divergence in the reward, everything else in the loss.
    let with_kl = |name| resolve("", &[("algorithm.name", name), ("loss.kl_coef", "0.1")]).unwrap().rules();
    assert_eq!((with_kl("reinforce++").reward_kl, with_kl("reinforce++").loss.kl_coef), (0.1, 0.0));
    assert_eq!((with_kl("grpo").reward_kl, with_kl("grpo").loss.kl_coef), (0.0, 0.1));
}

#[test]
fn another_algorithm_by_set_brings_its_own_rules_into_a_recipe() {
    let recipe = "[rollout]\nk = 8\npre_monitor = true\nalpha = 0.4\npenalty_slope = 0.1\n[loss]\nclip_high = 0.2\n\
                  kl_coef = 0.01\n[advantage]\nentropy_weight = 0.3";
    let with = |sets: &[(&str, &str)]| resolve(recipe, sets);
    let dapo = with(&[("algorithm.name", "dapo")]).unwrap();
    assert_eq!(dapo.rules().loss.clip, ClipRule::Ppo(Clip { low: 0.2, high: 0.28, dual: None }));
    assert_eq!((dapo.rules().advantage, dapo.rules().loss.kl_coef, dapo.rollout.k), (GROUP, 0.01, 8));
    assert_eq!(dapo.source("loss.clip_high"), Source::Algorithm);
    assert_eq!(
        dapo.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "r.toml, line 3: `rollout.pre_monitor` is left out: dapo has its own",
            "r.toml, line 7: `loss.clip_high` is left out: dapo has its own",
            "r.toml, line 4: `rollout.alpha` is left out: dapo starts every trajectory at the root and never forks",
            "r.toml, line 5: `rollout.penalty_slope` is left out: dapo starts every trajectory at the root and never forks",
            "r.toml, line 10: `advantage.entropy_weight` is left out: the advantage of dapo does not depend on entropies",
        ]
    );
    assert_eq!(dapo.source("rollout.pre_monitor"), Source::Algorithm);
    // What the two have in common stays, and what the other lacks is its default.
    let arpo = with(&[("algorithm.name", "arpo")]).unwrap().rules();
    assert_eq!(arpo.branch, BranchRule::Entropy { alpha: 0.4, gamma: 0.2, tau: 0.5, penalty_slope: 0.0 });
    // The recipe's own algorithm keeps its lines, and a set is always meant.
    assert_eq!(with(&[("algorithm.name", "aepo")]).unwrap().rules(), with(&[]).unwrap().rules());
    assert!(with(&[("algorithm.name", "dapo"), ("rollout.pre_monitor", "true")]).is_err());
    let wide = with(&[("algorithm.name", "dapo"), ("loss.clip_high", "0.4")]).unwrap().rules();
    assert_eq!(wide.loss.clip.clip().high, 0.4);
    assert!(resolve("[loss]\nclip_high = 'x'", &[("algorithm.name", "dapo")]).is_err());
}

#[test]
fn a_line_gives_way_to_a_set_that_takes_its_effect_and_to_nothing_else() {
    let recipe = "[rollout]\npre_monitor = true\nbeta = 2.0\n[train]\nminibatches = 2\n[loss]\ndual_clip = 3.0";
    let fixed = resolve(recipe, &[("rollout.pre_monitor", "false")]).unwrap();
    let left_out = |c: &Config| c.left_out.iter().map(|line| line.key.clone()).collect::<Vec<_>>();
    assert_eq!(left_out(&fixed), ["rollout.beta"]);
    assert_eq!(fixed.rollout.beta, Config::resolve("", "", &[]).unwrap().rollout.beta);
    assert_eq!(left_out(&resolve(recipe, &[("train.minibatches", "1")]).unwrap()), ["loss.dual_clip"]);
    assert_eq!(left_out(&resolve(recipe, &[("rollout.k", "4")]).unwrap()), [""; 0]);
    // What means nothing in the recipe by itself is no victim of the set.
    let wrong = "[rollout]\npre_monitor = false\nbeta = 2.0";
    for sets in [&[][..], &[("rollout.k", "4")], &[("algorithm.name", "grpo")]] {
        assert!(refused(wrong, sets).contains("r.toml, line 3: `rollout.beta` has no effect"));
    }
    assert!(resolve(wrong, &[("rollout.pre_monitor", "true")]).is_ok());
}

#[test]
fn later_sources_win_and_are_remembered() {
    let c = resolve("[train]\nsteps = 7\nseed = 3", &[("train.seed", "9"), ("algorithm.name", "grpo")]).unwrap();
    assert_eq!((c.train.steps, c.train.seed, c.algorithm.name), (7, 9, Algorithm::Grpo));
    assert_eq!(c.source("train.steps"), Source::Recipe { label: "r.toml".into(), line: 2 });
    assert_eq!(c.source("train.seed"), Source::Set);
    assert_eq!(c.source("train.epochs"), Source::Default);
    assert_eq!(c.source("loss.clip"), Source::Algorithm);
}

#[test]
fn the_resolved_recipe_resolves_to_itself() {
    let file = [("tasks.source", "a.jsonl"), ("tasks.eval_file", "b.jsonl"), ("train.learning_rate", "1e-6")];
    let fixed = [("rollout.pre_monitor", "false"), ("loss.dual_clip", "3")];
    let once = [("train.minibatches", "1"), ("rollout.temperature", "0.7")];
    let chat = [("sft.source", "c.jsonl"), ("sft.init", "m"), ("prompt.protocol", "aepo"), ("sft.holdout", "3")];
    for algorithm in Algorithm::ALL.map(|a| a.bundle().name) {
        for sets in [&[][..], &file, &fixed, &once, &chat] {
            let recipe = format!("[algorithm]\nname = '{algorithm}'");
            let Ok(first) = resolve(&recipe, sets) else {
                assert!(algorithm != "aepo", "only rivals lack pre-monitoring");
                continue;
            };
            let text = first.to_toml();
            let second = resolve(&text, &[]).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(first.rules(), second.rules());
            assert_eq!(text, second.to_toml());
            for key in KEYS.iter().filter(|k| check::no_effect(&first, k).is_none()) {
                assert_eq!(first.settings.get(key), second.settings.get(key), "{}", key.path());
            }
        }
    }
}

#[test]
fn unknown_keys_name_the_nearest_valid_one_and_the_line() {
    assert_eq!(
        refused("[rollout]\nk = 4\nentropy_token = 3", &[]),
        "r.toml, line 3: there is no key `rollout.entropy_token`; did you mean `rollout.entropy_tokens`?"
    );
    assert_eq!(
        refused("learning_rate = 1", &[]),
        "r.toml, line 1: there is no key `learning_rate`; did you mean `train.learning_rate`?"
    );
    assert_eq!(
        refused("[loss]\nbeta = 0.5", &[]),
        "r.toml, line 2: there is no key `loss.beta`; did you mean `rollout.beta`?"
    );
    assert_eq!(refused("\n[rolout]\nk = 4", &[]), "r.toml, line 2: there is no key `rolout`; did you mean `rollout`?");
    assert_eq!(refused("", &[("zzzzzzzzzz", "1")]), "--set: there is no key `zzzzzzzzzz`");
    assert_eq!(
        refused("", &[("trian.steps", "1")]),
        "--set: there is no key `trian.steps`; did you mean `train.steps`?"
    );
}

#[test]
fn wrong_types_and_syntax_name_key_and_line() {
    assert_eq!(
        refused("[rollout]\nk = 'many'", &[]),
        "r.toml, line 2: `rollout.k` must be a whole number, 0 or more, not \"many\""
    );
    assert_eq!(
        refused("[rollout]\nk = -2", &[]),
        "r.toml, line 2: `rollout.k` must be a whole number, 0 or more, not -2"
    );
    let unknown = refused("", &[("algorithm.name", "gpro")]);
    assert!(unknown.starts_with("--set: `algorithm.name` must be the name of an algorithm"), "{unknown}");
    assert!(unknown.ends_with("not \"gpro\""), "{unknown}");
    assert_eq!(
        refused("[train.steps]\nx = 1", &[]),
        "r.toml, line 1: `train.steps` must be a whole number, 0 or more, not a table"
    );
    assert!(refused("rollout = 3", &[]).contains("there is no key `rollout`"));
    assert!(refused("[rollout]\nbeta = nan", &[]).contains("`rollout.beta` must be a number"));
    assert!(refused("[a]\nk = ", &[]).starts_with("r.toml, line 2: "));
    assert!(refused("[a]\nk = 1\nk = 2", &[]).starts_with("r.toml, line 3: "));
}

#[test]
fn impossible_values_are_refused() {
    for (key, value, wanted) in [
        ("rollout.k", "1", "at least 2"),
        ("loss.dual_clip", "0.9", "above 1"),
        ("eval.samples", "0", "at least 1"),
        ("rollout.top_p", "0", "above 0 and at most 1"),
        ("rollout.temperature", "0", "above 0"),
        ("train.minibatches", "17", "at most train.tasks_per_step = 16: a task's group is never divided"),
        ("train.warmup_steps", "101", "at most train.steps = 100"),
        ("sft.kind_shares", "[1, 1, -1, 1]", "at least 0"),
        ("sft.max_row_tokens", "1", "at least 2"),
        ("model.shape.n_kv_heads", "4", "a divisor of model.shape.n_heads = 6"),
        ("rollout.max_turn_tokens", "1000", "at most rollout.max_response_tokens = 640"),
        ("tasks.n_train", "3", "at most tasks.n_train = 3"),
    ] {
        let message = refused("", &[(key, value)]);
        assert!(message.ends_with(&format!("must be {wanted}")), "{message}");
        assert!(message.contains(key) || key == "tasks.n_train", "{message}");
    }
    let no_template = refused("", &[("sft.source", "c.jsonl")]);
    assert!(no_template.contains("`prompt.protocol`") && no_template.contains("chat template"), "{no_template}");
    let all_global = refused("", &[("rollout.pre_monitor", "false"), ("rollout.initial_rollouts", "16")]);
    assert!(all_global.contains("no branch could ever start"), "{all_global}");
}

#[test]
fn settings_without_effect_are_refused_only_when_they_were_set() {
    for (sets, why) in [
        (&[("algorithm.name", "grpo"), ("rollout.beta", "0.5")][..], "never forks"),
        (&[("algorithm.name", "grpo"), ("advantage.entropy_weight", "0.2")], "does not depend on entropies"),
        (&[("algorithm.name", "grpo"), ("rollout.pre_monitor", "true")], "never forks"),
        (&[("algorithm.name", "arpo"), ("rollout.penalty_slope", "0.1")], "no branch penalty"),
        (&[("algorithm.name", "arpo"), ("rollout.pre_monitor", "true")], "fixed rollout.initial_rollouts"),
        (&[("rollout.initial_rollouts", "4")], "divides rollout.k by entropies"),
        (&[("rollout.pre_monitor", "false"), ("rollout.beta", "1")], "rollout.pre_monitor is false"),
        (&[("train.minibatches", "1"), ("loss.dual_clip", "3")], "nothing is ever clipped"),
        (&[("tasks.eval_file", "x.jsonl")], "draws its own"),
        (&[("gigpo.omega", "2")], "does not compare turns"),
        (&[("algorithm.name", "gigpo"), ("gigpo.omega", "0"), ("gigpo.gamma", "1")], "gigpo.omega is 0"),
        (&[("algorithm.name", "grpo"), ("advantage.shared", "mean")], "share no tokens"),
        (&[("train.max_refills", "1")], "dynamic_sampling is false"),
        (&[("rollout.expand_per_round", "3")], "expands none later"),
        (&[("rollout.expand_penalty", "0.1")], "expands none later"),
        (&[("algorithm.name", "grpo"), ("rollout.expand_per_round", "3")], "never forks"),
        (&[("algorithm.name", "tree-grpo"), ("rollout.expand_penalty", "0.1")], "draws the turns"),
        (&[("algorithm.name", "tree-grpo"), ("rollout.branch_width", "2")], "one path for each turn"),
        (&[("algorithm.name", "tree-grpo"), ("rollout.alpha", "0.1")], "expands finished trees"),
        (&[("algorithm.name", "cispo"), ("loss.dual_clip", "3")], "bounds the weight"),
        (&[("tools.visit.summary_endpoint", "http://host/v1")], "tools.offer has no \"visit\""),
        (&[VISIT, ("tools.visit.summary_model", "m")], "tools.visit.summary_endpoint is not set"),
        (&[VISIT, ("tools.visit.summary_key_env", "KEY")], "tools.visit.summary_endpoint is not set"),
        (&[VISIT, ("tools.visit.summary_secs", "9")], "tools.visit.summary_endpoint is not set"),
        (&[("policy.train.url", "http://host")], "policy.train.engine is \"embedded\""),
        (&[("policy.train.patience_secs", "9")], "policy.train.engine is \"embedded\""),
        (&[("policy.sample.urls", "['http://a:1']")], "policy.sample.engine is \"embedded\""),
        (&[("policy.sample.top_logprobs", "30")], "policy.sample.engine is \"embedded\""),
        (
            &[
                ("policy.sample.engine", "sglang"),
                ("policy.sample.urls", "['http://a:1']"),
                ("policy.sample.model", "m"),
            ],
            "no name for it",
        ),
        (&[("sft.epochs", "2")], "as many as sft.tokens says"),
        (&[("sft.source", "c.jsonl"), ("sft.tokens", "9")], "sft.epochs says how often"),
        (&[("sft.source", "c.jsonl"), ("sft.head_math", "0.1")], "nothing is generated"),
        (&[("sft.eval_every", "2")], "sft.holdout is 0"),
        (&[("sft.init", "quickstart"), ("model.shape.n_layers", "2")], "a shape of its own"),
    ] {
        let message = refused("", sets);
        assert!(message.contains("has no effect") && message.contains(why), "{message}");
    }
    let set = |sets: &[(&str, &str)]| resolve("", sets).unwrap().rules().branch;
    let at2po = [("algorithm.name", "at2po")];
    assert_eq!(set(&at2po), BranchRule::ExpandBest { per_round: 6, penalty: 0.05 });
    let changed = [at2po[0], ("rollout.expand_per_round", "3"), ("rollout.expand_penalty", "0")];
    assert_eq!(set(&changed), BranchRule::ExpandBest { per_round: 3, penalty: 0.0 });
    assert_eq!(set(&[("algorithm.name", "tree-grpo")]), BranchRule::ExpandEvenly { per_round: 2 });
    // What only the defaults say is no contradiction.
    assert!(resolve("[algorithm]\nname = 'grpo'\n[train]\nminibatches = 1", &[]).is_ok());
    assert!(resolve("[algorithm]\nname = 'arpo'", &[]).is_ok());
}

#[test]
fn a_model_that_reads_pages_has_an_address_and_a_name() {
    let endpoint = ("tools.visit.summary_endpoint", "http://host/v1");
    let chat = ("prompt.protocol", "hermes");
    let nameless = refused("", &[chat, VISIT, endpoint]);
    assert!(nameless.contains("`tools.visit.summary_model`") && nameless.contains("must be set where"), "{nameless}");
    let named = [chat, VISIT, endpoint, ("tools.visit.summary_model", "m")];
    let c = resolve("", &named).unwrap();
    assert_eq!(
        (c.visit.summary_endpoint.as_deref(), c.visit.summary_key_env.as_deref()),
        (Some("http://host/v1"), None)
    );
    let endless = [&named[..], &[("tools.visit.summary_secs", "0")]].concat();
    assert!(refused("", &endless).ends_with("must be above 0 and at most 3600"));
}

#[test]
fn what_a_server_cannot_do_is_refused_by_the_key_that_asks_for_it() {
    let there = [("policy.train.engine", "tinker"), ("policy.train.url", "http://host:8000"), ("lora.rank", "8")];
    let c = resolve("", &there).unwrap();
    assert_eq!((c.policy_train.engine, c.policy_train.patience_secs), (TrainEngine::Tinker, 600.0));
    assert_eq!(resolve(&c.to_toml(), &[]).unwrap().settings, c.settings, "a run writes it down");
    assert!(resolve("", &[&there[..], &[("lora.targets", "mlp")]].concat()).is_ok());
    assert!(refused("", &[there[0], there[2]]).contains("`policy.train.url` is not set but must be set"));
    assert!(refused("", &there[..2]).contains("`lora.rank` is 0 but must be at least 1"));
    for (key, value) in [
        ("lora.alpha", "16"),
        ("lora.targets", "[\"q_proj\", \"v_proj\"]"),
        ("rollout.temperature", "0.8"),
        ("loss.entropy_coef", "0.01"),
    ] {
        let message = refused("", &[&there[..], &[(key, value)]].concat());
        assert!(message.contains(&format!("`{key}`")) && message.contains("such servers"), "{message}");
    }
}

#[test]
fn servers_that_sample_have_addresses_and_time() {
    let there = [("policy.sample.engine", "vllm"), ("policy.sample.urls", "['http://a:1', 'http://b:1']")];
    let c = resolve("", &there).unwrap();
    assert_eq!((c.policy_sample.urls.len(), c.policy_sample.top_logprobs), (2, 20));
    assert_eq!(resolve(&c.to_toml(), &[]).unwrap().settings, c.settings, "a run writes it down");
    assert!(refused("", &there[..1]).contains("`policy.sample.urls`"));
    assert!(refused("", &[there[0], ("policy.sample.urls", "['a:1']")]).contains("a list of addresses like"));
    let twice = ("policy.sample.urls", "['http://a:1', 'http://a:1']");
    assert!(refused("", &[there[0], twice]).contains("different addresses"));
    assert!(refused("", &[&there[..], &[("policy.sample.top_logprobs", "9")]].concat()).contains("at least 10"));
    let hasty = [("policy.sample.deadline_secs", "5"), ("policy.sample.try_secs", "6")];
    assert!(refused("", &[&there[..], &hasty].concat()).contains("at most policy.sample.deadline_secs"));
}

#[test]
fn the_listing_explains_every_key() {
    let lines = resolve("[algorithm]\nname = 'grpo'", &[]).unwrap().explain();
    assert_eq!(lines.len(), KEYS.len());
    assert!(lines.iter().all(|l| l.doc.len() > 5));
    let beta = lines.iter().find(|l| l.key == "rollout.beta").unwrap();
    assert!(beta.no_effect.as_deref().unwrap().contains("never forks"));
    let dual = lines.iter().find(|l| l.key == "loss.dual_clip").unwrap();
    assert_eq!(dual.value, None);
}
