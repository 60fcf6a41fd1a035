//! What is known about each country? A small table of facts, and which of them belong to the held-out split.

use crate::seed::Seed;

/// One kind of fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// Seat of government.
    Capital,
    /// Total area, square kilometres.
    Area,
    /// Highest point, metres above the sea.
    HighestPoint,
    /// Length of the coastline, kilometres.
    Coastline,
    /// Number of people.
    Population,
    /// Half of the people are younger, years.
    MedianAge,
    /// Name of the money.
    Currency,
    /// Top-level domain with its dot.
    InternetCode,
    /// Year of independence.
    Independence,
}

/// The two articles of each country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Land: capital, area, highest point, coastline.
    Geography,
    /// People: population, median age, currency, internet code, independence.
    Society,
}

impl Topic {
    /// The word its article's title begins with.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Topic::Geography => "Geography",
            Topic::Society => "Society",
        }
    }

    /// The other article.
    #[must_use]
    pub fn other(self) -> Topic {
        match self {
            Topic::Geography => Topic::Society,
            Topic::Society => Topic::Geography,
        }
    }
}

impl Attribute {
    /// Every attribute; the position is the index into [`Country::facts`].
    pub const ALL: [Attribute; 9] = [
        Attribute::Capital,
        Attribute::Area,
        Attribute::HighestPoint,
        Attribute::Coastline,
        Attribute::Population,
        Attribute::MedianAge,
        Attribute::Currency,
        Attribute::InternetCode,
        Attribute::Independence,
    ];

    /// The name of its column in the table.
    #[must_use]
    pub fn column(self) -> &'static str {
        match self {
            Attribute::Capital => "capital",
            Attribute::Area => "area_sq_km",
            Attribute::HighestPoint => "highest_point_m",
            Attribute::Coastline => "coastline_km",
            Attribute::Population => "population",
            Attribute::MedianAge => "median_age",
            Attribute::Currency => "currency",
            Attribute::InternetCode => "internet_code",
            Attribute::Independence => "independence_year",
        }
    }

    /// How questions, queries and articles call it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Attribute::Capital => "capital",
            Attribute::Area => "area",
            Attribute::HighestPoint => "highest point",
            Attribute::Coastline => "coastline",
            Attribute::Population => "population",
            Attribute::MedianAge => "median age",
            Attribute::Currency => "currency",
            Attribute::InternetCode => "internet code",
            Attribute::Independence => "independence year",
        }
    }

    /// The unit behind a value in an article, with its leading space, or nothing.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Attribute::Area => " square km",
            Attribute::HighestPoint => " m",
            Attribute::Coastline => " km",
            Attribute::Capital
            | Attribute::Population
            | Attribute::MedianAge
            | Attribute::Currency
            | Attribute::InternetCode
            | Attribute::Independence => "",
        }
    }

    /// Which article states it.
    #[must_use]
    pub fn topic(self) -> Topic {
        match self {
            Attribute::Capital | Attribute::Area | Attribute::HighestPoint | Attribute::Coastline => Topic::Geography,
            Attribute::Population
            | Attribute::MedianAge
            | Attribute::Currency
            | Attribute::InternetCode
            | Attribute::Independence => Topic::Society,
        }
    }

    /// Whether sums and differences of it make sense; its values are whole numbers then.
    #[must_use]
    pub fn is_amount(self) -> bool {
        matches!(self, Attribute::Area | Attribute::HighestPoint | Attribute::Coastline | Attribute::Population)
    }

    /// Whether its values are numbers.
    #[must_use]
    pub fn is_number(self) -> bool {
        !matches!(self, Attribute::Capital | Attribute::Currency | Attribute::InternetCode)
    }
}

/// A country and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Country {
    /// Its name, without a leading article.
    pub name: String,
    /// One value per [`Attribute::ALL`], as articles write it, without unit or separators.
    pub facts: [Option<String>; Attribute::ALL.len()],
}

impl Country {
    /// The value of `attribute`, when known.
    #[must_use]
    pub fn fact(&self, attribute: Attribute) -> Option<&str> {
        self.facts[attribute as usize].as_deref()
    }

    /// The value of an amount that is not zero.
    #[must_use]
    pub fn amount(&self, attribute: Attribute) -> Option<i64> {
        let value = self.fact(attribute).filter(|_| attribute.is_amount())?.parse().ok()?;
        (value != 0).then_some(value)
    }
}

/// What is wrong with a facts table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {problem}")]
pub struct FactsError {
    /// What the caller calls the table.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there, naming the column.
    pub problem: String,
}

/// Reads a facts table: comma-separated without quotes; lines that begin with `#` are notes; the first other line names
/// the columns, `name` and each [`Attribute::column`] once, in any order; an empty field is an unknown fact.
pub fn parse_countries(file: &str, text: &str) -> Result<Vec<Country>, FactsError> {
    let fail = |line: usize, problem: String| FactsError { file: file.to_owned(), line, problem };
    let mut lines =
        text.lines().enumerate().map(|(i, l)| (i + 1, l)).filter(|(_, l)| !l.starts_with('#') && !l.trim().is_empty());
    let (header_line, header) = lines.next().ok_or_else(|| fail(1, "the table is empty".to_owned()))?;
    let columns: Vec<&str> = header.split(',').map(str::trim).collect();
    let position = |name: &str| match columns.iter().filter(|c| **c == name).count() {
        1 => Ok(columns.iter().position(|c| *c == name).unwrap_or_default()),
        n => Err(fail(header_line, format!("column {name} occurs {n} times, not once"))),
    };
    let name_at = position("name")?;
    let mut fact_at = [0; Attribute::ALL.len()];
    for attribute in Attribute::ALL {
        fact_at[attribute as usize] = position(attribute.column())?;
    }
    if columns.len() != 1 + Attribute::ALL.len() {
        let known = |c: &&&str| **c == "name" || Attribute::ALL.iter().any(|a| a.column() == **c);
        let unknown = columns.iter().find(|c| !known(c)).copied().unwrap_or_default();
        return Err(fail(header_line, format!("unknown column {unknown:?}")));
    }
    let mut countries: Vec<Country> = Vec::new();
    for (line, text) in lines {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if fields.len() != columns.len() {
            return Err(fail(line, format!("{} fields, but {} columns", fields.len(), columns.len())));
        }
        let name = fields[name_at];
        if name.is_empty() {
            return Err(fail(line, "column name is empty".to_owned()));
        }
        if countries.iter().any(|c| c.name == name) {
            return Err(fail(line, format!("column name: {name} is listed twice")));
        }
        let mut facts = [const { None }; Attribute::ALL.len()];
        for attribute in Attribute::ALL {
            let value = fields[fact_at[attribute as usize]];
            let ok = if attribute.is_amount() || attribute == Attribute::Independence {
                value.parse::<i64>().is_ok()
            } else if attribute.is_number() {
                value.parse::<f64>().is_ok_and(f64::is_finite)
            } else {
                true
            };
            if !value.is_empty() {
                if !ok {
                    return Err(fail(line, format!("column {}: {value:?} is not a number", attribute.column())));
                }
                facts[attribute as usize] = Some(value.to_owned());
            }
        }
        countries.push(Country { name: name.to_owned(), facts });
    }
    if countries.is_empty() {
        return Err(fail(header_line, "the table has no countries".to_owned()));
    }
    Ok(countries)
}

/// Which questions may be trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// For demonstrations and training.
    Train,
    /// Only for evaluation.
    HeldOut,
}

/// Share of the countries that is held out.
const HELD_OUT_SHARE: f64 = 0.25;
/// Fixed, so that no run ever trains on another run's evaluation.
const SPLIT_SEED: Seed = Seed(0x5EED_0001);

/// The split of each country, in the table's order. Countries of which one is named inside a fact of the other (Guinea
/// and Papua New Guinea, or two capitals called Kingston) go the same way, so that no held-out name is ever trained.
#[must_use]
pub fn splits(countries: &[Country]) -> Vec<Split> {
    let mut group: Vec<usize> = (0..countries.len()).collect();
    for (a, first) in countries.iter().enumerate() {
        let names = [Some(first.name.as_str()), first.fact(Attribute::Capital)];
        for (b, second) in countries.iter().enumerate().filter(|(b, _)| *b != a) {
            let texts = [Some(second.name.as_str()), second.fact(Attribute::Capital), second.fact(Attribute::Currency)];
            let named = |name: &str| texts.iter().flatten().any(|text| contains_words(text, name));
            if names.iter().flatten().any(|name| named(name)) {
                let (low, high) = (group[a].min(group[b]), group[a].max(group[b]));
                group.iter_mut().filter(|g| **g == high).for_each(|g| *g = low);
            }
        }
    }
    let split = |g: &usize| {
        let label = countries[*g]
            .name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        if SPLIT_SEED.uniform(label) < HELD_OUT_SHARE { Split::HeldOut } else { Split::Train }
    };
    group.iter().map(split).collect()
}

/// The countries of one split.
#[must_use]
pub fn of_split(countries: &[Country], split: Split) -> Vec<Country> {
    countries.iter().zip(splits(countries)).filter(|(_, s)| *s == split).map(|(c, _)| c.clone()).collect()
}

/// Whether `words` occurs in `text` and neither continues a word there nor is continued.
#[must_use]
pub fn contains_words(text: &str, words: &str) -> bool {
    !words.is_empty()
        && text.match_indices(words).any(|(at, found)| {
            let before = text[..at].chars().next_back();
            let after = text[at + found.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The table that ships with the quickstart.
    pub(crate) fn quickstart_countries() -> Vec<Country> {
        let text = include_str!("../../../../recipes/quickstart/countries.csv");
        parse_countries("countries.csv", text).unwrap()
    }

    #[test]
    fn the_table_is_read_whole() {
        let countries = quickstart_countries();
        assert_eq!(countries.len(), 234);
        let algeria = countries.iter().find(|c| c.name == "Algeria").unwrap();
        let facts: Vec<&str> = Attribute::ALL.iter().map(|a| algeria.fact(*a).unwrap()).collect();
        let expected = ["Algiers", "2381740", "2908", "998", "47735685", "29.3", "Algerian dinars", ".dz", "1962"];
        assert_eq!(facts, expected);
        for country in &countries {
            assert!(country.facts.iter().flatten().count() >= 5, "{}", country.name);
            for text in country.facts.iter().flatten().chain([&country.name]) {
                assert!(text.len() <= 26 && !text.contains("  "), "{text}");
            }
        }
    }

    #[test]
    fn bad_tables_name_the_line_and_the_column() {
        let header = "name,capital,area_sq_km,population,coastline_km,highest_point_m,median_age,currency,internet_code,independence_year";
        let table = [
            (String::new(), "t.csv, line 1: the table is empty"),
            (header.to_owned(), "t.csv, line 1: the table has no countries"),
            (format!("# note\n{header}\n\nA,,x,,,,,,,"), "t.csv, line 4: column area_sq_km: \"x\" is not a number"),
            (format!("{header}\nA,,,,,,NaN,,,"), "t.csv, line 2: column median_age: \"NaN\" is not a number"),
            (format!("{header}\nA,,1"), "t.csv, line 2: 3 fields, but 10 columns"),
            (format!("{header}\n,,1,,,,,,,"), "t.csv, line 2: column name is empty"),
            (format!("{header}\nA,,1,,,,,,,\nA,,1,,,,,,,"), "t.csv, line 3: column name: A is listed twice"),
            (header.replace("population", "people"), "t.csv, line 1: column population occurs 0 times, not once"),
            (format!("{header},borders"), "t.csv, line 1: unknown column \"borders\""),
        ];
        for (text, expected) in table {
            assert_eq!(parse_countries("t.csv", &text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn about_a_quarter_is_held_out_and_no_held_out_name_is_in_a_training_fact() {
        let countries = quickstart_countries();
        let held_out = of_split(&countries, Split::HeldOut);
        let train = of_split(&countries, Split::Train);
        assert_eq!(held_out.len() + train.len(), countries.len());
        assert!((45..75).contains(&held_out.len()), "{}", held_out.len());
        for h in &held_out {
            for name in [Some(h.name.as_str()), h.fact(Attribute::Capital)].into_iter().flatten() {
                for t in &train {
                    for text in t.facts.iter().flatten().chain([&t.name]) {
                        assert!(!contains_words(text, name), "{name} in {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn words_are_found_whole() {
        assert!(contains_words("Papua New Guinea", "Guinea"));
        assert!(contains_words("of Niger.", "Niger"));
        assert!(!contains_words("Nigeria", "Niger"));
        assert!(!contains_words("abc", ""));
    }
}
