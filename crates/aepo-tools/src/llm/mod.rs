//! What does a served model say? OpenAI's `POST /chat/completions`, which vLLM, SGLang, llama.cpp and most hosts answer
//! too. The one client for whatever asks a model: evaluations, judges, readers of pages.

mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::http::{Budget, Client, HttpError, Limits, Rate, Request, Secret, tls};

/// Which model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmSettings {
    /// Address up to and with the version, `https://api.openai.com/v1`; a slash at its end changes nothing.
    pub base_url: String,
    /// The name under which the server knows the model.
    pub model: String,
    /// The variable of the environment that holds the key; `None` where the server wants none.
    pub key_env: Option<String>,
    /// How often one request is sent at most; at least once.
    pub tries: u32,
    /// Certificates to trust instead of those of the public web, PEM.
    pub certificates: Option<PathBuf>,
}

impl LlmSettings {
    /// `model` at `base_url` (address up to and with the version), without a key.
    #[must_use]
    pub fn of(base_url: impl Into<String>, model: impl Into<String>) -> LlmSettings {
        let (base_url, model) = (base_url.into(), model.into());
        LlmSettings { base_url, model, key_env: None, tries: Limits::default().tries, certificates: None }
    }
}

/// How an answer is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Softmax temperature; `None` leaves it to the server.
    pub temperature: Option<f64>,
    /// Nucleus mass; `None` leaves it to the server.
    pub top_p: Option<f64>,
    /// Longest answer, tokens.
    pub max_tokens: u32,
    /// Seed, for servers that take one; others draw as they like.
    pub seed: Option<u64>,
    /// Texts that end an answer; OpenAI's servers take four at most.
    pub stop: Vec<String>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The question.
    User,
    /// An earlier answer. As the last message it is one that the model goes on with, which vLLM and SGLang can.
    Assistant,
}

impl Role {
    /// The name in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One message of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// Instructions.
    #[must_use]
    pub fn system(content: impl Into<String>) -> ChatMessage {
        ChatMessage { role: Role::System, content: content.into() }
    }

    /// A question.
    #[must_use]
    pub fn user(content: impl Into<String>) -> ChatMessage {
        ChatMessage { role: Role::User, content: content.into() }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The answer; a text that ended it is not part of it.
    pub text: String,
    /// Thoughts, where the server keeps them apart.
    pub thoughts: Option<String>,
    /// Why it ended.
    pub end: End,
    /// Tokens that were read, where the server counts.
    pub n_prompt: Option<u64>,
    /// Tokens that were sampled, where the server counts.
    pub n_sampled: Option<u64>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended its turn.
    Turn,
    /// One of [`Sampling::stop`].
    StopText(String),
    /// One or the other: the server does not say which.
    Unsaid,
    /// [`Sampling::max_tokens`], or the model's context.
    Length,
    /// A filter of the server cut it.
    Filtered,
}

/// A served model. Cheap to clone; clones share connections, rate and budget.
#[derive(Clone, Debug)]
pub struct Llm {
    client: Client,
    url: String,
    model: String,
    key: Option<Secret>,
    tries: u32,
}

impl Llm {
    /// Reads the key from the environment; asks nothing yet.
    pub fn new(settings: &LlmSettings) -> Result<Llm, HttpError> {
        let certificates = settings.certificates.clone();
        let client = Client::new(Limits { tries: settings.tries, certificates, ..Limits::default() })?;
        Llm::over(client, settings)
    }

    /// The same over a client that there is already; its own tries and certificates hold.
    pub fn over(client: Client, settings: &LlmSettings) -> Result<Llm, HttpError> {
        tls::origin(&settings.base_url).ok_or(HttpError::Address)?;
        let key = settings.key_env.as_deref().map(Secret::from_env).transpose()?;
        let url = format!("{}/chat/completions", settings.base_url.trim_end_matches('/'));
        Ok(Llm { client, url, model: settings.model.clone(), key, tries: settings.tries.max(1) })
    }

    /// The same model, asked with this key.
    #[must_use]
    pub fn with_key(self, key: Secret) -> Llm {
        Llm { key: Some(key), ..self }
    }

    /// The same model, asked no faster than `rate` allows.
    #[must_use]
    pub fn with_rate(mut self, rate: Arc<Rate>) -> Llm {
        self.client = self.client.with_rate(rate);
        self
    }

    /// The same model, asked no more often than `budget` has left.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<Budget>) -> Llm {
        self.client = self.client.with_budget(budget);
        self
    }

    /// Requests that were sent again so far, by all clones.
    #[must_use]
    pub fn n_retries(&self) -> u64 {
        self.client.n_retries()
    }

    /// The model's answer to `messages`. An answer that was cut is an answer. One that cannot be read (no JSON, or not of
    /// the form) is asked for again: proxies make such things under load.
    pub fn ask(&self, messages: &[ChatMessage], sampling: &Sampling, deadline: Instant) -> Result<Said, HttpError> {
        let body = wire::body(&self.model, messages, sampling);
        let key = self.key.as_ref().map(|key| ("authorization", "Bearer ", key));
        let host = tls::origin(&self.url).unwrap_or_default();
        let mut n_unreadable = 0;
        loop {
            let answer = self.client.json(Request { url: &self.url, query: &[], key, body: Some(&body) }, deadline);
            let error = match answer.and_then(|answer| wire::said(&answer, host)) {
                Err(error @ (HttpError::NotJson { .. } | HttpError::Form { .. })) => error,
                other => return other,
            };
            n_unreadable += 1;
            if n_unreadable >= self.tries {
                return Err(error);
            }
        }
    }
}
