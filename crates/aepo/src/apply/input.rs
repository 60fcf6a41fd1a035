//! In what layout does a batch come, and what is wrong with one that does not fit it?

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{AppliedTrajectory, ApplyError};
use crate::train::advantage::{Member, Turn};

/// The batch of one optimiser step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// One per task.
    pub groups: Vec<Group>,
}

/// The trajectories of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Names it in the output.
    pub task: String,
    /// Its trajectories.
    pub trajectories: Vec<Trajectory>,
}

/// One trajectory, tokens that the model did not sample included; every list is `[n_tokens]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trajectory {
    /// R.
    pub reward: f64,
    /// Whether the model sampled the token; 1 or 0 in JSON.
    pub mask: Vec<bool>,
    /// Of the weights being trained, nats.
    pub logp: Vec<f64>,
    /// Of the weights at the start of the step, nats.
    pub old_logp: Vec<f64>,
    /// Of the reference policy, nats.
    pub ref_logp: Option<Vec<f64>>,
    /// What the sampler said, nats; read by truncated importance sampling.
    pub rollout_logp: Option<Vec<f64>>,
    /// H_t, nats.
    pub entropy: Vec<f64>,
    /// The model's turns; without them, each run of sampled tokens is one.
    pub turns: Option<Vec<TurnSpan>>,
    /// Index of an earlier trajectory of the group with which this one shares its first tokens, and how many.
    pub parent: Option<(usize, usize)>,
}

/// One turn of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnSpan {
    /// Its first token.
    pub start: usize,
    /// The token behind its last.
    pub end: usize,
    /// Equal for turns that start from an equal state.
    pub anchor: Option<String>,
}

/// Which optional parts the algorithm reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub anchors: bool,
    pub turns: bool,
    pub ref_logp: bool,
    pub rollout_logp: bool,
}

/// A JSON value and where it stands.
struct At<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> At<'a> {
    fn wrong<T>(&self, wanted: &str) -> Result<T, ApplyError> {
        let found = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Number(n) => n.to_string(),
            Value::String(s) => format!("the text {s:?}"),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        Err(ApplyError::field(&self.path, format!("must be {wanted}, not {found}")))
    }

    fn list(&self) -> Result<Vec<At<'a>>, ApplyError> {
        let Value::Array(items) = self.value else { return self.wrong("a list") };
        let item = |(i, value)| At { path: format!("{}[{i}]", self.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// An object without any field but these.
    fn object(&self, fields: &[&str]) -> Result<&'a Map<String, Value>, ApplyError> {
        let Value::Object(map) = self.value else { return self.wrong("an object") };
        match map.keys().find(|key| !fields.contains(&key.as_str())) {
            Some(key) => {
                let known = fields.join(", ");
                Err(ApplyError::field(self.child(key), format!("there is no such field; there are {known}")))
            }
            None => Ok(map),
        }
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn optional(&self, map: &'a Map<String, Value>, key: &str) -> Option<At<'a>> {
        // A field that is null is one that is not there.
        map.get(key).filter(|value| !value.is_null()).map(|value| At { path: self.child(key), value })
    }

    fn required(&self, map: &'a Map<String, Value>, key: &str) -> Result<At<'a>, ApplyError> {
        let missing = || ApplyError::field(self.child(key), "is missing");
        map.get(key).map(|value| At { path: self.child(key), value }).ok_or_else(missing)
    }

    fn number(&self) -> Result<f64, ApplyError> {
        match self.value.as_f64().filter(|x| x.is_finite()) {
            Some(number) => Ok(number),
            None => self.wrong("a number"),
        }
    }

    fn index(&self) -> Result<usize, ApplyError> {
        match self.value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(index) => Ok(index),
            None => self.wrong("a whole number, 0 or more"),
        }
    }

    fn numbers(&self, n_tokens: usize) -> Result<Vec<f64>, ApplyError> {
        let items = self.list()?;
        if items.len() != n_tokens {
            let what = format!("has {} values, but `mask` has {n_tokens}", items.len());
            return Err(ApplyError::field(&self.path, what));
        }
        items.iter().map(At::number).collect()
    }
}

impl Batch {
    /// Reads `{"groups":[{"task":…,"trajectories":[…]}]}`.
    ///
    /// # Errors
    /// On the first field that is missing, unknown, of another form, or at odds with the others.
    pub fn from_json(text: &str) -> Result<Batch, ApplyError> {
        let value: Value = serde_json::from_str(text).map_err(|e| ApplyError::Syntax(e.to_string()))?;
        let root = At { path: String::new(), value: &value };
        let Value::Object(_) = value else { return Err(ApplyError::field("(the input)", "must be an object")) };
        let groups = root.required(root.object(&["groups"])?, "groups")?.list()?;
        Ok(Batch { groups: groups.iter().map(group).collect::<Result<_, _>>()? })
    }
}

fn group(at: &At<'_>) -> Result<Group, ApplyError> {
    let map = at.object(&["task", "trajectories"])?;
    let task = at.required(map, "task")?;
    let Value::String(name) = task.value else { return task.wrong("a text") };
    let mut trajectories: Vec<Trajectory> = Vec::new();
    for item in at.required(map, "trajectories")?.list()? {
        let read = trajectory(&item, &trajectories)?;
        trajectories.push(read);
    }
    Ok(Group { task: name.clone(), trajectories })
}

const FIELDS: &[&str] =
    &["reward", "mask", "logp", "old_logp", "ref_logp", "rollout_logp", "entropy", "turns", "parent", "shared"];

fn trajectory(at: &At<'_>, earlier: &[Trajectory]) -> Result<Trajectory, ApplyError> {
    let map = at.object(FIELDS)?;
    let bit = |at: &At<'_>| match at.value.as_f64() {
        Some(bit) if bit == 0.0 || bit == 1.0 => Ok(bit == 1.0),
        _ => at.wrong("0 or 1"),
    };
    let mask: Vec<bool> = at.required(map, "mask")?.list()?.iter().map(bit).collect::<Result<_, _>>()?;
    let n = mask.len();
    let list = |key| at.required(map, key)?.numbers(n);
    let maybe = |key| at.optional(map, key).map(|at| at.numbers(n)).transpose();
    let turns = match at.optional(map, "turns") {
        Some(at) => Some(turn_spans(&at, n)?),
        None => None,
    };
    let parent = match (at.optional(map, "parent"), at.optional(map, "shared")) {
        (None, None) => None,
        (Some(_), None) => return Err(ApplyError::field(at.child("shared"), "is missing beside `parent`")),
        (None, Some(_)) => return Err(ApplyError::field(at.child("parent"), "is missing beside `shared`")),
        (Some(parent), Some(shared)) => {
            let (idx, n_shared) = (parent.index()?, shared.index()?);
            let Some(other) = earlier.get(idx) else {
                return parent.wrong("the index of an earlier trajectory of the group");
            };
            let most = n.min(other.mask.len());
            if n_shared > most {
                return shared.wrong(&format!("at most {most}, the length of the shorter of the two"));
            }
            if mask[..n_shared] != other.mask[..n_shared] {
                return Err(ApplyError::field(at.child("mask"), "differs from the parent's within the shared tokens"));
            }
            Some((idx, n_shared))
        }
    };
    Ok(Trajectory {
        reward: at.required(map, "reward")?.number()?,
        logp: list("logp")?,
        old_logp: list("old_logp")?,
        entropy: list("entropy")?,
        ref_logp: maybe("ref_logp")?,
        rollout_logp: maybe("rollout_logp")?,
        mask,
        turns,
        parent,
    })
}

fn turn_spans(at: &At<'_>, n_tokens: usize) -> Result<Vec<TurnSpan>, ApplyError> {
    let mut spans: Vec<TurnSpan> = Vec::new();
    for item in at.list()? {
        let map = item.object(&["start", "end", "anchor"])?;
        let (start, end) = (item.required(map, "start")?, item.required(map, "end")?);
        let anchor = match item.optional(map, "anchor").map(|at| (at.value.as_str().map(str::to_owned), at)) {
            Some((None, at)) => return at.wrong("a text"),
            Some((text, _)) => text,
            None => None,
        };
        let span = TurnSpan { start: start.index()?, end: end.index()?, anchor };
        let from = spans.last().map_or(0, |s| s.end);
        if span.start < from {
            return start.wrong(&format!("at least {from}, where the turn before ends"));
        }
        if span.end <= span.start || span.end > n_tokens {
            return end.wrong(&format!("above `start` and at most {n_tokens}"));
        }
        spans.push(span);
    }
    Ok(spans)
}

impl Trajectory {
    /// The values at sampled tokens.
    #[must_use]
    pub fn sampled(&self, values: &[f64]) -> Vec<f64> {
        values.iter().zip(&self.mask).filter(|(_, m)| **m).map(|(v, _)| *v).collect()
    }

    /// Tokens from the first sampled one on: what is before is the prompt.
    #[must_use]
    pub fn n_response(&self) -> usize {
        self.mask.iter().position(|&m| m).map_or(0, |first| self.mask.len() - first)
    }

    /// Lists of sampled tokens' values over all tokens, 0 elsewhere; an empty list stands for zeros, except that empty
    /// entropy gradients stay empty.
    pub(super) fn unrolled(&self, advantage: &[f64], dlogp: &[f64], dentropy: &[f64]) -> AppliedTrajectory {
        // Adding 0 turns −0 into 0.
        let spread = |values: &[f64]| {
            let mut values = values.iter();
            self.mask.iter().map(|&m| if m { values.next().map_or(0.0, |v| v + 0.0) } else { 0.0 }).collect()
        };
        AppliedTrajectory {
            advantage: spread(advantage),
            dloss_dlogp: spread(dlogp),
            dloss_dentropy: if dentropy.is_empty() { Vec::new() } else { spread(dentropy) },
        }
    }

    /// Runs of sampled tokens.
    fn runs(&self) -> Vec<TurnSpan> {
        let starts = (0..self.mask.len()).filter(|&i| self.mask[i] && (i == 0 || !self.mask[i - 1]));
        let end = |start| (start..self.mask.len()).find(|&i| !self.mask[i]).unwrap_or(self.mask.len());
        starts.map(|start| TurnSpan { start, end: end(start), anchor: None }).collect()
    }
}

/// What the advantage rules need to know of a group.
pub(super) fn members(group: &Group, path: &str, needs: &Needs) -> Result<Vec<Member>, ApplyError> {
    let mut out: Vec<Member> = Vec::new();
    // Per trajectory and token, a number that is equal exactly where trajectories share the token.
    let mut ids: Vec<Vec<usize>> = Vec::new();
    let mut n_ids = 0;
    let mut anchors: HashMap<String, usize> = HashMap::new();
    for (i, t) in group.trajectories.iter().enumerate() {
        let at = |field: &str| format!("{path}.trajectories[{i}].{field}");
        for (needed, list, name) in
            [(needs.ref_logp, &t.ref_logp, "ref_logp"), (needs.rollout_logp, &t.rollout_logp, "rollout_logp")]
        {
            if needed && list.is_none() {
                return Err(ApplyError::field(at(name), "is missing, and these settings read it"));
            }
        }
        if needs.anchors && t.turns.is_none() && t.mask.contains(&true) {
            return Err(ApplyError::field(at("turns"), "is missing, and the algorithm compares turns"));
        }
        let (mut own, mut root) = (Vec::new(), i);
        if let Some((parent, n_shared)) = t.parent {
            own.extend_from_slice(&ids[parent][..n_shared]);
            if t.mask[..n_shared].contains(&true) {
                root = out[parent].root;
            }
        }
        let n_new = t.mask.len() - own.len();
        own.extend(n_ids..n_ids + n_new);
        n_ids += n_new;
        let spans = t.turns.clone().unwrap_or_else(|| t.runs());
        let mut turns = Vec::new();
        for (k, span) in spans.iter().enumerate() {
            let n_tokens = t.mask[span.start..span.end].iter().filter(|m| **m).count();
            let n_anchors = anchors.len();
            let anchor = match &span.anchor {
                Some(name) => *anchors.entry(name.clone()).or_insert(n_anchors),
                None if needs.anchors => {
                    return Err(ApplyError::field(at(&format!("turns[{k}].anchor")), "is missing"));
                }
                None => 0,
            };
            turns.push(Turn { n_tokens, anchor });
        }
        let in_turn = |token: usize| spans.iter().any(|s| (s.start..s.end).contains(&token));
        let outside = (0..t.mask.len()).find(|&token| t.mask[token] && !in_turn(token));
        if let Some(token) = outside.filter(|_| needs.anchors || needs.turns) {
            return Err(ApplyError::field(at("turns"), format!("token {token} is sampled but in no turn")));
        }
        let pick = |values: &[usize]| values.iter().zip(&t.mask).filter(|(_, m)| **m).map(|(v, _)| *v).collect();
        let kl = t.ref_logp.as_deref().map_or(Vec::new(), |reference| {
            let differences: Vec<f64> = t.old_logp.iter().zip(reference).map(|(old, r)| old - r).collect();
            t.sampled(&differences)
        });
        let (token_ids, entropies) = (pick(&own), t.sampled(&t.entropy));
        let surprisals = t.sampled(&t.old_logp).into_iter().map(|logp| -logp).collect();
        out.push(Member { reward: t.reward, root, turns, token_ids, entropies, surprisals, kl });
        ids.push(own);
    }
    Ok(out)
}
