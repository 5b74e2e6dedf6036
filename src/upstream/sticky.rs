//! Stickiness: a client stays with its endpoint by a cookie. The cookie is sealed, so that it tells
//! nothing about endpoints and cannot be made by a client: one that could name an endpoint could
//! send all the load of the world there.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use super::key;
use crate::balance::places::Places;
use crate::base::id::EndpointId;
use crate::base::random::Random;
use crate::config::model::Cluster;
use crate::config::resilience::Sticky;
use crate::message::head::RequestHead;

const NONCE: usize = 24;
/// Which endpoint, and when it ends.
const CONTENT: usize = 8 + 8;
const TAG: usize = 16;

/// What seals a cluster's cookies, for all shards.
pub struct Seal {
    policy: Sticky,
    cipher: XChaCha20Poly1305,
    /// A cookie of one cluster is none of another.
    cluster: Box<str>,
}

/// What a cookie says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stuck {
    pub to: Option<EndpointId>,
    /// Seconds since 1970; zero for a cookie without an end.
    until: u64,
}

impl Seal {
    /// For a cluster that has sticky clients. `random` makes the key, if the configuration does not.
    #[must_use]
    pub fn new(cluster: &Cluster, random: &[u8; 32]) -> Option<Self> {
        let policy = cluster.sticky.clone()?;
        let mut hash = Sha256::new_with_prefix(b"millrace sticky cookie 1\n");
        hash.update(policy.key.as_ref().map_or(random.as_slice(), |key| key.as_bytes()));
        let cluster = cluster.name.clone().into_boxed_str();
        Some(Self { policy, cipher: XChaCha20Poly1305::new(&hash.finalize()), cluster })
    }

    /// The endpoint that a request's cookie names, by its address: a cookie outlives changes of their order. A cookie that is not ours, too old, or of an
    /// endpoint that is no more, names none. `now` is in seconds since 1970.
    #[must_use]
    pub fn open(&self, head: &RequestHead, now: u64, places: &Places) -> Stuck {
        let cookie = key::cookie(head, self.policy.cookie.as_bytes());
        cookie.and_then(|text| self.unseal(text, now, places)).unwrap_or_default()
    }

    fn unseal(&self, text: &[u8], now: u64, places: &Places) -> Option<Stuck> {
        let mut bytes = [0; NONCE + CONTENT + TAG];
        if BASE64URL_NOPAD.decode_len(text.len()).ok()? != bytes.len() {
            return None;
        }
        BASE64URL_NOPAD.decode_mut(text, &mut bytes).ok()?;
        let (nonce, sealed) = bytes.split_at(NONCE);
        let payload = Payload { msg: sealed, aad: self.cluster.as_bytes() };
        let content = self.cipher.decrypt(XNonce::from_slice(nonce), payload).ok()?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
        let (name, until) = (number(content.get(..8)?)?, number(content.get(8..)?)?);
        let to = places.find(name);
        (until == 0 || now < until).then_some(Stuck { to, until })
    }

    /// The value of Set-Cookie for a client that was served by an endpoint, known by `name`; `None` if what it has
    /// will do.
    #[must_use]
    pub fn cookie(
        &self,
        stuck: Stuck,
        (id, name): (EndpointId, u64),
        now: u64,
        is_secure: bool,
        random: &mut Random,
    ) -> Option<String> {
        let ttl = self.policy.ttl.as_secs();
        let is_fresh = stuck.until == 0 || now + ttl / 2 < stuck.until;
        if stuck.to == Some(id) && is_fresh && (ttl == 0) == (stuck.until == 0) {
            return None;
        }
        let until = if ttl == 0 { 0 } else { now + ttl };
        let mut bytes = [0; NONCE];
        // A nonce must be new, not secret.
        bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.bits().to_be_bytes()));
        let mut content = [0; CONTENT];
        content[..8].copy_from_slice(&name.to_be_bytes());
        content[8..].copy_from_slice(&until.to_be_bytes());
        let payload = Payload { msg: &content, aad: self.cluster.as_bytes() };
        let sealed = self.cipher.encrypt(XNonce::from_slice(&bytes), payload).ok()?;
        let value = BASE64URL_NOPAD.encode(&[&bytes[..], &sealed].concat());
        let age = if ttl == 0 { String::new() } else { format!("; Max-Age={ttl}") };
        let secure = if is_secure { "; Secure" } else { "" };
        let name = &self.policy.cookie;
        Some(format!("{name}={value}; Path=/{age}; HttpOnly; SameSite=Lax{secure}"))
    }
}

impl std::fmt::Debug for Seal {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("cookie", &self.policy.cookie).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower;

    fn seal(name: &str, sticky: &str) -> (Seal, Places) {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"{name}\"\n[[cluster]]\n\
             name = \"{name}\"\nsticky = {{ {sticky} }}\n[[cluster.endpoint]]\naddress = \"10.0.0.1:1\"\n\
             [[cluster.endpoint]]\naddress = \"10.0.0.2:1\"\n"
        );
        let (config, problems) = lower(&text);
        let config = config.unwrap_or_else(|| panic!("{}", problems.render("test", &text)));
        let cluster = &config.clusters[0];
        (Seal::new(cluster, &[7; 32]).unwrap(), Places::new(cluster))
    }

    fn request(cookie: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.fields.push(b"Cookie", format!("a=b; {cookie}; c=d").as_bytes());
        head
    }

    const B: EndpointId = EndpointId(1);

    #[test]
    fn what_was_sealed_is_opened_and_nothing_else_is() {
        let (seal, places) = seal("app", "");
        let mut random = Random::new(1);
        let set =
            seal.cookie(Stuck::default(), (B, places.name(1)), 1000, true, &mut random).unwrap();
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{set}");
        let cookie = set.split(';').next().unwrap();
        let stuck = seal.open(&request(cookie), 1000, &places);
        assert_eq!(stuck.to, Some(B));
        assert_eq!(seal.cookie(stuck, (B, places.name(1)), 9_999_999, true, &mut random), None);
        assert!(
            seal.cookie(stuck, (EndpointId(0), places.name(0)), 1000, true, &mut random).is_some()
        );
        assert_eq!(
            self::seal("other", "").0.open(&request(cookie), 1000, &places),
            Stuck::default()
        );
        let (other_key, _) = self::seal("app", "key = \"0123456789abcdef\"");
        assert_eq!(other_key.open(&request(cookie), 1000, &places), Stuck::default());
        for at in 9..cookie.len() {
            let mut forged = cookie.as_bytes().to_vec();
            forged[at] = if forged[at] == b'A' { b'Q' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(seal.open(&request(&forged), 1000, &places).to, None, "{forged}");
        }
        for bad in ["millrace=", "millrace=AAAA", "millrace", "millrace=%%%"] {
            assert_eq!(seal.open(&request(bad), 1000, &places), Stuck::default());
        }
    }

    #[test]
    fn a_cookie_ends_and_is_renewed_in_time() {
        let (seal, places) = seal("app", "ttl = \"100s\"");
        let mut random = Random::new(1);
        let set =
            seal.cookie(Stuck::default(), (B, places.name(1)), 1000, false, &mut random).unwrap();
        assert!(set.contains("; Max-Age=100;"), "{set}");
        let head = request(set.split(';').next().unwrap());
        assert_eq!(
            seal.cookie(
                seal.open(&head, 1049, &places),
                (B, places.name(1)),
                1049,
                false,
                &mut random
            ),
            None
        );
        assert!(
            seal.cookie(
                seal.open(&head, 1051, &places),
                (B, places.name(1)),
                1051,
                false,
                &mut random
            )
            .is_some()
        );
        assert_eq!(seal.open(&head, 1099, &places).to, Some(B));
        assert_eq!(seal.open(&head, 1100, &places), Stuck::default());
    }
}
