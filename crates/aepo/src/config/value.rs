//! What types can a setting have, and how are they read from TOML?

use toml::Value;

use super::tools::{CacheMode, Sandbox, SandboxLevel};
use crate::algo::{Algorithm, ClipName};
use crate::prompt::Protocol;
use crate::prompt::template::Date;
use crate::sft::rows::LongRows;
use crate::train::advantage::SharedTokens;
use crate::train::loss::{Aggregation, RatioScope};
use crate::train::schedule::Schedule;

/// A type that a recipe can hold.
pub trait Setting: Sized {
    /// What a reader is told that belongs here.
    const EXPECTED: &'static str;
    /// Reads it; `None` when the value has another type or form.
    fn read(value: &Value) -> Option<Self>;
    /// Writes it; `None` when there is nothing to write.
    fn write(&self) -> Option<Value>;
}

impl Setting for usize {
    const EXPECTED: &'static str = "a whole number, 0 or more";
    fn read(value: &Value) -> Option<Self> {
        usize::try_from(value.as_integer()?).ok()
    }
    fn write(&self) -> Option<Value> {
        i64::try_from(*self).ok().map(Value::Integer)
    }
}

impl Setting for u64 {
    const EXPECTED: &'static str = "a whole number, 0 or more";
    fn read(value: &Value) -> Option<Self> {
        u64::try_from(value.as_integer()?).ok()
    }
    fn write(&self) -> Option<Value> {
        i64::try_from(*self).ok().map(Value::Integer)
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";
    fn read(value: &Value) -> Option<Self> {
        let number = match value {
            Value::Float(f) => *f,
            Value::Integer(i) => *i as f64,
            _ => return None,
        };
        // Infinities and NaN are numbers to TOML, but no setting means anything with them.
        number.is_finite().then_some(number)
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Float(*self))
    }
}

impl<const N: usize> Setting for [f64; N] {
    const EXPECTED: &'static str = match N {
        2 => "a list of 2 numbers",
        4 => "a list of 4 numbers",
        _ => "a list of numbers",
    };
    fn read(value: &Value) -> Option<Self> {
        let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(f64::read).collect();
        numbers?.try_into().ok()
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.iter().map(|f| Value::Float(*f)).collect()))
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text in quotes";
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
    fn write(&self) -> Option<Value> {
        Some(Value::String(self.clone()))
    }
}

impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a list of texts in quotes";
    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::read).collect()
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.iter().cloned().map(Value::String).collect()))
    }
}

impl Setting for Date {
    const EXPECTED: &'static str = "a date like \"2026-11-23\"";
    fn read(value: &Value) -> Option<Self> {
        Date::parse(value.as_str()?)
    }
    fn write(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn read(value: &Value) -> Option<Self> {
        T::read(value).map(Some)
    }
    fn write(&self) -> Option<Value> {
        self.as_ref().and_then(T::write)
    }
}

/// Numbers that weights are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Four bytes each; what they were.
    F32,
    /// Two bytes each; rounded to eight bits of mantissa.
    Bf16,
}

/// Numbers that matrices are multiplied in; sums are in 32 bits either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// Both factors as they are.
    #[default]
    F32,
    /// Both factors rounded to bf16.
    Bf16,
}

/// What trains a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainEngine {
    /// This program.
    #[default]
    Embedded,
    /// A server that speaks the Tinker protocol.
    Tinker,
}

/// Names of a closed set of choices.
macro_rules! choices {
    ($type:ty, $expected:literal, $($name:literal => $value:path),+ $(,)?) => {
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;
            fn read(value: &Value) -> Option<Self> {
                match value.as_str()? {
                    $($name => Some($value),)+
                    _ => None,
                }
            }
            fn write(&self) -> Option<Value> {
                Some(Value::String(match self { $($value => $name,)+ }.to_owned()))
            }
        }
    };
}

impl Setting for Algorithm {
    const EXPECTED: &'static str = "the name of an algorithm (\"aepo\", \"arpo\", \"grpo\", \"reinforce++\", \"dapo\", \
                                    \"cispo\", \"gppo\", \"gigpo\", \"gspo\", \"ppo\", \"rloo\", …)";
    fn read(value: &Value) -> Option<Self> {
        Algorithm::named(value.as_str()?)
    }
    fn write(&self) -> Option<Value> {
        Some(Value::String(self.bundle().name.to_owned()))
    }
}

choices!(Protocol, "\"tags\", \"aepo\", \"hermes\" or \"llama3\"",
    "tags" => Protocol::Tags, "aepo" => Protocol::Aepo, "hermes" => Protocol::Hermes, "llama3" => Protocol::Llama3);
choices!(ClipName, "\"ppo\", \"balanced\", \"cispo\" or \"gppo\"",
    "ppo" => ClipName::Ppo, "balanced" => ClipName::Balanced, "cispo" => ClipName::Cispo, "gppo" => ClipName::Gppo);
choices!(Stored, "\"f32\" or \"bf16\"", "f32" => Stored::F32, "bf16" => Stored::Bf16);
choices!(Arithmetic, "\"f32\" or \"bf16\"", "f32" => Arithmetic::F32, "bf16" => Arithmetic::Bf16);
choices!(TrainEngine, "\"embedded\" or \"tinker\"",
    "embedded" => TrainEngine::Embedded, "tinker" => TrainEngine::Tinker);
choices!(RatioScope, "\"token\", \"sequence\" or \"turn\"",
    "token" => RatioScope::Token, "sequence" => RatioScope::Sequence, "turn" => RatioScope::Turn);
choices!(SharedTokens, "\"own\" or \"mean\"", "own" => SharedTokens::Own, "mean" => SharedTokens::Mean);
choices!(Aggregation, "\"token-mean\" or \"seq-mean-token-mean\"",
    "token-mean" => Aggregation::TokenMean, "seq-mean-token-mean" => Aggregation::SeqMeanTokenMean);
choices!(Schedule, "\"constant\", \"linear\" or \"cosine\"",
    "constant" => Schedule::Constant, "linear" => Schedule::Linear, "cosine" => Schedule::Cosine);
choices!(LongRows, "\"leave-out\" or \"cut\"", "leave-out" => LongRows::LeaveOut, "cut" => LongRows::Cut);
choices!(Sandbox, "\"auto\", \"namespaces\", \"landlock\", \"sandboxfusion\" or \"unsafe-local\"",
    "auto" => Sandbox::Auto, "namespaces" => Sandbox::Namespaces, "landlock" => Sandbox::Landlock,
    "sandboxfusion" => Sandbox::SandboxFusion, "unsafe-local" => Sandbox::UnsafeLocal);
choices!(SandboxLevel, "\"landlock\" or \"namespaces\"",
    "landlock" => SandboxLevel::Landlock, "namespaces" => SandboxLevel::Namespaces);
choices!(CacheMode, "\"off\", \"record\" or \"replay\"",
    "off" => CacheMode::Off, "record" => CacheMode::Record, "replay" => CacheMode::Replay);
