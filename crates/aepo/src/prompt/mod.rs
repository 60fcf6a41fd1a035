//! How do tasks and tool results become token ids, and sampled ids an action?

mod chat;
pub mod demo;
mod grammar;
pub mod render;
pub mod served;
mod tags;
pub mod template;
pub mod tokenizer;

pub use crate::data::boxed::last_boxed;
pub use crate::data::message;
use crate::tool::ToolName;

pub use chat::{ChatSettings, Dialect, without_fence};
pub use render::Renderer;
pub use tokenizer::Tokenizer;

/// How prompts, calls and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The quickstart's own: every tag is one special token.
    Tags,
    /// A chat template, and calls in the tags of AEPO: [`Dialect::Aepo`].
    Aepo,
    /// A chat template, and calls as Hermes and Qwen models write them: [`Dialect::Hermes`].
    Hermes,
    /// A chat template, and calls as Llama 3 models write them: [`Dialect::Llama3`].
    Llama3,
}

impl Protocol {
    /// The dialect of a chat template; `None` without one.
    #[must_use]
    pub fn dialect(self) -> Option<Dialect> {
        match self {
            Protocol::Tags => None,
            Protocol::Aepo => Some(Dialect::Aepo),
            Protocol::Hermes => Some(Dialect::Hermes),
            Protocol::Llama3 => Some(Dialect::Llama3),
        }
    }
}

/// What the model did in one turn, read from the tokens it sampled in that turn and from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A complete tool call.
    Call {
        /// Which tool.
        tool: ToolName,
        /// The text between the tags, or the arguments as a canonical JSON object.
        input: String,
    },
    /// A complete final answer: the content of the last `\boxed{…}`, trimmed.
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
    /// An answer without a `\boxed{…}`.
    NoBox,
    /// A call that is no JSON of a name and arguments, or of a tool or argument that there is not.
    BadCall,
    /// More than one call in a turn.
    ManyCalls,
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
    /// The quickstart's tags are tokens, and there are none for this tool.
    #[error(
        "there are no tags for the tool {name} in the quickstart's protocol; offer only python and search, or choose \
             another prompt.protocol"
    )]
    NoTagOfTool {
        /// What is offered.
        name: ToolName,
    },
    /// A template could not render.
    #[error(transparent)]
    Template(#[from] template::TemplateError),
    /// The protocol has no template for whole conversations.
    #[error("the tag protocol of the quickstart has no conversations; choose another prompt.protocol")]
    NoTemplate,
    /// A recipe sets what the template does not read.
    #[error("the chat template writes the same whatever {name} is; leave it unset")]
    UnusedVariable {
        /// The name in the template.
        name: String,
    },
    /// A drill of the quickstart in another protocol.
    #[error(
        "rows that repeat or look up are for the quickstart's own tags; set sft.copy_share and sft.lookup_share to 0"
    )]
    Drill,
    /// A conversation has no turn of the assistant behind something to answer.
    #[error("there is no assistant message behind another message")]
    NoTurn,
    /// The template leaves out what the assistant wrote.
    #[error("the chat template does not show a turn of the assistant that follows a question")]
    TurnNotShown,
    /// The template has no place for tools.
    #[error("the chat template does not tell the model of its tools; choose prompt.protocol = \"aepo\"")]
    ToolsNotShown,
    /// The template does not write a token of the vocabulary behind the assistant's turns.
    #[error(
        "the chat template ends a turn of the assistant with {found:?}, which does not begin with a token of its own"
    )]
    NoTurnEnd {
        /// What stands there.
        found: String,
    },
    /// A turn is not rendered as a continuation of the prompt before it.
    #[error("the chat template does not continue its own prompt {head:?} when it renders the assistant's turn")]
    TurnNotAppended {
        /// The prompt.
        head: String,
    },
    /// The quickstart's protocol knows who asks and who answers, nobody else.
    #[error("this model knows no system messages: it was taught its tools, and is only asked")]
    NoSystem,
    /// A model without a chat template.
    #[error("this model has no chat template: it continues texts, and holds no conversations")]
    NoConversations,
    /// A template whose calls nobody here can read.
    #[error("it is not known how this model calls tools")]
    NoTools,
    /// A result stands where nothing was called.
    #[error("message {index} is the result of a call, but no turn of the assistant stands before it")]
    NoCallBefore {
        /// Its place among the messages, from 0.
        index: usize,
    },
    /// A conversation calls a tool that there is not.
    #[error("a call of {name} in a conversation; the tags of AEPO know {known} here")]
    UnknownCall {
        /// What is called.
        name: String,
        /// What there is.
        known: String,
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
