//! A gRPC check (grpc/doc/health-checking.md): one call, whose answer says SERVING. The two messages
//! have one field each, so that they are written and read here without a library.

use http::{HeaderMap, Request};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.status`, field 1, a varint of 1.
const SERVING: u64 = 1;

/// The request, and its one message.
#[must_use]
pub fn request(service: &str, authority: &str, is_secure: bool) -> Option<(Request<()>, Vec<u8>)> {
    let scheme = if is_secure { "https" } else { "http" };
    let request = Request::post(format!("{scheme}://{authority}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "millrace-health")
        .body(())
        .ok()?;
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        put_varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).ok()?.to_be_bytes());
    body.extend_from_slice(&message);
    Some((request, body))
}

fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// Judges the answer.
///
/// # Errors
/// Why it is not good enough, as the end of a sentence.
pub fn judge(
    status: u16,
    fields: &HeaderMap,
    body: &[u8],
    trailers: &HeaderMap,
) -> Result<(), String> {
    if status != 200 {
        return Err(format!("it answered {status}, which is no gRPC"));
    }
    let told = trailers.get("grpc-status").or_else(|| fields.get("grpc-status"));
    match told.map(http::HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(code) => return Err(format!("grpc-status {}", String::from_utf8_lossy(code))),
        None => return Err("it gave no grpc-status".to_owned()),
    }
    let message = body.get(5..).unwrap_or_default();
    match status_of(message) {
        Some(SERVING) => Ok(()),
        Some(0) | None => Err("its service is UNKNOWN".to_owned()),
        Some(_) => Err("it is NOT_SERVING".to_owned()),
    }
}

/// Field 1 of a message: 0 if it is left out.
fn status_of(message: &[u8]) -> Option<u64> {
    match message {
        [] => Some(0),
        [0x08, value, ..] if *value < 0x80 => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_protobuf_has_them() {
        let (_, body) = request("a.Service", "h:1", false).unwrap();
        assert_eq!(body, b"\0\0\0\0\x0b\x0a\x09a.Service");
        assert_eq!(request("", "h:1", true).unwrap().1, [0; 5]);
    }

    #[test]
    fn only_serving_passes() {
        let mut good = HeaderMap::new();
        good.insert("grpc-status", http::HeaderValue::from_static("0"));
        let none = HeaderMap::new();
        assert_eq!(judge(200, &none, b"\0\0\0\0\x02\x08\x01", &good), Ok(()));
        assert!(judge(200, &none, b"\0\0\0\0\x02\x08\x02", &good).is_err());
        assert!(judge(200, &none, b"\0\0\0\0\0", &good).is_err());
        assert!(judge(200, &none, b"\0\0\0\0\x02\x08\x01", &none).is_err());
        assert!(judge(503, &none, b"", &good).is_err());
        good.insert("grpc-status", http::HeaderValue::from_static("12"));
        assert!(judge(200, &good, b"", &none).is_err());
    }
}
