//! The keys that a cluster shares, and the codes made with them.
//!
//! Rotation without downtime takes three steps, each on every node before the next: a ring with
//! the new key added, a ring with the new key first, a ring without the old one.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The fewest bytes of a key.
pub const MIN_KEY_BYTES: usize = 16;

/// The bytes of a code: HMAC-SHA-256 cut to 128 bits (RFC 2104 section 5 allows half).
pub(crate) const CODE_BYTES: usize = 16;

/// A key's number within its cluster.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyId(pub u32);

/// A shared secret. Printing it shows nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Why a ring is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The key is too short.
    #[error("a key must have at least {MIN_KEY_BYTES} bytes, not {0}")]
    Short(usize),
}

impl Key {
    /// A key of those bytes, which should be random.
    ///
    /// # Errors
    /// If there are too few.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Key, KeyError> {
        let bytes = bytes.into();
        if bytes.len() < MIN_KEY_BYTES {
            return Err(KeyError::Short(bytes.len()));
        }
        Ok(Key(bytes))
    }
}

/// The keys that are accepted, and the one that is used.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyRing {
    primary: KeyId,
    keys: BTreeMap<KeyId, Key>,
}

impl KeyRing {
    /// A ring of one key, which is used for all that is sent.
    #[must_use]
    pub fn new(id: KeyId, key: Key) -> KeyRing {
        KeyRing {
            primary: id,
            keys: BTreeMap::from([(id, key)]),
        }
    }

    /// The same ring that also accepts another key.
    #[must_use]
    pub fn accepting(mut self, id: KeyId, key: Key) -> KeyRing {
        if id != self.primary {
            self.keys.insert(id, key);
        }
        self
    }
}

/// A ring made ready for one cluster: each key's code with the cluster's name already in it.
#[derive(Clone)]
pub(crate) struct Codes {
    ring: KeyRing,
    cluster: String,
    ready: BTreeMap<KeyId, Hmac<Sha256>>,
}

impl PartialEq for Codes {
    fn eq(&self, other: &Codes) -> bool {
        self.ring == other.ring && self.cluster == other.cluster
    }
}

impl Eq for Codes {}

impl Hash for Codes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ring.hash(state);
        self.cluster.hash(state);
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes")
            .field("ring", &self.ring)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// What a code is for, so that one can never pass for the other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Domain {
    Datagram = 1,
    Stream = 2,
}

impl Codes {
    pub(crate) fn new(ring: KeyRing, cluster: &str) -> Codes {
        let ready = ring
            .keys
            .iter()
            .filter_map(|(id, key)| {
                // HMAC takes keys of any length: this never fails.
                let mut code = Hmac::<Sha256>::new_from_slice(&key.0).ok()?;
                code.update(&(cluster.len() as u64).to_be_bytes());
                code.update(cluster.as_bytes());
                Some((*id, code))
            })
            .collect::<BTreeMap<_, _>>();
        assert_eq!(ready.len(), ring.keys.len(), "HMAC takes any key");
        Codes {
            ring,
            cluster: cluster.to_owned(),
            ready,
        }
    }

    pub(crate) fn primary(&self) -> KeyId {
        self.ring.primary
    }

    /// The same cluster with another ring.
    pub(crate) fn with_ring(&self, ring: KeyRing) -> Codes {
        Codes::new(ring, &self.cluster)
    }

    fn code(&self, id: KeyId, domain: Domain, parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
        let mut code = self.ready.get(&id)?.clone();
        code.update(&[domain as u8]);
        for part in parts {
            code.update(part);
        }
        Some(code)
    }

    /// The code of `parts` with the primary key. Their lengths must follow from what is in them.
    pub(crate) fn seal(&self, domain: Domain, parts: &[&[u8]]) -> [u8; CODE_BYTES] {
        let mut short = [0; CODE_BYTES];
        let code = self.code(self.ring.primary, domain, parts);
        assert!(code.is_some(), "a ring holds its primary key");
        if let Some(code) = code {
            short.copy_from_slice(&code.finalize().into_bytes()[..CODE_BYTES]);
        }
        short
    }

    /// Whether `code` is right, compared in constant time; none if the key is not in the ring.
    pub(crate) fn verify(
        &self,
        id: KeyId,
        domain: Domain,
        parts: &[&[u8]],
        code: &[u8],
    ) -> Option<bool> {
        let expected = self.code(id, domain, parts)?;
        Some(code.len() == CODE_BYTES && expected.verify_truncated_left(code).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::{Codes, Domain, Key, KeyError, KeyId, KeyRing};

    fn key(byte: u8) -> Key {
        Key::new(vec![byte; 32]).unwrap()
    }

    fn codes(ring: KeyRing) -> Codes {
        Codes::new(ring, "cluster")
    }

    #[test]
    fn short_keys_are_refused_and_keys_are_not_printed() {
        assert_eq!(Key::new(vec![1; 15]), Err(KeyError::Short(15)));
        let ring = KeyRing::new(KeyId(1), Key::new(b"a very secret key!".to_vec()).unwrap());
        assert!(!format!("{ring:?}").contains("97"), "{ring:?}");
        assert!(!format!("{ring:?}").contains("secret"));
    }

    #[test]
    fn a_code_depends_on_key_cluster_domain_and_every_byte() {
        let mine = codes(KeyRing::new(KeyId(1), key(1)));
        let code = mine.seal(Domain::Datagram, &[b"head", b"body"]);
        let check =
            |codes: &Codes, domain, bytes: &[u8]| codes.verify(KeyId(1), domain, &[bytes], &code);
        assert_eq!(check(&mine, Domain::Datagram, b"headbody"), Some(true));
        assert_eq!(check(&mine, Domain::Datagram, b"headbodz"), Some(false));
        assert_eq!(check(&mine, Domain::Stream, b"headbody"), Some(false));
        let other = Codes::new(KeyRing::new(KeyId(1), key(1)), "other");
        assert_eq!(check(&other, Domain::Datagram, b"headbody"), Some(false));
        let stranger = codes(KeyRing::new(KeyId(1), key(2)));
        assert_eq!(check(&stranger, Domain::Datagram, b"headbody"), Some(false));
        let unknown = codes(KeyRing::new(KeyId(2), key(1)));
        assert_eq!(check(&unknown, Domain::Datagram, b"headbody"), None);
        let cut = mine.verify(KeyId(1), Domain::Datagram, &[b"headbody"], &code[..8]);
        assert_eq!(cut, Some(false), "a shorter code is no code");
    }

    #[test]
    fn a_code_is_the_left_half_of_hmac_sha_256() {
        // Computed independently with Python's hmac module, for the key of 32 ones, over the
        // length (8 bytes, big-endian) and name of the cluster, the domain, and "x".
        let mine = codes(KeyRing::new(KeyId(1), key(1)));
        let hex: String = mine
            .seal(Domain::Datagram, &[b"x"])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "ab623f2d49f05d829d86aeb5262f574c");
    }

    #[test]
    fn both_keys_are_accepted_while_a_ring_holds_both() {
        let old = KeyRing::new(KeyId(1), key(1));
        let both = old.clone().accepting(KeyId(2), key(2));
        let turned = KeyRing::new(KeyId(2), key(2)).accepting(KeyId(1), key(1));
        for (sender, receiver) in [(&old, &both), (&both, &turned), (&turned, &both)] {
            let sender = codes(sender.clone());
            let code = sender.seal(Domain::Datagram, &[b"x"]);
            let receiver = codes(receiver.clone());
            let id = sender.primary();
            assert_eq!(
                receiver.verify(id, Domain::Datagram, &[b"x"], &code),
                Some(true)
            );
        }
    }
}
