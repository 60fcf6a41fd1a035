//! What can be looked up? Two short articles per country, written from its facts.

use super::countries::{Attribute, Country, Topic};
use super::dice::Dice;
use crate::seed::Seed;

/// One document of the search corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article {
    /// Unique in the corpus.
    pub id: String,
    /// "Geography of Algeria"
    pub title: String,
    /// Short sentences, one fact each.
    pub text: String,
}

impl Article {
    /// What the model reads when a search finds it: the title, a line break, the text.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}\n{}", self.title, self.text)
    }
}

/// The article on one topic. The order of its sentences and their wording follow from `seed`. Every value stands behind
/// a space, so that it has the same tokens here as in a question, a query or an answer.
#[must_use]
pub fn article(country: &Country, topic: Topic, seed: Seed) -> Article {
    let mut dice = Dice::new(seed);
    let mut sentences: Vec<String> = Attribute::ALL
        .into_iter()
        .filter(|a| a.topic() == topic)
        .filter_map(|a| country.fact(a).map(|value| (a, value)))
        .map(|(a, value)| sentence(a, value, dice.pick::<&str>(&["Its", "The"])))
        .collect();
    dice.shuffle(&mut sentences);
    let title = format!("{} of {}", topic.word(), country.name);
    Article { id: title.clone(), text: sentences.concat().trim_start().to_owned(), title }
}

/// " Its area is 2381740 square km."
#[must_use]
pub fn sentence(attribute: Attribute, value: &str, subject: &str) -> String {
    format!(" {subject} {} is {value}{}.", attribute.words(), attribute.unit())
}

/// Both articles of every country.
#[must_use]
pub fn search_corpus(countries: &[Country]) -> Vec<Article> {
    const CORPUS_SEED: Seed = Seed(0x5EED_0002);
    let of = |(i, country)| {
        [Topic::Geography, Topic::Society]
            .map(|topic| article(country, topic, CORPUS_SEED.child(i).child(topic as u64)))
    };
    (0u64..).zip(countries).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::countries::tests::quickstart_countries;
    use super::*;

    #[test]
    fn articles_state_every_fact_once_behind_a_space() {
        let countries = quickstart_countries();
        let corpus = search_corpus(&countries);
        assert_eq!(corpus.len(), 2 * countries.len());
        let ids: std::collections::HashSet<&str> = corpus.iter().map(|a| a.id.as_str()).collect();
        assert_eq!(ids.len(), corpus.len());
        for (country, pair) in countries.iter().zip(corpus.chunks(2)) {
            for attribute in Attribute::ALL {
                let stated = country.fact(attribute).map_or(0, |value| {
                    let body = format!(" {} is {value}{}.", attribute.words(), attribute.unit());
                    pair[attribute.topic() as usize].text.matches(&body).count()
                });
                assert_eq!(stated, usize::from(country.fact(attribute).is_some()), "{} {attribute:?}", country.name);
            }
        }
    }

    #[test]
    fn an_article_reads_like_this() {
        let countries = quickstart_countries();
        let algeria = countries.iter().find(|c| c.name == "Algeria").unwrap();
        let text = [Topic::Geography, Topic::Society]
            .map(|t| format!("[{}]", article(algeria, t, Seed(1)).shown()))
            .join("\n");
        expect_test::expect![[r#"
            [Geography of Algeria
            The coastline is 998 km. Its highest point is 2908 m. The area is 2381740 square km. The capital is Algiers.]
            [Society of Algeria
            Its independence year is 1962. The population is 47735685. The median age is 29.3. The internet code is .dz. Its currency is Algerian dinars.]"#]].assert_eq(&text);
    }

    #[test]
    fn the_order_of_sentences_varies() {
        let corpus = search_corpus(&quickstart_countries());
        let first = |a: &Article| a.text.split(" is ").next().map(str::to_owned);
        let firsts: std::collections::HashSet<_> = corpus.iter().map(first).collect();
        assert!(firsts.len() >= 12, "{firsts:?}");
    }
}
