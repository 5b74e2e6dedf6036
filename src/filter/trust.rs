//! What a client may say of where a request comes from: a trusted proxy's forwarding fields are believed, and read as
//! one; those of others are taken out, before any route looks at them.

use super::verdict::{Facts, Verdict};
use crate::message::head::RequestHead;
use crate::message::{forwarded, hop};

pub(super) fn judge(request: &mut RequestHead, facts: &Facts<'_>) -> Verdict {
    if facts.is_trusted {
        forwarded::unify(request, facts.is_secure);
    } else {
        hop::distrust(request);
    }
    Verdict::Go
}
