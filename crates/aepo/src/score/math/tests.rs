//! Are numbers equal that are equal, and others not?

use super::*;

#[test]
fn equal_values_are_equal() {
    let table = [
        ("5", "5"),
        (" 5 ", "5"),
        ("+5", "5"),
        ("005", "5"),
        ("5.0", "5"),
        ("5.", "5"),
        (".5", "0.50"),
        ("1/2", "0.5"),
        ("2 / 4", "1/2"),
        ("-1/2", "-0.5"),
        ("1/-2", "-0.5"),
        ("1,234,567", "1234567"),
        ("1,234.50", "1234.5"),
        ("50%", "0.5"),
        ("50%", "50"),
        ("50", "50%"),
        ("5", "5 km"),
        ("1e3", "1000"),
        ("1/2/2", "0.25"),
        ("50 %", "1/2"),
        ("12.5%", "12.50 %"),
        ("-0", "0"),
        ("\u{2212}7", "-7"),
        ("2381740 square km", "2381740"),
        ("2908 m", "2908"),
        ("29.30 years", "29.3"),
        ("12726369558", "12726369558"),
        ("x + 1", "x + 1"),
        ("123456789012345678901234567890123456789012345", "123456789012345678901234567890123456789012345"),
    ];
    for (answer, reference) in table {
        assert!(equal(answer, reference), "{answer} = {reference}");
    }
}

#[test]
fn other_values_are_not() {
    let table = [
        ("1.5", "15"),
        ("15", "1.5"),
        ("-5", "5"),
        ("5", "-5"),
        ("5", ""),
        ("", "5"),
        ("", ""),
        (" ", " "),
        ("1/0", "0"),
        ("1/0", "2/0"),
        ("12,34", "1234"),
        ("1,2345", "12345"),
        ("1234,567", "1234567"),
        (",123", "123"),
        ("1,", "1"),
        ("5 6", "5"),
        ("5 or 6", "5"),
        ("5 km", "6"),
        ("5 km", "5 m"),
        ("--5", "5"),
        ("+-5", "-5"),
        (".", "0"),
        ("-", "0"),
        ("five", "5"),
        ("٥", "5"),
        ("123456789012345678901234567890123456789012345", "123456789012345678901234567890123456789012346"),
        ("0.33333", "1/3"),
        ("1000000000000000000000000000000000000001", "1000000000000000000000000000000000000000"),
    ];
    for (answer, reference) in table {
        assert!(!equal(answer, reference), "{answer} ≠ {reference}");
    }
}

#[test]
fn no_text_is_trouble() {
    let long = "9".repeat(100_000);
    assert!(!equal(&format!("{long}/{long}"), "1"));
    assert!(!equal(&"/".repeat(1000), "1"));
    assert!(!equal(&i128::MIN.to_string(), "1/3"));
    assert!(!equal("1/170141183460469231731687303715884105728", "-170141183460469231731687303715884105728/1"));
}

#[test]
fn a_verdict_says_why() {
    let why = |a, b| compare(a, b).why;
    assert_eq!(why("1/2", "0.5"), "equal as values");
    assert_eq!(why("1/2", "0.6"), "other values");
    assert_eq!(why("even", r"\text{Even}"), "the same words");
    assert_eq!(why("", "5"), "one of them is empty");
    assert_eq!(why("?", "5"), "no expression that is understood, and other texts");
    let many = |n: usize| (0..n).map(|k| format!(r"\sin({k}+x)")).collect::<Vec<_>>();
    let (forwards, mut backwards) = (many(60), many(60));
    backwards.reverse();
    backwards[7] = "y".to_owned();
    assert_eq!(compare(&forwards.join(","), &backwards.join(",")).why, "too much work to compare");
}
