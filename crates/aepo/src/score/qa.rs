//! How near is an answer to a reference? Token F1 and exact match after the normalisation of SQuAD.
//!
//! Rajpurkar et al., arXiv 1606.05250: lower case, no ASCII punctuation, no articles (a, an, the), single spaces.

use std::collections::HashMap;

/// The words that are compared.
#[must_use]
pub fn normalized_words(text: &str) -> Vec<String> {
    let letters: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    letters.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(str::to_owned).collect()
}

/// F1 = 2·P·R / (P + R) over the bags of words, P = common / words of the answer, R = common / words of the reference;
/// in [0, 1]. An answer and a reference that are both empty after normalisation are equal.
#[must_use]
pub fn f1(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (normalized_words(answer), normalized_words(reference));
    if answer.is_empty() || reference.is_empty() {
        return if answer.is_empty() && reference.is_empty() { 1.0 } else { 0.0 };
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &reference {
        *left.entry(word).or_default() += 1;
    }
    let mut n_common = 0usize;
    for word in &answer {
        if let Some(n) = left.get_mut(word.as_str()).filter(|n| **n > 0) {
            *n -= 1;
            n_common += 1;
        }
    }
    // 2PR/(P+R) with P = c/a and R = c/r is 2c/(a+r); written so, equal bags give exactly 1.
    2.0 * n_common as f64 / (answer.len() + reference.len()) as f64
}

/// Whether both are the same after normalisation.
#[must_use]
pub fn exact_match(answer: &str, reference: &str) -> bool {
    normalized_words(answer) == normalized_words(reference)
}

/// The best F1 over the accepted answers; 0 without any.
#[must_use]
pub fn best_f1(answer: &str, accepted: &[String]) -> f64 {
    accepted.iter().map(|reference| f1(answer, reference)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_counts_common_words() {
        let table = [
            ("Algiers", "Algiers", 1.0),
            (" the  ALGIERS. ", "Algiers", 1.0),
            ("Algerian dinars", "dinars", 2.0 / 3.0),
            ("Algerian dinars", "Tunisian dinars", 0.5),
            ("a b b", "b b b", 0.8),
            ("b b", "b c", 0.5),
            ("Tunis", "Algiers", 0.0),
            ("", "Algiers", 0.0),
            ("Algiers", "", 0.0),
            ("the", "a", 1.0),
            (".dz", "dz", 1.0),
            ("São Tomé", "são tomé", 1.0),
            ("Port-Vila", "Port Vila", 0.0),
        ];
        for (answer, reference, expected) in table {
            let got = f1(answer, reference);
            assert!((got - expected).abs() < 1e-12, "{answer} / {reference}: {got}");
        }
    }

    #[test]
    fn exact_match_is_about_order_too() {
        assert!(exact_match("The New  Delhi!", "new delhi"));
        assert!(!exact_match("Delhi New", "New Delhi"));
        assert!((f1("Delhi New", "New Delhi") - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_best_accepted_answer_counts() {
        let accepted = ["Rangoon".to_owned(), "Yangon".to_owned()];
        assert_eq!(best_f1("yangon", &accepted), 1.0);
        assert_eq!(best_f1("yangon", &[]), 0.0);
    }
}
