//! How do tasks and tool results become token ids, and sampled ids an action?

use crate::tool::Tool;

/// What the model did in one turn, read from the tokens it sampled in that turn and from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A complete tool call.
    Call {
        /// Which tool.
        tool: Tool,
        /// Code or query between the tags.
        input: String,
    },
    /// A complete final answer: the content of `\boxed{…}`, trimmed.
    Answer(String),
    /// The turn ended, but not in a form of the protocol; the path ends here.
    Malformed(Malformation),
}

/// What was wrong with a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Malformation {
    /// The turn ended without a call or an answer.
    NoAction,
    /// Tags do not pair up or stand in the wrong order.
    BadTags,
    /// `<answer>` without a `\boxed{…}`.
    NoBox,
}
