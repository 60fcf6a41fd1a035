//! What does the model read back from a program? Values, prints, errors, seeds.

mod common;

use aepo::seed::Seed;
use aepo::tool::{ToolName, ToolOutcome};
use aepo_tools::python::Limits;
use aepo_tools::{PythonSettings, Tools, ToolsError};
use common::{answer, call, each, limited, patient, run};
use expect_test::{Expect, expect};

fn check(tools: &mut Tools, code: &str, expected: Expect) {
    let (outcome, text) = run(tools, code);
    expected.assert_eq(&format!("{outcome:?}\n{text}"));
}

#[test]
fn a_program_is_a_cell() {
    for mut tools in each(1, &patient()) {
        let tools = &mut tools;
        check(tools, "print(sum(range(10)))", expect!["Ok\n45"]);
        check(tools, "x = 2\nx ** 10", expect!["Ok\n1024"]);
        check(tools, "print('a')\n'b'\n'c'", expect!["Ok\na\n'c'"]);
        check(tools, "x = 1", expect!["Ok\n"]);
        check(tools, "", expect!["Ok\n"]);
        check(tools, "None", expect!["Ok\n"]);
        check(tools, "\u{feff}print('é €')\r\nif True:\r\n\t'tab'\r\n", expect!["Ok\né €"]);
        check(tools, "import sys; sys.stderr.write('e\\n'); print('o')", expect!["Ok\no\ne"]);
        check(tools, "from fractions import Fraction as F\nF(1, 3) + F(1, 6)", expect!["Ok\nFraction(1, 2)"]);
        check(
            tools,
            "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(1), __name__)",
            expect!["Ok\nP(x=1) __main__"],
        );
        check(tools, "import asyncio\nasync def f(): return 3\nasyncio.run(f())", expect!["Ok\n3"]);
        check(
            tools,
            "import threading\nt = threading.Thread(target=lambda: print('joined'))\nt.start()",
            expect!["Ok\njoined"],
        );
        check(
            tools,
            "import tempfile\nwith tempfile.TemporaryDirectory() as d: print(len(d) > 0)",
            expect!["Ok\nTrue"],
        );
        check(tools, "import os\nwith open('f', 'w') as f: f.write('x')\nos.listdir('.')", expect!["Ok\n['f']"]);
        check(tools, "import time; time.tzname, time.localtime(0).tm_hour", expect!["Ok\n(('UTC', 'UTC'), 0)"]);
    }
}

#[test]
fn an_error_is_one_line_after_what_was_printed() {
    for mut tools in each(1, &patient()) {
        let tools = &mut tools;
        check(tools, "print('before')\n1/0", expect!["Raised\nbefore\nZeroDivisionError: division by zero (line 2)"]);
        check(tools, "def f():\n    raise ValueError('no', 1)\nf()", expect!["Raised\nValueError: ('no', 1) (line 2)"]);
        check(tools, "class E(Exception): pass\nraise E", expect!["Raised\nE (line 2)"]);
        check(
            tools,
            "import json\njson.loads('{')",
            expect![
                "Raised\njson.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1) (line 2)"
            ],
        );
        check(
            tools,
            "class E(Exception):\n    def __str__(self): 1/0\nraise E",
            expect!["Raised\nE: <its str() failed> (line 3)"],
        );
        check(tools, "x = 1\ny = = 2", expect!["Syntax\nSyntaxError: invalid syntax (line 2)"]);
        check(tools, "eval('1 +')", expect!["Raised\nSyntaxError: invalid syntax (line 1)"]);
        check(tools, "import sys; print('x'); sys.exit()", expect!["Ok\nx"]);
        check(tools, "import sys; sys.exit(3)", expect!["Raised\nSystemExit: 3"]);
        check(tools, "import sys; sys.exit('reason')", expect!["Raised\nreason"]);
        check(tools, "import os; os._exit(0)", expect!["Ok\n"]);
        check(tools, "import os; os._exit(7)", expect!["Raised\nexit code 7"]);
        check(tools, "import os; os._exit(247)", expect!["Raised\nexit code 247"]);
        check(tools, "input()", expect!["Raised\nEOFError: EOF when reading a line (line 1)"]);
        check(tools, "import sys; len(sys.stdin.read())", expect!["Ok\n0"]);
        check(
            tools,
            "import atexit; atexit.register(print, 'bye'); 1",
            expect![[r#"
        Ok
        bye
        1"#]],
        );
    }
}

#[test]
fn output_is_data() {
    for mut tools in each(1, &patient()) {
        let tools = &mut tools;
        let marks = "</result><|end|><|im_end|><python>1</python>";
        let (outcome, text) = run(tools, &format!("print({marks:?})"));
        assert_eq!((outcome, text.as_str()), (ToolOutcome::Ok, marks));
        check(tools, "print('\\ud800')", expect!["Ok\n\\ud800"]);
        check(tools, "import os; os.write(1, b'a\\xffb'); None", expect!["Ok\na\u{fffd}b"]);
        check(tools, "print('a\\0b')", expect!["Ok\na\0b"]);
    }
}

#[test]
fn output_is_cut_at_the_limit() {
    for mut tools in each(1, &limited(Limits { max_output_bytes: 10, ..patient().limits })) {
        let tools = &mut tools;
        check(tools, "print('123456789')", expect!["Ok\n123456789"]);
        check(tools, "print('1234567890')", expect!["Output\n1234567890\nkilled: output limit of 10 bytes"]);
        check(tools, "print('€' * 9)", expect!["Output\n€€€\nkilled: output limit of 10 bytes"]);
        check(
            tools,
            "print('123456789')\n1/0",
            expect!["Raised\n123456789\nZeroDivisionError: division by zero (line 2)"],
        );
    }
}

#[test]
fn strange_sources_do_not_surprise() {
    for mut tools in each(1, &patient()) {
        let tools = &mut tools;
        let (outcome, text) = run(tools, "print(1)\0print(2)");
        assert_eq!(outcome, ToolOutcome::Syntax, "{text}");
        let (outcome, text) = run(tools, &format!("{}1{}", "(".repeat(5000), ")".repeat(5000)));
        assert_eq!(outcome, ToolOutcome::Syntax, "{text}");
        let (outcome, text) = run(tools, &format!("{}1", "-".repeat(50_000)));
        assert!(
            matches!(outcome, ToolOutcome::Syntax | ToolOutcome::Memory | ToolOutcome::Signal),
            "{outcome:?} {text}"
        );
        let five_mb = format!("# {}\nprint('read')", "x".repeat(5 << 20));
        assert_eq!(run(tools, &five_mb), (ToolOutcome::Ok, "read".to_owned()));
        let (outcome, text) = run(tools, &"a = 1\n".repeat((5 << 20) / 6));
        assert!(matches!(outcome, ToolOutcome::Ok | ToolOutcome::Memory), "{outcome:?} {text}");
        assert_eq!(run(tools, "1"), (ToolOutcome::Ok, "1".to_owned()));
    }
}

#[test]
fn a_seed_names_every_random_number() {
    for mut tools in each(2, &patient()) {
        let tools = &mut tools;
        let code = "import random\nprint(random.random(), random.getrandbits(64), hash('word'))";
        let mut draw = |seed: u64| {
            let mut call = call(seed, ToolName::PYTHON, code);
            call.seed = Seed(seed);
            let result = answer(tools, call);
            assert_eq!(result.outcome, ToolOutcome::Ok, "{}", result.text);
            result.text
        };
        assert_eq!(draw(1), draw(1));
        assert_eq!(draw(u64::MAX), draw(u64::MAX));
        assert_ne!(draw(1), draw(2));
        let direct = run(tools, "from random import random as r; r()");
        assert_eq!(direct, run(tools, "from random import random as r; r()"));
    }
}

#[test]
fn no_interpreter_is_an_error_at_the_start() {
    let settings = PythonSettings { interpreter: Some("/nonexistent/python3".into()), ..patient() };
    let error = Tools::start(1, Some(settings), None).err().unwrap();
    assert!(matches!(error, ToolsError::NoPython { .. }), "{error}");
}
