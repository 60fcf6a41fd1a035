//! Who samples in a fake? One thread with an engine per set of weights, requests of all connections at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use aepo::policy::watch::{Watch, Watched as _};
use aepo::policy::{
    Completion, Learner as _, PathId, SampleParams, SampleRequest, SampleStop, SampledToken, Sampler as _,
};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use tokio::sync::oneshot;

use super::FakeSettings;

/// Tokens of a block of the prefix cache; only whole blocks are shared.
const BLOCK: usize = 16;

/// Makes an engine: as the server begins, or with weights from a directory, LoRA's or whole ones.
pub type MakeEngine = Arc<dyn Fn(Option<&Path>) -> Result<Engine, String> + Send + Sync>;

/// Of which distribution log-probabilities are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Before the temperature: vLLM's `raw_logprobs`.
    Raw,
    /// At the temperature, before cuts.
    Scaled,
}

/// What is to be sampled.
pub(crate) struct Work {
    /// Name of the weights: empty for the model itself.
    pub name: String,
    pub prompt: Vec<u32>,
    pub max_tokens: usize,
    pub ids: Vec<u32>,
    pub texts: Vec<String>,
    pub params: SampleParams,
    pub seed: Seed,
    pub n_top: usize,
}

/// A token with the likeliest ones, falling.
pub(crate) struct SaidToken {
    pub id: u32,
    pub logprob: f32,
    pub top: Vec<(u32, f32)>,
}

/// What was sampled.
pub(crate) struct Said {
    pub tokens: Vec<SaidToken>,
    pub by_length: bool,
    pub n_cached: usize,
}

type Reply<T> = oneshot::Sender<Result<T, String>>;

enum Order {
    Sample(Work, Reply<Said>),
    /// Weights of a directory under a name; the model's own under the empty one.
    Load(String, PathBuf, Reply<()>),
    Unload(String),
    ForgetCache,
    ForgetAll,
}

/// The thread; it ends when this is dropped.
pub(crate) struct ModelThread {
    orders: Sender<Order>,
}

impl ModelThread {
    pub fn start(settings: &FakeSettings) -> std::io::Result<ModelThread> {
        let (orders, taken) = channel();
        let engine = (settings.make)(None).map_err(std::io::Error::other)?;
        let (make, pieces, mode) = (Arc::clone(&settings.make), Arc::clone(&settings.pieces), settings.mode);
        std::thread::Builder::new().name("fake-model".to_owned()).spawn(move || {
            let engines = BTreeMap::from([(String::new(), engine)]);
            let mut worker = Worker { engines, make, pieces, mode, busy: HashMap::new(), cached: HashSet::new() };
            worker.work(&taken);
        })?;
        Ok(ModelThread { orders })
    }

    pub async fn sample(&self, work: Work) -> Result<Said, String> {
        self.ask(|reply| Order::Sample(work, reply)).await
    }

    pub async fn load(&self, name: String, dir: PathBuf) -> Result<(), String> {
        self.ask(|reply| Order::Load(name, dir, reply)).await
    }

    pub fn unload(&self, name: String) {
        self.tell(Order::Unload(name));
    }

    pub fn forget_cache(&self) {
        self.tell(Order::ForgetCache);
    }

    pub fn forget_all(&self) {
        self.tell(Order::ForgetAll);
    }

    fn tell(&self, order: Order) {
        // The thread ends with its owner.
        let _ = self.orders.send(order);
    }

    async fn ask<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        self.tell(order(reply));
        answer.await.unwrap_or_else(|_| Err("the model is gone".to_owned()))
    }
}

struct Busy {
    work: Work,
    reply: Reply<Said>,
    n_cached: usize,
}

struct Worker {
    engines: BTreeMap<String, Engine>,
    make: MakeEngine,
    pieces: Arc<[Box<[u8]>]>,
    mode: Mode,
    busy: HashMap<(String, PathId), Busy>,
    /// Hashes of prefixes of whole blocks, of the weights' name too.
    cached: HashSet<u64>,
}

impl Worker {
    fn work(&mut self, orders: &Receiver<Order>) {
        loop {
            // With nothing to sample it waits for what comes next.
            let next = match self.busy.is_empty() {
                true => orders.recv().map_err(|_| TryRecvError::Disconnected),
                false => orders.try_recv(),
            };
            match next {
                Ok(order) => {
                    self.obey(order);
                    continue;
                }
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            let gone: Vec<(String, PathId)> =
                self.busy.iter().filter(|(_, busy)| busy.reply.is_closed()).map(|(key, _)| key.clone()).collect();
            for key in gone {
                self.busy.remove(&key);
                if let Some(engine) = self.engines.get_mut(&key.0) {
                    engine.close(key.1);
                }
            }
            let names: Vec<String> = self.engines.keys().cloned().collect();
            for name in names {
                let done = self.engines.get_mut(&name).map(|engine| engine.poll());
                match done {
                    Some(Ok(done)) => done.into_iter().for_each(|completion| self.finish(&name, completion)),
                    Some(Err(e)) => self.fail(&name, &e.to_string()),
                    None => {}
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Sample(work, reply) => self.begin(work, reply),
            Order::Load(name, dir, reply) => {
                // An asker that is gone does not need to know.
                let _ = reply.send((self.make)(Some(&dir)).map(|engine| {
                    self.fail(&name, "other weights were loaded meanwhile");
                    self.engines.insert(name, engine);
                }));
            }
            Order::Unload(name) => {
                self.fail(&name, "these weights were unloaded");
                self.engines.remove(&name);
            }
            Order::ForgetCache => self.cached.clear(),
            Order::ForgetAll => {
                self.busy.clear();
                self.cached.clear();
                if let Ok(engine) = (self.make)(None) {
                    self.engines = BTreeMap::from([(String::new(), engine)]);
                }
            }
        }
    }

    fn fail(&mut self, name: &str, why: &str) {
        let those: Vec<(String, PathId)> = self.busy.keys().filter(|key| key.0 == name).cloned().collect();
        for key in those {
            if let Some(busy) = self.busy.remove(&key) {
                let _ = busy.reply.send(Err(why.to_owned()));
            }
            if let Some(engine) = self.engines.get_mut(name) {
                engine.close(key.1);
            }
        }
    }

    fn begin(&mut self, work: Work, reply: Reply<Said>) {
        let Some(engine) = self.engines.get_mut(&work.name) else {
            let _ = reply.send(Err(format!("no weights are called `{}`", work.name)));
            return;
        };
        // What a server's own check of texts sees is what it has sampled itself.
        let (ids, texts) = (work.ids.clone(), work.texts.clone());
        let stop = Arc::new(Stop { ids, texts, pieces: Arc::clone(&self.pieces) });
        let begun = engine.open(&work.prompt).and_then(|path| {
            let (max_tokens, params, seed) = (work.max_tokens, work.params, work.seed);
            let watch = Watch { n_likeliest: work.n_top, n_given: 0 };
            engine
                .submit_watched(SampleRequest { path, max_tokens, stop, n_turn: 0, params, seed }, watch)
                .map(|()| path)
        });
        match begun {
            Ok(path) => {
                let blocks = prefixes(&work.name, &work.prompt);
                let n_known = blocks.iter().take_while(|block| self.cached.contains(block)).count();
                // The last token is always computed.
                let n_cached = (n_known * BLOCK).min((work.prompt.len() - 1) / BLOCK * BLOCK);
                // Later requests find what this one computes.
                self.cached.extend(blocks);
                self.busy.insert((work.name.clone(), path), Busy { work, reply, n_cached });
            }
            Err(e) => {
                let _ = reply.send(Err(e.to_string()));
            }
        }
    }

    fn finish(&mut self, name: &str, completion: Completion) {
        let Some(busy) = self.busy.remove(&(name.to_owned(), completion.path)) else { return };
        let Some(engine) = self.engines.get_mut(name) else { return };
        let mut seen = Vec::new();
        engine.take_seen(completion.path, &mut seen);
        engine.close(completion.path);
        let Busy { work, reply, n_cached } = busy;
        let whole: Vec<u32> = work.prompt.iter().copied().chain(completion.tokens.iter().map(|t| t.token)).collect();
        self.cached.extend(prefixes(name, &whole));
        let said = match self.mode {
            // At the temperature of sampling the sampler knows them itself.
            Mode::Scaled => Ok(seen.into_iter().map(|seen| (seen.token.logprob, seen.likeliest)).collect()),
            Mode::Raw => raw(engine, &whole, work.prompt.len(), work.n_top),
        };
        let said = said.map(|rows: Vec<Row>| {
            let token = |(drawn, (logprob, mut top)): (&SampledToken, Row)| {
                if !top.iter().any(|&(id, _)| id == drawn.token) {
                    top.push((drawn.token, logprob));
                }
                SaidToken { id: drawn.token, logprob, top }
            };
            let by_length = completion.stop != SampleStop::StopToken;
            Said { tokens: completion.tokens.iter().zip(rows).map(token).collect(), by_length, n_cached }
        });
        let _ = reply.send(said);
    }
}

/// The log-probability of a token, and the likeliest ids with theirs, falling.
type Row = (f32, Vec<(u32, f32)>);

/// Those at temperature 1 of each token from the prompt's last one on, but the very last.
fn raw(engine: &mut Engine, whole: &[u32], n_prompt: usize, n_top: usize) -> Result<Vec<Row>, String> {
    let vocab = engine.vocab_size() as u32;
    let mut batch = TreeBatch::default();
    batch.push_segment(None, whole);
    let from = n_prompt as u32 - 1..whole.len() as u32 - 1;
    batch.targets = from.flat_map(|from_idx| (0..vocab).map(move |token| Target { from_idx, token })).collect();
    let stats = engine.forward(&batch, 1.0, false).map_err(|e| e.to_string())?;
    let row = |(row, &drawn): (&[f32], &u32)| {
        let mut top: Vec<(u32, f32)> = row.iter().enumerate().map(|(id, &l)| (id as u32, l)).collect();
        top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        top.truncate(n_top);
        (row[drawn as usize], top)
    };
    Ok(stats.logprobs.chunks(vocab as usize).zip(&whole[n_prompt..]).map(row).collect())
}

/// A hash of each prefix of whole blocks.
fn prefixes(name: &str, tokens: &[u32]) -> Vec<u64> {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let block = |block: &[u32]| {
        block.hash(&mut hasher);
        hasher.clone().finish()
    };
    tokens.chunks_exact(BLOCK).map(block).collect()
}
