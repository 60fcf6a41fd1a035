//! What must the world be able to do? The second of the two traits where the world begins.

/// A tool the model may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// Runs model-written Python.
    Python,
    /// Looks a query up in a corpus.
    Search,
}

impl Tool {
    /// Every tool, in a fixed order.
    pub const ALL: [Tool; 2] = [Tool::Python, Tool::Search];

    /// The tag and configuration name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tool::Python => "python",
            Tool::Search => "search",
        }
    }
}

/// Names one call in flight; the driver hands it out, the result carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// One call, as the model wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Unique among the calls in flight.
    pub id: CallId,
    /// Which tool.
    pub tool: Tool,
    /// Code or query, exactly as sampled.
    pub input: String,
    /// Randomness inside the tool (Python's `random`, hash seed) follows from this.
    pub seed: crate::seed::Seed,
}

/// How a call ended. Known by the tool's supervisor, never believed from the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolOutcome {
    /// It ran to its end.
    Ok,
    /// The program raised or exited with an error; what it printed is kept.
    Raised,
    /// The source does not parse.
    Syntax,
    /// The wall or CPU limit passed and it was killed.
    Timeout,
    /// The memory limit.
    Memory,
    /// It printed more than the output limit and was killed.
    Output,
    /// It died of a signal (a segmentation fault, an abort).
    Signal,
    /// Our own fault, not the program's: never to be taken for the model's doing.
    Unavailable,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The call it answers.
    pub id: CallId,
    /// How it ended.
    pub outcome: ToolOutcome,
    /// What the model gets to read. Untrusted: encoded with special tokens disabled.
    pub text: String,
    /// Wall time of the call, seconds.
    pub wall_secs: f64,
}

/// Tools behind one door. Calls run concurrently, each with its own deadline, so every submitted call comes back.
pub trait Toolset {
    /// Which tools answer here.
    fn tools(&self) -> &[Tool];
    /// Starts a call.
    fn submit(&mut self, call: ToolCall);
    /// Results that have arrived, in the order of their arrival. With `block`, waits for at least one, unless
    /// nothing is in flight.
    fn poll(&mut self, block: bool) -> Vec<ToolResult>;
}
