//! Do pages come from where they may, as what they are, and within bounds? Against a server that plays strangers.

mod hostile;
mod reading;
mod server;
mod tool;

use std::time::{Duration, Instant};

use aepo_tools::pages::{AllowedHost, Page, PageError, PageSettings, Pages, system};

use server::Server;

/// Limits that are short for tests, and the server allowed by its address and port.
fn settings(server: &Server) -> PageSettings {
    PageSettings {
        allow_hosts: vec![AllowedHost::parse(&server.host).unwrap()],
        first_byte_secs: 1.0,
        page_secs: 20.0,
        max_wire_bytes: 1 << 20,
        max_page_bytes: 4 << 20,
        ..PageSettings::default()
    }
}

/// A deadline that none of the tests is meant to reach.
fn late() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn read(server: &Server, path: &str) -> Result<Page, PageError> {
    Pages::new(settings(server), system()).unwrap().read(&server.url(path), late())
}
