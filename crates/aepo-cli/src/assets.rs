//! What does the program carry? The quickstart's recipe, facts, vocabulary and model.

/// The recipes inside the program, by name.
pub const RECIPES: [(&str, &str); 2] = [
    ("quickstart", include_str!("../../../recipes/quickstart.toml")),
    ("benchmark", include_str!("../../../recipes/benchmark.toml")),
];

/// The recipe of served models.
pub const BENCHMARK: &str = "benchmark";

/// The name under which a recipe asks for the model or the questions inside the program.
pub const QUICKSTART: &str = "quickstart";

/// The name under which a recipe asks `sft` for a model of random weights.
pub const RANDOM: &str = "random";

/// The facts behind questions and articles; its name in errors stands beside it.
pub const COUNTRIES: (&str, &str) = ("countries.csv", include_str!("../../../recipes/quickstart/countries.csv"));

/// The vocabulary of the model inside the program, and of every model that `sft` makes.
pub const TOKENIZER: &[u8] = include_bytes!("../../../recipes/quickstart/tokenizer.json");

/// `config.json` of the model inside the program.
pub const MODEL_CONFIG: &[u8] = include_bytes!("../../../recipes/quickstart/model/config.json");

/// `model.safetensors` of the model inside the program.
pub const MODEL_WEIGHTS: &[u8] = include_bytes!("../../../recipes/quickstart/model/model.safetensors");
