//! Writes small country files in MaxMind's format (version 2.0 of its specification), which no crate writes.

use std::net::IpAddr;

use ipnet::IpNet;

/// The length of the zeros between tree and data.
const SEPARATOR: usize = 16;

/// What one half of a node leads to.
#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    /// A record, by its place in the data.
    Record(usize),
}

/// A country file that knows these networks, which do not overlap, by their countries. A network without a country has only
/// the one where it is registered.
pub fn country_file(networks: &[(&str, &str)]) -> Vec<u8> {
    file_about("Test-Country", networks)
}

/// Does the same with what the file says it is about.
pub fn file_about(about: &str, networks: &[(&str, &str)]) -> Vec<u8> {
    let (mut tree, mut data) = (vec![[Branch::Nothing; 2]], Vec::new());
    for (network, country) in networks {
        let record = data.len();
        let (place, code) = if country.is_empty() { ("registered_country", "US") } else { ("country", *country) };
        data.extend(map(&[(place, map(&[("iso_code", text(code))]))]));
        grow(&mut tree, network.parse().unwrap(), record);
    }
    let mut file = Vec::new();
    let nodes = tree.len();
    for branch in tree.iter().flatten() {
        let value = match branch {
            Branch::Nothing => nodes,
            Branch::Node(node) => *node,
            Branch::Record(at) => nodes + SEPARATOR + at,
        };
        file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; SEPARATOR]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.extend(map(&[
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        // 2026-09-21.
        ("build_epoch", number(9, 1_790_000_000)),
        ("database_type", text(about)),
        ("description", map(&[("en", text("a test"))])),
        ("ip_version", number(5, 6)),
        ("languages", vec![0, 4]),
        ("node_count", number(6, nodes.try_into().unwrap())),
        ("record_size", number(5, 24)),
    ]));
    file
}

/// Leads the addresses of `network` to `record`; those of IPv4 lie in `::/96`.
fn grow(tree: &mut Vec<[Branch; 2]>, network: IpNet, record: usize) {
    let (bits, length) = match network.network() {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 96 + usize::from(network.prefix_len())),
        IpAddr::V6(address) => (u128::from(address), usize::from(network.prefix_len())),
    };
    let mut node = 0;
    for depth in 0..length {
        let side = usize::from(bits >> (127 - depth) & 1 == 1);
        if depth + 1 == length {
            tree[node][side] = Branch::Record(record);
        } else if let Branch::Node(next) = tree[node][side] {
            node = next;
        } else {
            tree.push([Branch::Nothing; 2]);
            let next = tree.len() - 1;
            tree[node][side] = Branch::Node(next);
            node = next;
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 29);
    [&[2 << 5 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    assert!(members.len() < 29);
    let mut map = vec![7 << 5 | u8::try_from(members.len()).unwrap()];
    for (name, value) in members {
        map.extend(text(name));
        map.extend(value);
    }
    map
}

/// A number of one of the types of numbers; those beyond 7 have their type in a second byte.
fn number(kind: u8, value: u64) -> Vec<u8> {
    let bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let length = u8::try_from(bytes.len()).unwrap();
    let head = if kind > 7 { vec![length, kind - 7] } else { vec![kind << 5 | length] };
    [head, bytes].concat()
}
