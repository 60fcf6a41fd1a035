//! What is asked of a replica and what does it answer, whichever program it is?

use aepo::policy::SampleParams;
use aepo::seed::Seed;
use aepo::stop::Stop;
use serde_json::Value;

/// A continuation, as one replica is asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// Names the request; no two have the same.
    pub id: &'a str,
    /// The name under which the weights are served.
    pub model: &'a str,
    /// Whether `model` names LoRA's matrices.
    pub is_adapter: bool,
    /// Everything on the path.
    pub prompt: &'a [u32],
    /// At most so many tokens.
    pub max_tokens: usize,
    /// What ends it.
    pub stop: &'a Stop,
    /// Whether texts end it there too; where not, only ids do.
    pub by_text: bool,
    /// How tokens are drawn.
    pub params: SampleParams,
    /// What they are drawn with.
    pub seed: Seed,
    /// Log-probabilities per token.
    pub n_top: usize,
    /// Ids are below this.
    pub vocab_size: usize,
}

/// A sampled token, as it came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// Its id.
    pub id: u32,
    /// Its log-probability, nats.
    pub logprob: f32,
    /// Those of the likeliest tokens, falling.
    pub top: Vec<f32>,
}

/// A continuation that came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// In order.
    pub tokens: Vec<Token>,
    /// Whether the replica was stopped in the middle of it; what there is was sampled as asked.
    pub aborted: bool,
    /// Tokens of the prompt that the replica had in its cache, where it says so.
    pub n_cached: Option<u64>,
    /// The label of the weights, where it says so.
    pub label: Option<String>,
}

/// Why a try gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The replica is not there, or not well: another may help, or this one later.
    Replica(String),
    /// The replica is well but its weights are not those that were asked for.
    Weights(String),
    /// No replica will do this.
    Refused(String),
}

impl Answer {
    /// Checks what no protocol promises: as many numbers as tokens, ids and log-probabilities that can be, and each
    /// row of the likeliest as long as was asked.
    pub fn checked(self, ask: &Ask<'_>) -> Result<Answer, Trouble> {
        let bad = |why: String| Err(Trouble::Replica(format!("an answer that cannot be: {why}")));
        if self.tokens.len() > ask.max_tokens {
            return bad(format!("{} tokens where {} were asked for", self.tokens.len(), ask.max_tokens));
        }
        if self.tokens.is_empty() {
            return bad("no token at all".to_owned());
        }
        let n_wanted = ask.n_top.min(ask.vocab_size);
        for (i, token) in self.tokens.iter().enumerate() {
            if token.id as usize >= ask.vocab_size {
                return bad(format!("token {i} has the id {}, the vocabulary {} ids", token.id, ask.vocab_size));
            }
            if !token.logprob.is_finite() || token.logprob > 1e-3 {
                return bad(format!("token {i} has the log-probability {}", token.logprob));
            }
            if token.top.len() != n_wanted {
                return bad(format!("token {i} has {} likeliest tokens of {n_wanted}", token.top.len()));
            }
            let mass: f64 = token.top.iter().map(|&l| f64::from(l).exp()).sum();
            if !(0.0..=1.001).contains(&mass) {
                return bad(format!("the likeliest tokens at {i} have the mass {mass}; are these logits?"));
            }
        }
        Ok(self)
    }
}

/// The likeliest tokens' log-probabilities, falling. A replica adds the sampled token where it is not among them; it
/// is taken out then.
pub(crate) fn likeliest(all: impl Iterator<Item = (u32, f32)>, sampled: u32, n_top: usize) -> Vec<f32> {
    let mut all: Vec<(u32, f32)> = all.collect();
    if all.len() > n_top {
        all.retain(|&(id, _)| id != sampled);
    }
    let mut top: Vec<f32> = all.into_iter().map(|(_, logprob)| logprob).collect();
    top.sort_by(|a, b| b.total_cmp(a));
    top
}

/// A server's words about an error: from where its JSON has them, short, and without anything that moves a cursor.
pub(crate) fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let parsed: Option<Value> = serde_json::from_str(&text).ok();
    let places = ["/error/message", "/message", "/error", "/detail"];
    let inside = parsed.and_then(|v| places.iter().find_map(|p| v.pointer(p)?.as_str().map(str::to_owned)));
    inside.as_deref().unwrap_or(&text).chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampled_token_does_not_count_among_the_likeliest_twice() {
        let all = [(3, -0.5), (9, -2.0), (1, -1.0)];
        assert_eq!(likeliest(all.into_iter(), 9, 2), [-0.5, -1.0]);
        assert_eq!(likeliest(all.into_iter(), 1, 3), [-0.5, -1.0, -2.0]);
    }

    #[test]
    fn an_answer_that_cannot_be_is_found() {
        let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
        let ask = Ask {
            id: "a",
            model: "m",
            is_adapter: false,
            prompt: &[1],
            max_tokens: 2,
            stop: &Stop::default(),
            by_text: false,
            params,
            seed: Seed(1),
            n_top: 2,
            vocab_size: 10,
        };
        let good = Token { id: 1, logprob: -0.7, top: vec![-0.6, -0.9] };
        let answer = |tokens: Vec<Token>| Answer { tokens, aborted: false, n_cached: None, label: None };
        assert!(answer(vec![good.clone(); 2]).checked(&ask).is_ok());
        let table = [
            (vec![good.clone(); 3], "3 tokens"),
            (Vec::new(), "no token"),
            (vec![Token { id: 10, ..good.clone() }], "id 10"),
            (vec![Token { logprob: f32::NEG_INFINITY, ..good.clone() }], "-inf"),
            (vec![Token { top: vec![-0.6], ..good.clone() }], "1 likeliest tokens of 2"),
            (vec![Token { top: vec![4.5, 3.0], ..good }], "logits"),
        ];
        for (tokens, part) in table {
            let Err(Trouble::Replica(why)) = answer(tokens).checked(&ask) else { panic!("{part} was not found") };
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_servers_words_are_taken_from_its_json() {
        assert_eq!(words(br#"{"error":{"message":"no such\nmodel","code":404}}"#), "no suchmodel");
        assert_eq!(words(br#"{"detail":"away"}"#), "away");
        assert_eq!(words(b"gate\x1bway"), "gateway");
    }
}
