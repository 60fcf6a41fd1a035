//! How does a chat template write the date? As `strftime` would, of a date that it is given.

use minijinja::Error;

use super::Said;
use super::python::refused;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Date {
    /// The day; nothing where the calendar has none such. Years from 1 to 9999, months and days from 1.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Date> {
        let fits = (1..=9999).contains(&year) && (1..=12).contains(&month);
        (fits && (1..=days_in(year, month)).contains(&day)).then_some(Date { year, month, day })
    }

    /// Reads `2026-11-23`; nothing where that is no day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Date> {
        let (year, rest) = text.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
        let written = digits(year, 4) && digits(month, 2) && digits(day, 2);
        written.then_some(())?;
        Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
    }

    /// From 1 on.
    fn day_of_year(self) -> u16 {
        (1..self.month).map(|month| u16::from(days_in(self.year, month))).sum::<u16>() + u16::from(self.day)
    }

    /// 0 is Sunday. The 31st of December of year 0 was one.
    fn weekday(self) -> usize {
        let past = usize::from(self.year) - 1;
        (past * 365 + past / 4 - past / 100 + past / 400 + usize::from(self.day_of_year())) % 7
    }

    /// Python's `strftime` in the C locale, without the parts that ask for a time of day.
    fn format(self, form: &str) -> Result<String, Error> {
        let mut out = String::new();
        let mut chars = form.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = chars.next();
            let short = directive == Some('-');
            if short {
                directive = chars.next();
            }
            let number = |value: u16, width: usize| {
                if short { value.to_string() } else { format!("{value:0width$}") }
            };
            let (month, weekday) = (MONTHS[usize::from(self.month) - 1], WEEKDAYS[self.weekday()]);
            out.push_str(&match directive {
                Some('d') => number(self.day.into(), 2),
                Some('m') => number(self.month.into(), 2),
                Some('j') => number(self.day_of_year(), 3),
                Some('y') => number(self.year % 100, 2),
                Some('Y') => self.year.to_string(),
                Some('F') => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
                Some('e') => format!("{:2}", self.day),
                Some('B') => month.to_owned(),
                Some('b' | 'h') => month[..3].to_owned(),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('%') => "%".to_owned(),
                other => {
                    let other = other.map_or(String::new(), String::from);
                    return Err(refused(format!("strftime_now: `%{other}` is no part of a date")));
                }
            });
        }
        Ok(out)
    }
}

fn days_in(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The template function `strftime_now(format)`.
pub(super) fn now(today: Option<Date>, form: &str) -> Result<String, Error> {
    today.ok_or(Said::NoDate)?.format(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written() {
        for text in ["2026-11-23", "2024-02-29", "0001-01-01"] {
            assert_eq!(Date::parse(text).map(|date| date.to_string()).as_deref(), Some(text));
        }
        for text in ["2026-2-3", "2025-02-29", "2026-11-23 ", "26 Jul 2024", "+202-11-23", "", "--"] {
            assert_eq!(Date::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn dates_are_written_as_python_writes_them() {
        let all = "%d %b %Y|%-d.%-m.%y|%A %a %B|%j|%F|%e|%%";
        let written = |year, month, day| Date::new(year, month, day).unwrap().format(all).unwrap();
        assert_eq!(written(2024, 2, 29), "29 Feb 2024|29.2.24|Thursday Thu February|060|2024-02-29|29|%");
        assert_eq!(written(1999, 12, 5), "05 Dec 1999|5.12.99|Sunday Sun December|339|1999-12-05| 5|%");
        assert!(Date::new(2024, 1, 1).unwrap().format("%H").is_err());
        assert!(Date::new(2024, 1, 1).unwrap().format("%").is_err());
        for (year, month, day) in [(2023, 2, 29), (1900, 2, 29), (2024, 4, 31), (2024, 13, 1), (0, 1, 1), (2024, 1, 0)]
        {
            assert_eq!(Date::new(year, month, day), None);
        }
    }
}
