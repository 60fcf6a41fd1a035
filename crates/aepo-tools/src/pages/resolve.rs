//! To which addresses may a connection go? Every connection passes here: a name is looked up once, every address found
//! is judged, and exactly those are connected to. A name that resolves differently a moment later changes nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::address::not_public;
use super::error::{PageError, clean};
use super::target::AllowedHost;

/// Lookups that may hang at once. The system's resolver cannot be stopped, so those given up go on in their threads.
const MAX_HANGING: usize = 64;

/// How a name becomes addresses: [`system`], or a table in tests.
pub type Lookup = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The resolver of the operating system.
#[must_use]
pub fn system() -> Lookup {
    Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

/// Looks up and judges.
pub(super) struct Checked {
    pub(super) lookup: Lookup,
    pub(super) allowed: Vec<AllowedHost>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl Resolver for Checked {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let other = |error: PageError| ureq::Error::Other(Box::new(error));
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let found = match literal {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => self.look_up(host, port, timeout)?,
        };
        judge(host, port, literal.is_some(), &found, &self.allowed).map_err(other)?;
        let mut addresses = self.empty();
        // ureq tries them in turn; it holds no more than 16.
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        match addresses.is_empty() {
            true => Err(other(PageError::NoHost { host: clean(host) })),
            false => Ok(addresses),
        }
    }
}

/// Threads inside the system's resolver.
static N_LOOKUPS: AtomicUsize = AtomicUsize::new(0);

impl Checked {
    fn look_up(&self, host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
        let other = |error: PageError| ureq::Error::Other(Box::new(error));
        let failed = |reason: String| other(PageError::Lookup { host: clean(host), reason });
        if N_LOOKUPS.fetch_add(1, Ordering::AcqRel) >= MAX_HANGING {
            N_LOOKUPS.fetch_sub(1, Ordering::AcqRel);
            return Err(failed(format!("{MAX_HANGING} lookups hang already")));
        }
        let (found, answer) = sync_channel(1);
        let (lookup, name) = (Arc::clone(&self.lookup), host.to_owned());
        let thread = std::thread::Builder::new().name("aepo-lookup".to_owned()).spawn(move || {
            let addresses = lookup(&name, port);
            N_LOOKUPS.fetch_sub(1, Ordering::AcqRel);
            // Nobody waits any more when it took too long.
            let _ = found.send(addresses);
        });
        if let Err(e) = thread {
            N_LOOKUPS.fetch_sub(1, Ordering::AcqRel);
            return Err(failed(e.to_string()));
        }
        match answer.recv_timeout(*timeout.after) {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(e)) if is_unknown(&e) => Err(other(PageError::NoHost { host: clean(host) })),
            Ok(Err(e)) => Err(failed(clean(&e.to_string()))),
            Err(RecvTimeoutError::Timeout) => Err(ureq::Error::Timeout(timeout.reason)),
            Err(RecvTimeoutError::Disconnected) => Err(failed("the resolver died".to_owned())),
        }
    }
}

/// Whether the resolver knows that there is no such host. The standard library passes on the C library's words alone
/// (`EAI_NONAME`, `EAI_NODATA` of glibc, musl and macOS). Every other failure may be that of our own resolver; a host
/// whose name servers are dead looks the same from here, and counts as that.
fn is_unknown(error: &io::Error) -> bool {
    let words = error.to_string();
    ["not known", "does not resolve", "No address associated", "has no usable address"]
        .iter()
        .any(|w| words.contains(w))
}

/// Refuses a host with any address that is not public, unless it is allowed. One bad address is enough: a name with a
/// public and a private one is a trick.
fn judge(
    host: &str,
    port: u16,
    is_literal: bool,
    found: &[SocketAddr],
    allowed: &[AllowedHost],
) -> Result<(), PageError> {
    let is_allowed = allowed.iter().any(|a| a.is(host, port));
    for address in found {
        if let Some(what) = not_public(address.ip())
            && !(is_allowed && (is_literal || what.may_be_named()))
        {
            return Err(PageError::NotPublic { host: clean(host), what });
        }
        if address.port() != port {
            return Err(PageError::Port { host: clean(host), port: address.port() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::address::NotPublic;
    use super::*;

    #[test]
    fn one_bad_address_among_good_ones_is_enough_and_names_reach_no_metadata() {
        let allowed = [AllowedHost::parse("intranet").unwrap(), AllowedHost::parse("169.254.169.254").unwrap()];
        let check = |host: &str, addresses: &[&str]| {
            let found: Vec<SocketAddr> = addresses.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 80)).collect();
            judge(host, 80, host.parse::<IpAddr>().is_ok(), &found, &allowed).err().map(|error| match error {
                PageError::NotPublic { what, .. } => what,
                other => panic!("{other}"),
            })
        };
        assert_eq!(check("a.example", &["8.8.8.8", "2606:4700::1"]), None);
        assert_eq!(check("a.example", &["8.8.8.8", "10.0.0.1"]), Some(NotPublic::Private));
        assert_eq!(check("a.example", &["8.8.8.8", "::1"]), Some(NotPublic::Loopback));
        assert_eq!(check("intranet", &["10.0.0.1", "127.0.0.1"]), None);
        assert_eq!(check("intranet", &["169.254.169.254"]), Some(NotPublic::Metadata));
        assert_eq!(check("intranet", &["fe80::1"]), Some(NotPublic::LinkLocal));
        assert_eq!(check("169.254.169.254", &["169.254.169.254"]), None);
    }
}
