//! Which server do these tests speak to? OpenAI's routes over a sampler that says what it is told.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use aepo::prompt::served::Talk;
use aepo_tools::http::Secret;
pub use aepo_tools::serve::openai::desk::Limits;
use aepo_tools::serve::openai::desk::Worker;
use aepo_tools::serve::openai::{Served, routes};
use aepo_tools::serve::{Key, Server};
use serde_json::{Value, json};

use crate::fake::{Fake, tokenizer};

/// A server over a fake; fields are dropped in this order.
pub struct Running {
    pub worker: Option<Worker>,
    pub server: Server,
    pub n_open: Arc<AtomicUsize>,
}

pub const LIMITS: Limits = Limits { cache_tokens: 20_000, max_live: 256, max_waiting: 256 };

pub fn start_with(fake: Fake, limits: Limits, key: Option<&str>) -> Running {
    let n_open = Arc::clone(&fake.n_open);
    let (desk, worker) = Worker::start(fake, limits).unwrap();
    let served = Served {
        name: "fake".to_owned(),
        talk: Arc::new(Talk::tags(tokenizer()).unwrap()),
        desk,
        default_max_tokens: 100,
        key: key.map(|key| Arc::new(Key::new(&Secret::of(key).unwrap()))),
        body_patience: Duration::from_millis(700),
    };
    let server = Server::start_with("127.0.0.1:0", routes(served), Duration::from_millis(700)).unwrap();
    Running { worker: Some(worker), server, n_open }
}

/// Answers what its table says, and otherwise that it does not know.
pub fn start() -> Running {
    let say = |prompt: &str| {
        let question = prompt.rsplit("<|user|>").next().unwrap_or_default();
        let says = |part: &str| question.contains(part);
        match () {
            () if says("</result>") => "<think> a</think><answer>\\boxed{ 5}</answer><|end|>",
            () if says("call") => "<think> I look.</think><search> Algeria area</search>",
            () if says("long") => " It is 12 + 34.",
            () => "<answer>\\boxed{ no}</answer><|end|>",
        }
        .to_owned()
    };
    start_with(Fake::new(600, Duration::ZERO, Box::new(say)), LIMITS, None)
}

/// A question with further fields.
pub fn question(text: &str, more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": text }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}
