//! Which calls are equal? Those whose answer follows from the same facts; their key is a hash of these.

use aepo::tool::ToolCall;
use ring::digest::{Context, SHA256};

use crate::toolset::Basis;

/// Names one question, and so its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

/// The provider of entries that answer whoever is asked, such as an imported search cache.
pub const ANY_PROVIDER: &str = "any";

/// Collects fields such that no two lists of them give the same bytes.
struct Fields(Context);

impl Fields {
    fn number(&mut self, number: u64) -> &mut Fields {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Fields {
        self.number(text.len() as u64).0.update(text.as_bytes());
        self
    }

    fn key(self) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.finish().as_ref());
        Key(key)
    }
}

impl Key {
    /// The key of `call`, answered by the provider of that identity whose tools are those that `is_own` knows. The input
    /// of a call is canonical already.
    #[must_use]
    pub fn of(identity: &str, basis: Basis, call: &ToolCall, is_own: impl Fn(&str) -> bool) -> Key {
        let mut fields = Fields(Context::new(&SHA256));
        fields.text("aepo tool call 1").text(identity).text(call.tool.as_str()).text(&call.input);
        match basis {
            Basis::Input => fields.number(0),
            Basis::Seeded => fields.number(1).number(call.seed.0),
            Basis::Session | Basis::World => {
                fields.number(2).number(call.seed.0);
                let earlier: Vec<_> = call.earlier.iter().filter(|earlier| is_own(earlier.tool.as_str())).collect();
                fields.number(earlier.len() as u64);
                for earlier in earlier {
                    fields.text(earlier.tool.as_str()).text(&earlier.input).number(earlier.seed.0);
                    fields.text(earlier.outcome.name());
                }
                &mut fields
            }
        };
        fields.key()
    }

    /// The key of an entry that answers this query whoever is asked. The released code takes `"` out of a query before it
    /// looks into its cache, so that is done on both sides here.
    #[must_use]
    pub fn any(tool: &str, query: &str) -> Key {
        Key::imported(ANY_PROVIDER, tool, &plain(query))
    }

    /// The key of what follows from these texts; the first says of what kind it is.
    #[must_use]
    pub fn of_fields(texts: &[&str]) -> Key {
        let mut fields = Fields(Context::new(&SHA256));
        fields.number(texts.len() as u64);
        texts.iter().for_each(|text| {
            fields.text(text);
        });
        fields.key()
    }

    /// The key of an entry from elsewhere that one provider's calls find.
    #[must_use]
    pub fn imported(identity: &str, tool: &str, input: &str) -> Key {
        let mut fields = Fields(Context::new(&SHA256));
        fields.text("aepo tool call 1").text(identity).text(tool).text(input).number(0);
        fields.key()
    }
}

/// A query as the released code's cache knows it.
pub(crate) fn plain(query: &str) -> String {
    query.replace('"', "").trim().to_owned()
}
