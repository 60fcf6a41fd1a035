//! Do F1 and exact match count words, and are numbers, dates and decisions told apart by what they mean?

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
        // As the definition has it: what is wrong with it, `same` knows.
        ("1.5", "15", 1.0),
        ("22 October 1930", "October 22, 1930", 1.0),
    ];
    for (answer, reference, expected) in table {
        let got = f1(answer, reference);
        assert!((got - expected).abs() < 1e-12, "{answer} / {reference}: {got}");
    }
}

#[test]
fn articles_end_at_word_boundaries() {
    let table = [
        ("the", ""),
        ("a—the—b", "— —b"),
        ("—the", "—"),
        ("theory an a1", "theory a1"),
        ("A\u{301}", "\u{301}"),
        ("x\u{1c}y\u{a0}z", "x y z"),
        (" an a the . ", ""),
    ];
    for (text, expected) in table {
        assert_eq!(normalized(text), expected, "{text:?}");
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
    assert!(any_exact_match("yangon!", &accepted) && !any_exact_match("Yangon city", &accepted));
}

#[test]
fn what_means_the_same_is_the_same() {
    let table = [
        ("1,200", "1200", As::Number),
        ("1200.0", "1,200", As::Number),
        ("twelve", "12", As::Number),
        ("Twelve hundred", "1,200", As::Number),
        ("one hundred and five thousand, ", "105000 ", As::Number),
        ("twenty-one", "21", As::Number),
        ("5 million", "5,000,000", As::Number),
        ("1.5 billion dollars", "$1.5 billion", As::Number),
        ("three million two hundred thousand", "3.2 million", As::Number),
        ("-$5", "$-5.00", As::Number),
        ("50%", "50 percent", As::Number),
        ("50", "50%", As::Number),
        ("1.95m", "1.95 metres", As::Number),
        ("1.95", "1.95 m", As::Number),
        ("161.27", "161.27元", As::Number),
        ("４句。", "4", As::Number),
        ("十二", "12", As::Number),
        ("两千零五", "2005年", As::Number),
        ("一亿二千万", "1.2亿", As::Number),
        ("٣", "3", As::Number),
        ("October 22, 1930", "22 October 1930", As::Date),
        ("1930-10-22", "October 22nd, 1930", As::Date),
        ("22/10/1930", "Wednesday, 22 Oct. 1930", As::Date),
        ("the 22nd of October, 1930.", "1930年10月22日", As::Date),
        ("一九三〇年十月二十二日", "1930-10-22", As::Date),
        ("Oct 1930", "October 1930", As::Date),
        ("10月22日", "October 22", As::Date),
        ("Yes, both are American.", "yes", As::YesNo),
        ("No.", "no", As::YesNo),
        ("不是", "no", As::YesNo),
        ("The Beatles!", "beatles", As::Words),
        ("肖亮。", "肖亮", As::Characters),
        ("《绿衣女》", "绿衣女", As::Characters),
        ("384ＧFLOPs，中国", "384gflops 中国", As::Characters),
    ];
    for (answer, reference, expected) in table {
        assert_eq!(same(answer, reference), Some(expected), "{answer} / {reference}");
        // A reference is a bare yes or no; every other kind is the same both ways.
        assert!(expected == As::YesNo || same(reference, answer) == Some(expected), "{reference} / {answer}");
    }
}

#[test]
fn what_means_something_else_is_not() {
    let table = [
        ("1.5", "15"),
        ("-5", "5"),
        ("5 million", "5"),
        ("5 thousand", "5 million"),
        ("5 km", "5 m"),
        ("5 km", "6"),
        ("5th", "5"),
        ("1930s", "1930"),
        ("seven up", "7"),
        ("twelve", "20"),
        ("one two", "3"),
        ("twenty thirty", "50"),
        ("二十", "12"),
        ("October 22, 1930", "October 23, 1930"),
        ("October 1930", "October 22, 1930"),
        ("1930", "October 1930"),
        ("3/4/1930", "4/3/1930"),
        ("2/30/30", "February 30"),
        ("yes", "no"),
        ("Yes and no", "yes"),
        ("Yes, but not always", "yes"),
        ("Paris", "London"),
        ("北京", "南京"),
        ("", "x"),
    ];
    for (answer, reference) in table {
        assert_eq!(same(answer, reference), None, "{answer} / {reference}");
    }
}

#[test]
fn chinese_is_compared_by_characters() {
    assert!((overlap("北京", "北京市") - 0.8).abs() < 1e-12);
    assert_eq!((f1("北京", "北京市"), overlap("北京", "Beijing")), (0.0, 0.0));
    let tokens = |text: &str| han::tokens(text).iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(tokens("价格：１，６１２.7元（Au T+D）。"), ["价", "格", "1612.7", "元", "au", "t", "d"]);
    assert_eq!(tokens("1. 2,x"), ["1", "2", "x"]);
    // Two wordings of a long answer have most of their characters in common.
    let long = "资格申请截止日期为2024年10月27日，北京考点题库考试时间为2024年11月2-3日。";
    let near = overlap("资格申请材料截止日期为2024年10月27日；考试时间：2024年11月2-3日", long);
    assert!((0.8..1.0).contains(&near), "{near}");
}

#[test]
fn no_text_is_trouble() {
    let long = "9".repeat(1 << 20);
    assert_eq!(f1(&long, &long), 1.0);
    assert_eq!(same(&long, "9"), None);
    for text in
        ["", "\u{0}", ",", ".", "-", "$", "%", "百", "十十", "亿亿", "年月日", "hundred", "and", "the of", "--1"]
    {
        for other in ["1", "", "十", text] {
            let _ = (same(text, other), best_f1(text, &[other.to_owned()]));
        }
    }
    // Numbers as long as a text that is read at all.
    let nines = "9".repeat(119);
    assert_eq!(same(&nines, &format!("{nines}.")), Some(As::Number));
    assert_eq!(same("千亿亿亿亿亿亿亿亿", "1"), None);
    assert_eq!(same("nine hundred trillion trillion", "1"), None);
    assert_eq!(same("？", ""), None);
}
