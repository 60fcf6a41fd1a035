//! Which matrices does LoRA change? Names as Hugging Face and PEFT use them.

use toml::Value;

use super::value::Setting;

/// A projection of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// From the heads back to the residual stream.
    O,
    /// The gate of the MLP.
    Gate,
    /// What the gate lets through.
    Up,
    /// From the MLP back to the residual stream.
    Down,
}

impl Projection {
    /// In the order of a block.
    pub const ALL: [Projection; 7] = [
        Projection::Q,
        Projection::K,
        Projection::V,
        Projection::O,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// The last part of its module's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Projection::Q => "q_proj",
            Projection::K => "k_proj",
            Projection::V => "v_proj",
            Projection::O => "o_proj",
            Projection::Gate => "gate_proj",
            Projection::Up => "up_proj",
            Projection::Down => "down_proj",
        }
    }

    /// The projection of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Projection> {
        Projection::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// The projections that LoRA changes, in every block alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraTargets(Vec<Projection>);

impl LoraTargets {
    /// Of any projections, in the order of a block; `None` where there is none or one twice.
    #[must_use]
    pub fn new(projections: &[Projection]) -> Option<LoraTargets> {
        let mut sorted = projections.to_vec();
        sorted.sort();
        sorted.dedup();
        (!sorted.is_empty() && sorted.len() == projections.len()).then_some(LoraTargets(sorted))
    }

    /// All seven.
    #[must_use]
    pub fn all() -> LoraTargets {
        LoraTargets(Projection::ALL.to_vec())
    }

    /// In the order of a block.
    #[must_use]
    pub fn projections(&self) -> &[Projection] {
        &self.0
    }

    /// Whether it is among them.
    #[must_use]
    pub fn has(&self, projection: Projection) -> bool {
        self.0.contains(&projection)
    }
}

impl Setting for LoraTargets {
    const EXPECTED: &'static str = "\"all\", \"attention\", \"mlp\" or a list of \"q_proj\", \"k_proj\", \"v_proj\", \
                                    \"o_proj\", \"gate_proj\", \"up_proj\", \"down_proj\", each at most once";
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(preset) => match preset.as_str() {
                "all" => Some(LoraTargets::all()),
                "attention" => LoraTargets::new(&Projection::ALL[..4]),
                "mlp" => LoraTargets::new(&Projection::ALL[4..]),
                _ => None,
            },
            Value::Array(names) => {
                let projections: Option<Vec<Projection>> =
                    names.iter().map(|name| Projection::named(name.as_str()?)).collect();
                LoraTargets::new(&projections?)
            }
            _ => None,
        }
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.0.iter().map(|p| Value::String(p.name().to_owned())).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_and_lists_are_read_and_written_back() {
        let read = |text: &str| LoraTargets::read(&toml::from_str::<toml::Table>(text).unwrap()["x"]);
        assert_eq!(read("x = \"all\""), Some(LoraTargets::all()));
        assert_eq!(read("x = \"mlp\"").unwrap().projections(), [Projection::Gate, Projection::Up, Projection::Down]);
        assert_eq!(read("x = [\"v_proj\", \"q_proj\"]").unwrap().projections(), [Projection::Q, Projection::V]);
        for wrong in ["x = []", "x = [\"q_proj\", \"q_proj\"]", "x = [\"lm_head\"]", "x = \"q_proj\"", "x = 3"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let some = read("x = \"attention\"").unwrap();
        assert_eq!(LoraTargets::read(&some.write().unwrap()), Some(some));
    }
}
