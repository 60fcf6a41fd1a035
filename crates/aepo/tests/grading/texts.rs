//! Which texts ask a grader for time, memory or stack?

fn nested(open: &str, inside: &str, close: &str, n: usize) -> String {
    format!("{}{inside}{}", open.repeat(n), close.repeat(n))
}

/// Texts that ask for time, memory or stack.
pub fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "9^9^9^9",
        "9^{9^{9^{9}}}",
        "(9^9)^(9^9)",
        "2^{2^{2^{2^{2^{2}}}}}",
        "9^9^9^9 - 9^9^9^9",
        "0^{-1}",
        "0^0",
        "1/0",
        "0/0",
        r"\frac{0}{0}",
        "x!!!!!!",
        "((((9!)!)!)!)!",
        "1000000000!",
        r"\binom{1000000000000}{500000000000}",
        r"\binom{10^{100}}{2}",
        r"\sqrt[1000000000]{2}",
        r"\sqrt[0]{2}",
        r"\sqrt[-3]{2}",
        r"\sqrt{\sqrt{\sqrt{-1}}}",
        "10^1000000000000",
        "1e99999999",
        "1e-2000",
        "1e2000^{1000}",
        r"\sin(10^{1000})",
        r"e^{e^{e^{e^{e}}}}",
        r"e^{-10^{30}}",
        r"\ln(0)",
        r"\ln(-1)",
        r"\log_1 5",
        r"\arcsin 2",
        r"\tan\frac{\pi}{2}",
        r"\lfloor 10^{1000} \rfloor",
        r"\gcd(2^{8000}, 3^{5000})",
        "\u{0}\u{1}\u{2}",
        "5\u{0}",
        "\u{202e}5",
        "x\u{301}",
        "пять",
        "五",
        "٥",
        "५ + 5",
        "5\u{200b}5",
        "🙂",
        "\\",
        "\\\\",
        "\\frac",
        "\\frac{1}",
        "\\sqrt[",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\begin{pmatrix} & & \\\\ \\end{pmatrix}",
        "\\text{",
        "\\text{\\text{\\text{5}}}",
        "_",
        "^",
        "x_",
        "x_{",
        "{",
        "}",
        "(",
        "|",
        "||||||||",
        "$",
        "$$",
        "$$$",
        "\\$",
        "%",
        "\\%",
        "5%%%%",
        ".",
        "..",
        "1.2.3.4",
        ",",
        ",,,,",
        "+",
        "-",
        "=",
        "x====5",
        "1<2<3<4<5",
        "\\pm\\pm\\pm 1",
        "(\\pm 1, \\pm 2, \\pm 3)",
        "\\infty - \\infty",
        "\\infty/\\infty",
        "i^i",
        "(-8)^{1/3}",
        "x^{x^{x^{x}}}",
        "0.\\overline{}",
        "0.\\overline{x}",
        "½½½",
        "²",
        "x²³",
        "1_1",
        "99999_36",
        "ZZZ_36",
        "\\boxed{",
        "\\boxed{\\boxed{\\boxed{5}}}",
    ]
    .map(str::to_owned)
    .into();
    for n in [30, 60, 10_000] {
        for (open, inside, close) in [
            ("{", "5", "}"),
            ("(", "5", ")"),
            ("[", "5", "]"),
            ("\\{", "5", "\\}"),
            ("(", "5", ""),
            ("-", "5", ""),
            ("\\frac{", "1", ""),
            ("\\frac{", "1", "}{2}"),
            ("\\frac{1}{", "2", "}"),
            ("\\sqrt{", "2", "}"),
            ("\\sqrt", "2", ""),
            ("\\text{", "a", "}"),
            ("|", "x", "|"),
            ("x^{", "2", "}"),
            ("x_{", "2", "}"),
            ("2^", "2", ""),
            ("\\sin ", "x", ""),
            ("\\sin(", "x", ")"),
            ("\\ln(1+", "x", ")"),
            ("\\begin{pmatrix}", "1", "\\end{pmatrix}"),
            ("\\left(", "1", "\\right)"),
            ("\\boxed{", "5", "}"),
            ("1/(1+", "1", ")"),
            ("\\lfloor ", "1.5", "\\rfloor"),
            ("$", "5", "$"),
            ("", "5", "!"),
            ("", "5", "'"),
            ("", "5", "%"),
            ("1+", "1", ""),
            ("x*", "y", ""),
            ("x", "", ""),
            ("1,", "2", ""),
            ("1/", "2", ""),
            ("\\pm 1,", "2", ""),
            ("x=", "2", ""),
            ("1<", "2", ""),
            ("\\sin x + ", "x", ""),
            ("(1,2)\\cup", "(3,4)", ""),
            ("5 cm ", "", ""),
            ("\\pi^{\\sqrt2}+", "1", ""),
            ("(x+1)^{99}", "", ""),
            ("é", "", ""),
        ] {
            texts.push(nested(open, inside, close, n));
        }
    }
    for n in [100, 1900, 5000, 1_000_000] {
        texts.push("9".repeat(n));
        texts.push(format!("0.{}", "3".repeat(n)));
        texts.push(format!("{}/{}", "7".repeat(n), "3".repeat(n)));
        texts.push("x".repeat(n));
        texts.push("a ".repeat(n / 2));
        texts.push("\\".repeat(n));
        texts.push("\u{3000}５".repeat(n / 8));
    }
    // Sums, sets and matrices whose members are dear to compare.
    let many = |n: usize, member: &dyn Fn(usize) -> String, between: &str| {
        (2..2 + n).map(member).collect::<Vec<_>>().join(between)
    };
    for n in [20, 70, 200] {
        texts.push(many(n, &|k| format!("\\arctan(\\ln(1+x_{k}^2))"), "+"));
        texts.push(many(n, &|k| format!("{k}^{{x_{k}}}"), "*"));
        texts.push(format!("\\{{{}\\}}", many(n, &|k| format!("\\sqrt{{{k}}}+\\pi"), ",")));
        texts.push(format!("\\{{{}\\}}", many(n, &|k| format!("10^{{90}}\\sqrt{{{k}}}"), ",")));
        texts.push(many(n, &|k| format!("\\frac{{{}}}{{{}}}", "7".repeat(400 + k), "3".repeat(300 + k)), "+"));
        texts.push(many(n, &|k| format!("{k}^{{1000}}"), "-"));
        texts.push(many(n, &|k| format!("\\binom{{{}}}{{{k}}}", 1000 * k), "+"));
        texts.push(format!("\\begin{{pmatrix}}{}\\end{{pmatrix}}", many(n, &|k| format!("\\sin {k}"), "&")));
    }
    texts
}
