//! `tls = { … }` of a listener and of a cluster to plan. No file is opened here.

use super::raw::{ConfigTable, Located};
use super::tls::{Alpn, ClientAuth, ClusterTls, ListenerTls, Pair, SourceLine};
use crate::message::fields::is_token_byte;
use crate::message::name::Name;
use crate::message::target;

/// What a listener offers unless the configuration says something else.
const OFFERED: &[Alpn] = &[Alpn::Http2, Alpn::Http1];

/// `[listener.tls]`, if there is one.
pub(super) fn read_server(table: &mut ConfigTable<'_>) -> Option<ListenerTls> {
    let line = table.line_of("tls");
    let mut tls = table.table("tls");
    if !tls.is_there() {
        tls.finish();
        return None;
    }
    let certificates: Vec<_> =
        tls.tables("certificates").into_iter().filter_map(|one| read_pair_of(one)).collect();
    let self_signed: Vec<String> =
        tls.strings("self_signed").into_iter().filter_map(|name| check_name(&tls, name)).collect();
    let names_any = tls.has("certificates") || tls.has("self_signed");
    let is_empty = certificates.is_empty() && self_signed.is_empty();
    if is_empty && (!names_any || !has_items(&tls)) {
        let message = "TLS needs \"certificates = [{ certificate = \\\"…\\\", key = \\\"…\\\" }]\" or \
                       \"self_signed = [\\\"localhost\\\"]\"";
        tls.error(tls.span.clone(), message.replace('\\', ""));
    }
    let alpn = read_alpn(&mut tls);
    let auth_line = tls.line_of("client_auth");
    let client_auth = read_client_auth(tls.table("client_auth"), auth_line);
    let only_13 = tls.word("min_version", &[("1.2", false), ("1.3", true)]).unwrap_or(false);
    tls.finish();
    Some(ListenerTls { line, certificates, self_signed, alpn, client_auth, only_13 })
}

/// Something stands in one of the lists, even if it is wrong: that was told already.
fn has_items(tls: &ConfigTable<'_>) -> bool {
    tls.length_of("certificates") + tls.length_of("self_signed") > 0
}

fn read_alpn(tls: &mut ConfigTable<'_>) -> Vec<Alpn> {
    if !tls.has("alpn") {
        return OFFERED.to_vec();
    }
    let mut alpn = Vec::new();
    for name in tls.strings("alpn") {
        match Alpn::of(name.value.as_bytes()) {
            Some(protocol) => alpn.push(protocol),
            None => {
                let known = Alpn::NAMES.map(|(name, _)| name);
                let message = format!("\"{}\" is not spoken here", name.value);
                tls.error_near(name.span, message, &name.value, &known);
            }
        }
    }
    alpn
}

fn check_name(tls: &ConfigTable<'_>, name: Located<String>) -> Option<String> {
    let is_address = name.value.parse::<std::net::IpAddr>().is_ok();
    let host = name.value.strip_prefix("*.").unwrap_or(&name.value);
    let is_host = target::check_authority(host.as_bytes()).is_ok() && !host.contains(':');
    if is_address || is_host {
        return Some(name.value.to_ascii_lowercase());
    }
    tls.error(name.span, format!("\"{}\" is no host name and no address", name.value));
    None
}

/// `{ certificate = "…", key = "…" }`
fn read_pair_of(mut table: ConfigTable<'_>) -> Option<Pair> {
    let pair = read_pair(&mut table);
    if pair.is_none() {
        table.error(table.span.clone(), "a certificate needs both \"certificate\" and \"key\"");
    }
    table.finish();
    pair
}

fn read_pair(table: &mut ConfigTable<'_>) -> Option<Pair> {
    let line = table.line_of("certificate");
    let certificate = table.path("certificate");
    let key = table.path("key");
    let ocsp = table.path("ocsp");
    Some(Pair { line, certificate: certificate?, key: key?, ocsp })
}

fn read_client_auth(mut table: ConfigTable<'_>, line: SourceLine) -> Option<ClientAuth> {
    if !table.is_there() {
        table.finish();
        return None;
    }
    let mode = table.word("mode", &[("require", true), ("request", false)]);
    let ca = table.path("ca");
    if ca.is_none() && !table.has("ca") {
        let message = "client_auth needs \"ca\": the authorities whose certificates are accepted";
        table.error(table.span.clone(), message);
    }
    let crl = table.path("crl");
    let header = table.parsed("header", own_field);
    let mut names = table.table("headers");
    let mut headers = super::tls::Headers {
        subject: names.parsed("subject", own_field),
        san: names.parsed("san", own_field),
        fingerprint: names.parsed("fingerprint", own_field),
        certificate: names.parsed("certificate", own_field),
    };
    names.finish();
    headers.subject = headers.subject.or(header);
    table.finish();
    Some(ClientAuth { line, is_required: mode.unwrap_or(true), ca: ca?, crl, headers })
}

fn own_field(name: &str) -> Result<String, String> {
    let is_token = !name.is_empty() && name.bytes().all(|byte| is_token_byte(byte) && byte != b'_');
    if is_token && Name::of(name.as_bytes()) == Name::Other {
        Ok(name.to_owned())
    } else {
        Err("write a header of your own, such as \"X-Client-Subject\"".to_owned())
    }
}

/// `[cluster.tls]`, if there is one.
pub(super) fn read_client(table: &mut ConfigTable<'_>) -> Option<ClusterTls> {
    let line = table.line_of("tls");
    let mut tls = table.table("tls");
    if !tls.is_there() {
        tls.finish();
        return None;
    }
    let verify = tls.boolean("verify").unwrap_or(true);
    if !verify {
        let message = "verify = false: any server is believed; a machine on the way can read along";
        tls.warning(tls.place_of("verify"), message);
    }
    let ca = tls.path("ca");
    let name = tls.parsed("name", |name| {
        let is_good = name.parse::<std::net::IpAddr>().is_ok()
            || (target::check_authority(name.as_bytes()).is_ok() && !name.contains(':'));
        if is_good { Ok(name.to_ascii_lowercase()) } else { Err("write a host name".to_owned()) }
    });
    let place = tls.place_of("certificate");
    let own = read_pair(&mut tls);
    if own.is_none() && (tls.has("certificate") || tls.has("key")) {
        tls.error(place, "\"certificate\" and \"key\" come together");
    }
    tls.finish();
    Some(ClusterTls { line, verify, ca, name, own })
}
