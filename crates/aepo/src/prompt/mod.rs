//! How do tasks and tool results become token ids, and sampled ids an action?

pub mod demo;
pub mod parse;
pub mod render;
pub mod template;
pub mod tokenizer;

pub use crate::data::message;
use crate::tool::Tool;

pub use render::Renderer;
pub use tokenizer::Tokenizer;

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

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The bytes are no tokenizer of the `tokenizers` JSON format.
    #[error("not a tokenizer: {0}")]
    Unreadable(String),
    /// The protocol needs a token that the vocabulary does not have as one special id.
    #[error("the tokenizer has no special token {name}")]
    MissingSpecial {
        /// The token's text.
        name: String,
    },
    /// Not every byte has a token, so some texts could not be encoded.
    #[error("the tokenizer has no token for byte {byte:#04x}; it must be byte-level")]
    MissingByte {
        /// The first byte without a token.
        byte: u8,
    },
    /// The file asks for something that would change what a text or a token means here.
    #[error("the tokenizer is not supported: it has {what}")]
    Unsupported {
        /// What it has.
        what: String,
    },
    /// The texts hold every character that could mark a place in them.
    #[error("the texts hold all noncharacters and characters for private use, so none is left to mark tokens with")]
    NoGuard,
    /// Training a vocabulary failed.
    #[error("training a vocabulary of {vocab_size} failed: {cause}")]
    Training {
        /// Tokens asked for.
        vocab_size: usize,
        /// What the trainer said.
        cause: String,
    },
}
