//! What do the names in an answer mean: LaTeX commands, functions, Greek letters?

use super::lex::Token;
use super::tree::Function;

/// What becomes of a command.
pub enum Meaning {
    /// Space or typesetting alone.
    Nothing,
    /// `\left` and its like, in front of a bracket.
    Delimiter,
    /// Another spelling of a sign.
    Sign(char),
    /// A token of its own.
    Is(Token),
    /// Its argument holds words.
    Text,
    Begin,
    End,
}

/// What `\name` means, or nothing where no answer needs it.
pub fn command(name: &str) -> Option<Meaning> {
    use Meaning::{Delimiter, Is, Nothing, Sign, Text};
    let known = |name| Some(Is(Token::Command(name)));
    if let Some(function) = function(name) {
        return Some(Is(Token::Function(function)));
    }
    if let Some(name) = letter(name) {
        return Some(Is(Token::Name(name.to_owned())));
    }
    match name {
        "quad" | "qquad" | "space" | "thinspace" | "displaystyle" | "textstyle" | "limits" | "nolimits" | "rm"
        | "bf" | "it" | "mathstrut" | "strut" | "hfill" | "enspace" | "noindent" | "scriptstyle" => Some(Nothing),
        "left" | "right" | "big" | "bigl" | "bigr" | "Big" | "Bigl" | "Bigr" | "bigg" | "biggl" | "biggr" | "Bigg"
        | "Biggl" | "Biggr" | "middle" => Some(Delimiter),
        "times" | "cdot" | "ast" | "bullet" => Some(Sign('*')),
        "div" | "slash" => Some(Sign('/')),
        "pm" => Some(Sign('±')),
        "mp" => Some(Sign('∓')),
        "le" | "leq" | "leqslant" => Some(Sign('≤')),
        "ge" | "geq" | "geqslant" => Some(Sign('≥')),
        "lt" => Some(Sign('<')),
        "gt" => Some(Sign('>')),
        "ne" | "neq" => Some(Sign('≠')),
        "approx" => Some(Sign('≈')),
        "cup" | "bigcup" => Some(Sign('∪')),
        "in" => Some(Sign('∈')),
        "circ" | "degree" | "textdegree" => Some(Sign('°')),
        "prime" => Some(Sign('\'')),
        "vert" | "lvert" | "rvert" | "mid" => Some(Sign('|')),
        "lfloor" => Some(Sign('⌊')),
        "rfloor" => Some(Sign('⌋')),
        "lceil" => Some(Sign('⌈')),
        "rceil" => Some(Sign('⌉')),
        "lbrace" => Some(Sign('«')),
        "rbrace" => Some(Sign('»')),
        "lbrack" => Some(Sign('[')),
        "rbrack" => Some(Sign(']')),
        "langle" => Some(Sign('(')),
        "rangle" => Some(Sign(')')),
        "colon" => Some(Sign(':')),
        "dollar" | "textdollar" => Some(Sign('$')),
        "euro" => Some(Sign('€')),
        "pounds" => Some(Sign('£')),
        "infty" | "infin" => known("infty"),
        "emptyset" | "varnothing" => known("emptyset"),
        "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" => known("frac"),
        "binom" | "dbinom" | "tbinom" => known("binom"),
        "sqrt" => known("sqrt"),
        "log" => known("log"),
        "exp" => known("exp"),
        "lg" => known("lg"),
        "boxed" | "fbox" => known("boxed"),
        "overline" | "bar" => known("overline"),
        "mathbf" | "boldsymbol" | "bm" | "mathit" | "vec" | "hat" | "widehat" | "tilde" | "mathcal" | "mathfrak"
        | "underline" | "overrightarrow" | "pmb" => known("letter"),
        "mathbb" => known("mathbb"),
        "text" | "mbox" | "textrm" | "textbf" | "textit" | "textnormal" | "mathrm" | "hbox" | "textsf" | "texttt"
        | "emph" | "operatorname" | "mathsf" => Some(Text),
        "begin" => Some(Meaning::Begin),
        "end" => Some(Meaning::End),
        _ => None,
    }
}

/// A function by its name in LaTeX or in a program.
pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sin" => Function::Sin,
        "cos" => Function::Cos,
        "tan" | "tg" => Function::Tan,
        "cot" | "ctg" => Function::Cot,
        "sec" => Function::Sec,
        "csc" | "cosec" => Function::Csc,
        "arcsin" | "asin" => Function::Arcsin,
        "arccos" | "acos" => Function::Arccos,
        "arctan" | "atan" | "arctg" => Function::Arctan,
        "sinh" => Function::Sinh,
        "cosh" => Function::Cosh,
        "tanh" => Function::Tanh,
        "ln" => Function::Ln,
        "max" => Function::Max,
        "min" => Function::Min,
        "gcd" => Function::Gcd,
        "lcm" => Function::Lcm,
        _ => return None,
    })
}

/// What a word means in plain text: a function, a command or a letter's name; nothing for other words.
pub fn plain(word: &str) -> Option<Token> {
    if let Some(function) = function(word) {
        return Some(Token::Function(function));
    }
    Some(match word {
        "sqrt" => Token::Command("sqrt"),
        "log" => Token::Command("log"),
        "exp" => Token::Command("exp"),
        "abs" => Token::Function(Function::Abs),
        "floor" => Token::Function(Function::Floor),
        "ceil" | "ceiling" => Token::Function(Function::Ceiling),
        "factorial" => Token::Function(Function::Factorial),
        "binom" | "binomial" | "comb" => Token::Function(Function::Binomial),
        "inf" | "infty" | "infinity" | "Infinity" | "oo" => Token::Command("infty"),
        "Pi" | "PI" => Token::Name("pi".to_owned()),
        other => Token::Name(letter(other).filter(|name| name.len() > 1)?.to_owned()),
    })
}

/// The one name of a letter that is written out.
pub fn letter(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("var").unwrap_or(name);
    GREEK.iter().map(|(_, known)| *known).chain(["ell", "hbar"]).find(|known| *known == name)
}

/// The name of a Greek letter.
pub fn greek(c: char) -> Option<&'static str> {
    GREEK.iter().find(|(sign, _)| *sign == c).map(|(_, name)| *name)
}

const GREEK: [(char, &str); 35] = [
    ('α', "alpha"),
    ('β', "beta"),
    ('γ', "gamma"),
    ('δ', "delta"),
    ('ε', "epsilon"),
    ('ζ', "zeta"),
    ('η', "eta"),
    ('θ', "theta"),
    ('ι', "iota"),
    ('κ', "kappa"),
    ('λ', "lambda"),
    ('μ', "mu"),
    ('ν', "nu"),
    ('ξ', "xi"),
    ('π', "pi"),
    ('ρ', "rho"),
    ('σ', "sigma"),
    ('τ', "tau"),
    ('υ', "upsilon"),
    ('φ', "phi"),
    ('ϕ', "phi"),
    ('χ', "chi"),
    ('ψ', "psi"),
    ('ω', "omega"),
    ('Γ', "Gamma"),
    ('Δ', "Delta"),
    ('Θ', "Theta"),
    ('Λ', "Lambda"),
    ('Ξ', "Xi"),
    ('Π', "Pi"),
    ('Σ', "Sigma"),
    ('Φ', "Phi"),
    ('Ψ', "Psi"),
    ('Ω', "Omega"),
    ('∆', "Delta"),
];
