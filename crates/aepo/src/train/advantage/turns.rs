//! Which turn deserves the reward? The values of a tree's turns, from its leaves up.

use std::collections::HashMap;

use super::{Member, group_advantages};

/// One turn, wherever trajectories go on from the same one. Parents stand before their children.
struct Node {
    parent: usize,
    /// H(n), nats per token.
    entropy: f64,
    /// What goes on from here: entropy and value of each child, and of each trajectory that ends.
    parts: Vec<(f64, f64)>,
}

/// AT²PO (arXiv 2601.04767, eq. 3) for one group, `[trajectory][turn]`. A turn is a node of the task's tree, and every
/// token of it gets the node's value:
///
/// ```text
/// V_n = r̂                                  at a leaf, r̂ the group advantage of the trajectory that ends there
/// V_n = Σ_c w_c·V_c,  w_c = H(c)/Σ_c' H(c')  otherwise, over the turns c that go on from n
/// H(c) = −(1/|c|)·Σ_t log π(y_t)            eq. 2, under the weights that sampled
/// ```
///
/// The advantage is V itself, which the paper found best among its variants. The released code differs twice: it
/// weighs by the softmax of H, and it divides by the standard deviation with ddof = 0; here it is the paper's weight and
/// the deviation of every other rule.
///
/// What the paper's trees do not have: children without any entropy weigh the same; a trajectory that ends where
/// another goes on counts as a child with the entropy of the turn it ended with; a turn without sampled tokens is no node.
/// Two trajectories share a turn when they share all of its tokens.
///
/// The turns of a member hold all of its `token_ids`, and `surprisals` are as many.
#[must_use]
pub fn turn_values(group: &[Member]) -> Vec<Vec<f64>> {
    let rewards: Vec<f64> = group.iter().map(|m| m.reward).collect();
    let mut nodes = vec![Node { parent: 0, entropy: 0.0, parts: Vec::new() }];
    let mut known: HashMap<(usize, &[usize]), usize> = HashMap::new();
    let mut paths: Vec<Vec<usize>> = Vec::new();
    for (member, end) in group.iter().zip(group_advantages(&rewards)) {
        let (mut at, mut first, mut path) = (0, 0, Vec::new());
        for turn in &member.turns {
            let tokens = first..first + turn.n_tokens;
            first = tokens.end;
            if turn.n_tokens > 0 {
                let key = (at, &member.token_ids[tokens.clone()]);
                let surprisals = &member.surprisals[tokens];
                at = *known.entry(key).or_insert_with(|| {
                    // Divided before they are added, so that no sum of huge numbers overflows.
                    let entropy = surprisals.iter().map(|s| s / surprisals.len() as f64).sum::<f64>();
                    nodes.push(Node { parent: at, entropy, parts: Vec::new() });
                    nodes.len() - 1
                });
            }
            path.push(at);
        }
        let entropy = nodes[at].entropy;
        nodes[at].parts.push((entropy, end));
        paths.push(path);
    }
    let mut values = vec![0.0; nodes.len()];
    for idx in (1..nodes.len()).rev() {
        values[idx] = weighted_mean(&nodes[idx].parts);
        let Node { parent, entropy, .. } = nodes[idx];
        nodes[parent].parts.push((entropy, values[idx]));
    }
    paths.iter().map(|path| path.iter().map(|&node| values[node]).collect()).collect()
}

/// Mean of `(weight, value)`, negative weights as 0; the plain mean where no weight is above 0.
fn weighted_mean(parts: &[(f64, f64)]) -> f64 {
    let largest = parts.iter().fold(0.0f64, |m, p| m.max(p.0));
    if largest == 0.0 {
        return parts.iter().map(|p| p.1).sum::<f64>() / parts.len().max(1) as f64;
    }
    let total: f64 = parts.iter().map(|p| p.0.max(0.0) / largest).sum();
    parts.iter().map(|p| p.0.max(0.0) / largest / total * p.1).sum()
}
