//! What do the settings mean to each stage?

use super::Config;
use crate::algo::{BaselineName, ClipName, Forks, Rules};
use crate::policy::{SampleParams, StepParams};
use crate::prompt::ChatSettings;
use crate::rollout::branch::BranchRule;
use crate::rollout::budget::BudgetRule;
use crate::rollout::drive::{DriveSettings, Limits};
use crate::seed::Seed;
use crate::tool::ToolSpec;
use crate::train::advantage::{AdvantageRule, Baseline};
use crate::train::loss::{Clip, ClipRule, LossRules};
use crate::train::schedule::learning_rate;
use crate::train::update::UpdateSettings;

impl Config {
    /// How a chat model is asked and offered `tools`; `None` for the quickstart's own tags. `eos` are the ids that end a turn by the model's
    /// own account.
    #[must_use]
    pub fn chat_settings(&self, tools: &[ToolSpec], eos: Vec<u32>) -> Option<ChatSettings> {
        let p = &self.prompt;
        let dialect = p.protocol.dialect()?;
        let thinking = p.thinking.map(|on| ("enable_thinking".to_owned(), on.into()));
        Some(ChatSettings {
            dialect,
            tools: tools.to_vec(),
            system: p.system.clone().unwrap_or_else(|| dialect.system(tools)),
            code_fences: p.code_fences,
            variables: thinking.into_iter().collect(),
            today: p.date,
            eos,
        })
    }

    /// The rules of the run, with their numbers.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let bundle = self.algorithm.name.bundle();
        let (r, l) = (&self.rollout, &self.loss);
        let clip = Clip { low: l.clip_low, high: l.clip_high, dual: l.dual_clip };
        let folds_kl = bundle.baseline == BaselineName::Batch;
        Rules {
            budget: match (bundle.forks, r.pre_monitor) {
                (Forks::None, _) => BudgetRule::AllGlobal,
                (Forks::DrawnAepo, true) => BudgetRule::EntropyReference,
                (_, true) => BudgetRule::Entropy { beta: r.beta },
                (_, false) => BudgetRule::Fixed { initial_rollouts: r.initial_rollouts },
            },
            branch: match bundle.forks {
                Forks::None => BranchRule::None,
                Forks::Expansion => BranchRule::ExpandEvenly { per_round: r.expand_per_round },
                Forks::EntropyExpansion => {
                    BranchRule::ExpandBest { per_round: r.expand_per_round, penalty: r.expand_penalty }
                }
                Forks::Entropy => {
                    BranchRule::Entropy { alpha: r.alpha, gamma: r.gamma, tau: r.tau, penalty_slope: r.penalty_slope }
                }
                Forks::DrawnAepo => BranchRule::DrawnAepo,
                Forks::DrawnArpo => BranchRule::DrawnArpo,
            },
            advantage: AdvantageRule {
                baseline: match bundle.baseline {
                    BaselineName::Group => Baseline::Group,
                    BaselineName::GroupOrRaw => Baseline::GroupOrRaw,
                    BaselineName::None => Baseline::None,
                    BaselineName::LeaveOneOut => Baseline::LeaveOneOut,
                    BaselineName::Batch => Baseline::Batch { kl_coef: 0.0 },
                    BaselineName::Anchors => Baseline::Anchors { omega: self.gigpo.omega, gamma: self.gigpo.gamma },
                    BaselineName::Trees => Baseline::Trees,
                    BaselineName::Turns => Baseline::Turns,
                },
                shared: self.advantage.shared,
                entropy_weight: self.advantage.entropy_weight,
            },
            loss: LossRules {
                clip: match l.clip {
                    ClipName::Ppo => ClipRule::Ppo(clip),
                    ClipName::Balanced => ClipRule::Balanced(clip),
                    ClipName::Cispo => ClipRule::Cispo(clip),
                    ClipName::Gppo => ClipRule::Gppo(clip),
                },
                ratio: l.ratio,
                aggregation: l.aggregation,
                kl_coef: if folds_kl { 0.0 } else { l.kl_coef },
                entropy_coef: l.entropy_coef,
                is_cap: l.is_cap,
            },
            reward_kl: if folds_kl { l.kl_coef } else { 0.0 },
            dynamic_sampling: self.train.dynamic_sampling,
            overlong_share: self.reward.overlong_share,
        }
    }

    /// How training trees grow.
    #[must_use]
    pub fn drive_settings(&self) -> DriveSettings {
        let rules = self.rules();
        let r = &self.rollout;
        DriveSettings {
            k: r.k,
            budget: rules.budget,
            branch: rules.branch,
            entropy_tokens: r.entropy_tokens,
            branch_width: r.branch_width,
            limits: self.limits(),
            params: SampleParams {
                temperature: r.temperature as f32,
                top_p: r.top_p as f32,
                top_k: r.top_k,
                top_entropy: rules.branch.is_drawn(),
            },
            max_live_paths: r.max_live_paths,
        }
    }

    /// How evaluation trees grow: independent samples from the root under the same limits.
    #[must_use]
    pub fn eval_drive_settings(&self) -> DriveSettings {
        DriveSettings {
            k: self.eval.samples,
            budget: BudgetRule::AllGlobal,
            branch: BranchRule::None,
            params: SampleParams {
                temperature: self.eval.temperature as f32,
                top_p: self.eval.top_p as f32,
                top_k: 0,
                top_entropy: false,
            },
            limits: Limits { n_python: self.eval.python_calls, n_search: self.eval.search_calls, ..self.limits() },
            ..self.drive_settings()
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            n_calls: self.rollout.call_limit,
            n_equal_calls: self.rollout.max_equal_calls,
            n_python: 0,
            n_search: 0,
            response_tokens: self.rollout.max_response_tokens,
            turn_tokens: self.rollout.max_turn_tokens,
            result_tokens: self.rollout.max_result_tokens,
        }
    }

    /// The learning rate of a training step.
    #[must_use]
    pub fn learning_rate(&self, step: u64) -> f64 {
        let t = &self.train;
        learning_rate(t.schedule, t.learning_rate, step, t.steps, t.warmup_steps)
    }

    /// How the update of a step is done; `seed` is the step's, `high_entropy` the entropy above which its tokens count
    /// as uncertain, nats.
    #[must_use]
    pub fn update_settings(&self, step: u64, seed: Seed, high_entropy: f64) -> UpdateSettings {
        let t = &self.train;
        let rules = self.rules();
        UpdateSettings {
            loss: rules.loss,
            reward_kl: rules.reward_kl,
            temperature: self.rollout.temperature as f32,
            minibatches: t.minibatches,
            epochs: t.epochs,
            max_batch_tokens: t.max_batch_tokens,
            step: StepParams {
                learning_rate: self.learning_rate(step) as f32,
                weight_decay: t.weight_decay as f32,
                beta1: t.beta1 as f32,
                beta2: t.beta2 as f32,
                eps: t.eps as f32,
                max_grad_norm: t.max_grad_norm as f32,
            },
            seed,
            high_entropy,
        }
    }
}
