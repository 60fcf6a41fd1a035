//! Which rewritings of an answer are equal to it by construction, and which are not? Nothing here reads an expression:
//! a rewriting is made only of answers whose form is plain to see.

/// An answer, a reference, and the truth about them.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Which rewriting.
    pub kind: &'static str,
    pub answer: String,
    pub reference: String,
    pub equal: bool,
}

/// All pairs of the reference answers of a benchmark. `idx` of an answer chooses which rewritings of whole numbers are
/// made of it, so that all are made of some.
pub fn pairs(references: &[String]) -> Vec<Pair> {
    let mut out = Vec::new();
    for (idx, reference) in references.iter().enumerate() {
        let mut made = vec![("itself", reference.clone(), true)];
        dressings(reference, &mut made);
        if let Some(n) = whole(reference) {
            let mut all = Vec::new();
            whole_numbers(n, &mut all);
            let n_all = all.len();
            made.extend((0..5).map(|k| all[(idx * 5 + k) % n_all].clone()));
            // Another answer of the same set.
            if let Some(other) = references[(idx * 7 + 3) % references.len()..].iter().find_map(|r| whole(r)) {
                made.push(("another answer", other.to_string(), other == n));
            }
        } else if let Some((sign, over, under)) = fraction(reference) {
            fractions(sign, over, under, &mut made);
        } else if let Some((whole, fraction)) = decimal(reference) {
            decimals(&whole, &fraction, &mut made);
        } else {
            shapes(reference, &mut made);
        }
        let pair = |(kind, answer, equal)| Pair { kind, answer, reference: reference.clone(), equal };
        out.extend(made.into_iter().map(pair));
    }
    out
}

type Made = Vec<(&'static str, String, bool)>;

/// The same text in other clothes.
fn dressings(text: &str, out: &mut Made) {
    out.push(("dollars", format!("${text}$"), true));
    out.push(("boxed", format!("\\boxed{{{text}}}"), true));
    if text.contains("\\frac") {
        out.push(("dfrac", text.replace("\\frac", "\\dfrac"), true));
    }
    if text.contains("\\left") {
        out.push(("without left", text.replace("\\left", "").replace("\\right", ""), true));
    }
    let is_group = |g: &str| g.len() == 3 && g.bytes().all(|b| b.is_ascii_digit());
    let is_grouped = text.contains(',') && text.split(',').skip(1).all(is_group) || text.contains(",\\!");
    if text.contains(['+', '=', ',']) && !is_grouped {
        out.push(("spaces", text.replace('+', " + ").replace('=', " = ").replace(", ", ",").replace(',', " , "), true));
    }
}

/// `1234` or `1,234`, with a sign or without, of at most nine digits.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let mut groups = digits.split(',');
    let first = groups.next()?.len();
    let mut is_grouped = true;
    for group in groups {
        is_grouped &= group.len() == 3 && first <= 3;
    }
    let joined = text.replace(',', "");
    let plain = joined.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
    if plain && is_grouped && first > 0 && digits.len() <= 9 { joined.parse().ok() } else { None }
}

fn grouped(n: i64, separator: &str) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push_str(separator);
        }
        out.push(digit);
    }
    if n < 0 { format!("-{out}") } else { out }
}

fn whole_numbers(n: i64, out: &mut Made) {
    let big = n.abs() >= 1000;
    out.push(("decimal zeros", format!("{n}.00"), true));
    out.push(("wrong by one", (n + 1).to_string(), false));
    out.push(("fraction", format!("\\frac{{{}}}{{3}}", 3 * n), true));
    out.push(("wrong sign", (-n).to_string(), n == 0));
    out.push(("slash", format!("{}/2", 2 * n), true));
    out.push(("ten times", (n * 10).to_string(), n == 0));
    out.push(("sum", format!("{}+{}", n - 7, 7), true));
    out.push(("a tenth", format!("{}.{}", n / 10, n.abs() % 10), n == 0));
    out.push(("equation", format!("x = {n}"), true));
    out.push(("reciprocal", format!("\\frac{{1}}{{{n}}}"), n.abs() == 1));
    out.push(("unit", format!("{n} \\text{{ cm}}"), true));
    out.push(("half more", format!("{n}.5"), false));
    out.push(("percentage", format!("{}\\%", n * 100), true));
    out.push(("digit behind", format!("{n}1"), false));
    out.push(("power", format!("\\sqrt{{{}}}", i128::from(n) * i128::from(n)), n >= 0));
    out.push(("thousandth off", format!("{n}.001"), false));
    out.push(("commas", grouped(n, ","), true));
    out.push(("variable", format!("{n}x"), n == 0));
    out.push(("bound commas", grouped(n, "{,}"), true));
    out.push(("spaced", grouped(n, "\\,"), true));
    out.push(("point for comma", grouped(n, "."), !big));
    out.push(("leading zero", if n < 0 { format!("-0{}", -n) } else { format!("0{n}") }, true));
    out.push(("decimal equation", format!("n={n}.0"), true));
    out.push(("plain word", format!("{n} dollars"), true));
    out.push(("dollar sign", format!("\\${n}"), true));
    out.push(("words", "none".to_owned(), false));
    out.push(("pair", format!("({n}, {n})"), false));
    out.push(("list", format!("{n}, {}", n + 2), false));
    out.push(("scientific", format!("{n} \\times 10^0"), true));
    out.push(("product", format!("{n} \\cdot 1"), true));
    // A sign in front of a power stays in front: -1^2 is -1.
    out.push(("squared", format!("{n}^2"), n.abs() <= 1));
    out.push(("root", format!("\\sqrt{{{}}}", n.abs()), n == 0 || n == 1));
    out.push(("nearly", format!("{n}.0000001"), false));
}

/// `\frac{a}{b}` of whole numbers, in all the ways to write it.
fn fraction(text: &str) -> Option<(i64, i64, i64)> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let rest = rest.strip_prefix("\\frac").or_else(|| rest.strip_prefix("\\dfrac"))?.trim_start();
    let (over, rest) = argument(rest)?;
    let (under, rest) = argument(rest.trim_start())?;
    (rest.is_empty() && under != 0).then_some((sign, over, under))
}

fn argument(text: &str) -> Option<(i64, &str)> {
    if let Some(inside) = text.strip_prefix('{') {
        let (digits, rest) = inside.split_once('}')?;
        return Some((whole(digits)?, rest));
    }
    Some((whole(text.get(..1)?)?, &text[1..]))
}

fn fractions(sign: i64, a: i64, b: i64, out: &mut Made) {
    let minus = if sign < 0 { "-" } else { "" };
    out.push(("slash", format!("{minus}{a}/{b}"), true));
    out.push(("expanded", format!("{minus}\\frac{{{}}}{{{}}}", 6 * a, 6 * b), true));
    out.push(("sign above", format!("\\frac{{{}}}{{{b}}}", sign * a), true));
    out.push(("sign below", format!("\\frac{{{a}}}{{{}}}", sign * b), true));
    out.push(("sum", format!("{minus}\\frac{{{}}}{{{b}}}+1", a - sign * b), true));
    out.push(("equation", format!("y = {minus}\\frac{{{a}}}{{{b}}}"), true));
    out.push(("percentage", format!("{minus}\\frac{{{}}}{{{b}}}\\%", 100 * a), true));
    let mut rest = b;
    while rest % 2 == 0 {
        rest /= 2;
    }
    while rest % 5 == 0 {
        rest /= 5;
    }
    let rounded = format!("{minus}{:.3}", a as f64 / b as f64);
    if a % rest == 0 {
        // At most twelve places for the denominators of these sets.
        let exact = format!("{:.12}", a as f64 / b as f64);
        out.push(("decimal", format!("{minus}{}", exact.trim_end_matches('0').trim_end_matches('.')), true));
    } else {
        out.push(("rounded", rounded, false));
    }
    if a > b && a % b != 0 {
        out.push(("mixed", format!("{minus}{}\\frac{{{}}}{{{b}}}", a / b, a % b), true));
    }
    out.push(("inverted", format!("{minus}\\frac{{{b}}}{{{a}}}"), a == b || a == -b));
    out.push(("wrong above", format!("{minus}\\frac{{{}}}{{{b}}}", a + 1), false));
    out.push(("wrong below", format!("{minus}\\frac{{{a}}}{{{}}}", b + 1), a == 0));
    out.push(("other sign", format!("{}\\frac{{{a}}}{{{b}}}", if sign < 0 { "" } else { "-" }), a == 0));
    out.push(("numerator alone", format!("{minus}{a}"), b == 1));
}

/// `12.5` and `.5`.
fn decimal(text: &str) -> Option<(String, String)> {
    let (whole, fraction) = text.split_once('.')?;
    let digits = |s: &str| s.len() <= 9 && s.bytes().all(|b| b.is_ascii_digit());
    (digits(whole) && digits(fraction) && !fraction.is_empty()).then(|| (whole.to_owned(), fraction.to_owned()))
}

fn decimals(whole: &str, fraction: &str, out: &mut Made) {
    let n: i64 = format!("{whole}{fraction}").parse().unwrap();
    let under = 10i64.pow(u32::try_from(fraction.len()).unwrap());
    out.push(("zeros behind", format!("{whole}.{fraction}00"), true));
    out.push(("zeros before", format!("0{whole}.{fraction}"), true));
    out.push(("fraction", format!("\\frac{{{n}}}{{{under}}}"), true));
    out.push(("slash", format!("{n}/{under}"), true));
    out.push(("scientific", format!("{n} \\times 10^{{-{}}}", fraction.len()), true));
    out.push(("exponent", format!("{n}e-{}", fraction.len()), true));
    out.push(("without point", format!("{n}"), false));
    out.push(("wrong digit", format!("{whole}.{fraction}1"), false));
    out.push(("wrong sign", format!("-{whole}.{fraction}"), false));
    out.push(("whole part", format!("{}0", whole), false));
}

/// Everything else: by the signs that can be seen.
fn shapes(text: &str, out: &mut Made) {
    let inside = |open: &str, close: &str| {
        let text = text.replace("\\left", "").replace("\\right", "");
        let inner = text.trim().strip_prefix(open)?.strip_suffix(close)?.trim().to_owned();
        (!inner.contains(['(', ')', '[', ']'])).then_some(inner)
    };
    let halves = |inner: &str| inner.split_once(',').map(|(a, b)| (a.trim().to_owned(), b.trim().to_owned()));
    if let Some((a, b)) = inside("(", ")").as_deref().and_then(halves).filter(|(_, b)| !b.contains(',')) {
        out.push(("tuple with spaces", format!("( {a} , {b} )"), true));
        out.push(("tuple swapped", format!("({b}, {a})"), a == b));
        if !b.contains("infty") {
            out.push(("tuple shifted", format!("({a}, {b}+1)"), false));
        }
        out.push(("tuple longer", format!("({a}, {b}, 0)"), false));
        out.push(("half of a tuple", a, false));
        return;
    }
    for (open, close, other) in [("(", "]", "["), ("[", "]", "("), ("[", ")", "(")] {
        if let Some((a, b)) = inside(open, close).as_deref().and_then(halves) {
            let below = if open == "[" { "\\le" } else { "<" };
            let above = if close == "]" { "\\le" } else { "<" };
            if !a.contains("infty") && !b.contains("infty") {
                out.push(("inequality", format!("{a} {below} x {above} {b}"), true));
                out.push(("inequality shifted", format!("{a} {below} x {above} {b}+1"), false));
            }
            out.push(("other end", format!("{other}{a},{b}{close}"), false));
            return;
        }
    }
    if let Some((first, second)) = text.split_once(" \\cup ") {
        out.push(("union swapped", format!("{second} \\cup {first}"), true));
        out.push(("part of a union", first.to_owned(), false));
        return;
    }
    if text.contains("\\begin{pmatrix}") {
        out.push(("brackets", text.replace("pmatrix", "bmatrix"), true));
        let body = text.replace("\\begin{pmatrix}", "").replace("\\end{pmatrix}", "");
        out.push(("other entry", text.replacen("\\begin{pmatrix}", "\\begin{pmatrix} 1 + ", 1), false));
        if !body.contains('&') {
            let entries: Vec<&str> = body.split("\\\\").map(str::trim).collect();
            let reversed: Vec<&str> = entries.iter().rev().copied().collect();
            let column = |entries: &[&str]| format!("\\begin{{pmatrix}} {} \\end{{pmatrix}}", entries.join(" \\\\ "));
            out.push(("column", column(&entries), true));
            out.push(("column reversed", column(&reversed), reversed == entries));
        }
        return;
    }
    if let Some(words) = text.strip_prefix("\\text{").and_then(|t| t.strip_suffix('}')) {
        let bare = words.trim_matches(['(', ')']);
        out.push(("bare words", bare.to_owned(), true));
        out.push(("bold words", format!("\\textbf{{{words}}}"), true));
        out.push(("other words", format!("\\text{{un{words}}}"), false));
        return;
    }
    if let Some(degrees) = text.strip_suffix("^\\circ") {
        out.push(("degrees left out", degrees.to_owned(), true));
        out.push(("degrees in words", format!("{degrees} \\text{{ degrees}}"), true));
        out.push(("other angle", format!("{degrees}0^\\circ"), false));
        return;
    }
    if let Some((digits, base)) = text.split_once('_') {
        let base = base.trim_matches(['{', '}']);
        out.push(("base in braces", format!("{digits}_{{{base}}}"), true));
        out.push(("other base", format!("{digits}_{}", base.parse::<u32>().unwrap() + 1), false));
        out.push(("other digits", format!("1{digits}_{base}"), false));
        return;
    }
    let unlike = ["\\text", "\\mbox", "\\$", ",", "\\pm", "\\in", "\\{"];
    if text.contains('=') {
        let (left, right) = text.split_once('=').unwrap();
        out.push(("sides swapped", format!("{right}={left}"), true));
        out.push(("all on the left", format!("{left} - ({right}) = 0"), true));
        out.push(("other equation", format!("{left} = {right} + 1"), false));
        if left.trim().len() == 1 {
            out.push(("right side alone", right.to_owned(), true));
        }
    } else if let Some((first, second)) = text.split_once("\\pm") {
        if !text.contains('{') || text.matches("\\pm").count() == 1 && !text.contains("\\{") {
            out.push(("both signs", format!("{first}+{second}, {first}-{second}"), true));
            out.push(("one sign", format!("{first}+{second}"), false));
        }
    } else if text.contains(", ") || (text.contains(',') && !text.contains("\\!")) && !text.contains('(') {
        let members: Vec<&str> = text.split(',').map(str::trim).collect();
        if members.iter().all(|m| whole(m).is_some()) && !(members.len() == 2 && members[1].len() == 3) {
            let reversed: Vec<&str> = members.iter().rev().copied().collect();
            out.push(("list reversed", reversed.join(", "), true));
            out.push(("list as a set", format!("\\{{{}\\}}", members.join(", ")), true));
            out.push(("part of a list", members[1..].join(", "), false));
            out.push(("list with another", format!("{text}, 97"), false));
        }
    } else if !unlike.iter().any(|sign| text.contains(sign)) {
        // A value: numbers, roots, symbols.
        out.push(("plus zero", format!("0 + {text}"), true));
        out.push(("in brackets", format!("\\left({text}\\right)"), true));
        out.push(("doubled and halved", format!("\\frac{{2({text})}}{{2}}"), true));
        out.push(("added and subtracted", format!("{text} + \\sqrt{{7}} - \\sqrt{{7}}"), true));
        out.push(("expanded by a symbol", format!("({text})(t+1) - t({text})"), true));
        out.push(("plus one", format!("{text} + 1"), false));
        out.push(("opposite", format!("-({text})"), false));
        out.push(("doubled", format!("2({text})"), false));
        out.push(("a little more", format!("{text} + 10^{{-9}}"), false));
        out.push(("plus a symbol", format!("{text} + t"), false));
    }
}
