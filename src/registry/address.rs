//! Which addresses a redirect may lead to: only public ones, also after the name was resolved.
//!
//! A registry that a person named may be anywhere. Where that registry then sends us is its own choice, and must not
//! become a way to make the operator read the cluster's insides (cloud metadata, services, loopback).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names as the system does, and drops every address that is not public.
#[derive(Debug, Clone, Copy)]
pub(super) struct PublicAddressesOnly;

impl Resolve for PublicAddressesOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.filter(|address| is_public(address.ip())).collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the name has no public address").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether `address` is one of the internet's, as opposed to this machine's, a private network's or a reserved one.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_benchmark = first == 198 && matches!(second, 18 | 19);
    let is_protocol = first == 192 && second == 0 && third == 0;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || first == 0
        || first >= 224
        || is_shared
        || is_benchmark
        || is_protocol)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = address.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [first, second, third, .., seventh, eighth] = address.segments();
    let embedded = || {
        let [a, b] = seventh.to_be_bytes();
        let [c, d] = eighth.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    if first == 0x64 && second == 0xff9b {
        // NAT64: the IPv4 address behind it is the one that is reached. 64:ff9b:1::/48 is for local use.
        return third == 0 && is_public_v4(embedded());
    }
    // Global unicast is 2000::/3, without documentation, 6to4 and Teredo, which wrap IPv4 addresses.
    (first & 0xe000) == 0x2000
        && !(first == 0x2001 && (second == 0xdb8 || second < 0x200))
        && first != 0x2002
        && first != 0x3fff
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("140.82.121.34", true)]
    #[case("2606:50c0:8000::154", true)]
    #[case("127.0.0.1", false)]
    #[case("10.0.0.1", false)]
    #[case("169.254.169.254", false)]
    #[case("100.64.0.1", false)]
    #[case("0.0.0.0", false)]
    #[case("224.0.0.1", false)]
    #[case("::1", false)]
    #[case("::ffff:169.254.169.254", false)]
    #[case("::169.254.169.254", false)]
    #[case("64:ff9b::a9fe:a9fe", false)]
    #[case("64:ff9b::8c52:7922", true)]
    #[case("fd00:ec2::254", false)]
    #[case("fe80::1", false)]
    #[case("2002:7f00:1::", false)]
    fn only_addresses_of_the_internet_are_public(#[case] address: &str, #[case] expected: bool) {
        assert_eq!(is_public(address.parse().unwrap()), expected);
    }
}
