//! Celery's task message protocol 2 in kombu's JSON envelope, as it lies in a Redis list.
//!
//! Reading is one pass of serde over the text, typed and borrowing, without a tree of values in
//! between. Absent headers have their protocol defaults, unknown ones are kept; unknown properties
//! are not (only a broken sender has any). What is equal to a default (`root_id` = `id`, `lang` =
//! `py`, delivery mode 2, empty `reply_to`) is read as absent, so that a message compares equal
//! whichever way it travelled. Writing gives every header and property that a stock worker wants to
//! see, in Celery's order and Python's spacing, the body in base64.

mod read;
mod write;

use base64::engine::general_purpose::{GeneralPurpose, STANDARD_PAD_INDIFFERENT};

pub(super) use read::{HeaderSet, decode};
pub(super) use write::encode;

/// How the body crosses; some senders leave out the padding.
pub(super) const BASE64: GeneralPurpose = STANDARD_PAD_INDIFFERENT;
