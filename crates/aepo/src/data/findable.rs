//! Would a sensible search find what a question needs? Questions that no sensible query can answer are not asked.

use std::collections::HashMap;

use super::countries::{Attribute, Country};
use super::questions::Question;
use super::world::Article;

/// By how much the right article must lead the next one, in units of the score: search engines differ in how they cut
/// words, so a narrow lead here may be none there. One word of a fact is worth about 0.7.
const LEAD: f64 = 0.25;

/// A word in the title counts this much more than in the text.
const TITLE_WEIGHT: f64 = 1.5;

/// The corpus by title and by text: score = 1.5 · BM25(titles) + BM25(texts).
pub(crate) struct Index {
    titles: Vec<String>,
    fields: [(f64, Field); 2],
}

/// One text of every article, as words.
struct Field {
    /// Words of each article, counted.
    counts: Vec<HashMap<String, f64>>,
    /// `[n_articles]`, words.
    lens: Vec<f64>,
    /// In how many articles a word occurs.
    n_with: HashMap<String, f64>,
}

impl Field {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Field {
        let mut n_with: HashMap<String, f64> = HashMap::new();
        let mut counts = Vec::new();
        for text in texts {
            let mut words: HashMap<String, f64> = HashMap::new();
            for word in words_of(text) {
                *words.entry(word).or_default() += 1.0;
            }
            for word in words.keys() {
                *n_with.entry(word.clone()).or_default() += 1.0;
            }
            counts.push(words);
        }
        let lens = counts.iter().map(|words| words.values().sum()).collect();
        Field { counts, lens, n_with }
    }

    /// Adds `weight` · Okapi BM25 over lower-case words (Robertson and Zaragoza 2009, with the idf that stays positive):
    /// Σ_w ln(1 + (N − n_w + ½)/(n_w + ½)) · f·(k₁+1) / (f + k₁·(1 − b + b·len/mean_len)), k₁ = 1.2, b = 0.75.
    fn add_scores(&self, query: &str, weight: f64, scores: &mut [f64]) {
        let n_articles = self.lens.len() as f64;
        let mean_len = self.lens.iter().sum::<f64>() / n_articles.max(1.0);
        for word in words_of(query) {
            let n_with = self.n_with.get(&word).copied().unwrap_or(0.0);
            let idf = (1.0 + (n_articles - n_with + 0.5) / (n_with + 0.5)).ln();
            for ((score, counts), len) in scores.iter_mut().zip(&self.counts).zip(&self.lens) {
                let f = counts.get(&word).copied().unwrap_or(0.0);
                *score += weight * idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len / mean_len));
            }
        }
    }
}

impl Index {
    pub(crate) fn new(corpus: &[Article]) -> Index {
        let titles = Field::new(corpus.iter().map(|a| a.title.as_str()));
        let texts = Field::new(corpus.iter().map(|a| a.text.as_str()));
        let fields = [(TITLE_WEIGHT, titles), (1.0, texts)];
        Index { titles: corpus.iter().map(|a| a.title.clone()).collect(), fields }
    }

    /// `[n_articles]`
    fn scores(&self, query: &str) -> Vec<f64> {
        let mut scores = vec![0.0; self.titles.len()];
        for (weight, field) in &self.fields {
            field.add_scores(query, *weight, &mut scores);
        }
        scores
    }

    /// Whether the article `title` clearly scores best.
    fn finds(&self, query: &str, title: &str) -> bool {
        let scores = self.scores(query);
        let best_other =
            scores.iter().zip(&self.titles).filter(|(_, t)| *t != title).map(|(s, _)| *s).fold(0.0, f64::max);
        scores.iter().zip(&self.titles).any(|(score, t)| t == title && *score > best_other + LEAD)
    }

    fn finds_fact(&self, country: &Country, attribute: Attribute) -> bool {
        let title = format!("{} of {}", attribute.topic().word(), country.name);
        self.finds(&format!("{} {}", country.name, attribute.words()), &title)
    }

    /// Whether the queries that a demonstration would make find every article that `question` needs.
    pub(crate) fn answers(&self, question: &Question, world: &[Country]) -> bool {
        let fact = |c: usize, attribute| world.get(c).is_some_and(|country| self.finds_fact(country, attribute));
        match *question {
            Question::OneHop(c, attribute) => fact(c, attribute),
            Question::TwoHop(c, attribute) => {
                let by_capital = world.get(c).and_then(|country| {
                    let query = format!("capital {}", country.fact(Attribute::Capital)?);
                    Some(self.finds(&query, &format!("Geography of {}", country.name)))
                });
                by_capital == Some(true) && fact(c, attribute)
            }
            Question::Compare(a, b, attribute, _) => fact(a, attribute) && fact(b, attribute),
            Question::Arithmetic(_) => true,
        }
    }
}

/// Words in lower case without the endings -s, -ic and -e, roughly as English stemming would have it: what a search
/// engine may take for the same word (Philippines and Philippine pesos, Iceland and Icelandic kronur) counts as such.
fn words_of(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(|word| {
        let mut word = word.to_lowercase();
        for ending in ["s", "ic", "e"] {
            if word.len() > ending.len() + 2 && word.ends_with(ending) {
                word.truncate(word.len() - ending.len());
            }
        }
        word
    })
}

#[cfg(test)]
mod tests {
    use super::super::countries::tests::quickstart_countries;
    use super::super::world::search_corpus;
    use super::*;

    #[test]
    fn scores_are_those_of_the_formula() {
        let article = |title: &str, text: &str| Article { id: title.into(), title: title.into(), text: text.into() };
        let index = Index::new(&[article("t", "a b b"), article("b", "a c c c c")]);
        // Mean length 4; "b" is in one of two texts: ln(1 + 1.5/1.5) · 2·2.2 / (2 + 1.2·(0.25 + 0.75·3/4)). It also is
        // one of two titles of the mean length: 1.5 · ln 2 · 2.2 / (1 + 1.2).
        let expected = [std::f64::consts::LN_2 * 4.4 / (2.0 + 1.2 * 0.8125), 1.5 * std::f64::consts::LN_2];
        for (got, expected) in index.scores("B, x!").iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
        assert!(index.finds("t", "t") && index.finds("c", "b") && !index.finds("b", "t") && !index.finds("b", "b"));
    }

    #[test]
    fn facts_that_a_search_would_miss_are_known() {
        let countries = quickstart_countries();
        let index = Index::new(&search_corpus(&countries));
        let at = |name: &str| countries.iter().position(|c| c.name == name).unwrap();
        let table = [
            (Question::OneHop(at("Algeria"), Attribute::Area), true),
            (Question::OneHop(at("Iceland"), Attribute::Area), false),
            (Question::OneHop(at("Iceland"), Attribute::Population), true),
            (Question::OneHop(at("Niger"), Attribute::Population), true),
            (Question::OneHop(at("Guinea"), Attribute::Population), true),
            (Question::OneHop(at("Costa Rica"), Attribute::Capital), false),
            (Question::TwoHop(at("Algeria"), Attribute::Currency), true),
            (Question::TwoHop(at("Jamaica"), Attribute::Currency), false),
        ];
        for (question, expected) in table {
            assert_eq!(index.answers(&question, &countries), expected, "{question:?}");
        }
        let n_found = |attribute| countries.iter().filter(|c| index.finds_fact(c, attribute)).count();
        for attribute in Attribute::ALL {
            assert!(n_found(attribute) > 140, "{attribute:?}: {}", n_found(attribute));
        }
    }
}
