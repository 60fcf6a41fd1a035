//! Which servers are there, and how are they reached? The `mcpServers` file that other clients read, too.
//!
//! `{"mcpServers": {NAME: {"command", "args", "env", "cwd"} | {"url", "headers"}}}`, each with an optional `"type"`
//! (`stdio` or `http`, also written `streamable-http`). `${VAR}` in the values of `env` and `headers` stands for our own
//! environment's variable, so that a key need not be written down; such values never appear in a message.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::McpError;

/// Bytes of a file of servers, at most.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Shorter values are no secrets, and hiding them would make messages unreadable.
const MIN_SECRET_CHARS: usize = 6;

/// The servers of one file.
#[derive(Clone, Default)]
pub struct McpFile {
    /// By name.
    pub servers: BTreeMap<String, ServerPlan>,
    /// Values that came from our environment: hidden wherever a message might quote them.
    pub(super) secrets: Vec<String>,
}

/// How one server is reached.
#[derive(Clone, PartialEq)]
pub enum ServerPlan {
    /// A program that is started and spoken to over its standard input and output.
    Stdio {
        /// A path, or a name that is looked up in `PATH`.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables it gets besides `PATH`, `LANG` and a private `HOME`.
        env: BTreeMap<String, String>,
        /// Where it runs; its private `HOME` where none is given.
        cwd: Option<PathBuf>,
    },
    /// A server that runs somewhere, spoken to by streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Sent with every request.
        headers: BTreeMap<String, String>,
    },
}

impl std::fmt::Debug for McpFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.servers).finish()
    }
}

/// Values of variables and headers may be keys: only their names are shown.
impl std::fmt::Debug for ServerPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServerPlan::Stdio { command, args, env, cwd } => {
                let env: Vec<&String> = env.keys().collect();
                write!(f, "Stdio {{ command: {command:?}, args: {args:?}, env: {env:?}, cwd: {cwd:?} }}")
            }
            ServerPlan::Http { headers, .. } => {
                let headers: Vec<&String> = headers.keys().collect();
                write!(f, "Http {{ url: {:?}, headers: {headers:?} }}", self.address())
            }
        }
    }
}

impl ServerPlan {
    /// What answers, for messages and for keys of a cache: the command line, or the address without what may be secret in
    /// it.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            ServerPlan::Stdio { command, args, .. } => {
                std::iter::once(command).chain(args).map(String::as_str).collect::<Vec<_>>().join(" ")
            }
            ServerPlan::Http { url, .. } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                format!("{scheme}://{host}{path}")
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<String, WrittenServer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenServer {
    r#type: Option<String>,
    command: Option<String>,
    args: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
    cwd: Option<PathBuf>,
    url: Option<String>,
    headers: Option<BTreeMap<String, String>>,
}

impl McpFile {
    /// Reads a file; variables are those of this process.
    pub fn read(path: &Path) -> Result<McpFile, McpError> {
        let read_error = |source| McpError::Read { path: path.to_owned(), source };
        let n_bytes = std::fs::metadata(path).map_err(read_error)?.len();
        if n_bytes > MAX_FILE_BYTES {
            let reason = format!("{n_bytes} bytes; a file of servers has at most {MAX_FILE_BYTES}");
            return Err(McpError::File { path: path.to_owned(), reason });
        }
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        McpFile::parse(&text, |name| std::env::var(name).ok())
            .map_err(|reason| McpError::File { path: path.to_owned(), reason })
    }

    /// Reads the text of such a file, with the variables `lookup` knows. The error says which key is wrong.
    pub fn parse(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<McpFile, String> {
        let written: Written = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let mut file = McpFile::default();
        for (name, server) in written.servers {
            let at = format!("mcpServers.{name}");
            if name.is_empty() {
                return Err("mcpServers: a server needs a name".to_owned());
            }
            let plan = file.plan(&at, server, &lookup)?;
            file.servers.insert(name, plan);
        }
        if file.servers.is_empty() {
            return Err("mcpServers names no server".to_owned());
        }
        Ok(file)
    }

    fn plan(
        &mut self,
        at: &str,
        server: WrittenServer,
        lookup: &impl Fn(&str) -> Option<String>,
    ) -> Result<ServerPlan, String> {
        let WrittenServer { r#type, command, args, env, cwd, url, headers } = server;
        let kind = r#type.as_deref();
        let refuse = |key: &str, other: &str| Err(format!("{at}.{key} means nothing for a server with {other}"));
        match (command, url) {
            (Some(command), None) => {
                if headers.is_some() {
                    return refuse("headers", "a command");
                }
                if !matches!(kind, None | Some("stdio")) {
                    return Err(format!("{at}.type must be \"stdio\" for a server with a command"));
                }
                if command.is_empty() || command.contains('\0') {
                    return Err(format!("{at}.command must name a program"));
                }
                let args = args.unwrap_or_default();
                if args.iter().any(|arg| arg.contains('\0')) {
                    return Err(format!("{at}.args: no argument can hold a NUL"));
                }
                let env = self.expand(&format!("{at}.env"), env.unwrap_or_default(), lookup)?;
                if let Some((name, _)) = env
                    .iter()
                    .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
                {
                    return Err(format!("{at}.env.{name}: this cannot be a variable"));
                }
                Ok(ServerPlan::Stdio { command, args, env, cwd })
            }
            (None, Some(url)) => {
                for (key, is_there) in [("args", args.is_some()), ("env", env.is_some()), ("cwd", cwd.is_some())] {
                    if is_there {
                        return refuse(key, "a url");
                    }
                }
                if !matches!(kind, None | Some("http" | "streamable-http")) {
                    let rule = "must be \"http\": streamable HTTP is what can be spoken here";
                    return Err(format!("{at}.type {rule}"));
                }
                let parsed = reqwest::Url::parse(&url).map_err(|e| format!("{at}.url: {e}"))?;
                if !matches!(parsed.scheme(), "http" | "https") {
                    return Err(format!("{at}.url must begin with http:// or https://"));
                }
                let headers = self.expand(&format!("{at}.headers"), headers.unwrap_or_default(), lookup)?;
                Ok(ServerPlan::Http { url, headers })
            }
            (None, None) => Err(format!("{at} needs a command or a url")),
            (Some(_), Some(_)) => Err(format!("{at} has a command and a url: it can be only one of them")),
        }
    }

    /// Puts variables in the place of `${VAR}`.
    fn expand(
        &mut self,
        at: &str,
        values: BTreeMap<String, String>,
        lookup: &impl Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut expanded = BTreeMap::new();
        for (key, value) in values {
            let (mut text, mut rest) = (String::new(), value.as_str());
            while let Some((before, after)) = rest.split_once("${") {
                let Some((name, behind)) = after.split_once('}') else {
                    return Err(format!("{at}.{key}: a `${{` is not closed by a `}}`"));
                };
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || !name.chars().all(is_name) {
                    return Err(format!("{at}.{key}: `${{{name}}}` is not the name of a variable"));
                }
                let Some(found) = lookup(name) else {
                    return Err(format!("{at}.{key} needs the environment variable {name}, which is not set"));
                };
                text.push_str(before);
                text.push_str(&found);
                if found.chars().count() >= MIN_SECRET_CHARS {
                    self.secrets.push(found);
                }
                rest = behind;
            }
            text.push_str(rest);
            expanded.insert(key, text);
        }
        // The longest first, so that hiding one does not leave a part of another.
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(expanded)
    }

    /// `text` without the values that came from our environment.
    pub(super) fn hide(secrets: &[String], text: &str) -> String {
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<McpFile, String> {
        let lookup = |name: &str| match name {
            "KEY" => Some("s3cret-value".to_owned()),
            "SHORT" => Some("1".to_owned()),
            _ => None,
        };
        McpFile::parse(text, lookup)
    }

    #[test]
    fn both_kinds_are_read_and_variables_put_in() {
        let text = r#"{"mcpServers": {
            "time": {"command": "mcp-server-time", "args": ["--local-timezone", "${KEY}"],
                     "env": {"A": "x${KEY}y${SHORT}", "B": "$KEY"}, "cwd": "/tmp"},
            "web": {"type": "http", "url": "https://u:p@host.example:8/mcp?key=1",
                    "headers": {"Authorization": "Bearer ${KEY}"}}}}"#;
        let file = parse(text).unwrap();
        let ServerPlan::Stdio { args, env, cwd, .. } = &file.servers["time"] else { panic!("it has a command") };
        assert_eq!(args[1], "${KEY}", "only variables and headers are filled in");
        assert_eq!((env["A"].as_str(), env["B"].as_str()), ("xs3cret-valuey1", "$KEY"));
        assert_eq!(cwd.as_deref(), Some(Path::new("/tmp")));
        let ServerPlan::Http { headers, .. } = &file.servers["web"] else { panic!("it has a url") };
        assert_eq!(headers["Authorization"], "Bearer s3cret-value");
        assert_eq!(file.servers["web"].address(), "https://host.example:8/mcp");
        let shown = format!("{file:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("key=1") && !shown.contains("u:p"), "{shown}");
        assert_eq!(McpFile::hide(&file.secrets, "it said s3cret-value and 1"), "it said *** and 1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(expected), "{text}\n{reason}");
        };
        check("[]", "expected struct");
        check("{}", "mcpServers");
        check(r#"{"mcpServers": {}}"#, "names no server");
        check(r#"{"mcpServers": {"": {"command": "a"}}}"#, "needs a name");
        check(r#"{"mcpServers": {"a": {}}}"#, "mcpServers.a needs a command or a url");
        check(r#"{"mcpServers": {"a": {"command": "x", "url": "http://x"}}}"#, "only one");
        check(r#"{"mcpServers": {"a": {"command": "x", "disabled": true}}}"#, "unknown field `disabled`");
        check(r#"{"mcpServers": {"a": {"command": "x", "headers": {}}}}"#, "mcpServers.a.headers means nothing");
        check(r#"{"mcpServers": {"a": {"url": "http://x", "env": {}}}}"#, "mcpServers.a.env means nothing");
        check(r#"{"mcpServers": {"a": {"url": "http://x", "type": "sse"}}}"#, "streamable HTTP");
        check(r#"{"mcpServers": {"a": {"url": "file:///etc"}}}"#, "http:// or https://");
        check(r#"{"mcpServers": {"a": {"url": "not an address"}}}"#, "mcpServers.a.url");
        check(r#"{"mcpServers": {"a": {"command": "x", "env": {"K": "${NOT_THERE}"}}}}"#, "variable NOT_THERE");
        check(r#"{"mcpServers": {"a": {"command": "x", "env": {"K": "${KEY"}}}}"#, "not closed");
        check(r#"{"mcpServers": {"a": {"command": "x", "env": {"K": "${a:-b}"}}}}"#, "not the name");
        check(r#"{"mcpServers": {"a": {"command": "x", "env": {"A=B": "1"}}}}"#, "cannot be a variable");
        check(r#"{"mcpServers": {"a": {"command": "x", "args": ["\u0000"]}}}"#, "NUL");
    }
}
