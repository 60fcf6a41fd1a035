//! Would a sensible search find what a question needs? Questions that no sensible query can answer are not asked.

use std::collections::HashMap;

use super::countries::{Attribute, Country};
use super::questions::Question;
use super::world::Article;

/// How much better than the next article the right one must score: search engines differ in how they cut words, so a
/// narrow lead here may be none there.
const LEAD: f64 = 1.05;

/// Okapi BM25 over lower-case words (Robertson and Zaragoza 2009, with the idf that stays positive):
/// score = Σ_w ln(1 + (N − n_w + ½)/(n_w + ½)) · f·(k₁+1) / (f + k₁·(1 − b + b·len/mean_len)), k₁ = 1.2, b = 0.75.
pub(crate) struct Index {
    titles: Vec<String>,
    /// Words of each article, counted.
    counts: Vec<HashMap<String, f64>>,
    /// `[n_articles]`, words.
    lens: Vec<f64>,
    /// In how many articles a word occurs.
    n_with: HashMap<String, f64>,
}

impl Index {
    pub(crate) fn new(corpus: &[Article]) -> Index {
        let mut n_with: HashMap<String, f64> = HashMap::new();
        let mut counts = Vec::new();
        for article in corpus {
            let mut words: HashMap<String, f64> = HashMap::new();
            for word in words_of(&article.text) {
                *words.entry(word).or_default() += 1.0;
            }
            for word in words.keys() {
                *n_with.entry(word.clone()).or_default() += 1.0;
            }
            counts.push(words);
        }
        let lens = counts.iter().map(|words| words.values().sum()).collect();
        Index { titles: corpus.iter().map(|a| a.title.clone()).collect(), counts, lens, n_with }
    }

    /// `[n_articles]`
    fn scores(&self, query: &str) -> Vec<f64> {
        let n_articles = self.lens.len() as f64;
        let mean_len = self.lens.iter().sum::<f64>() / n_articles.max(1.0);
        let mut scores = vec![0.0; self.lens.len()];
        for word in words_of(query) {
            let n_with = self.n_with.get(&word).copied().unwrap_or(0.0);
            let idf = (1.0 + (n_articles - n_with + 0.5) / (n_with + 0.5)).ln();
            for ((score, counts), len) in scores.iter_mut().zip(&self.counts).zip(&self.lens) {
                let f = counts.get(&word).copied().unwrap_or(0.0);
                *score += idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len / mean_len));
            }
        }
        scores
    }

    /// Whether the article `title` clearly scores best.
    fn finds(&self, query: &str, title: &str) -> bool {
        let scores = self.scores(query);
        let best_other =
            scores.iter().zip(&self.titles).filter(|(_, t)| *t != title).map(|(s, _)| *s).fold(0.0, f64::max);
        scores.iter().zip(&self.titles).any(|(score, t)| t == title && *score > LEAD * best_other)
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

fn words_of(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::super::countries::tests::quickstart_countries;
    use super::super::world::search_corpus;
    use super::*;

    #[test]
    fn scores_are_those_of_the_formula() {
        let article = |text: &str| Article { id: text.into(), title: text.into(), text: text.into() };
        let index = Index::new(&[article("a b b"), article("a c c c c")]);
        // Mean length 4; "b" is in one of two articles: ln(1 + 1.5/1.5) · 2·2.2 / (2 + 1.2·(0.25 + 0.75·3/4)).
        let expected = [std::f64::consts::LN_2 * 4.4 / (2.0 + 1.2 * 0.8125), 0.0];
        for (got, expected) in index.scores("B, x!").iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
        assert!(index.finds("b", "a b b") && !index.finds("b", "a c c c c") && !index.finds("x", "a b b"));
    }

    #[test]
    fn names_that_another_country_shares_are_not_found() {
        let countries = quickstart_countries();
        let index = Index::new(&search_corpus(&countries));
        let at = |name: &str| countries.iter().position(|c| c.name == name).unwrap();
        let table = [
            (Question::OneHop(at("Algeria"), Attribute::Area), true),
            (Question::OneHop(at("Niger"), Attribute::Population), true),
            (Question::OneHop(at("Guinea"), Attribute::Population), false),
            (Question::OneHop(at("Samoa"), Attribute::Population), false),
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
