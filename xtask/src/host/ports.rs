//! Who listens on a port.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::process::{self, Process};

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP, where only listening sockets count.
    Tcp,
    /// UDP, where every bound socket counts.
    Udp,
}

/// A port that a component needs on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The address; `0.0.0.0` collides with every other.
    pub address: Ipv4Addr,
    /// The number.
    pub number: u16,
    /// The transport.
    pub transport: Transport,
}

/// A socket that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address that it is bound to; nothing for one of IPv6 that isn't the wildcard.
    address: Option<Ipv4Addr>,
    number: u16,
    inode: u64,
}

impl Port {
    /// A TCP port.
    pub const fn tcp(address: Ipv4Addr, number: u16) -> Self {
        Self { address, number, transport: Transport::Tcp }
    }

    /// A UDP port.
    pub const fn udp(address: Ipv4Addr, number: u16) -> Self {
        Self { address, number, transport: Transport::Udp }
    }

    /// The processes that hold this port, or would collide with it. One that can't be seen is left out of the list but found by [`Port::is_taken`].
    pub fn holders(&self) -> Vec<Process> {
        let inodes: Vec<u64> = self.listeners().into_iter().map(|listener| listener.inode).collect();
        if inodes.is_empty() {
            return Vec::new();
        }
        process::all().into_iter().filter(|process| holds_socket(process, &inodes)).collect()
    }

    /// Whether something listens there.
    pub fn is_taken(&self) -> bool {
        !self.listeners().is_empty()
    }

    fn listeners(&self) -> Vec<Listener> {
        let (tables, listening) = match self.transport {
            Transport::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
            Transport::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
        };
        tables
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|text| parse(&text, listening))
            .filter(|listener| self.collides_with(listener))
            .collect()
    }

    fn collides_with(&self, listener: &Listener) -> bool {
        listener.number == self.number
            && listener.address.is_some_and(|address| {
                address == self.address || address.is_unspecified() || self.address.is_unspecified()
            })
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(formatter, "{transport} {}:{}", self.address, self.number)
    }
}

/// Reads a table of `/proc/net`: sockets in the given state, in the kernel's notation.
fn parse(table: &str, state: &str) -> Vec<Listener> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if *fields.get(3)? != state {
                return None;
            }
            let (address, number) = fields.get(1)?.split_once(':')?;
            Some(Listener {
                address: parse_address(address),
                number: u16::from_str_radix(number, 16).ok()?,
                inode: fields.get(9)?.parse().ok()?,
            })
        })
        .collect()
}

/// Addresses stand there as 32-bit words in the machine's byte order.
fn parse_address(text: &str) -> Option<Ipv4Addr> {
    let words = (0..text.len() / 8)
        .map(|index| u32::from_str_radix(text.get(index * 8..index * 8 + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()?;
    match words.as_slice() {
        [word] => Some(Ipv4Addr::from(word.to_ne_bytes())),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (target, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                target.copy_from_slice(&word.to_ne_bytes());
            }
            let address = Ipv6Addr::from(bytes);
            // The IPv6 wildcard takes the port for IPv4 too.
            if address.is_unspecified() { Some(Ipv4Addr::UNSPECIFIED) } else { address.to_ipv4_mapped() }
        }
        _ => None,
    }
}

fn holds_socket(process: &Process, inodes: &[u64]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| {
            let target = target.to_string_lossy();
            inodes.iter().any(|inode| target == format!("socket:[{inode}]"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_holder_of_a_port_is_found_and_other_addresses_are_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let own = i32::try_from(std::process::id()).unwrap();
        let port = Port::tcp(Ipv4Addr::LOCALHOST, number);
        assert!(port.is_taken());
        assert_eq!(port.holders().iter().map(|process| process.pid).collect::<Vec<_>>(), [own]);
        assert!(Port::tcp(Ipv4Addr::UNSPECIFIED, number).is_taken());
        assert!(!Port::tcp(Ipv4Addr::new(127, 0, 0, 2), number).is_taken());
        drop(listener);
        assert!(!port.is_taken());
    }

    #[test]
    fn the_ipv6_wildcard_takes_the_port_for_ipv4() {
        let table = "  sl  local_address remote_address st\n   0: 00000000000000000000000000000000:1388 \
                     00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1";
        let listeners = parse(table, "0A");
        assert_eq!(listeners.len(), 1);
        assert!(Port::tcp(Ipv4Addr::LOCALHOST, 5000).collides_with(&listeners[0]));
    }
}
