//! How does a list of settings become types, and a table of keys?

/// A key that a recipe may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Table it stands in, dotted.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it means, with unit and the paper's symbol.
    pub doc: &'static str,
    /// What value belongs to it.
    pub expected: &'static str,
}

impl Key {
    /// The dotted path.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// Sections with their keys, as one type each, and all of them together.
macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])+
        $field:ident: $type:ident = $path:literal {
            $( $(#[doc = $doc:literal])+ $key:ident: $key_type:ty = $default:expr; )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $type {
                $( $(#[doc = $doc])+ pub $key: $key_type, )+
            }
            impl Default for $type {
                fn default() -> Self {
                    $type { $( $key: $default, )+ }
                }
            }
        )+

        /// Every setting of a run.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Settings {
            $( $(#[doc = $section_doc])+ pub $field: $type, )+
        }

        /// Every key, in the order in which recipes are written.
        pub const KEYS: &[Key] = &[$($(
            Key {
                section: $path,
                name: stringify!($key),
                doc: concat!($($doc),+),
                expected: <$key_type as Setting>::EXPECTED,
            },
        )+)+];

        impl Settings {
            /// Sets one key; `false` when the value has another type or form than the key's. The key is one of
            /// [`KEYS`].
            pub(super) fn set(&mut self, key: &Key, value: &Value) -> bool {
                match (key.section, key.name) {
                    $($(
                        ($path, stringify!($key)) => match <$key_type as Setting>::read(value) {
                            Some(value) => { self.$field.$key = value; true }
                            None => false,
                        },
                    )+)+
                    _ => false,
                }
            }

            /// The value of one key; `None` when it is an option that is not set.
            pub(super) fn get(&self, key: &Key) -> Option<Value> {
                match (key.section, key.name) {
                    $($( ($path, stringify!($key)) => self.$field.$key.write(), )+)+
                    _ => None,
                }
            }
        }
    };
}
