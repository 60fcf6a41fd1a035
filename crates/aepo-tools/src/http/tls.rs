//! Whom does a connection trust, and how is its address read? Shared by everything that speaks HTTP through `ureq`.

use std::path::Path;

use ureq::tls::RootCerts;

use super::HttpError;

/// The usual certificates, or those of a file in PEM.
pub(crate) fn roots(certificates: Option<&Path>) -> Result<RootCerts, HttpError> {
    let Some(path) = certificates else { return Ok(RootCerts::WebPki) };
    let error = |why: String| HttpError::Certificates { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|e| error(e.to_string()))?;
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(&bytes) {
        if let Ok(ureq::tls::PemItem::Certificate(certificate)) = item {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(error("it holds no certificate".to_owned())),
        false => Ok(RootCerts::new_with_certs(&found)),
    }
}

/// What happened, without the address, which may hold a signature.
pub(crate) fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "nothing came for too long".to_owned(),
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::BadUri(_) => "not an address".to_owned(),
        other => other.to_string(),
    }
}

/// `scheme://host:port` of an address of http or https without a user name in it.
#[must_use]
pub fn origin(url: &str) -> Option<&str> {
    let behind = ["http://", "https://"]
        .iter()
        .find(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    let behind = behind.len();
    let end = url[behind..].find(['/', '?', '#']).map_or(url.len(), |at| behind + at);
    let authority = &url[behind..end];
    // A port that is none would be left out by those who read addresses kindly.
    let port = authority.rsplit(']').next().unwrap_or_default().split_once(':').map(|(_, port)| port);
    let good = port.is_none_or(|port| port.parse::<u16>().is_ok());
    (end > behind && good && !authority.contains('@')).then(|| &url[..end])
}

/// Whether an address names this machine, where no proxy of the environment is asked.
pub(crate) fn is_here(url: &str) -> bool {
    let Some(origin) = origin(url) else { return false };
    let host = origin.split("://").nth(1).unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("http://a:80/b?c"), Some("http://a:80"));
        assert_eq!(origin("HTTPS://a?c"), Some("HTTPS://a"));
        for bad in
            ["", "a", "ftp://a", "http://", "http:///x", "https://key@a/", "é", "http:", "http://a:99999", "http://a:"]
        {
            assert_eq!(origin(bad), None, "{bad}");
        }
        for (url, here) in [
            ("http://127.0.0.1:8000/x", true),
            ("http://LocalHost/x", true),
            ("http://[::1]:8000", true),
            ("http://127.0.0.1.example/x", false),
            ("https://example.org", false),
        ] {
            assert_eq!(is_here(url), here, "{url}");
        }
    }
}
