//! What a request is hashed by, where the balancer goes by a hash. Pure.

use std::net::IpAddr;

use crate::base::hash::stable;
use crate::base::random::Random;
use crate::config::model::HashOn;
use crate::message::head::RequestHead;
use crate::message::name::Name;

/// The key of a request. One without the field, cookie or parameter gets a random key: there is
/// nothing that it would have to stay with.
pub fn of(on: &HashOn, head: &RequestHead, client: IpAddr, random: &mut Random) -> u64 {
    let found = match on {
        HashOn::Address => return address(client),
        HashOn::Path => Some(stable(head.path())),
        HashOn::Header(name) => head.fields.values_named(name.as_bytes()).next().map(stable),
        HashOn::Cookie(name) => cookie(head, name.as_bytes()).map(stable),
        HashOn::Query(name) => parameter(head.query().unwrap_or_default(), name).map(stable),
    };
    found.unwrap_or_else(|| random.bits())
}

fn address(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(address) => stable(&address.octets()),
        // A household has a /64 and its devices change the rest at will.
        IpAddr::V6(address) => stable(&address.octets()[..8]),
    }
}

/// The value of a cookie (RFC 6265 section 4.2): pairs with `; ` between them.
pub fn cookie<'a>(head: &'a RequestHead, name: &[u8]) -> Option<&'a [u8]> {
    let pairs = head.fields.values(Name::Cookie).flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

fn parameter<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pairs = query.split(|byte| *byte == b'&');
    pairs.into_iter().find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_found_and_what_is_missing_is_random() {
        let mut head = RequestHead::default();
        head.set_target(b"/a/b", Some(b"x=1&user=ann&y"));
        head.fields.push(b"X-User", b"ann");
        head.fields.push(b"Cookie", b"a=b; user=ann");
        let client: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        let mut random = Random::new(1);
        let mut key = |on: HashOn, client| of(&on, &head, client, &mut random);
        let ann = stable(b"ann");
        assert_eq!(key(HashOn::Header("x-user".into()), client), ann);
        assert_eq!(key(HashOn::Cookie("user".into()), client), ann);
        assert_eq!(key(HashOn::Query("user".into()), client), ann);
        assert_eq!(key(HashOn::Path, client), stable(b"/a/b"));
        assert_eq!(key(HashOn::Address, client), key(HashOn::Address, neighbour));
        let none = HashOn::Cookie("use".into());
        assert_ne!(key(none.clone(), client), key(none, client));
    }
}
