//! Which network addresses may a page come from? Those of the public internet, and no other.
//!
//! The ranges are those of the IANA registries of special-purpose addresses (RFC 6890 and its successors). An IPv6
//! address that carries an IPv4 address is as good as the one it carries.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is none of the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPublic {
    /// This machine.
    Loopback,
    /// No machine: 0.0.0.0 and its network, `::`.
    Unspecified,
    /// A network of one's own (RFC 1918, RFC 4193).
    Private,
    /// The network behind a carrier's address translation (RFC 6598).
    Shared,
    /// The same cable (RFC 3927, fe80::/10).
    LinkLocal,
    /// Where machines of a cloud learn about themselves, their credentials included.
    Metadata,
    /// Many machines at once.
    Multicast,
    /// Set aside for documents, measurements, tunnels or the future.
    Reserved,
}

impl NotPublic {
    /// Whether a host that the settings allow by name may resolve to it. Others must be allowed as the address itself:
    /// no name in a list of hosts is meant to reach the metadata of the machine.
    #[must_use]
    pub fn may_be_named(self) -> bool {
        matches!(self, NotPublic::Loopback | NotPublic::Private | NotPublic::Shared)
    }
}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotPublic::Loopback => "a loopback address",
            NotPublic::Unspecified => "an unspecified address",
            NotPublic::Private => "an address of a private network",
            NotPublic::Shared => "an address of a carrier's network",
            NotPublic::LinkLocal => "a link-local address",
            NotPublic::Metadata => "a metadata address",
            NotPublic::Multicast => "a multicast address",
            NotPublic::Reserved => "a reserved address",
        })
    }
}

/// What is wrong with an address; `None` for one of the public internet.
#[must_use]
pub fn not_public(address: IpAddr) -> Option<NotPublic> {
    match address {
        IpAddr::V4(v4) => not_public_v4(v4),
        IpAddr::V6(v6) => not_public_v6(v6),
    }
}

/// Metadata services with addresses that no range below covers, or covers under another name: AWS and most others, its
/// task roles, Alibaba, Oracle, and the service that Azure puts at a public address.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// The same over IPv6: AWS (instances, containers), Google.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

fn not_public_v4(v4: Ipv4Addr) -> Option<NotPublic> {
    if METADATA_V4.contains(&v4) {
        return Some(NotPublic::Metadata);
    }
    Some(match v4.octets() {
        [0, ..] => NotPublic::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => NotPublic::Private,
        [100, 64..=127, ..] => NotPublic::Shared,
        [127, ..] => NotPublic::Loopback,
        [169, 254, ..] => NotPublic::LinkLocal,
        // Protocol assignments, three networks for documents, 6to4 relays, AS112, measurements.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => NotPublic::Reserved,
        [192, 88, 99, _] | [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _] => NotPublic::Reserved,
        [198, 18..=19, ..] => NotPublic::Reserved,
        [224..=239, ..] => NotPublic::Multicast,
        [240..=255, ..] => NotPublic::Reserved,
        _ => return None,
    })
}

fn not_public_v6(v6: Ipv6Addr) -> Option<NotPublic> {
    if METADATA_V6.contains(&v6) {
        return Some(NotPublic::Metadata);
    }
    if v6.is_unspecified() {
        return Some(NotPublic::Unspecified);
    }
    if v6.is_loopback() {
        return Some(NotPublic::Loopback);
    }
    let s = v6.segments();
    let carried = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        not_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // Compatible (obsolete), mapped, translated (RFC 2765), NAT64 (RFC 6052, and RFC 8215 with its /96 alone).
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // 6to4 (RFC 3056).
        | [0x2002, high, low, ..]
        // ISATAP (RFC 5214) below any prefix.
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => {
            if let Some(what) = carried(high, low) {
                return Some(what);
            }
        }
        _ => {}
    }
    Some(match s {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => return None,
        [0xfc00..=0xfdff, ..] => NotPublic::Private,
        // fec0::/10 was private once and is no public address today.
        [0xfe80..=0xfebf, ..] => NotPublic::LinkLocal,
        [0xfec0..=0xfeff, ..] => NotPublic::Private,
        [0xff00..=0xffff, ..] => NotPublic::Multicast,
        // Protocol assignments with Teredo among them, two networks for documents.
        [0x2001, 0x0000..=0x01ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => NotPublic::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => NotPublic::Reserved,
    })
}

#[cfg(test)]
mod tests {
    use super::NotPublic::{self, *};
    use super::not_public;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    #[test]
    fn every_special_range_is_known_to_its_edges() {
        let table: &[(&str, Option<NotPublic>)] = &[
            ("0.0.0.0", Some(Unspecified)),
            ("0.255.255.255", Some(Unspecified)),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some(Private)),
            ("10.255.255.255", Some(Private)),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some(Shared)),
            ("100.100.100.200", Some(Metadata)),
            ("100.127.255.255", Some(Shared)),
            ("100.128.0.0", None),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.254", Some(Loopback)),
            ("168.63.129.16", Some(Metadata)),
            ("168.63.129.17", None),
            ("169.253.255.255", None),
            ("169.254.0.1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("169.254.170.2", Some(Metadata)),
            ("169.255.0.0", None),
            ("172.15.255.255", None),
            ("172.16.0.0", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("172.32.0.0", None),
            ("192.0.0.192", Some(Metadata)),
            ("192.0.0.1", Some(Reserved)),
            ("192.0.1.1", None),
            ("192.0.2.1", Some(Reserved)),
            ("192.88.99.1", Some(Reserved)),
            ("192.167.255.255", None),
            ("192.168.0.1", Some(Private)),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some(Reserved)),
            ("198.19.255.255", Some(Reserved)),
            ("198.20.0.0", None),
            ("203.0.113.7", Some(Reserved)),
            ("223.255.255.255", None),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("240.0.0.1", Some(Reserved)),
            ("255.255.255.255", Some(Reserved)),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("::7f00:1", Some(Loopback)),
            ("::808:808", Some(Reserved)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("::ffff:8.8.8.8", None),
            ("::ffff:0:127.0.0.1", Some(Loopback)),
            ("::ffff:0:8.8.8.8", Some(Reserved)),
            ("64:ff9b::127.0.0.1", Some(Loopback)),
            ("64:ff9b::192.168.0.1", Some(Private)),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::8.8.8.8", Some(Reserved)),
            ("2002:7f00:1::", Some(Loopback)),
            ("2002:a9fe:a9fe::1", Some(Metadata)),
            ("2002:808:808::1", None),
            ("2001::1", Some(Reserved)),
            ("2001:1ff::1", Some(Reserved)),
            ("2001:200::1", None),
            ("2001:db8::1", Some(Reserved)),
            ("2606:4700::1111", None),
            ("2606:4700::5efe:a00:1", Some(Private)),
            ("2606:4700::200:5efe:7f00:1", Some(Loopback)),
            ("2606:4700::5efe:808:808", None),
            ("3fff:0:1::", Some(Reserved)),
            ("3fff:1000::", None),
            ("4000::1", Some(Reserved)),
            ("fc00::1", Some(Private)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd20:ce::254", Some(Metadata)),
            ("fdff::1", Some(Private)),
            ("fe80::1", Some(LinkLocal)),
            ("fe80::a9fe:a9fe", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fec0::1", Some(Private)),
            ("ff02::1", Some(Multicast)),
        ];
        for (written, expected) in table {
            assert_eq!(not_public(written.parse().unwrap()), *expected, "{written}");
        }
    }

    /// Numbers without a pattern, the same in each run (Marsaglia's xorshift).
    fn numbers() -> impl Iterator<Item = u64> {
        std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |&x| {
            let x = x ^ (x << 13);
            let x = x ^ (x >> 7);
            Some(x ^ (x << 17))
        })
    }

    #[test]
    fn whatever_the_standard_library_calls_special_is_refused() {
        for number in numbers().take(200_000) {
            let v4 = Ipv4Addr::from_bits(number as u32);
            let special = v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_unspecified();
            assert!(!special || not_public(v4.into()).is_some(), "{v4}");
        }
        // Random high halves rarely meet a special range, so one is put in front of each number.
        for (i, number) in numbers().take(200_000).enumerate() {
            let first = [0xfc00, 0xfd00, 0xfe80, 0xfec0, 0xff00, 0x2001, 0x2002, 0][i % 8];
            let rest = u128::from(number) << 32 | u128::from(number.rotate_left(31));
            let v6 = Ipv6Addr::from_bits(u128::from(first as u16) << 112 | (rest & (u128::MAX >> 16)));
            let special = v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_unique_local();
            assert!(!special || not_public(v6.into()).is_some(), "{v6}");
        }
    }

    #[test]
    fn an_address_inside_another_is_judged_as_itself() {
        for number in numbers().take(50_000) {
            // Half of the time in one of the ranges that matter.
            let bits = match number >> 61 {
                0 => 0x7f00_0000 | (number as u32 & 0xff_ffff),
                1 => 0x0a00_0000 | (number as u32 & 0xff_ffff),
                2 => 0xc0a8_0000 | (number as u32 & 0xffff),
                3 => 0xa9fe_0000 | (number as u32 & 0xffff),
                _ => number as u32,
            };
            let v4 = Ipv4Addr::from_bits(bits);
            let bare = not_public(IpAddr::V4(v4));
            assert_eq!(not_public(v4.to_ipv6_mapped().into()), bare, "{v4} mapped");
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            assert_eq!(not_public(nat64.into()), bare, "{v4} behind NAT64");
            let six_to_four = Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5);
            assert_eq!(not_public(six_to_four.into()), bare, "{v4} in 6to4");
        }
    }
}
