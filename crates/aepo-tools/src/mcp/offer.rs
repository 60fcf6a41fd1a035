//! Which tools does a server have, under which names are they offered, and are they still the same?

use std::collections::BTreeMap;

use aepo::tool::canonical_json;
use jsonschema::Validator;
use ring::digest::{Context, SHA256};
use rmcp::model::Tool;
use serde_json::Value;

use super::McpSettings;
use super::error::McpError;
use super::schema;

/// Characters of a tool's name that every dialect and every endpoint of a model takes.
const MAX_NAME_CHARS: usize = 64;
/// Hexadecimal digits that stand for the end of a name that is too long.
const N_HASH_CHARS: usize = 8;

/// One tool of a server, as it is offered to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct McpTool {
    /// `SERVER__TOOL`, at most 64 of the characters `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// What it does, in the server's words.
    pub description: String,
    /// The JSON schema of its arguments, an object.
    pub schema: Value,
    /// The server's name in the file.
    pub server: String,
    /// The tool's name at the server.
    pub remote: String,
}

impl McpTool {
    /// What a model is told of it, in a form that is equal for equal tools.
    fn told(&self) -> String {
        canonical_json(&serde_json::json!({
            "name": self.name, "remote": self.remote, "description": self.description, "input": self.schema,
        }))
    }
}

/// The tools of one server that are offered, sorted by name, from its own list.
pub(super) fn offered(server: &str, listed: Vec<Tool>, settings: &McpSettings) -> Result<Vec<McpTool>, McpError> {
    let mut tools: BTreeMap<String, McpTool> = BTreeMap::new();
    for tool in listed {
        let name = safe_name(server, &tool.name);
        if !settings.offer.is_empty() && !settings.offer.contains(&name) {
            continue;
        }
        let remote = tool.name.into_owned();
        let refuse = |reason: String| McpError::Tool { server: server.to_owned(), tool: remote.clone(), reason };
        let description = tool.description.map(|text| text.into_owned()).unwrap_or_default();
        let schema = Value::Object(tool.input_schema.as_ref().clone());
        let n_bytes = remote.len() + description.len() + schema.to_string().len();
        if n_bytes > settings.max_tool_bytes {
            let max = settings.max_tool_bytes;
            return Err(refuse(format!("it is described in {n_bytes} bytes, and at most {max} are taken")));
        }
        schema::compile(&schema).map_err(refuse)?;
        let new = McpTool { name: name.clone(), description, schema, server: server.to_owned(), remote };
        if let Some(old) = tools.insert(name, new) {
            return Err(same_name(&old, &tools[&old.name]));
        }
    }
    Ok(tools.into_values().collect())
}

/// Two tools cannot share a name.
fn same_name(first: &McpTool, second: &McpTool) -> McpError {
    let full = |tool: &McpTool| format!("{} of {}", tool.remote, tool.server);
    McpError::SameName { name: first.name.clone(), first: full(first), second: full(second) }
}

/// All tools of all servers by name, each with what its arguments are held against.
pub(super) fn by_name(tools: &[McpTool]) -> Result<BTreeMap<String, (McpTool, Validator)>, McpError> {
    let mut by_name: BTreeMap<String, (McpTool, Validator)> = BTreeMap::new();
    for tool in tools {
        let validator = schema::compile(&tool.schema).map_err(|reason| McpError::Tool {
            server: tool.server.clone(),
            tool: tool.remote.clone(),
            reason,
        })?;
        if let Some((old, _)) = by_name.insert(tool.name.clone(), (tool.clone(), validator)) {
            return Err(same_name(&old, tool));
        }
    }
    Ok(by_name)
}

/// `SERVER__TOOL` in the characters every dialect takes. A longer name keeps its beginning and gets an end that depends
/// on the whole.
fn safe_name(server: &str, tool: &str) -> String {
    let full = format!("{server}__{tool}");
    let safe: String =
        full.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect();
    if safe.len() <= MAX_NAME_CHARS {
        return safe;
    }
    let hash = hex(ring::digest::digest(&SHA256, full.as_bytes()).as_ref());
    format!("{}_{}", &safe[..MAX_NAME_CHARS - N_HASH_CHARS - 1], &hash[..N_HASH_CHARS])
}

/// SHA-256 over names, descriptions and schemas, in hexadecimal. It does not depend on the order of tools or of keys.
pub(super) fn fingerprint(tools: &[McpTool]) -> String {
    let mut told: Vec<String> = tools.iter().map(McpTool::told).collect();
    told.sort();
    let mut context = Context::new(&SHA256);
    for line in told {
        context.update(line.as_bytes());
        context.update(b"\n");
    }
    hex(context.finish().as_ref())
}

/// What is different now, in words; nothing where a model would be told the same.
pub(super) fn difference(old: &[McpTool], new: &[McpTool]) -> Option<String> {
    let find = |tools: &[McpTool], name: &str| tools.iter().find(|tool| tool.name == name).map(McpTool::told);
    let mut words = Vec::new();
    for tool in old {
        match find(new, &tool.name) {
            None => words.push(format!("{} is gone", tool.remote)),
            Some(told) if told != tool.told() => words.push(format!("{} is described otherwise", tool.remote)),
            Some(_) => {}
        }
    }
    words.extend(new.iter().filter(|t| find(old, &t.name).is_none()).map(|t| format!("{} is new", t.remote)));
    let n_words = words.len();
    words.truncate(5);
    if n_words > words.len() {
        words.push(format!("and {} more", n_words - words.len()));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: &str) -> Vec<Tool> {
        serde_json::from_str(json).unwrap()
    }

    fn two() -> Vec<McpTool> {
        let json = r#"[{"name": "b", "description": "B", "inputSchema": {"type": "object", "properties": {}}},
            {"name": "a/c", "inputSchema": {"properties": {}, "type": "object"}}]"#;
        offered("my srv", listed(json), &McpSettings::default()).unwrap()
    }

    #[test]
    fn names_are_safe_and_long_ones_stay_apart() {
        let tools = two();
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["my_srv__a_c", "my_srv__b"]);
        let (a, b) = (safe_name("s", &format!("{}a", "x".repeat(80))), safe_name("s", &format!("{}b", "x".repeat(80))));
        assert_eq!((a.len(), b.len()), (64, 64));
        assert_ne!(a, b);
        assert_eq!(safe_name("zeit", "Überblick"), "zeit___berblick");
    }

    #[test]
    fn equal_names_are_an_error_of_one_server_or_two() {
        let json = r#"[{"name": "a.b", "inputSchema": {}}, {"name": "a_b", "inputSchema": {}}]"#;
        let error = offered("s", listed(json), &McpSettings::default()).unwrap_err().to_string();
        assert!(error.contains("a.b of s and a_b of s would both be offered as s__a_b"), "{error}");
        let one = r#"[{"name": "a", "inputSchema": {}}]"#;
        let settings = McpSettings::default();
        let mut all = offered("s!", listed(one), &settings).unwrap();
        all.extend(offered("s?", listed(one), &settings).unwrap());
        assert!(matches!(by_name(&all), Err(McpError::SameName { .. })));
    }

    #[test]
    fn what_is_not_offered_is_not_looked_at() {
        let json = r#"[{"name": "bad", "inputSchema": {"type": 3}}, {"name": "good", "inputSchema": {}}]"#;
        let error = offered("s", listed(json), &McpSettings::default()).unwrap_err().to_string();
        assert!(error.contains("the tool bad of the MCP server s cannot be offered"), "{error}");
        let settings = McpSettings { offer: vec!["s__good".to_owned()], ..McpSettings::default() };
        assert_eq!(offered("s", listed(json), &settings).unwrap().len(), 1);
        let settings = McpSettings { max_tool_bytes: 5, ..settings };
        assert!(offered("s", listed(json), &settings).unwrap_err().to_string().contains("at most 5"));
    }

    #[test]
    fn a_fingerprint_is_of_what_a_model_is_told() {
        let (old, mut new) = (two(), two());
        new.reverse();
        new[0].schema = serde_json::json!({"properties": {}, "type": "object"});
        assert_eq!(fingerprint(&old), fingerprint(&new));
        assert_eq!(difference(&old, &new), None);
        new[0].description.push('!');
        assert_ne!(fingerprint(&old), fingerprint(&new));
        assert_eq!(difference(&old, &new).unwrap(), "b is described otherwise");
        new[0].name = "my_srv__d".to_owned();
        new[0].remote = "d".to_owned();
        assert_eq!(difference(&old, &new).unwrap(), "b is gone, d is new");
        assert_eq!(difference(&old, &[]).unwrap(), "a/c is gone, b is gone");
    }
}
