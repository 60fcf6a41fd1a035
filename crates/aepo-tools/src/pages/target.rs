//! Is this an address of a page? Read as browsers read it (the WHATWG URL standard), so that an odd spelling of an
//! address is the address it stands for, and no two parts of the program understand one differently.

use url::{Host, Url};

use super::error::{PageError, PageSettingsError, clean};

/// No address is longer, bytes. Servers and browsers stop long before.
const MAX_BYTES: usize = 8192;

/// A host that the settings allow although it is private, or at a port that others may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// A name, an IPv4 address, or an IPv6 address in brackets; lower case, without a dot at its end.
    pub host: String,
    /// This port alone; `None` stands for 80 and 443.
    pub port: Option<u16>,
}

impl AllowedHost {
    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
    pub fn parse(written: &str) -> Result<AllowedHost, PageSettingsError> {
        let bad = || PageSettingsError::Host { written: clean(written) };
        let url = Url::parse(&format!("http://{written}/")).map_err(|_| bad())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        let host = url.host_str().filter(|_| plain && url.query().is_none() && url.fragment().is_none());
        let host = bare(host.ok_or_else(bad)?);
        let has_port = written.strip_prefix('[').map_or(written, |rest| rest.split_once(']').map_or("", |(_, r)| r));
        let port = has_port.contains(':').then(|| url.port_or_known_default()).flatten();
        Ok(AllowedHost { host, port })
    }

    /// Whether it stands for this host at this port.
    #[must_use]
    pub fn is(&self, host: &str, port: u16) -> bool {
        self.host == bare(host) && self.port.map_or(matches!(port, 80 | 443), |only| only == port)
    }
}

/// A host's name without the dot of the root.
fn bare(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Reads the address that was asked for, or that another page leads to (`base`). What it resolves to is checked later.
pub(super) fn target(written: &str, base: Option<&Url>, allowed: &[AllowedHost]) -> Result<Url, PageError> {
    let no = |why: &'static str| PageError::Address { written: clean(written), why };
    let written = written.trim();
    if written.is_empty() {
        return Err(no("there is nothing"));
    }
    if written.len() > MAX_BYTES {
        return Err(no("it is too long"));
    }
    // The standard drops line ends and tabs inside an address, which nobody means.
    if written.chars().any(char::is_control) || written.contains(' ') && base.is_none() {
        return Err(no("there are spaces or control characters in it"));
    }
    let parsed = match base {
        Some(base) => base.join(written),
        None => Url::parse(written),
    };
    let mut url = parsed.map_err(|e| no(what_is_wrong(e)))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(no("only http and https are read"));
    }
    // A name before an `@` is there to look like the host, or is a secret in a place that is logged everywhere.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(no("there is a user name or a password in it"));
    }
    url.set_fragment(None);
    let host = url.host_str().unwrap_or_default().to_owned();
    if let Some(Host::Domain(name)) = url.host()
        && !is_name(name)
    {
        return Err(no("its host is no name"));
    }
    let port = url.port_or_known_default().unwrap_or(0);
    if !matches!(port, 80 | 443) && !allowed.iter().any(|a| a.is(&host, port)) {
        return Err(PageError::Port { host: clean(&host), port });
    }
    Ok(url)
}

/// Whether a resolver can be asked for it (RFC 1035, with the underscore that some hosts have).
fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn what_is_wrong(error: url::ParseError) -> &'static str {
    match error {
        url::ParseError::RelativeUrlWithoutBase => "it does not begin with http:// or https://",
        url::ParseError::EmptyHost => "there is no host in it",
        url::ParseError::InvalidPort => "its port is no number below 65536",
        url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address => "its host is a broken IP address",
        url::ParseError::IdnaError | url::ParseError::InvalidDomainCharacter => "its host is no name",
        _ => "it cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> Result<String, PageError> {
        target(written, None, &[]).map(|url| url.to_string())
    }

    #[test]
    fn addresses_are_read_as_browsers_read_them() {
        for (written, read_as) in [
            ("https://example.org", "https://example.org/"),
            ("  HTTP://Example.ORG/A?b=c#part \n", "http://example.org/A?b=c"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            ("http://example.org\\@evil.example/", "http://example.org/@evil.example/"),
            ("http://0x7f.1/", "http://127.0.0.1/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://0177.0.0.1/", "http://127.0.0.1/"),
            ("http://127.1/", "http://127.0.0.1/"),
            ("http://%31%32%37.0.0.1/", "http://127.0.0.1/"),
            ("http://１２７.0.0.1/", "http://127.0.0.1/"),
            ("http://[0:0::1]/", "http://[::1]/"),
            ("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
            ("https:example.org", "https://example.org/"),
        ] {
            assert_eq!(read(written).as_deref(), Ok(read_as), "{written}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_page_is_refused_with_the_reason() {
        for (written, why) in [
            ("", "there is nothing"),
            ("example.org/page", "it does not begin with http:// or https://"),
            ("file:///etc/passwd", "only http and https are read"),
            ("ftp://example.org/", "only http and https are read"),
            ("javascript:alert(1)", "only http and https are read"),
            ("data:text/html,x", "only http and https are read"),
            ("gopher://example.org/", "only http and https are read"),
            ("http://", "there is no host in it"),
            ("http://user@example.org/", "there is a user name or a password in it"),
            ("http://example.org:80@127.0.0.1/", "there is a user name or a password in it"),
            ("http://:x@example.org/", "there is a user name or a password in it"),
            ("http://exa mple.org/", "there are spaces or control characters in it"),
            ("http://exam\nple.org/", "there are spaces or control characters in it"),
            ("http://example.org:99999/", "its port is no number below 65536"),
            ("http://1.2.3.256/", "its host is a broken IP address"),
            ("http://[::1", "its host is a broken IP address"),
            ("http://[fe80::1%25eth0]/", "its host is a broken IP address"),
            ("http://a..b/", "its host is no name"),
            ("http://exa$mple.org/", "its host is no name"),
        ] {
            match read(written) {
                Err(PageError::Address { why: found, .. }) => assert_eq!(found, why, "{written}"),
                other => panic!("{written}: {other:?}"),
            }
        }
        assert!(read(&format!("http://example.org/{}", "a".repeat(MAX_BYTES))).is_err());
        assert!(read(&format!("http://{}/", "a".repeat(64))).is_err());
    }

    #[test]
    fn other_ports_must_be_allowed_for_their_host() {
        assert!(read("http://example.org:443/").is_ok() && read("https://example.org:80/").is_ok());
        for written in ["http://example.org:22/", "https://example.org:8443/", "http://example.org:0/"] {
            assert!(matches!(read(written), Err(PageError::Port { .. })), "{written}");
        }
        let allowed = [AllowedHost::parse("Example.org:8080").unwrap(), AllowedHost::parse("[::1]:81").unwrap()];
        for (written, may) in [
            ("http://example.org:8080/", true),
            ("http://example.org.:8080/", true),
            ("http://example.org:8081/", false),
            ("http://www.example.org:8080/", false),
            ("http://[::1]:81/", true),
            ("http://[::1]:82/", false),
        ] {
            assert_eq!(target(written, None, &allowed).is_ok(), may, "{written}");
        }
    }

    #[test]
    fn allowed_hosts_are_names_and_ports_and_nothing_more() {
        let port = |written: &str| AllowedHost::parse(written).unwrap().port;
        assert_eq!(
            (port("a.example"), port("a.example:80"), port("[::1]"), port("[::1]:99")),
            (None, Some(80), None, Some(99))
        );
        assert_eq!(AllowedHost::parse("Intranet.").unwrap().host, "intranet");
        for written in ["", "http://a", "a/b", "u@a", "a?b", "a#b", "a:b", "a b", ":80"] {
            assert!(AllowedHost::parse(written).is_err(), "{written}");
        }
    }

    #[test]
    fn a_page_leads_to_addresses_of_its_own_host_and_of_others() {
        let base = target("https://a.example/x/y?z", None, &[]).unwrap();
        for (written, read_as) in [
            ("w", "https://a.example/x/w"),
            ("/w", "https://a.example/w"),
            ("//b.example/w", "https://b.example/w"),
            ("?q", "https://a.example/x/y?q"),
            ("http://b.example/a b", "http://b.example/a%20b"),
        ] {
            assert_eq!(target(written, Some(&base), &[]).unwrap().as_str(), read_as, "{written}");
        }
        for written in
            ["file:///etc/passwd", "ftp://b.example/", "//user@b.example/", "http://b.example:25/", "data:,x"]
        {
            assert!(target(written, Some(&base), &[]).is_err(), "{written}");
        }
    }
}
