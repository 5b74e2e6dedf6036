//! How large a buffer is.

use crate::base::limits::{
    BUFFER_HEADROOM, BUFFER_LARGE, BUFFER_MEDIUM, BUFFER_SMALL, BUFFER_TAILROOM, BUFFER_TINY,
};

/// Sizes of buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    Tiny,
    #[default]
    Small,
    Medium,
    Large,
}

impl Size {
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Tiny => BUFFER_TINY,
            Self::Small => BUFFER_SMALL,
            Self::Medium => BUFFER_MEDIUM,
            Self::Large => BUFFER_LARGE,
        }
    }

    /// One step up.
    #[must_use]
    pub const fn larger(self) -> Self {
        match self {
            Self::Tiny => Self::Small,
            Self::Small => Self::Medium,
            Self::Medium | Self::Large => Self::Large,
        }
    }

    /// The smallest size from `Small` on with room for so much.
    #[must_use]
    pub const fn fitting(len: usize) -> Self {
        let room = BUFFER_HEADROOM + BUFFER_TAILROOM;
        if len + room <= BUFFER_SMALL {
            Self::Small
        } else if len + room <= BUFFER_MEDIUM {
            Self::Medium
        } else {
            Self::Large
        }
    }
}
