//! How is a picture written? Shapes as SVG that is itself in light and dark, without fonts, scripts or other files.

use std::fmt::Write as _;

/// Width of every picture, in its own units: a column of text.
pub const WIDTH: f64 = 720.0;

/// What a thing is, which gives it one colour on light paper and another on dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Text, and the baseline.
    Ink,
    /// Secondary text.
    Muted,
    /// Grid lines.
    Faint,
    /// Lines in the background.
    Shadow,
    /// The background.
    Paper,
    /// An algorithm other than the baseline.
    Series(usize),
    /// A step of a scale from little to much.
    Level(usize),
}

/// Light and dark. The first five colours that are not ink are Okabe and Ito's, darkened where they would be too pale
/// on white; neighbours differ in lightness too, and no colour stands without a dash, a marker or a label.
const SERIES: [(&str, &str); 10] = [
    ("#0072b2", "#5aaee6"),
    ("#d55e00", "#ff8d45"),
    ("#009e73", "#2fcb9e"),
    ("#aa4499", "#e58fd6"),
    ("#b87d00", "#f0b93a"),
    ("#2f9bd0", "#9ad7f7"),
    ("#882255", "#e97fa6"),
    ("#6f7318", "#cccf5c"),
    ("#7a4a1f", "#cfa274"),
    ("#1d5557", "#86c2c4"),
];
const LEVELS: [(&str, &str); 6] = [
    ("#d6e4f0", "#2b3b4c"),
    ("#a3c5e0", "#355a7d"),
    ("#629fcc", "#437dae"),
    ("#2f78b0", "#62a5d8"),
    ("#17527f", "#95c8ec"),
    ("#0a2f4d", "#d3e9f8"),
];

impl Colour {
    fn pair(self) -> (&'static str, &'static str) {
        match self {
            Colour::Ink => ("#1c1e21", "#e8eaed"),
            Colour::Muted => ("#5f6670", "#a3abb6"),
            Colour::Faint => ("#e3e6ea", "#33383f"),
            Colour::Shadow => ("#c9ced6", "#4a515b"),
            Colour::Paper => ("#ffffff", "#16191d"),
            Colour::Series(i) => SERIES[i % SERIES.len()],
            Colour::Level(i) => LEVELS[i.min(LEVELS.len() - 1)],
        }
    }

    fn class(self) -> String {
        match self {
            Colour::Ink => "k".to_owned(),
            Colour::Muted => "m".to_owned(),
            Colour::Faint => "g".to_owned(),
            Colour::Shadow => "h".to_owned(),
            Colour::Paper => "p".to_owned(),
            Colour::Series(i) => format!("a{}", i % SERIES.len()),
            Colour::Level(i) => format!("l{}", i.min(LEVELS.len() - 1)),
        }
    }

    fn all() -> impl Iterator<Item = Colour> {
        let fixed = [Colour::Ink, Colour::Muted, Colour::Faint, Colour::Shadow, Colour::Paper];
        let series = (0..SERIES.len()).map(Colour::Series);
        fixed.into_iter().chain(series).chain((0..LEVELS.len()).map(Colour::Level))
    }
}

/// The rules that turn a picture dark. Each shape carries its light colour as an attribute, which any rule outweighs,
/// so programs that know no style sheets show the light picture.
#[must_use]
pub fn dark_rules() -> String {
    let mut rules = String::from("@media (prefers-color-scheme:dark){");
    for colour in Colour::all() {
        let (class, (_, dark)) = (colour.class(), colour.pair());
        let _ = write!(rules, ".f-{class}{{fill:{dark}}}.s-{class}{{stroke:{dark}}}");
    }
    rules.push('}');
    rules
}

/// Marker of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Disc,
    /// A square.
    Square,
    /// A triangle.
    Triangle,
    /// A rhombus.
    Rhombus,
}

/// How an algorithm looks everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colour.
    pub colour: Colour,
    /// Dashes of its lines; empty for a whole line.
    pub dash: &'static str,
    /// Marker of its values.
    pub marker: Marker,
}

/// The look of the `i`-th algorithm; the baseline is ink.
#[must_use]
pub fn look(i: usize, baseline: usize) -> Look {
    if i == baseline {
        return Look { colour: Colour::Ink, dash: "5 3", marker: Marker::Square };
    }
    // The others are counted without it.
    let i = i - usize::from(i > baseline);
    let marker = [Marker::Disc, Marker::Triangle, Marker::Rhombus][i % 3];
    let dash = ["", "", "7 2", "2 2", "", "9 2 2 2", "", "4 2"][i % 8];
    Look { colour: Colour::Series(i), dash, marker }
}

/// Where a text stands at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Before the text.
    Start,
    /// In its middle.
    Middle,
    /// Behind it.
    End,
}

/// A picture under construction.
#[derive(Clone, Debug)]
pub struct Svg {
    height: f64,
    title: String,
    about: String,
    body: String,
}

impl Svg {
    /// An empty picture with its title, which is also drawn; `about` is for readers who do not see it.
    #[must_use]
    pub fn new(title: &str, about: &str) -> Svg {
        let mut svg = Svg { height: 0.0, title: title.to_owned(), about: about.to_owned(), body: String::new() };
        svg.write(0.0, 18.0, title, Anchor::Start, 15.0, Colour::Ink, true);
        svg
    }

    /// Says how high the picture is.
    pub fn set_height(&mut self, height: f64) {
        self.height = height;
    }

    /// A line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour, width: f64, dash: &str) {
        self.path(&[from, to], colour, width, dash);
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], colour: Colour, width: f64, dash: &str) {
        if points.is_empty() {
            return;
        }
        let (class, (light, _)) = (colour.class(), colour.pair());
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.body,
            "<path d=\"{}\" class=\"s-{class}\" stroke=\"{light}\" stroke-width=\"{}\" fill=\"none\" \
             stroke-linejoin=\"round\"{dash}/>",
            outline(points),
            number(width)
        );
    }

    /// A filled shape.
    pub fn area(&mut self, points: &[(f64, f64)], colour: Colour, opacity: f64) {
        if points.is_empty() {
            return;
        }
        let (class, (light, _)) = (colour.class(), colour.pair());
        let opacity = if opacity < 1.0 { format!(" fill-opacity=\"{opacity:.2}\"") } else { String::new() };
        let outline = outline(points);
        let _ = writeln!(self.body, "<path d=\"{outline}Z\" class=\"f-{class}\" fill=\"{light}\"{opacity}/>");
    }

    /// A filled rectangle.
    pub fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), colour: Colour) {
        self.area(&[(x, y), (x + w, y), (x + w, y + h), (x, y + h)], colour, 1.0);
    }

    /// Text in normal weight.
    pub fn text(&mut self, x: f64, y: f64, text: &str, anchor: Anchor, size: f64, colour: Colour) {
        self.write(x, y, text, anchor, size, colour, false);
    }

    /// Text in bold.
    pub fn bold(&mut self, x: f64, y: f64, text: &str, anchor: Anchor, size: f64, colour: Colour) {
        self.write(x, y, text, anchor, size, colour, true);
    }

    #[allow(clippy::too_many_arguments)]
    fn write(&mut self, x: f64, y: f64, text: &str, anchor: Anchor, size: f64, colour: Colour, is_bold: bool) {
        let (class, (light, _)) = (colour.class(), colour.pair());
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if is_bold { " font-weight=\"600\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" class=\"f-{class}\" fill=\"{light}\"{anchor}{weight}>{}</text>",
            number(x),
            number(y),
            number(size),
            escape(text)
        );
    }

    /// A value's marker: filled, or hollow.
    pub fn marker(&mut self, (x, y): (f64, f64), look: Look, radius: f64, is_filled: bool) {
        let r = radius;
        let (class, (light, _)) = (look.colour.class(), look.colour.pair());
        let d = match look.marker {
            Marker::Disc => {
                let (x0, x1, y, r) = (number(x - r), number(x + r), number(y), number(r));
                format!("M{x0} {y}A{r} {r} 0 1 1 {x1} {y}A{r} {r} 0 1 1 {x0} {y}Z")
            }
            Marker::Square => {
                let r = 0.86 * r;
                format!("{}Z", outline(&[(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]))
            }
            Marker::Triangle => {
                let (r, h) = (1.1 * r, 0.95 * r);
                format!("{}Z", outline(&[(x, y - r), (x + r, y + h), (x - r, y + h)]))
            }
            Marker::Rhombus => {
                let r = 1.2 * r;
                format!("{}Z", outline(&[(x, y - r), (x + r, y), (x, y + r), (x - r, y)]))
            }
        };
        let (paper, (paper_light, _)) = (Colour::Paper.class(), Colour::Paper.pair());
        let fill = if is_filled { (&class, light) } else { (&paper, paper_light) };
        let _ = writeln!(
            self.body,
            "<path d=\"{d}\" class=\"f-{} s-{class}\" fill=\"{}\" stroke=\"{light}\" stroke-width=\"1.4\"/>",
            fill.0, fill.1
        );
    }

    /// Many small discs as one path of strokes without length.
    pub fn dots(&mut self, points: &[(f64, f64)], colour: Colour, diameter: f64, opacity: f64) {
        let d: String = points.iter().map(|(x, y)| format!("M{} {}h0", number(*x), number(*y))).collect();
        self.strokes(&d, colour, diameter, opacity, "round");
    }

    /// Many small crosses.
    pub fn crosses(&mut self, points: &[(f64, f64)], colour: Colour, size: f64, opacity: f64) {
        let (size, half) = (number(size), size / 2.0);
        let cross = |(x, y): &(f64, f64)| {
            let (left, top, bottom) = (number(x - half), number(y - half), number(y + half));
            format!("M{left} {top}l{size} {size}M{left} {bottom}l{size}-{size}")
        };
        self.strokes(&points.iter().map(cross).collect::<String>(), colour, 1.0, opacity, "butt");
    }

    fn strokes(&mut self, d: &str, colour: Colour, width: f64, opacity: f64, cap: &str) {
        if d.is_empty() {
            return;
        }
        let (class, (light, _)) = (colour.class(), colour.pair());
        let _ = writeln!(
            self.body,
            "<path d=\"{d}\" class=\"s-{class}\" stroke=\"{light}\" stroke-width=\"{}\" stroke-linecap=\"{cap}\" \
             stroke-opacity=\"{opacity:.2}\" fill=\"none\"/>",
            number(width)
        );
    }

    fn open(&self, namespace: &str, margin: f64) -> String {
        format!(
            "<svg{namespace} viewBox=\"-{m} -{m} {} {}\" role=\"img\" font-family=\"system-ui,-apple-system,Segoe \
             UI,Roboto,Helvetica,Arial,sans-serif\"><title>{}</title><desc>{}</desc>\n",
            number(WIDTH + 2.0 * margin),
            number(self.height + 2.0 * margin),
            escape(&self.title),
            escape(&self.about),
            m = number(margin),
        )
    }

    /// A file of its own, with a background and its rules for the dark.
    #[must_use]
    pub fn standalone(&self) -> String {
        let margin = 14.0;
        let mut paper = Svg { body: String::new(), ..self.clone() };
        paper.rect((-margin, -margin), (WIDTH + 2.0 * margin, self.height + 2.0 * margin), Colour::Paper);
        format!(
            "{}<style>{}</style>\n{}{}</svg>\n",
            self.open(" xmlns=\"http://www.w3.org/2000/svg\"", margin),
            dark_rules(),
            paper.body,
            self.body
        )
    }

    /// A part of a page that has [`dark_rules`] itself.
    #[must_use]
    pub fn inline(&self) -> String {
        format!("{}{}</svg>\n", self.open("", 2.0), self.body)
    }
}

fn outline(points: &[(f64, f64)]) -> String {
    let mut d = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(d, "{}{} {}", if i == 0 { 'M' } else { 'L' }, number(*x), number(*y));
    }
    d
}

/// A coordinate with one decimal, if it needs one.
fn number(x: f64) -> String {
    let text = format!("{x:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Text for XML and HTML, attributes included. Characters that XML cannot hold become U+FFFD.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || c == '\u{FFFE}' || c == '\u{FFFF}' => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let mut svg = Svg::new("<script>\u{1}\"&", "']]>");
        svg.text(1.0, 2.0, "</text><image href='http://x'/>", Anchor::Middle, 12.0, Colour::Muted);
        svg.set_height(10.0);
        let text = svg.standalone();
        let document = roxmltree::Document::parse(&text).unwrap();
        let names: Vec<_> = document.descendants().filter(|n| n.is_element()).map(|n| n.tag_name().name()).collect();
        assert_eq!(names, ["svg", "title", "desc", "style", "path", "text", "text"]);
        let title = document.descendants().find(|n| n.has_tag_name((SVG, "title"))).unwrap();
        assert_eq!(title.text(), Some("<script>\u{FFFD}\"&"));
    }

    const SVG: &str = "http://www.w3.org/2000/svg";

    #[test]
    fn no_two_algorithms_look_the_same() {
        let looks: Vec<Look> = (0..9).map(|i| look(i, 2)).collect();
        assert_eq!(looks[2].colour, Colour::Ink);
        for (i, a) in looks.iter().enumerate() {
            assert!(looks[i + 1..].iter().all(|b| a != b), "{a:?} appears twice");
        }
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([0.0, -0.01, 3.0, 2.25, -7.96].map(number), ["0", "0", "3", "2.2", "-8"]);
    }
}
