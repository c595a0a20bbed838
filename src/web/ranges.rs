//! Which addresses belong to nobody but us: this machine, its networks, and what no host on the internet has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, plain(address)) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                first_bits(u128::from(own.to_bits()) << 96, self.bits)
                    == first_bits(u128::from(other.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                first_bits(own.to_bits(), self.bits) == first_bits(other.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

fn first_bits(address: u128, bits: u8) -> u128 {
    address & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = String;

    /// `ADDRESS/BITS`, or an address alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let meant = || "must be a range of addresses such as 10.1.0.0/16 or fd00::/8, or one address".to_owned();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| meant())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(meant)?
            }
            Some(_) => return Err(meant()),
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// What becomes of private addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Private {
    /// They are not connected to.
    #[default]
    Refuse,
    /// They are like any others.
    Allow,
    /// Those in these ranges are.
    Only(Vec<Network>),
}

impl Private {
    /// Whether this address may be connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::Allow => true,
            Self::Refuse => is_public(address),
            Self::Only(networks) => is_public(address) || networks.iter().any(|network| network.contains(address)),
        }
    }
}

/// An IPv4 address that is written as IPv6 is what it stands for: that is what the system connects to.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Whether an address is that of a host on the internet. All that is set apart for another use is not.
pub(super) fn is_public(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(four) => is_public_v4(four),
        IpAddr::V6(six) => is_public_v6(six),
    }
}

/// The ranges of RFC 6890 and its like that no host on the internet is in.
const RESERVED_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),       // this network, and the address that means any
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // behind a carrier's translation
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, and a cloud's metadata
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocols
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // relays of 6to4, given up
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, and broadcast
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    !RESERVED_V4.iter().any(|(network, bits)| {
        let network = Network {
            address: IpAddr::V4(Ipv4Addr::from(*network)),
            bits: *bits,
        };
        network.contains(IpAddr::V4(address))
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let number = address.to_bits();
    match address.segments() {
        // The well-known prefix of NAT64 leads to the IPv4 address at its end.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(Ipv4Addr::from(number as u32)),
        // So does 6to4, which has it in front.
        [0x2002, ..] => is_public_v4(Ipv4Addr::from((number >> 80) as u32)),
        // Protocols (Teredo among them), documentation.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        // What is given to hosts; loopback, local, multicast and all the rest are elsewhere.
        [0x2000..0x4000, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::{any, proptest};

    use super::{Network, Private, is_public};

    #[test]
    fn what_is_ours_is_told_from_the_internet() {
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:200::1",
            "2002:808:808::1",
            "2606:4700::1",
            "2a00:1450::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn ranges_are_read_and_hold_what_is_in_them() {
        let network = |text: &str| text.parse::<Network>();
        for (range, address, expected) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.0.0/16", "::ffff:10.1.2.3", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
        ] {
            let found = network(range).unwrap().contains(address.parse().unwrap());
            assert_eq!(found, expected, "{range} {address}");
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "::/129",
            "host",
            "10.0.0",
        ] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
        let only = Private::Only(vec![network("10.1.0.0/16").unwrap()]);
        let allows = |address: &str| only.allows(address.parse().unwrap());
        assert!(allows("10.1.2.3") && allows("8.8.8.8") && !allows("10.2.0.1") && !allows("127.0.0.1"));
    }

    proptest! {
        /// However an IPv4 address is wrapped, it is as private as it is.
        #[test]
        fn wrapped_addresses_are_seen_through(number in any::<u32>()) {
            let four = Ipv4Addr::from(number);
            let public = is_public(IpAddr::V4(four));
            let bits = u128::from(number);
            for wrapped in [0xffff_0000_0000 | bits, (0x64_ff9b_u128 << 96) | bits, (0x2002_u128 << 112) | (bits << 80)] {
                proptest::prop_assert_eq!(is_public(IpAddr::V6(Ipv6Addr::from(wrapped))), public);
            }
            let private = four.is_private() || four.is_loopback() || four.is_link_local() || four.is_multicast()
                || four.is_broadcast() || four.is_documentation() || four.is_unspecified();
            proptest::prop_assert!(!(private && public));
        }
    }
}
