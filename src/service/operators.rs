//! Operators: who may use the admin API. For now that is whoever holds the bootstrap token.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::domain::{
    audit::{Actor, ActorKind},
    secret::Secret,
};

/// The operators that this server knows.
#[derive(Clone)]
pub struct Operators {
    bootstrap: Option<[u8; 32]>,
}

impl Operators {
    /// Operators by the bootstrap token; nobody where there is none.
    pub fn new(bootstrap_token: Option<&Secret>) -> Self {
        Self { bootstrap: bootstrap_token.map(|token| digest(token.expose())) }
    }

    /// The operator that `token` belongs to.
    pub fn authenticate(&self, token: &str) -> Option<Actor> {
        // Digests have one length and tell nothing by how far they agree.
        let is_bootstrap: bool = self.bootstrap?.ct_eq(&digest(token)).into();
        is_bootstrap.then(|| Actor { kind: ActorKind::Operator, id: None, name: Some("bootstrap".into()) })
    }
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operators")
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bootstrap_token_authenticates_and_nothing_does_without_one() {
        let token = Secret::new("0123456789abcdef0123456789abcdef");
        let operators = Operators::new(Some(&token));
        assert_eq!(operators.authenticate(token.expose()).unwrap().name.as_deref(), Some("bootstrap"));
        assert_eq!(operators.authenticate("0123456789abcdef0123456789abcdeF"), None);
        assert_eq!(operators.authenticate(""), None);
        assert_eq!(Operators::new(None).authenticate(""), None);
    }
}
