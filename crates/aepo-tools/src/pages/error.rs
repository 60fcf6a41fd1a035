//! Why is there no page? Most of it is an answer of the world, which the model may read; little of it is our own trouble.

use aepo::tool::ToolOutcome;

use super::address::NotPublic;

/// Why an address could not be read. Names and addresses in the fields are those of the page, made short and printable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PageError {
    /// It is none.
    #[error("`{written}` is no address of a page: {why}; write a whole one, for example https://example.org/page")]
    Address {
        /// What was asked for.
        written: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It leads into a network that is nobody's business.
    #[error("{host} is {what}, and pages are read from the public internet alone")]
    NotPublic {
        /// The host as written.
        host: String,
        /// What its address is.
        what: NotPublic,
    },
    /// It names a port that no page of the public web has.
    #[error("port {port} of {host} is not read; pages have ports 80 and 443")]
    Port {
        /// The host as written.
        host: String,
        /// The port.
        port: u16,
    },
    /// Nobody knows the host.
    #[error("there is no host {host}")]
    NoHost {
        /// The host as written.
        host: String,
    },
    /// The host could not be looked up, and it cannot be told whether that is its fault: our own, to be careful.
    #[error("looking up {host}: {reason}")]
    Lookup {
        /// The host as written.
        host: String,
        /// The system's words.
        reason: String,
    },
    /// This machine has no way out.
    #[error("no network on the way to {host}: {reason}")]
    NoNetwork {
        /// The host as written.
        host: String,
        /// The system's words.
        reason: String,
    },
    /// The host does not answer, or not in HTTP.
    #[error("{host} does not answer: {reason}")]
    NoAnswer {
        /// The host as written.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The host was too slow.
    #[error("{host} was too slow: {step} took longer than {secs} s")]
    Slow {
        /// The host as written.
        host: String,
        /// What took so long.
        step: &'static str,
        /// How long it may take, seconds.
        secs: f64,
    },
    /// The time of the call is over.
    #[error("the page was not read in time")]
    Deadline,
    /// It leads on and on.
    #[error("the page leads on to other addresses more than {max} times")]
    Redirects {
        /// The bound.
        max: usize,
    },
    /// It leads back to where it came from.
    #[error("the page leads on in a circle, by {address}")]
    Circle {
        /// An address of the circle.
        address: String,
    },
    /// The server says no.
    #[error("{host} answered with HTTP status {status}{}", reason(*.status))]
    Status {
        /// The host as written.
        host: String,
        /// The status.
        status: u16,
    },
    /// It is compressed in a way that was not asked for.
    #[error("the page is encoded as `{encoding}`, which is not read")]
    Encoding {
        /// The name of the encoding.
        encoding: String,
    },
    /// It is no text.
    #[error("this is no page of text but {found}; HTML, plain text, Markdown, JSON and XML are read")]
    NoText {
        /// Its content type, or what it looks like.
        found: String,
    },
    /// It broke off or is damaged.
    #[error("the page of {host} broke off or is damaged: {reason}")]
    Broken {
        /// The host as written.
        host: String,
        /// What happened.
        reason: String,
    },
    /// Whoever was to read the page for the model did not.
    #[error("no summary: {reason}")]
    Summary {
        /// What happened.
        reason: String,
    },
}

impl PageError {
    /// How the call ended. A host that is dead, slow, wrong or forbidden is a fact of the world that the model chose to
    /// ask about. That this machine has no network, no resolver or no model for summaries is not.
    #[must_use]
    pub fn outcome(&self) -> ToolOutcome {
        match self {
            PageError::Lookup { .. } | PageError::NoNetwork { .. } | PageError::Summary { .. } => {
                ToolOutcome::Unavailable
            }
            PageError::Deadline => ToolOutcome::Timeout,
            PageError::Address { .. }
            | PageError::NotPublic { .. }
            | PageError::Port { .. }
            | PageError::NoHost { .. }
            | PageError::NoAnswer { .. }
            | PageError::Slow { .. }
            | PageError::Redirects { .. }
            | PageError::Circle { .. }
            | PageError::Status { .. }
            | PageError::Encoding { .. }
            | PageError::NoText { .. }
            | PageError::Broken { .. } => ToolOutcome::Raised,
        }
    }
}

/// A setting with which no page can be read.
#[derive(Debug, thiserror::Error)]
pub enum PageSettingsError {
    /// A number outside its bounds.
    #[error("{name} = {value}: {rule}")]
    Number {
        /// The field's name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A host that cannot be one.
    #[error("allow_hosts holds `{written}`: write `host`, `host:port`, `[IPv6 address]` or `[IPv6 address]:port`")]
    Host {
        /// What was given.
        written: String,
    },
    /// Certificates that cannot be read, no key in the environment, or an address of no model.
    #[error(transparent)]
    Http(#[from] crate::http::HttpError),
}

/// A few words for the statuses that models meet (RFC 9110).
fn reason(status: u16) -> &'static str {
    match status {
        400 => " (bad request)",
        401 => " (it wants a login)",
        403 => " (forbidden)",
        404 => " (there is no such page)",
        410 => " (the page is gone)",
        429 => " (too many requests)",
        451 => " (withheld for legal reasons)",
        500 => " (an error of the server)",
        502..=504 => " (the server is not available)",
        _ => "",
    }
}

/// Somebody else's words for a message of ours: short, and without anything that moves a cursor.
pub(super) fn clean(text: &str) -> String {
    const MAX: usize = 200;
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(MAX).collect();
    if text.chars().nth(MAX).is_some() {
        shown.push('…');
    }
    shown
}
