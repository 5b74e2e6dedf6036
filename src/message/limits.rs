//! What the head of a message may be.

use crate::base::limits::{RESPONSE_FIELDS_MAX, RESPONSE_HEAD_MAX};

/// What a request head may be, as set by the user for a listener. Passed by value to the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its empty line included.
    pub head: usize,
    /// Number of fields.
    pub fields: usize,
    /// Bytes of one field line.
    pub field: usize,
    /// Bytes of the request-target.
    pub target: usize,
    /// What becomes of field names with an underscore.
    pub underscores: Underscores,
}

/// What becomes of a field whose name has an underscore: many servers fold `_` and `-` into one
/// name, so `Content_Length` could pass for `Content-Length` behind us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    /// The field does not reach the upstream.
    Drop,
    /// The request is refused.
    Reject,
    /// The field is forwarded.
    Allow,
}

impl HeadLimits {
    /// Limits for what an upstream answers: not the user's to set.
    pub const RESPONSE: Self = Self {
        head: RESPONSE_HEAD_MAX,
        fields: RESPONSE_FIELDS_MAX,
        field: RESPONSE_HEAD_MAX,
        target: 0,
        underscores: Underscores::Allow,
    };
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            head: 32 * 1024,
            fields: 100,
            field: 8 * 1024,
            target: 8 * 1024,
            underscores: Underscores::Drop,
        }
    }
}
