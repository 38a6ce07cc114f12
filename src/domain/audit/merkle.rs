//! Grows a Merkle tree as defined by RFC 6962, leaf by leaf. Only the roots of its complete subtrees are stored, so a
//! tree of any size takes at most 2 KiB. Never here: what a leaf stands for.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// A tree that can grow: its size and the roots of its complete subtrees, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Restores the tree of `size` leaves from the roots of its complete subtrees; `None` if their number is wrong.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (subtrees, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && u32::try_from(subtrees.len()).ok() == Some(size.count_ones());
        fits.then(|| Self { size, subtrees: subtrees.to_vec() })
    }

    /// Encodes the tree for [`Self::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.subtrees.concat()
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash (RFC 6962, 2.1: SHA-256 over a zero byte and the leaf's data).
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each trailing one bit of the size is a complete subtree, which this leaf completes to one of twice the size.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node(&left, &hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The tree's root hash (RFC 6962, 2.1).
    pub fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(last) = subtrees.next() else { return Sha256::digest([]).into() };
        subtrees.fold(*last, |right, left| node(left, &right))
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1u8]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use crate::domain::core::seal::hex;

    use super::*;

    fn leaf(data: &[u8]) -> Hash {
        Sha256::new().chain_update([0u8]).chain_update(data).finalize().into()
    }

    /// The definition from RFC 6962.
    fn reference(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node(&reference(left), &reference(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        let leaves: Vec<Hash> = (0..70u8).map(|i| leaf(&[i])).collect();
        let mut tree = Frontier::default();
        for n in 0..leaves.len() {
            assert_eq!(tree.root(), reference(&leaves[..n]), "of {n} leaves");
            assert_eq!(Frontier::from_bytes(tree.size(), &tree.to_bytes()), Some(tree.clone()));
            tree.push(leaves[n]);
        }
        assert_eq!(Frontier::from_bytes(3, &[0; 32]), None);
    }

    #[test]
    fn root_of_a_published_tree_is_known() {
        // The first two leaves of the test tree of Certificate Transparency's reference implementation.
        let mut tree = Frontier::default();
        tree.push(leaf(b""));
        assert_eq!(hex(&tree.root()), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        tree.push(leaf(&[0]));
        assert_eq!(hex(&tree.root()), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    }
}
