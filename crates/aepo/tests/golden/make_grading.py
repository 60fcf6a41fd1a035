"""Hand-written pairs of answers with the truth about them, and what math-verify says of each.

    python3 -m venv venv && venv/bin/pip install math-verify==0.9.0
    venv/bin/python make_grading.py > grading.json

A row is [kind, answer, reference, equal, math_verify]. `equal` was decided by hand, by the rules of
docs/grading-math.md; math-verify is given the reference as its gold, both in dollar signs.
"""

import json
import sys

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

EQUAL = {
    "integer": [
        ("42", "42"), ("042", "42"), ("+42", "42"), ("42.", "42"), ("42.000", "42"), ("$42$", "42"), ("$$42$$", "42"),
        (r"\(42\)", "42"), (r"\boxed{42}", "42"), (r"{42}", "42"), ("(42)", "42"), ("**42**", "42"), ("-7", r"-7"),
        ("\u22127", "-7"), ("- 7", "-7"), ("７３", "73"), (r"\text{42}", "42"), (r"6 \cdot 7", "42"),
        ("6*7", "42"), ("6 × 7", "42"), ("84/2", "42"), ("2^5+10", "42"), ("2**5", "32"), (r"\mathrm{42}", "42"),
    ],
    "thousands": [
        ("1,234", "1234"), ("1,234,567", "1234567"), (r"1{,}234", "1234"), (r"10,\!080", "10080"),
        (r"11,\! 111,\! 111", "11111111"), ("1 234", "1234"), ("1 234 567", "1234567"), (r"1\,234", "1234"),
        ("12,345.5", "12345.5"), ("1\u202f234", "1234"), (r"\$1,234", "1234"), ("1,234,567.0", "1,234,567"),
    ],
    "decimal": [
        ("0.5", ".5"), ("0.50", "0.5"), ("3.210", "3.21"), (r"0.5", r"\frac{1}{2}"), ("0.125", "1/8"),
        ("-0.75", r"-\frac{3}{4}"), ("1.25", r"\frac54"), (r"0.\overline{3}", r"\frac13"),
        (r"0.1\overline{6}", r"\frac16"), (r"1.\overline{27}", r"\frac{14}{11}"), ("2.50", r"\frac{5}{2}"),
        (r".0000672", r"6.72 \times 10^{-5}"), ("0.35625", r"\frac{57}{160}"),
    ],
    "scientific": [
        ("1e3", "1000"), ("2.5e-3", "0.0025"), ("1.5E+4", "15000"), (r"1.5 \times 10^4", "15000"),
        (r"3 \cdot 10^{-2}", "0.03"), ("6.02×10²³", "6.02e23"), ("10^9", "1000000000"), ("1e-2", r"\frac{1}{100}"),
    ],
    "fraction": [
        (r"\frac{1}{2}", "1/2"), (r"\dfrac{1}{2}", r"\tfrac{1}{2}"), (r"\frac12", r"\frac{1}{2}"),
        (r"\frac 59", "5/9"), (r"\frac9{19}", "9/19"), (r"\frac{3}4", "3/4"), (r"\frac{14}{3}", r"\frac{28}{6}"),
        (r"-\frac{1}{2}", r"\frac{-1}{2}"), (r"\frac{1}{-2}", r"-\frac12"), (r"\frac{-3}{-4}", r"\frac34"),
        ("½", "0.5"), ("⅔", r"\frac{2}{3}"), (r"\left(\frac{1}{2}\right)", "1/2"), (r"\frac{\frac12}{3}", "1/6"),
        (r"1/2/2", "1/4"), (r"\cfrac{1}{1+\cfrac{1}{2}}", r"\frac23"), (r"{1}/{2}", "0.5"), (r"7 \div 2", "3.5"),
        (r"\frac{6}{3}", "2"), (r"\frac{1}{3}+\frac{1}{6}", r"\frac{1}{2}"),
    ],
    "mixed number": [
        (r"2\frac{1}{2}", "2.5"), ("2 1/2", "5/2"), (r"137 \frac{1}{2}", "137.5"), (r"1\frac{4}{5}", r"\frac95"),
        (r"-1\frac12", "-1.5"), ("2½", "2.5"), (r"3\frac14", "3.25"), (r"10 \dfrac{2}{3}", r"\frac{32}{3}"),
    ],
    "percent": [
        (r"50\%", "0.5"), ("50%", "1/2"), (r"12.5\%", "0.125"), (r"50\%", r"\frac{1}{2}"), ("50 percent", r"50\%"),
        (r"50 \text{ percent}", "50%"), (r"50\%", "50"), ("10", r"10\%"), (r"33\frac{1}{3}\%", r"\frac{1}{3}"),
        (r"200\%", "2"), ("-5%", "-0.05"), ("-5%", "-5"), ("0%", "0"), (r"1\%", "1"), (r"\frac{1}{4}\%", "0.0025"),
    ],
    "root": [
        (r"\sqrt{4}", "2"), (r"\sqrt2", r"\sqrt{2}"), (r"3\sqrt{13}", r"\sqrt{117}"), (r"11\sqrt2", "11*sqrt(2)"),
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"), ("√51", r"\sqrt{51}"), (r"\sqrt[3]{27}", "3"),
        (r"\sqrt[3]{-8}", "-2"), (r"2^{1/2}", r"\sqrt{2}"), (r"\sqrt{\frac{1}{4}}", "0.5"),
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"), (r"\frac{1}{\sqrt2-1}", r"\sqrt2+1"), ("2√5", r"\sqrt{20}"),
        (r"\sqrt{2}\sqrt{3}", r"\sqrt{6}"), (r"\frac{3\sqrt{3}}{4}", r"\frac{3}{4}\sqrt{3}"),
        (r"11 \sqrt{5} + 11", r"11(1+\sqrt{5})"), (r"8^{1/3}", "2"), (r"4^{-1/2}", "1/2"),
        (r"\sqrt{2+\sqrt{3}}", r"\frac{\sqrt{6}+\sqrt{2}}{2}"), (r"\sqrt[4]{4}", r"\sqrt{2}"),
    ],
    "constant": [
        (r"\pi", "pi"), ("2π", r"2\pi"), (r"\frac{\pi}{2}", "pi/2"), (r"18+2\pi", r"2(\pi+9)"),
        (r"\frac{20000}{\pi}", r"20000\pi^{-1}"), (r"288 \pi", r"288\cdot\pi"), (r"e^{2}", r"e \cdot e"),
        (r"\frac{\pi^2}{8}", r"\left(\frac{\pi}{2\sqrt2}\right)^2"), (r"\infty", "infinity"), ("-∞", r"-\infty"),
        (r"e^{\ln 5}", "5"), (r"\exp(1)", "e"), ("3.5pi", r"\frac{7\pi}{2}"),
    ],
    "function": [
        (r"\sin 30^\circ", r"\frac12"), (r"\cos\frac{\pi}{3}", "0.5"), (r"\tan\left(\frac{\pi}{4}\right)", "1"),
        (r"\log_2 8", "3"), (r"\ln e^3", "3"), (r"\log 100", "2"), (r"\log_{10} 1000", "3"),
        (r"\ln 8", r"3\ln 2"), (r"\ln\frac12", r"-\ln 2"), (r"5!", "120"), (r"\binom{5}{2}", "10"),
        (r"\arctan 1", r"\frac{\pi}{4}"), (r"\left|-3\right|", "3"), (r"|{-3}|", "3"), (r"\lfloor 2.7 \rfloor", "2"),
        (r"\lceil 2.1 \rceil", "3"), (r"\sin^2 x + \cos^2 x", "1"), (r"\frac{\sin x}{\cos x}", r"\tan x"),
        (r"\cot x", r"\frac{\cos x}{\sin x}"), (r"\sin 2x", r"2\sin x\cos x"), (r"\sin^{-1} 1", r"\frac{\pi}{2}"),
        (r"\log_4 8", "3/2"), ("sqrt(16)", "4"), ("sin(pi/6)", "1/2"), (r"\frac{10!}{8!}", "90"), (r"\frac{5!}{2!3!}", "10"), (r"\arctan\frac12+\arctan\frac13", r"\frac\pi4"),
        (r"\max(3, 5)", "5"), (r"\gcd(12, 18)", "6"), (r"\cos 72^\circ", r"\frac{\sqrt5-1}{4}"),
        (r"\lfloor\sqrt{10}\rfloor", "3"), (r"\tan^2 x + 1", r"\sec^2 x"),
    ],
    "power": [
        (r"2^{10}", "1024"), ("2^10", "1024"), ("x²", "x^2"), (r"2^{-3}", "0.125"), (r"(-2)^3", "-8"), ("-2^2", "-4"),
        (r"2^{2024}", r"4^{1012}"), (r"3^{1000}-3^{999}", r"2\cdot 3^{999}"), ("10⁻³", "0.001"), (r"2^{3^2}", "512"),
        (r"e^{x}e^{y}", r"e^{x+y}"), (r"2^{100000}", r"4^{50000}"), (r"\left(\frac{2}{3}\right)^4", r"\frac{16}{81}"),
    ],
    "complex": [
        ("6 - 5i", "-5i+6"), (r"(1+i)^2", "2i"), (r"1+2i", r"1+i\cdot 2"), (r"e^{i\pi}", "-1"), (r"\sqrt{-4}", "2i"),
        (r"\frac{1}{i}", "-i"), (r"\frac{1+i}{\sqrt2}", r"e^{i\pi/4}"), (r"|3+4i|", "5"), (r"(1+2i)(3-i)", "5+5i"),
    ],
    "symbols": [
        ("p - q", "-q+p"), ("2k+2", "2(k+1)"), (r"(a+5)(b+2)", "ab+2a+5b+10"), (r"x^2-1", "(x-1)(x+1)"),
        (r"\frac{11+9a}{20}", r"\frac{11}{20}+\frac{9a}{20}"), ("5r^5", "5 r^5"), ("3R^2", "3R*R"), ("xy", "yx"), ("abcd", "dcba"), ("abc", "cab"),
        (r"\frac{x^2-1}{x-1}", "x+1"), (r"8n^2 + 4n + 1", "1+4n+8n²"), (r"x^3+3x-6", "x(x^2+3)-6"),
        (r"\frac{a}{b}", "a/b"), (r"a_1+a_2", "a_{2}+a_{1}"), (r"\alpha\beta", r"\beta\alpha"), ("4x", r"4\cdot x"),
        (r"(x+y)^2", "x^2+2xy+y^2"), (r"\frac{1}{x}+\frac{1}{y}", r"\frac{x+y}{xy}"), (r"x^{1/2}", r"\sqrt{x}"),
        (r"\sqrt{x^2}", "|x|"), (r"n!/(n-1)!", "n"), (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"), ("θ", r"\theta"),
        (r"\ln(xy)-\ln(y)", r"\ln(xy) - \ln y"), ("x * (y+1)", "xy+x"), (r"2^{n+1}", r"2 \cdot 2^n"),
    ],
    "tuple": [
        ("(1,2)", "(1, 2)"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"), ("(6,31,-1)", "(6, 31, -1)"),
        (r"(\frac12, 3)", "(0.5, 3.0)"), (r"(1,-16,-4,43)", "(1, -16, -4, 43)"), (r"\langle 1, 2 \rangle", "(1,2)"),
        ("(x, y) = (1, 2)", "(1,2)"), ("[3, 5, 7]", "(3, 5, 7)"), ("（1，2）", "(1,2)"),
    ],
    "list and set": [
        ("1,-2", "-2,1"), ("3, 5, 7", "7, 5, 3"), (r"\{1,2,3\}", r"\{3,2,1\}"), (r"\{1,2\}", "1, 2"), ("{1,2}", r"\{2,1\}"),
        ("1 and 2", "1, 2"), ("1 or 2", "2, 1"), (r"1 \text{ and } 2", "1,2"), ("x=1, x=2", "1, 2"),
        (r"\left\{\frac12, 1\right\}", r"\{0.5, 1\}"), (r"\{1,1,2\}", r"\{1,2\}"), ("x = 1 or x = 2", "x=2, x=1"),
        ("1; 2", "1, 2"), (r"\emptyset", r"\{\}"), ("1, 2, and 3", "1,2,3"), (r"\{5\}", "5"), ("(1,2), (3,4)", "(3,4), (1,2)"),
        ("100,200,300", "100, 200, 300"),
    ],
    "plus or minus": [
        (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"), (r"\pm 3", "3, -3"), ("±3", r"\{-3, 3\}"),
        (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt5, 1+\sqrt5\}"), (r"x = \pm 2", "x=2, x=-2"), (r"1 \mp 2", r"1 \pm 2"),
        (r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}"), ("+/-3", r"\pm 3"),
        (r"3 \pm 2 \sqrt{2}", r"3-2\sqrt2, 3+2\sqrt2"), (r"\pm 1, \pm 2", "1, -1, 2, -2"),
    ],
    "interval": [
        ("(3,4]", r"\left(3, 4\right]"), (r"(-\infty, 0]", "(-inf, 0]"), (r"(2,\infty)", "(2, ∞)"), ("x > 2", r"(2,\infty)"),
        (r"3 < x \le 4", "(3,4]"), ("x <= 5", r"(-\infty, 5]"), (r"x \in [-2,7]", "[-2,7]"), (r"-2 \le x \le 7", r"x \in [-2,7]"),
        (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)"), (r"(-\infty, 2) \cup (3, \infty)", "(-∞,2)∪(3,∞)"),
        ("5 > x", "x < 5"), (r"\{x \mid x > 3\}", r"(3, \infty)"), ("{x : x > 3}", "x > 3"), (r"\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right]", r"[\pi^2/8, 1.25\pi^2]"),
        (r"0 < x < 1", "(0,1)"), (r"\mathbb{R}", r"(-\infty, \infty)"), ("(0,9) U (9,36)", r"(0,9) \cup (9,36)"),
        (r"[\frac12, 1)", "[0.5, 1)"), (r"2x > 6", "x > 3"),
        ("x < 2 or x > 3", r"(-\infty, 2) \cup (3, \infty)"), (r"(-\infty, 2) \text{ or } [3, \infty)", r"(-\infty, 2) \cup [3, \infty)"), ("x>=3", r"x \geqslant 3"),
    ],
    "matrix": [
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
        (r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 0.5 \\ 2 \end{pmatrix}"),
        (r"\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix}", "(-2, -14, -7)"),
        (r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \\ \end{pmatrix}", r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}"),
        ("[[1, 2], [3, 4]]", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        (r"\left(\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right)", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        (r"\begin{pmatrix} \sqrt{4} \\ x+y \end{pmatrix}", r"\begin{pmatrix} 2 \\ y+x \end{pmatrix}"),
    ],
    "equation": [
        ("x=5", "5"), ("5", "x = 5"), ("x = 5", "5 = x"), ("y=2x+1", "2x - y + 1 = 0"), ("y = 2x + 3", "2x+3"),
        (r"5x - 7y + 11z + 4 = 0", r"-10x+14y-22z=8"), ("2x + 2y = 4", "x + y = 2"), (r"\frac{x}{2}=3", "x=6"),
        ("f(x) = x^2", "x^2"), (r"x = \frac{1}{2}", "0.5"), ("x^2+y^2=25", "y^2 = 25 - x^2"), ("x=1/2=0.5", "0.5"), (r"x = \sqrt2 \approx 1.41", r"\sqrt2"),
        ("n = 7", "7"), ("y=-2x", "y + 2x = 0"), ("AB = 5", "5"), ("$x = 1$ or $x = 2$", "1, 2"), ("Area = 12", "12"),
    ],
    "unit": [
        (r"5 \text{ cm}", "5"), ("5 cm", r"5\text{ cm}"), (r"864 \mbox{ inches}^2", "864"), (r"15\mbox{ cm}^2", "15 square centimeters"),
        ("$18", "18"), (r"\$18.90", "18.9"), ("18 dollars", r"\$18"), ("5 dollars", "5"), (r"5.4 \text{ cents}", "5.4"),
        ("30 mph", "30 miles per hour"), ("12 apples", "12"), ("5 km", "5 kilometers"), ("7 hours", "7"), ("-$5", "-5"),
        (r"\$32,\!348", "32348"), ("5 cm²", r"5 \text{ cm}^2"), ("3.5 km/h", r"3.5 \text{ km/h}"), ("5\u00a0m", "5"),
        (r"x = 5 \text{ cm}", "5"), ("20 square feet", r"20 \text{ ft}^2"), ("20 feet squared", "20 ft^2"), (r"20 \text{ metres squared}", r"20 \text{ m}^2"),
    ],
    "number word": [
        ("5 million", "5000000"), (r"1.5 \text{ billion}", "1500000000"), ("3 thousand dollars", r"\$3000"),
        ("3 x 10^5", "300000"),
    ],
    "degree": [
        (r"90^\circ", "90"), (r"90^{\circ}", "90°"), ("90 degrees", r"90^\circ"), (r"20^\circ\text{C}", "20"), ("20°C", r"20^\circ C"), (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"),
        (r"180^\circ", r"\pi"), (r"\frac{\pi}{6} \text{ radians}", r"30^\circ"), ("45°", "45"),
    ],
    "base": [
        ("52_8", "52_{8}"), ("4210_{5}", "4210_5"), ("52_8", "52"), (r"1A_{16}", "1A_{16}"), ("101_2", "0101_2"),
    ],
    "words": [
        (r"\text{Evelyn}", "Evelyn"), ("evelyn", "Evelyn"), (r"\text{even}", "even"), (r"\mbox{no solution}", "No solution"),
        (r"\text{(C)}", "C"), ("(C)", r"\text{C}"), (r"\text{(C)}", "(C)"), ("east", r"\textbf{east}"), ("Yes", "yes"),
        ("\u5076\u6570", "\u5076\u6570"), (r"\text{ellipse}", "Ellipse."), (r"\text{4:30 p.m.}", "4:30 p.m."), (r"\text{not  possible}", "not possible"),
    ],
}

OTHER = {
    "integer": [
        ("1.5", "15"), ("15", "1.5"), ("-5", "5"), ("5", "-5"), ("42", "43"), ("420", "42"), ("4 2", "42"), ("--5", "5"),
        ("+-5", "-5"), ("5 6", "5"), ("five", "5"), ("42", "24"), ("0", "-1"), ("1000000", "100000"), ("6 7", "42"),
    ],
    "thousands": [
        ("1,234", "1.234"), ("12,34", "1234"), ("1,2345", "12345"), ("1234,567", "1234567"), ("1,234", "1,235"), (",123", "123"), ("450, 1", "1,450"), ("000, 1", "1,000"),
        ("1,", "1"), ("12 34", "1234"),
    ],
    "decimal": [
        ("0.333", "1/3"), ("0.3333333333", r"\frac13"), ("3.14", r"\pi"), ("3.14159265358979", r"\pi"), ("1.41", r"\sqrt2"),
        ("0.5", "0.05"), ("0.1", "0.11"), ("2.718281828", "e"), ("1.0000001", "1"), (r"0.\overline{3}", "0.3"),
        ("1.2.3", "1.23"), ("0.67", r"\frac23"), ("0.333...", "0.333"), (r"0.9", r"0.\overline{8}"),
    ],
    "scientific": [("1e3", "100"), (r"1.5 \times 10^4", "1500"), ("2e-3", "0.02"), (r"10^{-2}", "100")],
    "fraction": [
        (r"\frac12", r"\frac21"), ("1/2", "2"), (r"\frac{1}{2}", "12"), (r"\frac{3}{56}", r"\frac{3}{65}"), ("1/0", "0"),
        ("1/0", "2/0"), (r"\frac{14}{3}", "14"), (r"-\frac12", r"\frac12"), (r"\frac{1}{3}", r"\frac{1}{4}"),
        (r"\frac{3}{2}", "3/2/2"),
    ],
    "mixed number": [(r"2\frac{1}{2}", "1"), (r"2\frac{1}{2}", r"\frac{21}{2}"), ("2 1/2", "21/2"), (r"1\frac45", r"\frac45")],
    "percent": [(r"50\%", "5000"), (r"50\%", r"5000\%"), ("50%", "5"), ("0.5%", "50%"), (r"50\%", "0.05"), ("5%", "0.5"), ("0.5%", "0.5"),
        (r"\frac{1}{4}\%", r"\frac14"),
    ],
    "root": [
        (r"\sqrt{2}", "2"), (r"\sqrt{2}", r"\sqrt{3}"), (r"3\sqrt{13}", r"13\sqrt{3}"), (r"\sqrt[3]{8}", r"\sqrt{8}"),
        (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5}"), (r"-\sqrt{3}", r"\sqrt{3}"), (r"2\sqrt{5}", r"\sqrt{10}"), (r"\sqrt{13}", "13"),
        (r"\sqrt{1000001}", "1000"),
    ],
    "constant": [
        (r"\pi", "3"), (r"2\pi", r"\pi"), (r"\pi^2", r"2\pi"), (r"\frac{\pi}{2}", "90"), (r"\infty", r"-\infty"), ("e", "2.718"),
        (r"\frac{22}{7}", r"\pi"), (r"\infty", "1"), (r"e^{\pi\sqrt{163}}", "262537412640768744"),
    ],
    "function": [
        (r"\sin 30", r"\frac12"), (r"\cos x", r"\sin x"), (r"\log 2", r"\ln 2"), ("5!", "5"), (r"\binom{5}{2}", r"\frac52"),
        (r"\lfloor 2.7 \rfloor", "3"), (r"|-3|", "-3"), (r"\log_2 8", r"\log_8 2"), (r"\cot x", r"\tan x"), (r"\sin x^2", r"\sin^2 x"),
        ("x!!", "(x!)!"),
    ],
    "power": [
        ("2^10", "20"), ("x^2", "2x"), ("(-2)^2", "-4"), (r"2^{100000}", r"2^{100001}"), (r"2^{3^2}", "64"), (r"3^{1000}", r"3^{1000}+1"),
        ("9^{9^{9^9}}", "9^{9^{9^8}}"),
    ],
    "complex": [("6-5i", "6+5i"), ("i", "1"), ("2i", "2"), (r"(1+i)^2", "2"), ("3+4i", "5")],
    "symbols": [
        ("x+1", "y+1"), ("p-q", "q-p"), ("2k", "2"), ("2k+2", "2k"), ("x^2", "x^3"), ("5r^5", "5r^4"), ("x", "X"), ("a_1", "a_2"),
        (r"(x+y)^2", "x^2+y^2"), (r"\sqrt{x^2}", "x"), ("3R^2", "3R"), ("x+10^{-30}", "x"), (r"\frac{x}{y}", r"\frac{y}{x}"),
        ("xy", "x+y"), ("4x", "4"), (r"\alpha", r"\beta"), ("5 x", "5"), (r"(-1)^n", "1"), ("n", "n+1"),
    ],
    "tuple": [
        ("(1,2)", "(2,1)"), ("(1,2)", "(1,2,3)"), ("(1,2)", "12"), ("(1,2)", "3"), ("(3, 4)", "(3, -4)"), ("(1,2)", "1.2"),
        ("(1,2)", r"\{1,2\}"), (r"(3, \frac{\pi}{2})", r"(3, \frac{\pi}{3})"),
    ],
    "list and set": [
        ("1,2", "1,3"), ("1,2", "1"), ("1, 2", "1, 2, 3"), (r"\{1,2\}", r"\{1,2,3\}"), ("1,2", "3"), ("a=1, b=2", "a=2, b=1"),
        ("1, 1, 2", "1, 2, 2"), (r"\emptyset", "0"), ("5 or 6", "5"), (r"\{1,2\}", "12"), ("x=1 or x=2", "(1,2)"),
    ],
    "plus or minus": [
        (r"\pm 3", "3"), (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}"), (r"1 \pm 2", r"2 \pm 1"), (r"\pm 3", "9"), (r"\pm 2", "2, 2"),
    ],
    "interval": [
        ("(3,4]", "[3,4]"), ("(3,4)", "(3,4]"), ("(3,4]", "[3,4)"), (r"(2,\infty)", r"(-\infty, 2)"), ("x > 2", r"x \ge 2"),
        ("x > 2", "x < 2"), ("[1,2]", "(1,2)"), (r"(0,9)\cup(9,36)", "(0,36)"), ("-2x > 6", "x > -3"), ("x > 2", "2"),
        (r"0 < x < 1", "[0,1]"), (r"x \ne 2", "x = 2"),
    ],
    "matrix": [
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(2, 1)"),
        (r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}", "1"),
        (r"\begin{pmatrix} 1 \\ 2 \\ 3 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ],
    "equation": [
        ("x=5", "x=-5"), ("x=5", "6"), ("x=5", "y=5"), ("y=2x+1", "y=2x-1"), ("y=2x+3", "y=3x+2"), ("x+y=2", "x-y=2"),
        ("x^2+y^2=25", "x^2+y^2=5"), (r"5x - 7y + 11z + 4 = 0", r"5x - 7y + 11z - 4 = 0"), ("x=5", "x>5"), ("0=0", "x=x+1"), ("x=x+1", "x+1"), ("xy=6", "6"), ("2x = 6", "6"), (r"x = \sqrt2 \approx 1.41", "1.41"),
    ],
    "unit": [
        ("5 km", "5 m"), ("5 km", "6"), ("$18", "18 euros"), ("5 cm", "5 cm^2"), ("5 apples", "5 oranges"), ("30 mph", "30 km/h"),
        (r"5 \text{ cents}", r"\$5"), ("5 hours", "5 minutes"), ("50 cm", "5"), ("5 metres squared", "5 m"), ("5 in total", "5 in"),
    ],
    "number word": [
        ("5 million", "5"), ("2 thirds", "2"), ("5 squared", "5"), ("5 less than x", "5"), ("5 dozen", "5"), ("5 or more", "5"),
        (r"5 \text{ hundred}", "5"), ("5 degrees below zero", "5"), ("minus 5", "5"), ("not 5", "5"), ("5 is wrong", "5"),
    ],
    "degree": [(r"90^\circ", "9"), (r"90^\circ", r"\frac{\pi}{3}"), (r"90^\circ", "91"), ("90°", "90 cm")],
    "base": [("52_8", "52_9"), ("52_8", "53_8"), ("52_8", "42"), ("101_2", "5"), ("52_8", "25_8"), ("52_8", "40+2"), ("52_8", r"\sqrt{1764}")],
    "words": [
        ("east", "west"), ("east", "eats"), ("even", "odd"), ("Evelyn", "Navin"), (r"\text{(C)}", r"\text{(D)}"), ("C", "B"),
        ("no", "on"), (r"\text{4:30 p.m.}", "4:30 a.m."), ("yes", "no"), (r"\text{even}", "7"), ("ellipse", "circle"), ("A", "AB"), ("no solution", "solution"),
    ],
}


def parsed(text):
    text = text if text.startswith("$") and text.endswith("$") and len(text) > 1 else f"${text}$"
    return parse(text, extraction_config=[LatexExtractionConfig(), ExprExtractionConfig()])


def main():
    rows = []
    for equal, table in ((True, EQUAL), (False, OTHER)):
        for kind, pairs in table.items():
            for answer, reference in pairs:
                told = bool(verify(parsed(reference), parsed(answer)))
                rows.append([kind, answer, reference, equal, told])
    assert len({(row[1], row[2]) for row in rows}) == len(rows), "a pair is there twice"
    print("[")
    print(",\n".join(json.dumps(row, ensure_ascii=True) for row in rows))
    print("]")
    wrong = sum(row[3] != row[4] for row in rows)
    print(f"{len(rows)} pairs, math-verify differs on {wrong}", file=sys.stderr)


if __name__ == "__main__":
    main()
