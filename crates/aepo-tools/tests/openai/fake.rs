//! What does a sampler look like that says what a test wants? It answers prompts by a function, one token at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aepo::policy::watch::{Seen, Watch, Watched};
use aepo::policy::{Completion, PathId, PolicyError, PolicyVersion, SampleRequest, SampleStop, SampledToken, Sampler};
use aepo::prompt::Tokenizer;
use aepo::prompt::tokenizer::train_tokenizer;

/// A small vocabulary with the quickstart's tags.
pub fn tokenizer() -> Arc<Tokenizer> {
    let corpus = ["Its capital is Algiers.", "What is the area of Algeria?", "print( 12 + 34)"];
    let corpus = corpus.iter().cycle().take(30).map(|text| (*text).to_owned());
    Arc::new(Tokenizer::from_bytes(&train_tokenizer(corpus, 320).unwrap()).unwrap())
}

pub type Say = dyn Fn(&str) -> String + Send;

pub struct Fake {
    tokenizer: Arc<Tokenizer>,
    context_len: usize,
    /// What follows a prompt's text; marked, so that it may hold tags. It is repeated without an end.
    say: Box<Say>,
    /// Time that a round takes.
    pause: Duration,
    paths: BTreeMap<u64, Path>,
    next: u64,
    /// Paths that are open, for a test to look at.
    pub n_open: Arc<AtomicUsize>,
}

struct Path {
    tokens: Vec<u32>,
    request: Option<(SampleRequest, Vec<u32>, Vec<SampledToken>)>,
    watch: Watch,
    seen: Vec<Seen>,
}

impl Fake {
    pub fn new(context_len: usize, pause: Duration, say: Box<Say>) -> Fake {
        let (tokenizer, paths, n_open) = (tokenizer(), BTreeMap::new(), Arc::default());
        Fake { tokenizer, context_len, say, pause, paths, next: 0, n_open }
    }

    fn add(&mut self, tokens: Vec<u32>) -> PathId {
        self.next += 1;
        self.paths.insert(self.next, Path { tokens, request: None, watch: Watch::default(), seen: Vec::new() });
        self.n_open.store(self.paths.len(), Ordering::SeqCst);
        PathId(self.next)
    }
}

/// The token has −½ nat, the next ids fall by one each.
fn seen(token: u32, watch: Watch) -> Seen {
    let token = SampledToken { token, logprob: -0.5, entropy: 1.0, top_entropy: 0.0 };
    let likeliest = (0..watch.n_likeliest as u32).map(|i| ((token.token + i) % 320, -0.5 - i as f32)).collect();
    Seen { token, rank: u32::from(watch.n_likeliest > 0), likeliest }
}

impl Sampler for Fake {
    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.context_len
    }
    fn version(&self) -> PolicyVersion {
        PolicyVersion(0)
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        Ok(self.add(tokens.to_vec()))
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        let path = self.paths.get_mut(&path.0).ok_or(PolicyError::UnknownPath(path))?;
        path.tokens.extend_from_slice(tokens);
        Ok(())
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let tokens = self.paths[&path.0].tokens[..n_tokens].to_vec();
        Ok(self.add(tokens))
    }
    fn close(&mut self, path: PathId) {
        assert!(self.paths.remove(&path.0).is_some(), "{path:?} is closed twice");
        self.n_open.store(self.paths.len(), Ordering::SeqCst);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        self.submit_watched(request, Watch::default())
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let mut done = Vec::new();
        let mut is_busy = false;
        for (&id, path) in &mut self.paths {
            let Some((request, answer, sampled)) = &mut path.request else { continue };
            is_busy = true;
            let token = answer[sampled.len() % answer.len()];
            let seen = seen(token, path.watch);
            sampled.push(seen.token);
            path.seen.push(seen);
            path.tokens.push(token);
            let turn: Vec<u32> = sampled.iter().map(|token| token.token).collect();
            let stop = match () {
                () if request.stop.ends(&turn) => SampleStop::StopToken,
                () if path.tokens.len() >= self.context_len => SampleStop::ContextFull,
                () if sampled.len() >= request.max_tokens => SampleStop::MaxTokens,
                () => continue,
            };
            let tokens = std::mem::take(sampled);
            path.request = None;
            done.push(Completion { path: PathId(id), tokens, stop, version: PolicyVersion(0), changes: Vec::new() });
        }
        if is_busy {
            std::thread::sleep(self.pause);
        }
        Ok(done)
    }
}

impl Watched for Fake {
    fn submit_watched(&mut self, request: SampleRequest, watch: Watch) -> Result<(), PolicyError> {
        let path = self.paths.get_mut(&request.path.0).ok_or(PolicyError::UnknownPath(request.path))?;
        let text = self.tokenizer.decode(&path.tokens);
        if text.contains("fail now") {
            return Err(PolicyError::NotFinite("a number of this test"));
        }
        let answer = self.tokenizer.encode_marked(&(self.say)(&text));
        let given = &path.tokens[path.tokens.len() - watch.n_given..];
        (path.seen, path.watch) = (given.iter().map(|&token| seen(token, watch)).collect(), watch);
        path.request = Some((request, answer, Vec::new()));
        Ok(())
    }
    fn take_seen(&mut self, path: PathId, into: &mut Vec<Seen>) {
        if let Some(path) = self.paths.get_mut(&path.0) {
            into.append(&mut path.seen);
        }
    }
}
