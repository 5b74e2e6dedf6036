//! What every version checks in a head once its parts are known: one verdict, however they were written.

use super::framing::{self, FramingFacts};
use crate::base::error::{Kind, Result};
use crate::base::limits::METHOD_MAX;
use crate::message::head::{Method, RequestHead, ResponseHead, Version};
use crate::message::hop;
use crate::message::limits::{HeadLimits, Underscores};
use crate::message::name::Name;
use crate::message::target::{self, RequestTarget};

/// Takes method and target over, and takes the target apart.
///
/// # Errors
/// `Method`, `MethodRefused`, `TargetTooLong`, `Target`.
pub fn take_request_line<'a>(
    head: &mut RequestHead,
    version: Version,
    method: &[u8],
    target: &'a [u8],
    limits: &HeadLimits,
) -> Result<RequestTarget<'a>> {
    head.version = version;
    if method.len() > METHOD_MAX {
        return Err(Kind::Method);
    }
    head.set_method(method);
    // CONNECT would be a tunnel, TRACE an echo (RFC 9110 sections 9.3.6 and 9.3.8); TRACK is
    // TRACE under another name.
    if matches!(head.method, Method::Connect | Method::Trace) || method == b"TRACK" {
        return Err(Kind::MethodRefused);
    }
    if target.len() > limits.target {
        return Err(Kind::TargetTooLong);
    }
    target::parse(target, head.method == Method::Options)
}

/// Whether a field of this name is taken: `false` if it is left out.
///
/// # Errors
/// `Field` for a name with an underscore where those are refused.
pub fn takes_field(known: Name, name: &[u8], limits: &HeadLimits) -> Result<bool> {
    // No name that we know has an underscore.
    let is_odd = known == Name::Other && name.contains(&b'_');
    match limits.underscores {
        Underscores::Allow => Ok(true),
        Underscores::Reject if is_odd => Err(Kind::Field),
        _ => Ok(!is_odd),
    }
}

/// What a request's fields mean for the message as a whole.
///
/// # Errors
/// The rule that was broken.
pub fn finish_request(
    head: &mut RequestHead,
    target: &RequestTarget<'_>,
    facts: &FramingFacts<'_>,
) -> Result<()> {
    head.framing = framing::request(head.version, facts)?;
    take_authority(head, target, facts)?;
    take_target(head, target)?;
    take_expectation(head)?;
    hop::strip_request(head)
}

/// What a response's fields mean for the message as a whole. `asked` is the method that is being answered.
///
/// # Errors
/// `UpstreamHead`.
pub fn finish_response(
    head: &mut ResponseHead,
    status: u16,
    asked: Method,
    facts: &FramingFacts<'_>,
) -> Result<()> {
    if status < 100 {
        return Err(Kind::UpstreamHead);
    }
    head.status = status;
    let derived = framing::response(asked, head.version, status, facts)?;
    head.framing = derived.framing;
    head.tainted = derived.tainted;
    head.length_told = derived.length_told;
    hop::strip_response(head);
    Ok(())
}

/// RFC 9112 sections 3.2 and 3.2.2: exactly one Host but in 1.0; an absolute target overrides it. From
/// here on there is one authority.
fn take_authority(
    head: &mut RequestHead,
    target: &RequestTarget<'_>,
    facts: &FramingFacts<'_>,
) -> Result<()> {
    if facts.hosts > 1 || (facts.hosts == 0 && head.version != Version::Http10) {
        return Err(Kind::Host);
    }
    if let Some(host) = facts.host {
        let name_len = target::check_authority(host)?;
        if target.authority.is_none() {
            head.set_authority(host, name_len);
        }
    }
    if let Some(authority) = target.authority {
        let name_len = target::check_authority(authority)?;
        head.set_authority(authority, name_len);
    }
    Ok(())
}

fn take_target(head: &mut RequestHead, target: &RequestTarget<'_>) -> Result<()> {
    if target.is_normal {
        head.set_target(target.path, target.query);
        return Ok(());
    }
    let mut normal = Vec::with_capacity(target.path.len());
    target::normalise(target.path, &mut normal)?;
    head.set_target(&normal, target.query);
    head.set_received(target.path);
    Ok(())
}

/// RFC 9110 section 10.1.1. From HTTP/1.0 the field is ignored.
fn take_expectation(head: &mut RequestHead) -> Result<()> {
    if !head.fields.has(Name::Expect) {
        return Ok(());
    }
    let is_continue = head
        .fields
        .only(Name::Expect)
        .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    if !is_continue {
        return Err(Kind::Expectation);
    }
    head.expects_continue = head.version != Version::Http10 && !head.framing.is_empty();
    head.fields.remove(Name::Expect);
    Ok(())
}
