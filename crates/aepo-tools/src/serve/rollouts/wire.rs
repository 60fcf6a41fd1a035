//! What is asked of the rollout service, and what does it answer?

use aepo::data::task::{Grader, Task};
use aepo::record::{LeafRecord, NodeRecord, TreeRecord};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::serve::refusal::Refusal;

/// Characters of a group's name.
const MAX_NAME: usize = 256;
/// Labels of a seed.
const MAX_LABELS: usize = 8;
/// Servers that a request may name.
const MAX_SERVERS: usize = 1024;

/// One trajectory of a tree, please.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// Names the tree; all callers that name it get trajectories of one tree.
    pub group: String,
    /// Which trajectory, from 0; all of them where it is left away.
    pub index: Option<usize>,
    /// How many trajectories the caller takes a tree to have; an error where it has another number.
    pub n: Option<usize>,
    pub question: String,
    /// Accepted answers; without any the trajectory comes without a reward.
    #[serde(default)]
    pub answers: Vec<String>,
    pub grader: Option<Grader>,
    /// What every draw follows from, like `[step, task]`; the group's name where there is none.
    pub seed: Option<Vec<u64>>,
    /// The servers that sample, where the service leaves that to its callers.
    #[serde(default)]
    pub servers: Vec<String>,
}

impl Ask {
    pub fn parse(bytes: &[u8]) -> Result<Ask, Refusal> {
        let ask: Ask = serde_json::from_slice(bytes)
            .map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, format!("the request is none for a trajectory: {e}")))?;
        let n_chars = ask.group.chars().count();
        if n_chars == 0 || n_chars > MAX_NAME {
            return Err(Refusal::field("group", format!("must have 1 to {MAX_NAME} characters, not {n_chars}")));
        }
        if ask.question.trim().is_empty() {
            return Err(Refusal::field("question", "must not be empty"));
        }
        if ask.seed.as_ref().is_some_and(|labels| labels.is_empty() || labels.len() > MAX_LABELS) {
            return Err(Refusal::field("seed", format!("must be a list of 1 to {MAX_LABELS} numbers")));
        }
        let is_address = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if ask.servers.len() > MAX_SERVERS || !ask.servers.iter().all(is_address) {
            let message = format!("must be at most {MAX_SERVERS} addresses like \"http://127.0.0.1:8000\"");
            return Err(Refusal::field("servers", message));
        }
        Ok(ask)
    }

    /// The labels of the seed.
    pub fn seed(&self) -> Vec<u64> {
        let of_name = || {
            let digest = ring::digest::digest(&ring::digest::SHA256, self.group.as_bytes());
            digest.as_ref().chunks_exact(8).map(|b| b.iter().fold(0, |n, &byte| n << 8 | u64::from(byte))).collect()
        };
        self.seed.clone().unwrap_or_else(of_name)
    }

    pub fn task(&self) -> Task {
        Task {
            id: self.group.clone(),
            kind: "rollout".to_owned(),
            question: self.question.clone(),
            answers: self.answers.clone(),
            grader: self.grader.unwrap_or(Grader::Qa),
        }
    }
}

/// A run of a trajectory's response that lies on one node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Span {
    /// The node; trajectories of a group share the tokens of those that they share.
    pub node: u32,
    /// How many tokens.
    pub n: usize,
}

/// One trajectory. All lists without a length in their name are `[n_response]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Answer<'a> {
    pub group: &'a str,
    pub index: usize,
    /// Trajectories of the tree.
    pub n: usize,
    /// `[n_prompt]`
    pub prompt_ids: &'a [u32],
    pub response_ids: Vec<u32>,
    /// 1 where the model sampled, 0 where it read a tool's result.
    pub response_mask: Vec<u8>,
    /// Nats at the sampling temperature; 0 where the mask is.
    pub logprobs: Vec<f32>,
    /// Nats; 0 where the mask is.
    pub entropies: Vec<f32>,
    /// `[n_nodes]`
    pub spans: Vec<Span>,
    /// The path's name: root sample, then child by child.
    pub path: &'a [u32],
    /// False where a tool that was not there ended it: nothing is to be learned from it.
    pub counts: bool,
    /// Why it ended.
    pub stop: &'a str,
    /// The answer that it gave.
    pub answer: Option<&'a str>,
    /// Absent without accepted answers, or where it does not count.
    pub reward: Option<f64>,
    pub accuracy: Option<f64>,
    pub format_ok: Option<bool>,
    pub n_turns: usize,
    pub n_calls: usize,
}

impl<'a> Answer<'a> {
    /// The `index`-th trajectory of a tree; `None` where it has fewer.
    pub fn of(tree: &'a TreeRecord, index: usize) -> Option<Answer<'a>> {
        let leaf: &LeafRecord = tree.leaves.get(index)?;
        let mut path: Vec<(u32, &NodeRecord)> = Vec::new();
        let mut at = Some(leaf.node);
        while let Some(id) = at {
            let node = tree.nodes.get(id as usize)?;
            path.push((id, node));
            at = node.parent;
        }
        let (_, prompt) = path.pop()?;
        path.reverse();
        let per_token = |of: fn(&NodeRecord) -> &[f32]| {
            let of_node = |(_, node): &(u32, &NodeRecord)| match node.mask {
                true => of(node).to_vec(),
                false => vec![0.0; node.tokens.len()],
            };
            path.iter().flat_map(of_node).collect::<Vec<f32>>()
        };
        let score = leaf.score.filter(|_| !tree.task.answers.is_empty());
        Some(Answer {
            group: &tree.task.id,
            index,
            n: tree.leaves.len(),
            prompt_ids: &prompt.tokens,
            response_ids: path.iter().flat_map(|(_, node)| node.tokens.iter().copied()).collect(),
            response_mask: path.iter().flat_map(|(_, node)| vec![u8::from(node.mask); node.tokens.len()]).collect(),
            logprobs: per_token(|node| &node.logprobs),
            entropies: per_token(|node| &node.entropies),
            spans: path.iter().map(|&(node, record)| Span { node, n: record.tokens.len() }).collect(),
            path: &leaf.key.0,
            counts: leaf.score.is_some(),
            stop: &leaf.stop,
            answer: leaf.answer.as_deref(),
            reward: score.map(|s| s.reward),
            accuracy: score.map(|s| s.accuracy),
            format_ok: score.map(|s| s.format_ok),
            n_turns: path.iter().filter(|(_, node)| node.mask).count(),
            n_calls: path.iter().filter(|(_, node)| node.call.is_some()).count(),
        })
    }
}
